"""Las redes de CIFAR-100, su entrenamiento, las medidas, los pasos del Apartado 2 y el Bonus."""

import math
import re
import time
from dataclasses import fields, replace
from functools import partial
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import MIXTAS, conjunto_al_azar, huellas
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

import practica2 as p

ESTRECHA = (8, 8, 8)
MEJORADA = replace(p.RECETA_FINAL, filtros=ESTRECHA)


class Prohibido:
    """Un conjunto de test que no admite que nadie lo mire."""

    def __getattribute__(self, nombre):
        raise AssertionError(f"se ha leído test.{nombre}")


@pytest.fixture
def datos():
    """Datos de ruido de 25 clases cuyo conjunto de test no se puede leer."""
    clases = tuple(f"clase {c}" for c in range(25))
    train, val = conjunto_al_azar(100), conjunto_al_azar(50, semilla=1)
    return p.Datos(train, val, Prohibido(), clases, ("ruido",))


def entrenar_basenet(datos, semilla=7, fases=((2, None),), lote=p.LOTE_BASENET):
    """BaseNet entrenada dos épocas, salvo que se diga otra cosa."""
    return p.entrenar(p.construir_basenet, datos, semilla, fases, lote, p.adam)


# --- BaseNet -------------------------------------------------------------------------------------

TABLA_DEL_GUION = [  # tipo, núcleo, dimensión y canales de salida
    ("Conv2D", 5, 28, 6),
    ("Activation", None, 28, 6),
    ("MaxPooling2D", 2, 14, 6),
    ("Conv2D", 5, 10, 16),
    ("Activation", None, 10, 16),
    ("MaxPooling2D", 2, 5, 16),
    ("Dense", None, 50, None),
    ("Activation", None, 50, None),
    ("Dense", None, 25, None),
]


def test_basenet_es_la_tabla_del_guion():
    red = p.construir_basenet()
    capas = [capa for capa in red.layers if not isinstance(capa, keras.layers.Flatten)]
    tabla = []
    for capa in capas:
        nucleo = getattr(capa, "kernel_size", getattr(capa, "pool_size", [None]))[0]
        canales = capa.output.shape[3] if len(capa.output.shape) == 4 else None
        tabla.append((type(capa).__name__, nucleo, capa.output.shape[1], canales))
    assert tabla == TABLA_DEL_GUION
    assert all(capa.activation.__name__ == "relu" for capa in capas if "activation" in capa.name)
    assert capas[-1].activation.__name__ == "softmax"
    assert red.input_shape == (None, 32, 32, 3)
    assert red.count_params() == 24_197


def test_la_tabla_de_capas_tiene_una_fila_por_capa_con_sus_parametros_y_sus_macs(capsys):
    red = p.construir_basenet()
    filas, macs = p.mostrar_capas(red)
    _, _, *impresas, total = capsys.readouterr().out.splitlines()
    assert len(impresas) == len(filas) == len(red.layers)
    # 28 x 28 posiciones x 6 filtros x 5 x 5 x 3 pesos; 50 x 25 pesos
    assert filas[0] == ("1", "Conv2D", "5", "32 → 28", "3 → 6", "456", "352.800")
    assert filas[-1] == ("10", "Dense", "—", "50 → 25", "—", "1.275", "1.250")
    assert [fila.split()[-1] for fila in impresas] == [fila[-1] for fila in filas]
    assert macs == 352_800 + 10 * 10 * 16 * 5 * 5 * 6 + 400 * 50 + 50 * 25
    assert total.split()[0] == "0,6"


# --- La receta -----------------------------------------------------------------------------------


def test_la_normalizacion_sale_solo_de_train(datos):
    x = datos.train.x * [1, 0.5, 0.1] + [0, 0.2, 0.4]  # cada canal, con su media y su varianza
    datos = replace(datos, train=p.Conjunto(x.astype("float32"), datos.train.y))
    red = p.entrenar_receta(p.Receta(normalizar=True), datos, 1, 7).modelo
    (capa,) = [c for c in red.layers if isinstance(c, keras.layers.Normalization)]
    esperada = (datos.val.x - x.mean((0, 1, 2))) / x.std((0, 1, 2))
    assert np.allclose(capa(datos.val.x), esperada, atol=1e-4)


def coordenadas(n, lado=32):
    """Imágenes que en cada píxel dicen su fila, su columna y qué imagen es."""
    filas, columnas = np.mgrid[:lado, :lado]
    imagenes = [np.stack([filas, columnas, np.full_like(filas, i)], 2) for i in range(n)]
    return np.array(imagenes, "float32")


@pytest.mark.parametrize("lado", [p.LADO_RECORTE, 32])
def test_el_aumento_da_recortes_de_sitios_distintos_la_mitad_reflejados(lado):
    x, y = coordenadas(200), np.eye(200, dtype="float32")
    antes = x.copy()
    recortes, mismas = p.aumentar(lado, p.Receta(), x, y, np.random.default_rng(0))
    assert recortes.shape == (200, lado, lado, 3) and recortes.dtype == np.float32
    assert np.array_equal(mismas, y) and np.array_equal(x, antes)
    assert (recortes[..., 2] == np.arange(200)[:, None, None]).all()
    centro = recortes[:, lado // 2 - 4 : lado // 2 + 4, lado // 2 - 4 : lado // 2 + 4]
    assert (np.diff(centro[..., 0], axis=1) == 1).all()  # por filas, de arriba abajo
    sentido = np.diff(centro[..., 1], axis=2)[:, 0, 0]
    assert set(sentido) == {1, -1} and abs(sentido.mean()) < 0.2
    esquinas = {(float(r[..., 0].min()), float(r[..., 1].min())) for r in recortes}
    if lado < 32:  # nueve sitios posibles en cada dimensión
        for sitios in zip(*esquinas):
            assert set(sitios) == set(range(9))
    else:  # desplazadas hasta 4 px; lo que falta se refleja y no queda negro
        desplazadas = centro[:, 0, 0, 0] - 12
        assert set(desplazadas) == set(range(-4, 5))
        negras = p.aumentar(32, p.Receta(), np.ones_like(x), y, np.random.default_rng(0))[0]
        assert negras.min() == 1


def test_el_color_cambia_de_una_imagen_a_otra_y_no_dentro_de_ella():
    azar = np.random.default_rng(0)
    x = azar.uniform(0.4, 0.6, (50, 8, 8, 3)).astype("float32")  # así nada llega a 0 ni a 1
    antes = x.copy()
    otra = p.cambiar_color(x, np.random.default_rng(1))
    assert otra.shape == x.shape and otra.dtype == np.float32 and np.array_equal(x, antes)
    brillo = otra.mean((1, 2, 3)) / x.mean((1, 2, 3))
    assert np.all(np.abs(brillo - 1) <= p.CAMBIO_COLOR + 1e-5) and brillo.std() > 0.1
    for imagen, nueva in zip(x, otra):  # lo que se hace a una imagen es una transformación afín
        muestras = np.column_stack([imagen.reshape(-1, 3), np.ones(64)])
        resto = np.linalg.lstsq(muestras, nueva.reshape(-1, 3))[1]
        assert np.all(resto < 1e-8)
    extremos = p.cambiar_color(azar.random((50, 8, 8, 3), dtype="float32"), azar)
    assert extremos.min() >= 0 and extremos.max() <= 1
    sin_color = p.aumentar(8, p.Receta(), x, None, np.random.default_rng(2))[0]
    con_color = p.aumentar(8, p.Receta(color=True), x, None, np.random.default_rng(2))[0]
    assert not np.allclose(sin_color, con_color)


def test_cutmix_mezcla_la_mitad_de_los_lotes_y_las_clases_en_la_misma_proporcion():
    x, y = coordenadas(30), np.eye(30, dtype="float32")
    azar, mezclados, tapados = np.random.default_rng(0), 0, []
    for _ in range(200):
        mezcla, clases = p.aumentar(32, p.Receta(cutmix=True), x, y, azar)
        assert clases.dtype == mezcla.dtype == np.float32 and np.allclose(clases.sum(1), 1)
        for i in range(30):  # de qué imagen es cada píxel
            de_cada_una = np.bincount(mezcla[i, ..., 2].astype(int).ravel(), minlength=30) / 32**2
            assert np.allclose(de_cada_una, clases[i], atol=1e-6)
        tapado = 1 - clases.max(1).mean()
        mezclados += (clases.max(1) < 1).any()
        tapados.append(tapado)
    assert 75 < mezclados < 125
    assert max(tapados) > 0.35


def test_el_rectangulo_de_cutmix_es_el_mismo_en_todo_el_lote_y_no_cambia_lo_que_se_le_da():
    x, y = coordenadas(12), np.eye(12, dtype="float32")
    antes = x.copy()
    areas = set()
    for semilla in range(30):
        mezcla, _ = p.mezclar_con_cutmix(x, y, np.random.default_rng(semilla))
        assert np.array_equal(mezcla[..., :2], x[..., :2])  # cada píxel, de su mismo sitio
        cambiados = (mezcla != x).any(3)
        forma = cambiados.any(0)
        filas, columnas = forma.any(1), forma.any(0)
        assert np.array_equal(forma, np.outer(filas, columnas))  # un rectángulo
        for imagen in cambiados:  # el que le toca a sí mismo no cambia
            assert not imagen.any() or np.array_equal(imagen, forma)
        areas.add(int(forma.sum()))
    assert np.array_equal(x, antes) and min(areas) < 150 and max(areas) > 500


def test_los_recortes_pequenos_son_los_de_las_primeras_epocas_y_la_red_los_admite(
    datos, monkeypatch
):
    lados = []

    def anotar(lado, receta, x, y, azar):
        lados.append((lado, receta.color))
        return aumentar(lado, receta, x, y, azar)

    aumentar = p.aumentar
    monkeypatch.setattr(p, "aumentar", anotar)
    red = p.entrenar_receta(MEJORADA, datos, 5, 7)
    assert lados == sorted(lados)
    # Cinco épocas de un lote, tres con recortes, y lo que Keras mira antes de cada fase.
    assert [lados.count((lado, True)) for lado in (p.LADO_RECORTE, 32)] == [4, 3]
    assert len(red.hist.history["loss"]) == len(red.hist.history["val_accuracy"]) == 5
    lados.clear()
    p.entrenar_receta(replace(MEJORADA, recortes=False, color=False), datos, 1, 7)
    p.entrenar_receta(p.Receta(aumento=True, recortes=True), datos, 1, 7)  # BaseNet no los admite
    assert set(lados) == {(32, False)}
    lados.clear()
    p.entrenar_receta(replace(MEJORADA, aumento=False), datos, 1, 7)
    assert lados == []


def test_cada_paso_cambia_un_campo_y_entre_todos_se_llega_a_la_receta_final():
    receta, probados = p.Receta(), set()
    for paso, campo, valor in (*p.APRENDER.pasos, *p.NO_MEMORIZAR.pasos):
        candidata = replace(receta, **{campo: valor})
        assert candidata != receta, paso
        probados.add(campo)
        if getattr(p.RECETA_FINAL, campo):
            receta = candidata
    assert probados == {campo.name for campo in fields(p.Receta)}
    assert replace(receta, filtros=p.RECETA_FINAL.filtros) == p.RECETA_FINAL


@pytest.mark.parametrize(
    "cambio, tipo",
    [
        ({"batchnorm": True}, "BatchNormalization"),
        ({"residual": True}, "Add"),
        ({"dropout": 0.1}, "Dropout"),
        ({"normalizar": True}, "Normalization"),
    ],
)
def test_la_receta_decide_las_capas(cambio, tipo, datos):
    sin, con = (
        {type(capa).__name__ for capa in p.construir_mejorada(receta, datos).layers}
        for receta in (p.Receta(filtros=ESTRECHA), p.Receta(filtros=ESTRECHA, **cambio))
    )
    assert tipo not in sin and tipo in con


def test_con_conexiones_residuales_las_ramas_empiezan_sin_cambiar_nada(datos):
    receta = p.Receta(filtros=ESTRECHA, batchnorm=True, residual=True)
    red = p.construir_mejorada(receta, datos)
    for capa in red.layers:
        if isinstance(capa, keras.layers.Add):
            atajo = keras.Model(red.input, capa.input[0])
            suma = keras.Model(red.input, capa.output)
            x = datos.train.x[:2]
            assert np.allclose(suma(x), atajo(x), atol=1e-6)
            assert np.std(atajo(x)) > 0
    assert sum(isinstance(capa, keras.layers.Add) for capa in red.layers) == len(ESTRECHA)


def test_la_media_y_la_varianza_son_las_de_todos_los_pixeles_aunque_sean_millones():
    azar = np.random.default_rng(0)
    x = np.repeat(azar.random((30, 32, 32, 3), "float32"), 1000, axis=0)  # 31 millones por canal
    x += np.float32([0, 1, 2])
    media, varianza = p.media_y_varianza(x)
    exactas = x[::1000].astype("float64")
    assert np.allclose(media, exactas.mean((0, 1, 2)), atol=1e-5)
    assert np.allclose(varianza, exactas.var((0, 1, 2)), atol=1e-5)


def test_las_salidas_del_blanqueo_no_tienen_correlacion_y_su_varianza_es_uno():
    azar = np.random.default_rng(0)
    # Tonos con correlación entre canales y entre vecinos, como los de una fotografía.
    tono = np.repeat(np.repeat(azar.random((800, 16, 16, 1)), 2, 1), 2, 2)
    x = (0.5 * tono + 0.3 * azar.random((800, 32, 32, 3))).astype("float32")
    nucleo = p.nucleo_blanqueo(x)
    normalizadas = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2))
    salidas = np.asarray(keras.ops.conv(normalizadas, nucleo)).reshape(-1, 24)
    assert np.allclose(salidas[:, :12], -salidas[:, 12:], atol=1e-4)
    assert np.allclose(np.cov(salidas[:, :12].T), np.eye(12), atol=0.1)


def test_la_entrada_de_blanqueo_sale_de_train_y_no_se_entrena(datos):
    receta = p.Receta(filtros=ESTRECHA, blanqueo=True, optimizador=p.RECETA_FINAL.optimizador)
    red = p.entrenar_receta(receta, datos, 1, 7).modelo
    assert isinstance(red.optimizer, keras.optimizers.SGD)
    primera = next(c for c in red.layers if isinstance(c, keras.layers.Conv2D))
    assert np.allclose(primera.kernel, p.nucleo_blanqueo(datos.train.x), atol=1e-6)


def test_la_receta_decide_la_regularizacion_y_el_dropout(datos):
    red = p.construir_mejorada(p.Receta(filtros=ESTRECHA, l2=0.5, dropout=0.3), datos)
    (dropout,) = [c for c in red.layers if isinstance(c, keras.layers.Dropout)]
    assert dropout.rate == 0.3
    pesos = [np.asarray(c.kernel) for c in red.layers if getattr(c, "kernel_regularizer", None)]
    assert float(sum(red.losses)) == pytest.approx(0.5 * sum((w**2).sum() for w in pesos), rel=1e-4)
    assert len(pesos) == 10  # las convoluciones 3x3 y la salida


# --- El entrenamiento común ----------------------------------------------------------------------


def test_dos_entrenamientos_de_la_misma_semilla_son_el_mismo(datos):
    una = entrenar_basenet(datos)
    entrenar_basenet(datos, semilla=8, lote=50)  # uno distinto en medio no cambia nada
    otra = entrenar_basenet(datos)
    assert una.hist.history == otra.hist.history
    assert np.array_equal(una.prob_val, otra.prob_val)


def test_otra_semilla_es_otro_entrenamiento(datos):
    assert entrenar_basenet(datos).hist.history != entrenar_basenet(datos, 8).hist.history


@pytest.mark.parametrize(
    "paciencia, epocas, aciertos", [(None, 4, 3 / 6), (1, 3, 5 / 6), (2, 4, 5 / 6), (4, 4, 5 / 6)]
)
def test_con_paciencia_queda_la_epoca_de_mas_aciertos_y_si_no_la_ultima(
    paciencia, epocas, aciertos
):
    """Una red de un peso que crece 0,6 en cada época: los aciertos suben y bajan; la pérdida solo
    sube."""
    pasos = []

    def construir():
        red = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
        red.set_weights([np.array([[0.0, 0.0], [1.0, 0.0]])])
        return red

    def optimizador(cuantos):
        pasos.append(cuantos)
        return keras.optimizers.SGD(0.1)

    def margen(y, salida):
        return keras.ops.sum((1 - 2 * y) * salida, axis=-1)

    train = p.Conjunto(np.float32([[1, 0]] * 5), np.eye(2, dtype="float32")[[1] * 5])
    # Las tres primeras se aciertan desde la segunda época; la cuarta y la quinta, hasta ella.
    x = np.float32([[1, 1], [1, 1], [1, 1], [0.6, 1], [0.6, 1], [9, 0]])
    val = p.Conjunto(x, np.eye(2, dtype="float32")[[1, 1, 1, 0, 0, 0]])
    datos = p.Datos(train, val, Prohibido(), ("a", "b"), ())
    inicio = time.perf_counter()
    entrenada = p.entrenar(construir, datos, 7, [(4, None)], 2, optimizador, margen, paciencia)
    curvas = entrenada.hist.history
    assert pasos == [12]  # cuatro épocas de tres lotes
    assert np.argmin(curvas["val_loss"]) == 0
    assert curvas["val_accuracy"] == pytest.approx([2 / 6, 5 / 6, 3 / 6, 3 / 6][:epocas])
    assert p.calcularAccuracy(val.y, entrenada.prob_val) == pytest.approx(aciertos)
    assert np.array_equal(entrenada.prob_val, p.predecir(entrenada.modelo, x))
    assert 0 < entrenada.segundos < time.perf_counter() - inicio


def test_lo_que_transforma_un_lote_nunca_alcanza_a_la_validacion(datos):
    vistas = []

    def espiar(x, y, azar):
        vistas.extend(huellas(x))
        return x, y

    entrenar_basenet(datos, fases=[(1, espiar)])
    assert set(vistas) == set(huellas(datos.train.x))


def test_las_fases_se_siguen_con_una_sola_historia_y_un_solo_ciclo(datos):
    vistas, pasos = [], []

    def fase(nombre, x, y, azar):
        vistas.append(nombre)
        return x, y

    def optimizador(cuantos):
        pasos.append(cuantos)
        return keras.optimizers.SGD(p.ciclo(0.01, cuantos))

    fases = [(1, partial(fase, "una")), (2, partial(fase, "otra"))]
    entrenada = p.entrenar(p.construir_basenet, datos, 7, fases, 50, optimizador, paciencia=3)
    # Keras pide además dos lotes de cada fase, para saber de qué forma son.
    assert vistas == ["una"] * (2 + 2) + ["otra"] * (2 + 4)
    assert pasos == [6] and int(entrenada.modelo.optimizer.iterations) == 6
    assert all(len(curva) == 3 for curva in entrenada.hist.history.values())
    val = p.calcularAccuracy(datos.val.y, entrenada.prob_val)
    assert val == pytest.approx(max(entrenada.hist.history["val_accuracy"][1:]))  # de la última


def test_los_lotes_dan_cada_imagen_una_vez_por_epoca_con_su_clase_y_en_otro_orden():
    x = np.arange(9, dtype="float16").reshape(9, 1)
    lotes = p.Lotes(p.Conjunto(x, 2 * x), 4, p.a_float32, 7)
    ordenes = []
    for _ in range(2):
        partes = [lotes[i] for i in range(len(lotes))]
        assert [len(px) for px, _ in partes] == [3, 3, 3]  # y no 4, 4 y 1
        assert all(px.dtype == np.float32 and np.array_equal(py, 2 * px) for px, py in partes)
        ordenes.append(np.concatenate([px for px, _ in partes]).ravel().tolist())
        lotes.on_epoch_end()
    assert sorted(ordenes[0]) == sorted(ordenes[1]) == list(range(9))
    assert ordenes[0] != ordenes[1]
    otra_semilla = p.Lotes(p.Conjunto(x, 2 * x), 4, p.a_float32, 8)
    assert otra_semilla[0][0].ravel().tolist() != ordenes[0][:3]


def test_el_ciclo_sube_en_la_quinta_parte_de_los_pasos_y_baja_hasta_cero():
    tasas = np.array([float(p.ciclo(0.1, 100)(paso)) for paso in range(101)])
    assert tasas[0] == 0 and tasas[20] == pytest.approx(0.1)
    assert tasas[100] == pytest.approx(0, abs=1e-6)
    assert (np.diff(tasas[:21]) > 0).all() and (np.diff(tasas[20:]) < 0).all()


@pytest.mark.parametrize(
    "construir, tasa",
    [(p.RECETA_FINAL.optimizador, p.TASA_SGD), (partial(p.adam_ciclo, 0.3), 0.3)],
    ids=["SGD", "Adam"],
)
def test_los_optimizadores_de_ciclo_llegan_a_su_tasa_y_terminan_en_cero(construir, tasa):
    optimizador, tasas = construir(50), []
    for paso in range(51):
        optimizador.iterations.assign(paso)
        tasas.append(float(optimizador.learning_rate))
    assert max(tasas) == pytest.approx(tasa)
    assert tasas[-1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("precision", MIXTAS)
@pytest.mark.parametrize(
    "receta", [p.Receta(normalizar=True, suavizado=0.1), MEJORADA], ids=["BaseNet", "final"]
)
def test_una_epoca_en_precision_mixta_da_probabilidades_en_float32(
    receta, precision, en_precision, datos
):
    en_precision(precision)
    entrenada = p.entrenar_receta(receta, datos, 1, 7)
    medidas = {capa.compute_dtype for capa in entrenada.modelo.layers}
    assert precision.removeprefix("mixed_") in medidas
    assert entrenada.modelo.loss.get_config()["label_smoothing"] == receta.suavizado
    assert entrenada.prob_val.dtype == np.float32
    assert np.allclose(entrenada.prob_val.sum(1), 1, atol=1e-5)
    assert np.isfinite(entrenada.hist.history["loss"]).all()


@pytest.mark.parametrize(
    "cpuinfo, con_gpu, precision",
    [
        ("flags : fma amx_bf16 amx_tile", False, "mixed_bfloat16"),
        ("flags : fma avx512_bf16", False, "mixed_bfloat16"),
        ("flags : fma avx512f avx512_fp16", False, "float32"),
        ("", False, "float32"),  # fuera de Linux no se sabe
        ("flags : avx512_bf16", True, "mixed_float16"),
    ],
)
def test_la_precision_la_deciden_la_gpu_y_las_marcas_del_procesador(
    cpuinfo, con_gpu, precision, monkeypatch
):
    monkeypatch.setattr(p, "leer_cpuinfo", lambda: cpuinfo)
    assert p.elegir_precision(con_gpu) == precision


def test_los_mapas_en_float16_se_predicen_como_en_float32(datos):
    red = p.construir_basenet()
    x = datos.val.x.astype("float16")
    de_32 = p.predecir(red, x.astype("float32"))
    assert np.allclose(p.predecir(red, x, lote=7), de_32, atol=1e-6)


def test_el_espejo_da_lo_mismo_a_una_imagen_y_a_su_reflejo(datos):
    red, x = p.construir_basenet(), datos.val.x
    una, otra = p.predecir_con_espejo(red, x), p.predecir_con_espejo(red, x[:, :, ::-1])
    assert np.allclose(una, otra, atol=1e-6)
    assert not np.allclose(una, p.predecir(red, x), atol=1e-6)


# --- Las medidas ---------------------------------------------------------------------------------


@settings(deadline=None, database=None)
@given(st.data(), st.integers(2, 9), st.integers(1, 40))
def test_calcularaccuracy_coincide_con_scikit_learn(azar, clases, n):
    clase = st.lists(st.integers(0, clases - 1), min_size=n, max_size=n)
    real, predicha = azar.draw(clase), azar.draw(clase)
    labels, preds = np.eye(clases)[real], 0.2 + 0.5 * np.eye(clases)[predicha]
    assert p.calcularAccuracy(labels, preds) == pytest.approx(accuracy_score(real, predicha))


def solo_test(y, clases):
    """Datos con esas clases en test, y en validación las mismas."""
    conjunto = p.Conjunto(None, y)
    return p.Datos(None, conjunto, conjunto, clases, ("inventados",))


def test_medir_da_aciertos_top5_y_perdida():
    y = np.eye(10)[[0, 5, 4, 3]]
    prob = np.tile(np.arange(10, 0, -1.0), (4, 1))  # la clase 0, la más probable, y en orden
    prob[3] = prob[3, ::-1]  # la clase 3, la séptima; la 4 es la quinta y la 5, la sexta
    prob /= prob.sum(1, keepdims=True)
    datos, fila = solo_test(y, tuple("abcdefghij")), p.Resultado("1", "una red")
    r = p.medir(fila, datos, y, prob.astype("float32"))
    assert (r.val, r.test, r.top5, r.origen) == (1, 0.25, 0.5, ("inventados",))
    esperada = -np.mean([math.log(v / 55) for v in (10, 5, 6, 4)])
    assert r.perdida_test == pytest.approx(esperada, rel=1e-5)
    assert p.medir(fila, datos, y, 5 - prob, con_perdida=False).perdida_test is None
    sin_test = p.medir(fila, datos, prob)
    assert (sin_test.val, sin_test.test, sin_test.top5) == (0.25, None, None)


@pytest.mark.filterwarnings("error")
def test_el_top5_de_tres_clases_las_cuenta_todas():
    datos = solo_test(np.eye(3), tuple("abc"))
    r = p.medir(p.Resultado("1", "una red"), datos, np.eye(3), np.eye(3)[::-1])
    assert (r.test, r.top5) == (1 / 3, 1)


def test_peores_pares_y_aciertos_por_clase():
    real, predicha = [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 1, 1, 2, 2, 0, 0]
    datos, prob = solo_test(np.eye(3)[real], tuple("abc")), np.eye(3)[predicha]
    assert p.peores_pares(datos, prob) == [(0, 1, 2), (2, 0, 2), (1, 2, 1)]
    assert p.peores_pares(datos, prob, cuantos=1) == [(0, 1, 2)]
    assert p.nombrar_peores_pares(datos, prob) == [("a", "b", 2), ("c", "a", 2), ("b", "c", 1)]
    assert p.aciertos_por_clase(datos, prob) == pytest.approx({"a": 1 / 3, "b": 1 / 2, "c": 1 / 3})


def en_desacuerdo(ambas, solo_a, solo_b, ninguna):
    """(y, prob_a, prob_b) de dos redes con esas cuentas de aciertos."""
    acierta_a = [1] * (ambas + solo_a) + [0] * (solo_b + ninguna)
    acierta_b = [1] * ambas + [0] * solo_a + [1] * solo_b + [0] * ninguna
    return np.eye(2)[[1] * len(acierta_a)], np.eye(2)[acierta_a], np.eye(2)[acierta_b]


@pytest.mark.parametrize(
    "cuentas, p_esperada",
    [
        ((9, 0, 0, 3), 1.0),
        ((0, 5, 0, 9), 2 / 2**5),
        ((7, 1, 5, 2), 2 * (1 + 6) / 2**6),
        ((0, 4, 4, 0), 1.0),
    ],
)
def test_mcnemar_solo_cuenta_las_imagenes_que_acierta_una(cuentas, p_esperada):
    y, a, b = en_desacuerdo(*cuentas)
    assert p.mcnemar(y, a, b) == pytest.approx(p_esperada)
    assert p.mcnemar(y, b, a) == pytest.approx(p_esperada)


# --- Los dos capítulos ---------------------------------------------------------------------------


@pytest.fixture
def sesion():
    return p.Sesion(7, p.RAPIDO, p.RESNET50)


def test_los_pasos_no_leen_test_y_cada_uno_se_entrena_desde_cero(datos, sesion):
    capitulo = p.Capitulo(
        "Capítulo", (("uno", "normalizar", True), ("otro", "aumento", True)), ruido=1.0
    )
    p.probar_pasos(capitulo, p.Receta(), 1, datos, sesion)
    recetas = {  # con tanto ruido nada decide, y los dos están en la final
        "Capítulo: de partida": p.Receta(),
        "Capítulo: uno": p.Receta(normalizar=True),
        "Capítulo: otro": p.Receta(normalizar=True, aumento=True),
    }
    assert [r.experimento for r in sesion.resultados] == list(recetas)
    for experimento, receta in reversed(recetas.items()):  # en otro orden salen las mismas redes
        otra, fila = p.entrenar_receta(receta, datos, 1, 7), sesion.resultado(experimento)
        assert sesion.detalles[experimento]["curvas"] == otra.hist.history
        assert fila.val is not None and fila.test is None
        prob_train = p.predecir(otra.modelo, datos.train.x)
        assert fila.train == p.calcularAccuracy(datos.train.y, prob_train)


def test_un_paso_que_no_decide_se_hace_como_en_la_red_final(datos, sesion, monkeypatch, capsys):
    aciertos = iter([20, 25, 20, 26, 24, 24])  # de 50: de partida y cinco pasos
    recetas = []

    def entrenada(receta, datos, epocas, semilla):
        recetas.append(receta)
        prob = np.roll(datos.val.y, 1, axis=1)
        bien = next(aciertos)
        prob[:bien] = datos.val.y[:bien]
        hechas = 2 if receta.paciencia else epocas
        hist = SimpleNamespace(history={"loss": [1.0] * hechas})
        return p.Entrenamiento(p.construir_basenet(), hist, 10.0 * hechas, prob)

    monkeypatch.setattr(p, "entrenar_receta", entrenada)
    pasos = (
        ("sube", "normalizar", True),
        ("baja mucho", "residual", True),
        ("sube poco y la final lo lleva", "aumento", True),
        ("baja poco y la final lo lleva", "color", True),
        ("no cambia y la final no lo lleva", "paciencia", 3),
    )
    partida = p.Receta(suavizado=0.1)
    llega = p.probar_pasos(p.Capitulo("Cap", pasos, ruido=0.025), partida, 4, datos, sesion)
    con = replace(partida, normalizar=True)  # cada paso parte de lo que se ha quedado
    aumentada = replace(con, aumento=True)
    coloreada = replace(aumentada, color=True)
    parada = replace(coloreada, paciencia=3)
    residual = replace(con, residual=True)
    assert recetas == [partida, con, residual, aumentada, coloreada, parada] and llega == coloreada
    assert [r.val for r in sesion.resultados] == [0.4, 0.5, 0.4, 0.52, 0.48, 0.48]
    esperados = {  # puntos, si decide y si se queda; 0,05 es el ruido dos veces
        "sube": (0.1, True, True),
        "baja mucho": (-0.1, True, False),
        "sube poco y la final lo lleva": (0.02, False, True),
        "baja poco y la final lo lleva": (-0.04, False, True),
        "no cambia y la final no lo lleva": (0.0, False, False),
    }
    frases = re.findall(r"^  ([-+].*)$", capsys.readouterr().out, re.MULTILINE)
    for (paso, (diferencia, decide, se_queda)), frase in zip(
        esperados.items(), frases, strict=True
    ):
        detalles = sesion.detalles[f"Cap: {paso}"]
        assert detalles["diferencia"] == pytest.approx(diferencia), paso
        assert (detalles["decide"], detalles["se_queda"]) == (decide, se_queda), paso
        assert frase.startswith(p.decimal(100 * diferencia, signo="+")), paso
        assert ("no decide" in frase) != decide and "en 5,0 puntos" in frase or decide
        assert ("se queda" in frase) == se_queda and ("se descarta" in frase) != se_queda
        if decide:
            assert ("mejora" in frase) == (diferencia > 0) != ("empeora" in frase)


def test_early_stopping_dice_donde_para_y_lo_que_ahorra(datos, sesion, monkeypatch, capsys):
    def entrenada(receta, datos, epocas, semilla):
        hechas = 6 if receta.paciencia else epocas
        hist = SimpleNamespace(history={"loss": [1.0] * hechas})
        return p.Entrenamiento(p.construir_basenet(), hist, 10.0 * hechas, datos.val.y)

    monkeypatch.setattr(p, "entrenar_receta", entrenada)
    capitulo = p.Capitulo("Cap", (("early stopping", "paciencia", 3),), ruido=0.01)
    p.probar_pasos(capitulo, p.Receta(), 20, datos, sesion)
    assert "época 6 de 20: ahorra 2:20" in capsys.readouterr().out
    assert [r.epocas for r in sesion.resultados] == [20, 6]


# --- El Bonus ------------------------------------------------------------------------------------


@pytest.fixture
def bonus():
    """(sesión, datos de las 25, generalista) sobre CIFAR-100 sintético, sin entrenar nada."""
    cifar = p.cifar_sintetico(4)
    de_100 = p.construir_mejorada(MEJORADA, p.datos_cifar(cifar, 100, 7), None)
    hist = SimpleNamespace(history={"loss": [1.0, 2.0, 3.0]})
    sesion = p.Sesion(7, p.RAPIDO, p.RESNET50, cifar)
    generalista = p.Entrenamiento(de_100, hist, 5.0, None)
    return sesion, p.datos_cifar(cifar, p.CLASES, 7), generalista


def test_restringir_da_las_mismas_probabilidades_renormalizadas(bonus):
    _, datos, generalista = bonus
    restringida = p.restringir(generalista.modelo)
    de_100 = p.predecir(generalista.modelo, datos.test.x)[:, : p.CLASES]
    de_25 = p.predecir(restringida, datos.test.x)
    assert np.allclose(de_25, de_100 / de_100.sum(1, keepdims=True), atol=1e-5)


def test_el_comite_es_la_media_de_la_generalista_y_la_especialista(bonus):
    sesion, datos, generalista = bonus
    especialista = p.Entrenamiento(p.construir_basenet(), None, 4.0, None)
    suyas = np.random.default_rng(0).dirichlet(np.ones(p.CLASES), len(datos.test.y))
    de_val = np.roll(datos.val.y, 1, axis=1)
    sesion.probabilidades[p.GENERALISTA] = de_val, suyas
    sesion.probabilidades[p.CON_ESPEJO] = datos.val.y, datos.test.y  # nunca falla
    p.formar_comite(generalista, especialista, datos, sesion)
    (comite,) = sesion.resultados
    assert (comite.experimento, comite.segundos) == (p.COMITE, 9.0)
    assert comite.parametros == generalista.modelo.count_params() + 24_197
    # De cada imagen, la mitad de la certeza de una y la mitad de la probabilidad de la otra.
    de_la_cierta = 0.5 + suyas[np.arange(len(suyas)), datos.test.y.argmax(1)] / 2
    assert comite.perdida_test == pytest.approx(-np.log(de_la_cierta).mean(), rel=1e-4)
    assert np.allclose(sesion.probabilidades[p.COMITE][1], (suyas + datos.test.y) / 2)


def test_la_alumna_parte_de_la_generalista_y_las_maestras_no_cambian(bonus):
    _, datos, generalista = bonus
    maestras = [p.restringir(generalista.modelo), p.construir_mejorada(MEJORADA, datos, None)]
    antes = [maestra.get_weights() for maestra in maestras]
    destilada = p.destilar(maestras, datos, 1, 7)
    for maestra, pesos in zip(maestras, antes):
        for peso, anterior in zip(maestra.get_weights(), pesos):
            assert np.array_equal(peso, anterior)
    nuevos = destilada.modelo.get_weights()
    assert any(not np.array_equal(a, b) for a, b in zip(nuevos, antes[0]))
    cerca = [np.abs(a - b).mean() / b.std() for a, b in zip(nuevos, antes[0]) if a.ndim == 4]
    assert max(cerca) < 0.5  # en una época de un paso, los núcleos son aún los de la generalista
    assert max(destilada.hist.history["loss"]) < 10


def test_la_alumna_aprende_la_media_de_las_clases_y_de_lo_que_dicen_las_maestras():
    class Maestra:
        def __init__(self, prob):
            self.prob, self.vistas = prob, None

        def predict_on_batch(self, x):
            self.vistas = x
            return np.tile(np.float32(self.prob), (len(x), 1))

    maestras = [Maestra([1, 0, 0]), Maestra([0, 0.5, 0.5])]
    x, y = conjunto_al_azar(6).x, np.eye(3, dtype="float32")[[0, 0, 1, 1, 2, 2]]
    vistas, objetivos = p.preguntar(maestras, 32, p.RECETA_FINAL, x, y, np.random.default_rng(1))
    aumentadas, clases = p.aumentar(32, p.RECETA_FINAL, x, y, np.random.default_rng(1))
    assert np.array_equal(vistas, aumentadas)
    assert all(np.array_equal(maestra.vistas, aumentadas) for maestra in maestras)
    assert np.allclose(objetivos, (clases + [0.5, 0.25, 0.25]) / 2)
    assert np.allclose(objetivos.sum(1), 1)


@pytest.mark.parametrize(
    "cuentas, puntos, dice",
    [((9, 0, 0, 1), "+0,00", "no se distinguen"), ((0, 9, 0, 1), "+90,00", "más que el azar")],
)
def test_comparar_dice_si_con_esas_imagenes_se_distinguen(cuentas, puntos, dice, sesion, capsys):
    y, a, b = en_desacuerdo(*cuentas)
    sesion.probabilidades = {"una": (None, a), "otra": (None, b)}
    p.comparar("una", "otra", solo_test(y, ("a", "b")), sesion)
    frase = capsys.readouterr().out
    assert puntos in frase and dice in frase
    guardado = sesion.detalles["una"]["frente a otra"]
    assert guardado["p"] == p.mcnemar(y, a, b)
    assert guardado["diferencia"] == pytest.approx(0.9 if cuentas[1] else 0)


# --- Las figuras: lo que se ve es lo medido ------------------------------------------------------


def lineas(eje):
    """{rótulo: alturas} de las líneas de un eje."""
    return {linea.get_label(): list(linea.get_ydata()) for linea in eje.lines}


def historia(**curvas):
    """La History de un entrenamiento con esas curvas."""
    return SimpleNamespace(history=curvas)


def test_la_evolucion_dibuja_las_curvas_y_dice_la_mejor_epoca(capsys):
    hist = historia(
        loss=[3.0, 2.0, 1.0],
        accuracy=[0.1, 0.2, 0.3],
        val_loss=[4.0, 3.5, 3.8],
        val_accuracy=[0.2, 0.5, 0.4],
    )
    p.mostrarEvolucion(hist, "Evolución")
    perdida, aciertos = p.plt.figure("Evolución").axes
    assert lineas(perdida)["Entrenamiento"] == [3.0, 2.0, 1.0]
    assert lineas(perdida)["Validación"] == [4.0, 3.5, 3.8]
    assert lineas(aciertos)["Entrenamiento"] == [0.1, 0.2, 0.3]
    assert lineas(aciertos)["Validación"] == [0.2, 0.5, 0.4]
    (mejor,) = (linea for linea in aciertos.lines if "época" in linea.get_label())
    assert list(mejor.get_xdata()) == [2, 2]
    assert re.search("poca.* 2 de 3", capsys.readouterr().out)


def test_la_evolucion_dibuja_la_tasa_si_cambia():
    curva = [1.0, 2.0]
    curvas = {"loss": curva, "accuracy": curva, "val_loss": curva, "val_accuracy": curva}
    p.mostrarEvolucion(historia(**curvas, learning_rate=[0.2, 0.05]), "Cambia")
    assert list(p.plt.figure("Cambia").axes[2].lines[0].get_ydata()) == [1, 0.25]
    p.mostrarEvolucion(historia(**curvas, learning_rate=[0.1, 0.1]), "Constante")
    assert len(p.plt.figure("Constante").axes) == 2


def con_imagenes(real):
    """Datos con dos imágenes de train de cada clase y esas clases en test."""
    train = p.Conjunto(conjunto_al_azar(6).x, np.repeat(np.eye(3), 2, axis=0))
    test = p.Conjunto(conjunto_al_azar(len(real), semilla=5).x, np.eye(3)[real])
    return p.Datos(train, None, test, tuple("abc"), ("ruido",))


def test_la_matriz_de_confusion_reparte_cada_clase_real():
    datos = con_imagenes([0, 0, 0, 0, 1, 1, 2])
    confusion = p.contar_confusiones(datos, np.eye(3)[[0, 1, 1, 1, 1, 1, 0]])
    assert confusion == [[1, 3, 0], [0, 2, 0], [1, 0, 0]]
    p.mostrar_confusion("Confusión", datos.clases, confusion)
    eje = p.plt.figure("Confusión").axes[0]
    assert np.allclose(eje.images[0].get_array(), [[0.25, 0.75, 0], [0, 1, 0], [1, 0, 0]])
    assert [texto.get_text() for texto in eje.get_yticklabels()] == ["a", "b", "c"]


def test_cada_prediccion_dice_lo_predicho_y_si_falla_lo_cierto():
    datos = con_imagenes([0, 1, 2])
    p.mostrar_predicciones("Predicciones", datos, np.eye(3)[[0, 2, 2]], elegidas=[0, 1])
    acierto, fallo = p.plt.figure("Predicciones").axes[:2]
    assert (acierto.get_title(), acierto.title.get_color()) == ("a", "green")
    assert (fallo.get_title(), fallo.title.get_color()) == ("c\n(es b)", "firebrick")
    for i, eje in enumerate((acierto, fallo)):
        assert np.array_equal(eje.images[0].get_array(), datos.test.x[i])


def test_los_peores_pares_ensenan_un_fallo_y_un_ejemplo_de_la_otra_clase(capsys):
    datos = con_imagenes([0, 0, 0, 1, 2])
    p.mostrar_peores_pares("Pares", datos, np.eye(3)[[0, 1, 1, 1, 2]])
    assert capsys.readouterr().out == "  a tomada por b: 2 veces en test\n"
    fallo, ejemplo = p.plt.figure("Pares").axes[:2]
    assert np.array_equal(fallo.images[0].get_array(), datos.test.x[1])
    assert ejemplo.get_title() == "b\n(train)"
    assert ejemplo.images[0].get_array().tobytes() in huellas(datos.train.x[2:4])


def test_los_aciertos_por_clase_se_ordenan_por_los_de_la_segunda_red():
    por_clase = {"una": {"a": 0.1, "b": 0.2, "c": 0.3}, "otra": {"a": 0.9, "b": 0.4, "c": 0.6}}
    p.mostrar_por_clase("Por clase", por_clase)
    (eje,) = p.plt.figure("Por clase").axes
    assert [texto.get_text() for texto in eje.get_yticklabels()] == ["b", "c", "a"]
    puntos = {linea.get_label(): list(linea.get_xdata()) for linea in eje.lines}
    assert puntos == {"una": [0.2, 0.3, 0.1], "otra": [0.4, 0.6, 0.9]}


def test_los_pasos_de_un_capitulo_se_ven_en_orden_con_lo_que_aciertan_en_train_y_validacion():
    resultados = []
    for paso, train, val in (("de partida", 0.9, 0.5), ("L2", 0.8, 0.6), ("dropout", 0.7, 0.65)):
        resultados.append(p.Resultado("2", f"Cap: {paso}", train=train, val=val))
    p.mostrar_pasos("Cap", resultados, ["L2"])
    (eje,) = p.plt.figure("Cap").axes
    rotulos = [texto.get_text() for texto in eje.get_yticklabels()]
    assert rotulos == ["dropout", "(L2)", "de partida"]  # de abajo arriba
    puntos = {linea.get_label(): list(linea.get_xdata()) for linea in eje.lines}
    assert puntos == {"Entrenamiento": [0.7, 0.8, 0.9], "Validación": [0.65, 0.6, 0.5]}


def test_el_progreso_dice_en_cada_epoca_como_va_y_cuanto_queda(capsys):
    progreso = p.Progreso(8)
    progreso.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=0.5)))
    progreso.inicio -= 60
    logs = {"loss": 1.5, "accuracy": 0.25, "val_loss": 2.5, "val_accuracy": 0.125}
    progreso.on_epoch_end(1, logs)
    linea = " ".join(capsys.readouterr().out.split())
    assert linea.startswith("época 2/8 · pérdida 1,500 · aciertos 25,00 % · val. 12,50 %")
    assert linea.endswith("· 1:00 (quedan 3:00)")
    assert logs["learning_rate"] == 0.5


def test_una_figura_que_quedo_abierta_no_impide_volver_a_dibujarla():
    for _ in range(2):  # en un cuaderno, la de una ejecución interrumpida sigue ahí
        (eje,) = p.nueva_figura("Lámina")
        eje.plot([0, 1])
    assert len(p.plt.figure("Lámina").axes) == 1
