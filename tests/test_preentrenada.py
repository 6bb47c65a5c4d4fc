"""Apartado 3: la red preentrenada, sus pesos, las cabezas, los clasificadores y el ajuste fino."""

import io
import re
from contextlib import redirect_stdout
from dataclasses import replace
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
from conftest import conjunto_al_azar
from keras import layers

import practica2 as p

LADO = 64


def red_diminuta(include_top, weights, input_tensor):
    """Hace de ResNet50 donde no importa cuál sea: dos convoluciones con batch normalization."""
    x = input_tensor
    for numero in (1, 2):
        x = layers.Conv2D(8, 3, strides=4, name=f"conv{numero}")(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
    red = keras.Model(keras.utils.get_source_inputs(input_tensor), x)
    if weights:
        red.load_weights(weights)
    return red


DIMINUTA = p.RESNET50._replace(nombre="Diminuta", constructor=red_diminuta)


def problema(forma, n=42, clases=6, canal=12, escala=1.0, tipo="float16"):
    """Datos de ruido en los que en cada clase destaca un canal."""
    partes = []
    for semilla in range(3):
        ruido = conjunto_al_azar(n, clases, forma, semilla)
        destaca = canal * np.eye(clases, forma[-1])[ruido.y.argmax(1)]
        x = escala * (ruido.x + destaca.reshape(n, *[1] * (len(forma) - 1), forma[-1]))
        partes.append(p.Conjunto(x.astype(tipo), ruido.y))
    return p.Datos(*partes, tuple("abcdef")[:clases], ("inventados",))


# --- La base y sus pesos -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "preprocesar, esperado",
    [
        (p.RESNET50.preprocesar, lambda x: x[..., ::-1] - np.array([103.939, 116.779, 123.68])),
        (keras.applications.mobilenet_v2.preprocess_input, lambda x: x / 127.5 - 1),
    ],
)
@pytest.mark.parametrize("tipo", ["uint8", "float32"])
def test_cada_red_recibe_los_pixeles_con_su_preprocesado_y_el_lote_no_cambia(
    preprocesar, esperado, tipo
):
    sin_capas = p.RedPreentrenada(
        "", lambda input_tensor, **_: keras.Model(input_tensor, input_tensor), preprocesar, "", ""
    )
    x = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(tipo)
    antes = x.copy()
    obtenido = p.predecir(p.construir_base(sin_capas, 8), x)
    assert np.allclose(obtenido, esperado(antes.astype("float64")), atol=1e-4)
    assert np.array_equal(x, antes)


def test_los_pesos_aleatorios_son_siempre_los_mismos_centrados_y_con_las_ramas_pequenas():
    resnet50 = p.construir_base(p.RESNET50, LADO).get_layer("resnet50")
    una, otra = (p.construir_base(DIMINUTA, LADO).get_weights() for _ in range(2))
    assert all(np.array_equal(peso, el_mismo) for peso, el_mismo in zip(una, otra))
    nucleos = [peso for peso in resnet50.get_weights() if peso.ndim == 4]
    assert len(nucleos) == 53
    for nucleo in nucleos:
        assert nucleo.std() > 0 and np.allclose(nucleo.sum((0, 1, 2)), 0, atol=1e-4)
    escalas = {capa.name: np.unique(capa.gamma) for capa in resnet50.layers if "bn" in capa.name}
    assert sum(nombre.endswith("_3_bn") for nombre in escalas) == 16
    for nombre, escala in escalas.items():
        assert escala == pytest.approx([p.ESCALA_RAMAS if nombre.endswith("_3_bn") else 1])


def test_los_pesos_de_un_fichero_se_cargan_tal_como_estan(tmp_path):
    red, fichero = (
        red_diminuta(False, None, keras.Input((LADO, LADO, 3))),
        tmp_path / "a.weights.h5",
    )
    red.save_weights(fichero)
    cargada = p.construir_base(DIMINUTA._replace(fichero=fichero))
    assert all(np.array_equal(a, b) for a, b in zip(cargada.get_weights(), red.get_weights()))


def test_los_pesos_reales_se_cargan_tal_como_estan(imagenes_reales):
    hallada = p.buscar_pesos(p.RESNET50)
    modelo = p.construir_base(hallada, LADO).get_layer("resnet50")
    assert modelo.count_params() == 23_587_712
    with h5py.File(hallada.fichero) as h5:
        primero = h5["conv1_conv"][h5["conv1_conv"].attrs["weight_names"][0]][()]
    assert np.array_equal(modelo.get_layer("conv1_conv").kernel, primero)


def test_una_pasada_da_los_mapas_y_su_media_y_lo_que_no_cabe_en_float16_se_dice(monkeypatch):
    datos = problema((LADO, LADO, 3), 6, canal=0, escala=255, tipo="uint8")
    base, predecir, pasadas = p.construir_base(DIMINUTA, LADO), p.predecir, []

    monkeypatch.setattr(p, "predecir", lambda *a: pasadas.append(len(a[1])) or predecir(*a))
    mapas, vectores = p.extraer(base, list(datos))
    assert pasadas == [6, 6, 6]
    for parte, de_mapas, de_vectores in zip(datos[:3], mapas, vectores):
        esperados = predecir(base, parte.x)
        assert de_mapas.x.dtype == np.float16 and de_vectores.x.dtype == np.float32
        assert np.allclose(de_mapas.x, esperados, rtol=1e-3) and esperados.std() > 0
        assert np.allclose(de_vectores.x, esperados.mean((1, 2)), rtol=2e-3)
        assert de_mapas.y is de_vectores.y is parte.y
    pixeles = keras.Input((LADO, LADO, 3))
    with pytest.raises(FloatingPointError, match="float16"):
        p.extraer(keras.Model(pixeles, layers.Rescaling(1e6)(pixeles)), list(datos))


# --- Las cabezas y los clasificadores ------------------------------------------------------------


@pytest.mark.parametrize(
    "crear_capas, forma, tipos, parametros",
    [
        (list, (16,), "Dense", 16 * 6 + 6),
        (
            p.capas_fc,
            (16,),
            "Dense BatchNormalization Activation Dropout Dense",
            16 * 512 + 2 * 512 + 512 * 6 + 6,
        ),
        (
            p.capas_sin_pooling,
            (7, 7, 16),
            "Conv2D BatchNormalization Activation Conv2D BatchNormalization Activation Flatten"
            " Dropout Dense",
            (16 + 9 * 256 + 4) * 256 + 5 * 5 * 256 * 6 + 6,
        ),
    ],
)
def test_cada_cabeza_es_la_que_se_dice_y_aprende_un_problema_facil(
    crear_capas, forma, tipos, parametros, monkeypatch
):
    monkeypatch.setattr(p, "TASA_CABEZA", 0.05)  # son quince pasos
    sesion = p.Sesion(7, replace(p.RAPIDO, epocas_cabezas=15), DIMINUTA)
    cabeza = p.probar_cabeza("3.1", "cabeza", crear_capas, problema(forma), sesion).modelo
    fila = sesion.resultados["Diminuta, cabeza"]
    assert fila.train > 0.8 and fila.val > 0.8 and fila.test > 0.8
    assert " ".join(type(capa).__name__ for capa in cabeza.layers) == tipos
    assert cabeza.layers[-1].activation is keras.activations.softmax
    assert cabeza.input_shape == (None, *forma) and cabeza.output_shape == (None, 6)
    assert sum(int(np.prod(v.shape)) for v in cabeza.trainable_variables) == parametros


def test_los_clasificadores_se_ajustan_en_train_y_eligen_por_validacion_cruzada(monkeypatch):
    """Lo que separa las clases es poco junto al ruido de los demás canales: acierta quien se ajusta
    más a train."""
    buscados, busqueda = [], p.GridSearchCV
    monkeypatch.setattr(
        p, "GridSearchCV", lambda *a, **k: buscados.append(busqueda(*a, **k)) or buscados[-1]
    )
    monkeypatch.setattr(p, "CONTRACCIONES", (0.9, 0.1))
    monkeypatch.setattr(p, "C_SVM", (1.0, 100.0))
    monkeypatch.setattr(p, "TROZO", 59)  # de las 60 imágenes, una queda para otro trozo
    datos, sesion = problema((8,), 60, 3, tipo="float32"), p.Sesion(7, p.RAPIDO, DIMINUTA)
    for x, y in datos[:3]:
        x[:, 3:] = 10 * x[:, 3:]
        x[:, :3] = 1 + 0.4 * y
    p.probar_clasificadores(datos, sesion)
    svm, lineal, bosque = sesion.resultados.values()
    assert svm.detalles["elegido"] == {"svc__C": 100.0}
    assert lineal.detalles["elegido"] == {"lineardiscriminantanalysis__shrinkage": 0.1}
    assert svm.test > 0.9 and bosque.test > 0.9
    # Todo se ajusta dentro de los pliegues, y al final con todo train y nada más.
    unitarios = p.normalize(datos.train.x)
    for buscado in buscados:
        assert len(buscado.estimator.steps) > 1
    (_, _), (_, pca), (_, lda) = buscados[1].best_estimator_.steps
    assert np.allclose(pca.mean_, unitarios.mean(0), atol=1e-6) and lda.shrinkage == 0.1


# --- El ajuste fino ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def apartado3():
    """(sesión, datos, entrenamientos, lo impreso) del Apartado 3 con la red diminuta: de cada
    entrenamiento, lo que se pide a entrenar, y la red antes y después."""
    datos = problema((LADO, LADO, 3), 24, canal=0.3, escala=190, tipo="uint8")
    sesion = p.Sesion(7, replace(p.RAPIDO, epocas_ajuste=2), DIMINUTA)
    entrenar, entrenamientos, salida = p.entrenar, [], io.StringIO()

    def espiar(construir, datos, semilla, fases, lote, optimizador, suavizado=0.0):
        ((epocas, transformar),), modelo = fases, construir()
        pico = optimizador(10)._learning_rate.warmup_target
        antes = modelo.get_weights(), p.predecir(modelo, datos.val.x)
        hecho = entrenar(construir, datos, semilla, fases, lote, optimizador, suavizado)
        comun = epocas, lote, pico, suavizado
        despues = hecho.modelo.get_weights()
        entrenamientos.append(SimpleNamespace(**locals()))
        return hecho

    with pytest.MonkeyPatch.context() as cambios, redirect_stdout(salida):
        cambios.setattr(p, "entrenar", espiar)
        cambios.setattr(p, "leer_aves", lambda sesion: datos)
        cambios.setattr(p, "LADO_AVES", LADO)
        cambios.setattr(p, "LADO_AJUSTE", LADO - 8)
        cambios.setattr(p, "CANALES", 4)
        cambios.setattr(p, "ARBOLES", 5)
        p.apartado3(sesion)
    return sesion, datos, entrenamientos, salida.getvalue()


def test_las_cabezas_de_a_y_de_b_se_entrenan_igual(apartado3):
    _, _, (salida, fc, sin_pooling, _), _ = apartado3
    assert salida.comun == fc.comun == sin_pooling.comun
    assert salida.comun == (3, p.LOTE_CABEZA, pytest.approx(p.TASA_CABEZA), 0.0)


def test_el_ajuste_fino_parte_de_la_cabeza_y_solo_deja_quieta_la_batch_normalization(apartado3):
    sesion, datos, (salida, *_, ajuste), _ = apartado3
    de_la_cabeza = sesion.resultados["Diminuta, solo la salida"].prob_val
    assert np.allclose(ajuste.antes[1], de_la_cabeza, atol=0.01)
    assert ajuste.transformar.func is p.aumentar
    assert ajuste.transformar.args == (LADO - 8, p.Receta())
    assert ajuste.comun == (2, p.LOTE_AJUSTE, pytest.approx(p.TASA_AJUSTE), 0.1)
    pesos = zip(ajuste.modelo.weights, ajuste.antes[0], ajuste.despues)
    quietos = [peso.name for peso, antes, despues in pesos if np.array_equal(antes, despues)]
    assert quietos == ["gamma", "beta", "moving_mean", "moving_variance"] * 2
    fila = sesion.resultados["Diminuta, ajuste fino"]
    assert np.allclose(fila.prob_val, p.predecir(ajuste.modelo, datos.val.x), atol=1e-3)


def test_se_compara_lo_que_pide_el_guion_y_el_ajuste_con_la_mejor_cabeza_en_validacion(apartado3):
    sesion, _, _, salida = apartado3
    congeladas = [fila for fila in sesion.resultados.values() if "ajuste" not in fila.experimento]
    mejor = max(congeladas, key=lambda fila: fila.val).experimento
    comparadas = re.findall(r"^  Diminuta, (.*) frente a (.*): ", salida, re.MULTILINE)
    assert comparadas == [
        ("nueva FC y salida", "Diminuta, solo la salida"),
        ("sin average pooling", "Diminuta, solo la salida"),
        ("sin average pooling", "Diminuta, nueva FC y salida"),
        ("ajuste fino", mejor),
    ]
