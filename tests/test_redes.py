"""Las redes de CIFAR-100, su entrenamiento, las medidas y la escalera."""

import math
from dataclasses import replace
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
    return p.Datos(train, val, Prohibido(), clases, "ruido")


def entrenar_basenet(datos, semilla=7, **cambios):
    """BaseNet entrenada según un plan de dos épocas, con los cambios que se digan."""
    plan = replace(p.Plan(2, p.LOTE_BASENET, p.adam), **cambios)
    return p.entrenar(p.construir_basenet, datos, plan, semilla)


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
    p.tabla_de_capas(red)
    _, _, *filas, total = capsys.readouterr().out.splitlines()
    assert len(filas) == len(red.layers)
    # 28 x 28 posiciones x 6 filtros x 5 x 5 x 3 pesos; 50 x 25 pesos
    assert filas[0].split() == ["1", "Conv2D", "5", "32", "→", "28", "3", "→", "6", "456", "352.800"]
    assert filas[-1].split() == ["10", "Dense", "—", "50", "→", "25", "—", "1.275", "1.250"]
    assert total.split()[0] == "0,6"


# --- La receta -----------------------------------------------------------------------------------


def test_la_normalizacion_sale_solo_de_train(datos):
    x = datos.train.x * [1, 0.5, 0.1] + [0, 0.2, 0.4]  # cada canal, con su media y su varianza
    datos = replace(datos, train=p.Conjunto(x.astype("float32"), datos.train.y))
    red = p.entrenar_receta(p.Receta(normalizar=True), datos, 1, 7).modelo
    (capa,) = [c for c in red.layers if isinstance(c, keras.layers.Normalization)]
    esperada = (datos.val.x - x.mean((0, 1, 2))) / x.std((0, 1, 2))
    assert np.allclose(capa(datos.val.x), esperada, atol=1e-4)


@pytest.mark.parametrize("cambio", [dict(aumento=True), dict(borrado=True)], ids=str)
def test_el_aumento_de_datos_solo_actua_al_entrenar(cambio):
    entrada = keras.Input((32, 32, 3))
    aumento = keras.Model(entrada, p.aumentar(entrada, p.Receta(**cambio)))
    x = conjunto_al_azar(16).x
    assert np.array_equal(aumento(x, training=False), x)
    assert np.array_equal(aumento.predict(x, verbose=0), x)
    una, otra = (np.asarray(aumento(x, training=True)) for _ in range(2))
    assert not np.array_equal(una, x) and not np.array_equal(una, otra)


def test_la_red_final_tiene_cada_paso_que_se_queda_y_ninguno_descartado():
    assert set(p.DESCARTADOS) < {paso for paso, _ in p.PASOS}
    esperada = p.Receta()
    for paso, cambio in p.PASOS:
        assert replace(esperada, **cambio) != esperada, paso  # cada paso cambia algo
        if paso not in p.DESCARTADOS:
            esperada = replace(esperada, **cambio)
    assert esperada == p.RECETA_FINAL


@pytest.mark.parametrize(
    "cambio, tipo",
    [
        (dict(batchnorm=True), "BatchNormalization"),
        (dict(residual=True), "Add"),
        (dict(borrado=True), "RandomErasing"),
        (dict(aumento=True), "RandomFlip"),
        (dict(normalizar=True), "Normalization"),
    ],
)
def test_la_receta_decide_las_capas(cambio, tipo, datos):
    sin, con = (
        {type(capa).__name__ for capa in p.construir_red(receta, datos).layers}
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
    receta = p.Receta(filtros=ESTRECHA, blanqueo=True)
    red = p.entrenar_receta(receta, datos, 1, 7).modelo
    primera = next(c for c in red.layers if isinstance(c, keras.layers.Conv2D))
    assert np.allclose(primera.kernel, p.nucleo_blanqueo(datos.train.x), atol=1e-6)


def test_la_receta_decide_la_regularizacion_y_el_dropout(datos):
    red = p.construir_red(p.Receta(filtros=ESTRECHA, l2=0.5, dropout=0.3), datos)
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


def test_se_queda_con_la_mejor_epoca_de_validacion():
    def se_estrella(pasos):
        tasas = [p.TASA_ADAM, 1e6]  # en la última de las cinco épocas destroza los pesos
        return keras.optimizers.Adam(
            keras.optimizers.schedules.PiecewiseConstantDecay([pasos * 4 // 5], tasas)
        )

    datos = p.datos_cifar(p.cifar_sintetico(30), p.CLASES, 7)
    ejecucion = entrenar_basenet(datos, epocas=5, optimizador=se_estrella)
    aciertos = ejecucion.hist.history["val_accuracy"]
    assert len(ejecucion.hist.epoch) == 5 and max(aciertos) > aciertos[-1]
    assert p.calcularAccuracy(datos.val.y, ejecucion.prob_val) == pytest.approx(max(aciertos))
    assert np.array_equal(ejecucion.prob_val, p.predecir(ejecucion.modelo, datos.val.x))


def test_lo_que_transforma_un_lote_nunca_alcanza_a_la_validacion(datos):
    vistas = []

    def espiar(x, azar):
        vistas.extend(huellas(x))
        return x

    entrenar_basenet(datos, epocas=1, transformar=espiar)
    assert set(vistas) == set(huellas(datos.train.x))


def test_los_lotes_dan_cada_imagen_una_vez_por_epoca_con_su_clase_y_en_otro_orden():
    x = np.arange(10, dtype="float16").reshape(10, 1)
    lotes = p.Lotes(x, 2 * x, 4, lambda x, azar: x.astype("float32"), 7)
    ordenes = []
    for _ in range(2):
        partes = [lotes[i] for i in range(len(lotes))]
        assert [len(px) for px, _ in partes] == [4, 4, 2]
        assert all(px.dtype == np.float32 and np.array_equal(py, 2 * px) for px, py in partes)
        ordenes.append(np.concatenate([px for px, _ in partes]).ravel().tolist())
        lotes.on_epoch_end()
    assert sorted(ordenes[0]) == sorted(ordenes[1]) == list(range(10))
    assert ordenes[0] != ordenes[1]


def test_el_ciclo_sube_hasta_la_tasa_y_baja_hasta_cero():
    tasas = [float(p.ciclo(0.1, 100)(paso)) for paso in range(101)]
    assert int(np.argmax(tasas)) == 100 * p.CALENTAMIENTO
    assert max(tasas) == pytest.approx(0.1)
    assert tasas[0] == 0 and tasas[-1] == pytest.approx(0, abs=1e-6)
    assert np.argmin(np.diff(tasas[:21])) >= 0 and (np.diff(tasas[21:]) < 0).all()


@pytest.mark.parametrize("receta", [p.Receta(normalizar=True), MEJORADA], ids=["BaseNet", "final"])
@pytest.mark.parametrize("jerarquica", [False, True])
def test_un_paso_en_mixed_float16_da_probabilidades_en_float32(receta, jerarquica, datos, mixed_float16):
    perdida = p.perdida_jerarquica(np.arange(25) // 5, 0.1) if jerarquica else None
    ejecucion = p.entrenar_receta(receta, datos, 1, 7, perdida)
    assert any(capa.compute_dtype == "float16" for capa in ejecucion.modelo.layers)
    assert ejecucion.prob_val.dtype == np.float32
    assert np.allclose(ejecucion.prob_val.sum(1), 1, atol=1e-5)
    assert np.isfinite(ejecucion.hist.history["loss"]).all()


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


def test_medir_test_da_aciertos_top5_y_perdida():
    y = np.eye(10)[[0, 1, 2, 3]]
    prob = np.tile(np.arange(10, 0, -1.0), (4, 1))  # la clase 0, la más probable, y en orden
    prob[3] = prob[3, ::-1]  # la clase 3, la séptima más probable
    prob /= prob.sum(1, keepdims=True)
    medidas = p.medir_test(y, prob.astype("float32"))
    assert (medidas["test"], medidas["top5"]) == (0.25, 0.75)
    esperada = -np.mean([math.log(v / 55) for v in (10, 9, 8, 4)])
    assert medidas["perdida_test"] == pytest.approx(esperada, rel=1e-5)
    assert p.medir_test(y, 5 - prob, es_probabilidad=False)["perdida_test"] is None


def test_peores_pares_y_aciertos_por_clase():
    real, predicha = [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 1, 1, 2, 2, 0, 0]
    datos = SimpleNamespace(test=p.Conjunto(None, np.eye(3)[real]), clases=("a", "b", "c"))
    prob = np.eye(3)[predicha]
    assert p.peores_pares(datos, prob) == [(0, 1, 2, 1), (2, 0, 2, 6), (1, 2, 1, 4)]
    assert p.aciertos_por_clase(datos, prob) == pytest.approx([1 / 3, 1 / 2, 1 / 3])


def en_desacuerdo(ambas, solo_a, solo_b, ninguna):
    """(y, prob_a, prob_b) de dos redes con esas cuentas de aciertos."""
    acierta_a = [1] * (ambas + solo_a) + [0] * (solo_b + ninguna)
    acierta_b = [1] * ambas + [0] * solo_a + [1] * solo_b + [0] * ninguna
    return np.eye(2)[[1] * len(acierta_a)], np.eye(2)[acierta_a], np.eye(2)[acierta_b]


@pytest.mark.parametrize(
    "cuentas, p_esperada",
    [((9, 0, 0, 3), 1.0), ((0, 5, 0, 9), 2 / 2**5), ((7, 1, 5, 2), 2 * (1 + 6) / 2**6), ((0, 4, 4, 0), 1.0)],
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


def test_el_comite_es_la_media_de_la_generalista_y_la_especialista(monkeypatch, datos):
    datos = replace(datos, test=conjunto_al_azar(50, semilla=2))
    hist = keras.callbacks.History()
    hist.epoch = [0, 1, 2]
    de_100 = p.construir_red(MEJORADA, replace(datos, clases=tuple(range(100))))
    cien = p.Ejecucion(de_100, hist, 5.0, None)
    veinticinco = p.Ejecucion(p.construir_red(MEJORADA, datos), hist, 4.0, None)
    monkeypatch.setattr(p.Sesion, "datos25", lambda sesion: datos)
    sesion = p.Sesion(7, p.RAPIDO)
    p.formar_comite(sesion, cien)
    assert [r.experimento for r in sesion.filas] == ["Generalista, 25 clases"]  # sin el Apartado 2, no lo hay
    seguras = datos.val.y, datos.test.y  # una especialista que nunca falla
    sesion.especialista = (veinticinco, *seguras)
    p.formar_comite(sesion, cien)
    comite = sesion.filas[-1]
    assert (comite.val, comite.test) == (1, 1)
    assert comite.parametros == de_100.count_params() + veinticinco.modelo.count_params()
    assert comite.segundos == 9.0
    media = (datos.test.y + p.restringir(p.predecir_con_espejo(cien.modelo, datos.test.x))) / 2
    assert comite.perdida_test == pytest.approx(p.medir_test(datos.test.y, media)["perdida_test"])


def test_restringir_vale_aunque_la_red_no_de_nada_a_las_25():
    prob = np.eye(100, dtype="float32")[[60, 3]]  # un softmax saturado da ceros exactos
    restringida = p.restringir(prob)
    assert np.allclose(restringida.sum(1), 1)
    assert restringida[1].argmax() == 3


# --- La escalera ---------------------------------------------------------------------------------


@pytest.fixture
def sesion():
    return p.Sesion(7, replace(p.RAPIDO, escalera=1))


def test_la_escalera_no_lee_test(datos, sesion, monkeypatch):
    monkeypatch.setattr(p, "PASOS", p.PASOS[:2])
    p.subir_escalera(datos, sesion)
    assert [r.experimento for r in sesion.filas] == [
        "Escalera: BaseNet",
        "Escalera: Normalización",
        "Escalera: Aumento de datos",
    ]
    assert all(r.val is not None and r.test is None for r in sesion.filas)


def test_cada_peldano_se_entrena_desde_cero(datos, sesion, monkeypatch):
    monkeypatch.setattr(p, "PASOS", p.PASOS[:2])
    entrenar, peldanos = p.entrenar_receta, []

    def anotando(*argumentos):
        peldanos.append((argumentos, entrenar(*argumentos)))
        return peldanos[-1][1]

    monkeypatch.setattr(p, "entrenar_receta", anotando)
    p.subir_escalera(datos, sesion)
    assert len(peldanos) == 3
    for argumentos, peldano in reversed(peldanos):  # en otro orden salen las mismas redes
        assert np.array_equal(entrenar(*argumentos).prob_val, peldano.prob_val)


def test_la_escalera_solo_se_queda_con_los_pasos_que_mejoran_la_validacion(datos, sesion, monkeypatch):
    aciertos = iter([20, 25, 24, 25, 30])  # de 50: BaseNet y cuatro pasos
    recetas = []

    def entrenada(receta, datos, epocas, semilla):
        recetas.append(receta)
        prob = np.roll(datos.val.y, 1, axis=1)
        bien = next(aciertos)
        prob[:bien] = datos.val.y[:bien]
        hist = SimpleNamespace(epoch=range(epocas))
        return p.Ejecucion(p.construir_basenet(), hist, 0.0, prob)

    monkeypatch.setattr(p, "entrenar_receta", entrenada)
    monkeypatch.setattr(
        p,
        "PASOS",
        (
            ("sube", dict(normalizar=True)),
            ("baja", dict(aumento=True)),
            ("empata", dict(borrado=True)),
            ("vuelve a subir", dict(dropout=0.5)),
        ),
    )
    llega = p.subir_escalera(datos, sesion)
    assert llega == p.Receta(normalizar=True, dropout=0.5)
    con = p.Receta(normalizar=True)  # cada paso parte de lo que se ha quedado
    assert recetas == [
        p.Receta(), con, replace(con, aumento=True), replace(con, borrado=True), llega
    ]  # fmt: skip
    assert [r.val for r in sesion.filas] == [0.4, 0.5, 0.48, 0.5, 0.6]
