"""Las redes de CIFAR-100, su entrenamiento, las medidas y la escalera."""

import math
import re
import time
from dataclasses import fields, replace
from functools import partial
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import conjunto_al_azar, huellas
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

import practica2 as p

ESTRECHA = (8, 8, 8, 8)
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


def entrenar_basenet(datos, semilla=7, epocas=2, lote=p.LOTE_BASENET, transformar=None):
    """BaseNet entrenada dos épocas, salvo que se digan otras."""
    return p.entrenar(
        p.construir_basenet,
        datos,
        semilla,
        epocas,
        lote,
        p.adam,
        transformar=transformar,
    )


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


def capa_de_aumento(**cambio):
    """Un modelo que solo hace el aumento de datos de una receta."""
    entrada = keras.Input((32, 32, 3))
    return keras.Model(entrada, p.aumentar(entrada, p.Receta(**cambio)))


@pytest.mark.parametrize("cambio", [{"aumento": True}, {"borrado": True}], ids=str)
def test_el_aumento_de_datos_solo_actua_al_entrenar(cambio):
    aumento = capa_de_aumento(**cambio)
    x = conjunto_al_azar(16).x
    assert np.array_equal(aumento(x, training=False), x)
    assert np.array_equal(aumento.predict(x, verbose=0), x)
    una, otra = (np.asarray(aumento(x, training=True)) for _ in range(2))
    assert not np.array_equal(una, x) and not np.array_equal(una, otra)


def test_el_aumento_refleja_y_desplaza_sin_dejar_bordes_negros():
    aumento = capa_de_aumento(aumento=True)
    x = np.repeat(conjunto_al_azar(1).x, 40, axis=0)
    aumentadas = set(huellas(np.asarray(aumento(x, training=True))))
    assert len(aumentadas - set(huellas(x[:1])) - set(huellas(x[:1, :, ::-1]))) > 20
    assert np.asarray(aumento(np.ones_like(x), training=True)).min() == 1


def test_cada_paso_de_la_escalera_cambia_algo_y_entre_todos_prueban_la_receta_entera():
    probados = set()
    receta = p.Receta()
    for paso, cambio in p.PELDANOS:
        candidata = replace(receta, **cambio)
        assert candidata != receta, paso
        receta = candidata
        probados |= cambio.keys()
    assert probados == {campo.name for campo in fields(p.Receta)}


@pytest.mark.parametrize(
    "cambio, tipo",
    [
        ({"batchnorm": True}, "BatchNormalization"),
        ({"residual": True}, "Add"),
        ({"borrado": True}, "RandomErasing"),
        ({"aumento": True}, "RandomFlip"),
        ({"normalizar": True}, "Normalization"),
    ],
)
def test_la_receta_decide_las_capas(cambio, tipo, datos):
    sin, con = (
        {type(capa).__name__ for capa in p.construir_mejorada(receta, datos).layers}
        for receta in (p.Receta(filtros=ESTRECHA), p.Receta(filtros=ESTRECHA, **cambio))
    )
    assert tipo not in sin and tipo in con


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
    receta = p.Receta(filtros=ESTRECHA, blanqueo=True, optimizador=p.sgd_ciclo)
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
    assert len(pesos) == 7  # las convoluciones 3x3 y la salida


# --- El entrenamiento común ----------------------------------------------------------------------


def test_dos_entrenamientos_de_la_misma_semilla_son_el_mismo(datos):
    una = entrenar_basenet(datos)
    entrenar_basenet(datos, semilla=8, lote=50)  # uno distinto en medio no cambia nada
    otra = entrenar_basenet(datos)
    assert una.hist.history == otra.hist.history
    assert np.array_equal(una.prob_val, otra.prob_val)


def test_otra_semilla_es_otro_entrenamiento(datos):
    assert entrenar_basenet(datos).hist.history != entrenar_basenet(datos, 8).hist.history


def test_se_queda_con_la_epoca_de_mas_aciertos_y_no_para_antes():
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
    entrenada = p.entrenar(construir, datos, 7, 4, 2, optimizador, margen)
    curvas = entrenada.hist.history
    assert pasos == [12]  # cuatro épocas de tres lotes
    assert np.argmin(curvas["val_loss"]) == 0
    assert curvas["val_accuracy"] == pytest.approx([2 / 6, 5 / 6, 3 / 6, 3 / 6])
    assert p.calcularAccuracy(val.y, entrenada.prob_val) == pytest.approx(5 / 6)
    assert np.array_equal(entrenada.prob_val, p.predecir(entrenada.modelo, x))
    assert 0 < entrenada.segundos < time.perf_counter() - inicio


def test_lo_que_transforma_un_lote_nunca_alcanza_a_la_validacion(datos):
    vistas = []

    def espiar(x, azar):
        vistas.extend(huellas(x))
        return x

    entrenar_basenet(datos, epocas=1, transformar=espiar)
    assert set(vistas) == set(huellas(datos.train.x))


def test_los_lotes_dan_cada_imagen_una_vez_por_epoca_con_su_clase_y_en_otro_orden():
    x = np.arange(10, dtype="float16").reshape(10, 1)
    lotes = p.Lotes(p.Conjunto(x, 2 * x), 4, p.a_float32, 7)
    ordenes = []
    for _ in range(2):
        partes = [lotes[i] for i in range(len(lotes))]
        assert [len(px) for px, _ in partes] == [4, 4, 2]
        assert all(px.dtype == np.float32 and np.array_equal(py, 2 * px) for px, py in partes)
        ordenes.append(np.concatenate([px for px, _ in partes]).ravel().tolist())
        lotes.on_epoch_end()
    assert sorted(ordenes[0]) == sorted(ordenes[1]) == list(range(10))
    assert ordenes[0] != ordenes[1]
    otra_semilla = p.Lotes(p.Conjunto(x, 2 * x), 4, p.a_float32, 8)
    assert [otra_semilla[0][0].ravel().tolist()] != [ordenes[0][:4]]


def test_el_ciclo_sube_en_la_quinta_parte_de_los_pasos_y_baja_hasta_cero():
    tasas = np.array([float(p.ciclo(0.1, 100)(paso)) for paso in range(101)])
    assert tasas[0] == 0 and tasas[20] == pytest.approx(0.1)
    assert tasas[100] == pytest.approx(0, abs=1e-6)
    assert (np.diff(tasas[:21]) > 0).all() and (np.diff(tasas[20:]) < 0).all()


@pytest.mark.parametrize(
    "construir, tasa",
    [(p.sgd_ciclo, p.TASA_SGD), (partial(p.adam_ciclo, 0.3), 0.3)],
    ids=["SGD", "Adam"],
)
def test_los_optimizadores_de_ciclo_llegan_a_su_tasa_y_terminan_en_cero(construir, tasa):
    optimizador, tasas = construir(50), []
    for paso in range(51):
        optimizador.iterations.assign(paso)
        tasas.append(float(optimizador.learning_rate))
    assert max(tasas) == pytest.approx(tasa)
    assert tasas[-1] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "receta, jerarquica",  # como en el Apartado 2 y como en el Bonus
    [(p.Receta(normalizar=True, suavizado=0.1), False), (MEJORADA, True)],
    ids=["BaseNet", "final"],
)
@pytest.mark.usefixtures("mixed_float16")
def test_un_paso_en_mixed_float16_da_probabilidades_en_float32(receta, jerarquica, datos):
    perdida = p.perdida_jerarquica(np.arange(25) // 5, 0.1) if jerarquica else None
    entrenada = p.entrenar_receta(receta, datos, 1, 7, perdida)
    assert any(capa.compute_dtype == "float16" for capa in entrenada.modelo.layers)
    if jerarquica:
        assert entrenada.modelo.loss is perdida
    else:  # la de la receta
        assert entrenada.modelo.loss.get_config()["label_smoothing"] == receta.suavizado
    assert entrenada.prob_val.dtype == np.float32
    assert np.allclose(entrenada.prob_val.sum(1), 1, atol=1e-5)
    assert np.isfinite(entrenada.hist.history["loss"]).all()


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


@pytest.mark.parametrize(
    "diferencia, valor_p, frase",
    [
        (0.02, 0.001, "mejora"),
        (-0.02, 0.001, "empeora"),
        (0.02, 0.3, "no se distingue del azar"),
        (-0.02, p.SIGNIFICACION, "no se distingue del azar"),
    ],
)
def test_el_veredicto_no_llama_mejora_a_lo_que_puede_ser_azar(diferencia, valor_p, frase):
    assert p.veredicto(diferencia, valor_p) == frase


def test_la_perdida_jerarquica_suma_la_de_clases_y_la_de_superclases():
    superclases, suavizado = np.array([0, 0, 1, 1, 1]), 0.1
    y = np.eye(5)[[0, 3, 4]]
    prob = np.random.default_rng(0).dirichlet(np.ones(5), 3)
    fina = -((y * (1 - suavizado) + suavizado / 5) * np.log(prob)).sum(1)
    gruesa = [prob[0, :2].sum(), prob[1, 2:].sum(), prob[2, 2:].sum()]
    perdida = p.perdida_jerarquica(superclases, suavizado)
    obtenida = perdida(y.astype("float32"), prob.astype("float32"))
    assert np.allclose(obtenida, fina - p.PESO_SUPERCLASE * np.log(gruesa), atol=1e-5)


def test_restringir_da_probabilidades_de_las_25_clases_en_la_misma_proporcion():
    prob = np.random.default_rng(0).dirichlet(np.ones(100), 6).astype("float32")
    restringida = p.restringir(prob)
    assert restringida.shape == (6, 25)
    assert np.allclose(restringida.sum(1), 1)
    assert np.allclose(restringida[:, 3] / restringida[:, 9], prob[:, 3] / prob[:, 9])


def test_la_probabilidad_de_una_superclase_es_la_suma_de_las_de_sus_clases():
    prob = np.array([[0.1, 0.2, 0.3, 0.4]])
    assert np.allclose(p.por_superclase(prob, np.array([1, 0, 1, 0])), [[0.6, 0.4]])


def test_el_comite_es_la_media_de_la_generalista_y_la_especialista():
    cifar = p.cifar_sintetico(2)
    datos = p.datos_cifar(cifar, p.CLASES, 7)
    hist = SimpleNamespace(epoch=[0, 1, 2])
    de_100 = p.construir_mejorada(MEJORADA, p.datos_cifar(cifar, 100, 7))
    generalista = p.Entrenamiento(de_100, hist, 5.0, None)
    sesion = p.Sesion(7, p.RAPIDO, p.RESNET50, cifar)
    p.formar_comite(sesion, generalista)
    # Sin el Apartado 2 no hay comité.
    assert [r.experimento for r in sesion.resultados] == ["Generalista, 25 clases"]
    p.plt.close("all")
    nombre = "BaseNet mejorada, con espejo"
    sesion.resultados.append(p.Resultado("2", nombre, parametros=1000, segundos=4.0))
    # Una especialista que nunca falla.
    sesion.probabilidades[nombre] = datos.val.y, datos.test.y
    p.formar_comite(sesion, generalista)
    comite = sesion.resultado("Comité, 25 clases")
    assert (comite.val, comite.test, comite.segundos) == (1, 1, 9.0)
    assert comite.parametros == de_100.count_params() + 1000
    assert comite.origen == cifar.origen
    suyas = p.restringir(p.predecir_con_espejo(de_100, datos.test.x))
    # De cada imagen, la mitad de la certeza de una y la mitad de la probabilidad de la otra.
    de_la_cierta = 0.5 + suyas[np.arange(len(suyas)), datos.test.y.argmax(1)] / 2
    assert comite.perdida_test == pytest.approx(-np.log(de_la_cierta).mean(), rel=1e-4)


def test_restringir_vale_aunque_la_red_no_de_nada_a_las_25():
    prob = np.eye(100, dtype="float32")[[60, 3]]  # un softmax saturado da ceros exactos
    restringida = p.restringir(prob)
    assert np.allclose(restringida.sum(1), 1)
    assert restringida[1].argmax() == 3


# --- La escalera ---------------------------------------------------------------------------------


@pytest.fixture
def sesion():
    return p.Sesion(7, replace(p.RAPIDO, epocas_escalera=1), p.RESNET50)


def test_la_escalera_no_lee_test_y_entrena_cada_peldano_desde_cero(datos, sesion, monkeypatch):
    monkeypatch.setattr(p, "PELDANOS", p.PELDANOS[:2])
    p.subir_escalera(datos, sesion)
    recetas = {"BaseNet": p.Receta(), "Normalización": p.Receta(normalizar=True)}
    normaliza = sesion.detalles["Escalera: Normalización"]["se_queda"]
    recetas["Aumento de datos"] = p.Receta(normalizar=normaliza, aumento=True)
    assert [r.experimento for r in sesion.resultados] == [f"Escalera: {paso}" for paso in recetas]
    assert all(r.val is not None and r.test is None for r in sesion.resultados)
    for paso, receta in reversed(recetas.items()):  # en otro orden salen las mismas redes
        otra = p.entrenar_receta(receta, datos, 1, 7)
        assert sesion.detalles[f"Escalera: {paso}"]["curvas"] == otra.hist.history, paso


def test_la_escalera_solo_se_queda_con_los_pasos_que_mejoran_la_validacion(
    datos, sesion, monkeypatch, capsys
):
    aciertos = iter([20, 25, 24, 25, 35])  # de 50: BaseNet y cuatro pasos
    recetas = []

    def entrenada(receta, datos, epocas, semilla):
        recetas.append(receta)
        prob = np.roll(datos.val.y, 1, axis=1)
        bien = next(aciertos)
        prob[:bien] = datos.val.y[:bien]
        hist = SimpleNamespace(epoch=range(epocas), history={"val_accuracy": [bien / 50]})
        return p.Entrenamiento(p.construir_basenet(), hist, 0.0, prob)

    monkeypatch.setattr(p, "entrenar_receta", entrenada)
    pasos = {
        "sube": {"normalizar": True},
        "baja": {"aumento": True},
        "empata": {"borrado": True},
        "vuelve a subir": {"dropout": 0.5},
    }
    monkeypatch.setattr(p, "PELDANOS", tuple(pasos.items()))
    llega = p.subir_escalera(datos, sesion)
    assert llega == p.Receta(normalizar=True, dropout=0.5)
    con = p.Receta(normalizar=True)  # cada paso parte de lo que se ha quedado
    aumentada, borrada = replace(con, aumento=True), replace(con, borrado=True)
    assert recetas == [p.Receta(), con, aumentada, borrada, llega]
    assert [r.val for r in sesion.resultados] == [0.4, 0.5, 0.48, 0.5, 0.7]
    esperados = {  # puntos, p de McNemar y si se queda
        "sube": (0.1, 2 / 2**5, True),  # cinco aciertos nuevos y ninguno perdido
        "baja": (-0.02, 1, False),
        "empata": (0, 1, False),
        "vuelve a subir": (0.2, 2 / 2**10, True),
    }
    for paso, (diferencia, valor_p, se_queda) in esperados.items():
        detalles = sesion.detalles[f"Escalera: {paso}"]
        assert detalles["diferencia"] == pytest.approx(diferencia), paso
        assert detalles["p"] == pytest.approx(valor_p), paso
        assert detalles["se_queda"] is se_queda, paso
    # Lo que dice de cada uno: puntos, p, veredicto y si se queda.
    frases = dict(re.findall(r"^  ([^→:]+): (.*)$", capsys.readouterr().out, re.MULTILINE))
    assert re.search("10,00 .* 0,0625.* no se distingue del azar.* se queda", frases["sube"], re.I)
    assert re.search("-2,00 .* 1,0000.* no se .* se descarta", frases["baja"], re.I)
    assert re.search("20,00 .* 0,0020.* mejora.* se queda", frases["vuelve a subir"], re.I)


# --- Las figuras: lo que se ve es lo medido ------------------------------------------------------


def lineas(eje):
    """{rótulo: alturas} de las líneas de un eje."""
    return {linea.get_label(): list(linea.get_ydata()) for linea in eje.lines}


def historia(**curvas):
    """La History de un entrenamiento con esas curvas."""
    return SimpleNamespace(history=curvas, epoch=list(range(len(curvas["loss"]))))


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


def test_la_evolucion_del_ajuste_fino_sigue_a_la_de_su_cabeza():
    curvas = {"loss": [9.0, 8.0], "accuracy": [0.0, 0.1]}
    previa = historia(**curvas, val_loss=[9.0, 9.0], val_accuracy=[0.0, 0.0])
    hist = historia(loss=[7.0], accuracy=[0.2], val_loss=[6.0], val_accuracy=[0.3])
    p.mostrarEvolucion(hist, "Ajuste", fase_previa=previa)
    perdida, aciertos = p.plt.figure("Ajuste").axes
    assert lineas(perdida)["Entrenamiento"] == [9.0, 8.0, 7.0]
    assert lineas(aciertos)["Validación"] == [0.0, 0.0, 0.3]
    (mejor,) = (linea for linea in aciertos.lines if "época" in linea.get_label())
    assert list(mejor.get_xdata()) == [3, 3]


def con_imagenes(real):
    """Datos con dos imágenes de train de cada clase y esas clases en test."""
    train = p.Conjunto(conjunto_al_azar(6).x, np.repeat(np.eye(3), 2, axis=0))
    test = p.Conjunto(conjunto_al_azar(len(real), semilla=5).x, np.eye(3)[real])
    return p.Datos(train, None, test, tuple("abc"), ("ruido",))


def test_la_matriz_de_confusion_reparte_cada_clase_real():
    datos = con_imagenes([0, 0, 0, 0, 1, 1, 2])
    p.mostrar_confusion("Confusión", datos, np.eye(3)[[0, 1, 1, 1, 1, 1, 0]])
    (imagen,) = p.plt.figure("Confusión").axes[0].images
    assert np.allclose(imagen.get_array(), [[0.25, 0.75, 0], [0, 1, 0], [1, 0, 0]])


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


def test_el_progreso_dice_en_cada_epoca_como_va_y_cuanto_queda(capsys):
    progreso = p.Progreso()
    progreso.set_params({"epochs": 8})
    progreso.on_train_begin()
    progreso.inicio -= 60
    logs = {"loss": 1.5, "accuracy": 0.25, "val_loss": 2.5, "val_accuracy": 0.125}
    progreso.on_epoch_end(1, logs)
    linea = " ".join(capsys.readouterr().out.split())
    assert linea.startswith("época 2/8 · pérdida 1,500 · aciertos 25,00 % · val. 12,50 %")
    assert linea.endswith("· 1:00 (quedan 3:00)")


def test_una_figura_que_quedo_abierta_no_impide_volver_a_dibujarla():
    for _ in range(2):  # en un cuaderno, la de una ejecución interrumpida sigue ahí
        (eje,) = p.nueva_figura("Lámina")
        eje.plot([0, 1])
    assert len(p.plt.figure("Lámina").axes) == 1
