"""Apartado 3: la red preentrenada, sus pesos, las cabezas, los clasificadores y el ajuste fino."""

from dataclasses import replace
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
from conftest import conjunto_al_azar
from keras import layers
from sklearn.base import clone

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


def sin_plegar(preentrenada, lado=None):
    """La red de una base, con su batch normalization."""
    with pytest.MonkeyPatch.context() as cambios:
        cambios.setattr(p, "plegar", lambda red: red)
        return p.construir_base(preentrenada, lado).layers[-1]


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


@pytest.fixture(scope="module")
def resnet50():
    """ResNet50 con los pesos aleatorios que le da el script."""
    return sin_plegar(p.RESNET50, LADO)


def test_los_pesos_aleatorios_son_siempre_los_mismos_centrados_y_con_las_ramas_pequenas(resnet50):
    una, otra = (sin_plegar(DIMINUTA, LADO).get_weights() for _ in range(2))
    assert all(np.array_equal(peso, el_mismo) for peso, el_mismo in zip(una, otra))
    nucleos = [peso for peso in resnet50.get_weights() if peso.ndim == 4]
    assert len(nucleos) == 53
    for nucleo in nucleos:
        assert nucleo.std() > 0 and np.allclose(nucleo.sum((0, 1, 2)), 0, atol=1e-4)
    escalas = {capa.name: np.unique(capa.gamma) for capa in resnet50.layers if "bn" in capa.name}
    assert sum(nombre.endswith("_3_bn") for nombre in escalas) == 16
    for nombre, escala in escalas.items():
        assert escala == pytest.approx([p.ESCALA_RAMAS if nombre.endswith("_3_bn") else 1])


@pytest.mark.parametrize("nombre", ["ResNet50", "MobileNetV2"])
def test_la_red_plegada_da_lo_mismo_y_solo_se_entrenan_sus_nucleos(nombre, resnet50):
    red, azar = keras.models.clone_model(resnet50), np.random.default_rng(0)
    if nombre == "MobileNetV2":  # tiene convoluciones por canales
        red = keras.applications.MobileNetV2((LADO, LADO, 3), 0.35, include_top=False, weights=None)
    for peso in red.weights:  # sesgos y estadísticas como los de un entrenamiento
        if len(peso.shape) == 1:
            positivo = peso.name in ("gamma", "moving_variance")
            peso.assign(azar.uniform(0.5, 1.5, peso.shape) - (not positivo))
    assert any(getattr(capa, "bias", None) is not None for capa in red.layers) == (nombre[0] == "R")
    plegada = p.plegar(red)
    assert not any(isinstance(capa, layers.BatchNormalization) for capa in plegada.layers)
    x = azar.normal(0, 50, (4, LADO, LADO, 3)).astype("float32")
    esperado = p.predecir(red, x)
    assert esperado.std() > 0
    assert np.abs(p.predecir(plegada, x) - esperado).max() < 1e-4 * np.abs(esperado).max()
    nucleos = [id(capa.kernel) for capa in plegada.layers if hasattr(capa, "kernel")]
    assert [id(variable) for variable in plegada.trainable_variables] == nucleos


def test_los_pesos_de_un_fichero_se_cargan_tal_como_estan(tmp_path):
    red, fichero = (
        red_diminuta(False, None, keras.Input((LADO, LADO, 3))),
        tmp_path / "a.weights.h5",
    )
    red.save_weights(fichero)
    cargada = sin_plegar(DIMINUTA._replace(fichero=fichero))
    assert all(np.array_equal(a, b) for a, b in zip(cargada.get_weights(), red.get_weights()))


def test_los_pesos_reales_se_cargan_tal_como_estan(imagenes_reales):
    hallada = p.buscar_pesos(p.RESNET50)
    modelo = sin_plegar(hallada, LADO)
    assert modelo.count_params() == 23_587_712
    with h5py.File(hallada.fichero) as h5:
        primero = h5["conv1_conv"][h5["conv1_conv"].attrs["weight_names"][0]][()]
    assert np.array_equal(modelo.get_layer("conv1_conv").kernel, primero)


def test_una_pasada_da_los_mapas_y_su_media_y_lo_que_no_cabe_en_float16_se_dice(monkeypatch):
    datos = problema((LADO, LADO, 3), 6, canal=0, escala=255, tipo="uint8")
    base, predecir, pasadas = p.construir_base(DIMINUTA, LADO), p.predecir, []

    monkeypatch.setattr(p, "predecir", lambda *a: pasadas.append(len(a[1])) or predecir(*a))
    mapas, vectores = p.extraer(base, datos)
    assert pasadas == [6, 6, 6]
    for parte, de_mapas, de_vectores in zip(datos[:3], mapas, vectores):
        esperados = predecir(base, parte.x)
        assert de_mapas.x.dtype == np.float16 and de_vectores.x.dtype == np.float32
        assert np.allclose(de_mapas.x, esperados, rtol=1e-3) and esperados.std() > 0
        assert np.allclose(de_vectores.x, esperados.mean((1, 2)), rtol=2e-3)
        assert de_mapas.y is de_vectores.y is parte.y
    pixeles = keras.Input((LADO, LADO, 3))
    with pytest.raises(FloatingPointError, match="float16"):
        p.extraer(keras.Model(pixeles, layers.Rescaling(1e6)(pixeles)), datos)


# --- Las cabezas y los clasificadores ------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_la_escala_de_las_cabezas_sale_de_train_y_no_desborda(precision, en_precision):
    en_precision(precision)
    # El cuadrado de la norma de la raíz no cabe en float16.
    train, otros = (100 * conjunto_al_azar(20, 2, (2048,), semilla).x for semilla in (0, 1))
    aplicar = keras.Sequential(p.capas_escala(train))
    raices = [np.sqrt(x + p.EPSILON_RAIZ) for x in (train, otros)]
    de_train, de_otros = (raiz / np.linalg.norm(raiz, axis=1, keepdims=True) for raiz in raices)
    desviacion = (de_train - de_train.mean(0)).std()
    assert np.allclose(aplicar(otros), (de_otros - de_train.mean(0)) / desviacion, atol=0.01)


@pytest.mark.parametrize(
    "construir, forma, parametros",
    [
        (p.cabeza_salida, (16,), 16 * 6 + 6),
        (p.cabeza_fc, (16,), 16 * 512 + 2 * 512 + 512 * 6 + 6),
        (p.cabeza_sin_pooling, (3, 3, 16), (16 + 9 * 256 + 4) * 256 + 256 * 6 + 6),
    ],
)
def test_cada_cabeza_aprende_un_problema_facil(construir, forma, parametros, monkeypatch):
    monkeypatch.setattr(p, "TASA_CABEZA", 0.05)  # son quince pasos
    sesion = p.Sesion(7, replace(p.RAPIDO, epocas_cabezas=15), DIMINUTA)
    datos = problema(forma)
    p.probar_cabeza("3.1", "cabeza", construir, datos, sesion)
    fila = sesion.resultados["Diminuta, cabeza"]
    assert fila.train > 0.8 and fila.val > 0.8 and fila.top5 >= fila.test > 0.8
    cabeza = construir(datos)
    assert cabeza.input_shape == (None, *forma) and cabeza.output_shape == (None, 6)
    assert sum(int(np.prod(v.shape)) for v in cabeza.trainable_variables) == parametros


def test_los_clasificadores_se_ajustan_en_train_y_eligen_por_validacion_cruzada(monkeypatch):
    """Lo que separa las clases es poco junto al ruido de los demás canales: acierta quien se ajusta
    más a train."""
    monkeypatch.setattr(p, "CONTRACCIONES", (0.9, 0.1))
    monkeypatch.setattr(p, "TROZO", 59)  # de las 60 imágenes, una queda para otro trozo
    datos, sesion = problema((8,), 60, 3, tipo="float32"), p.Sesion(7, p.RAPIDO, DIMINUTA)
    for x, y in datos[:3]:
        x[:, 3:] = 10 * x[:, 3:]
        x[:, :3] = 1 + 0.4 * y
    discriminante = p.probar_clasificadores(datos, sesion)
    svm, lineal, bosque = sesion.resultados.values()
    assert svm.detalles["elegido"] == {"C": max(p.C_SVM)}
    assert lineal.detalles["elegido"] == {"lineardiscriminantanalysis__shrinkage": 0.1}
    assert svm.test > 0.9 and bosque.test > 0.9
    # Todo se ajusta dentro de los pliegues, y al final con todo train y nada más.
    unitarios = p.a_norma_1(datos.train.x)
    (_, pca), (_, lda) = discriminante.best_estimator_.steps
    assert np.allclose(pca.mean_, unitarios.mean(0), atol=1e-6) and lda.shrinkage == 0.1
    assert discriminante.estimator.steps[0][0] == "pca"


@pytest.fixture(scope="module")
def seis_clases():
    """Unos vectores de 16 componentes, como Datos, y su discriminante ya ajustado."""
    azar, y = np.random.default_rng(0), np.tile(np.eye(6), (40, 1))
    partes = [p.Conjunto(azar.gamma(2, 1 + 0.4 * y @ np.eye(6, 16)), y) for _ in range(3)]
    datos = p.Datos(*partes, tuple("abcdef"), ())
    return datos, p.probar_clasificadores(datos, p.Sesion(7, p.RAPIDO, DIMINUTA))


def test_el_discriminante_se_escribe_como_una_capa_softmax_que_da_las_mismas_clases(seis_clases):
    datos, discriminante = seis_clases
    prob = p.predecir(p.cabeza_discriminante(datos, discriminante), datos.val.x)
    puntos = discriminante.decision_function(p.a_norma_1(datos.val.x))
    # Los logaritmos de las probabilidades son los puntos por un factor, salvo una constante.
    de_la_capa, del_discriminante = (m - m[:, :1] for m in (np.log(prob), puntos))
    temperatura = p.medir_temperatura(datos, discriminante)
    assert np.allclose(de_la_capa, del_discriminante / temperatura, atol=1e-3)


def test_la_temperatura_es_la_que_menos_pierde_en_train_sin_haber_visto_cada_imagen(seis_clases):
    datos, discriminante = seis_clases
    temperatura = p.medir_temperatura(datos._replace(val=None, test=None), discriminante)
    x, clases, perdidas = p.a_norma_1(datos.train.x), datos.train.y.argmax(1), np.zeros(3)
    for de_train, fuera in discriminante.cv.split(x, clases):
        en_el_pliegue = clone(discriminante.best_estimator_).fit(x[de_train], clases[de_train])
        margenes = en_el_pliegue.decision_function(x[fuera]) / temperatura
        for i, factor in enumerate((0.9, 1, 1.1)):
            prob = p.softmax(factor * margenes, axis=1)
            perdidas[i] += p.metrics.log_loss(datos.train.y[fuera], prob)
    assert temperatura >= 1 and perdidas[1] < min(perdidas[0], perdidas[2])


# --- El ajuste fino ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def apartado3():
    """(sesión, datos, entrenamientos) del Apartado 3 con la red diminuta: de cada entrenamiento, lo
    que se pide a entrenar, y la red antes y después."""
    datos = problema((LADO, LADO, 3), 24, canal=0.3, escala=190, tipo="uint8")
    sesion = p.Sesion(7, replace(p.RAPIDO, epocas_ajuste=2), DIMINUTA)
    entrenar, entrenamientos = p.entrenar, []

    def espiar(construir, datos, semilla, fases, lote, optimizador, perdida, parada=None):
        ((epocas, transformar),), modelo = fases, construir()
        pico = optimizador(10)._learning_rate.warmup_target
        antes = modelo.get_weights(), p.predecir(modelo, datos.val.x)
        hecho = entrenar(construir, datos, semilla, fases, lote, optimizador, perdida, parada)
        comun = epocas, lote, pico, parada, perdida.get_config()["label_smoothing"]
        despues = hecho.modelo.get_weights()
        entrenamientos.append(SimpleNamespace(**locals()))
        return hecho

    with pytest.MonkeyPatch.context() as cambios:
        cambios.setattr(p, "entrenar", espiar)
        cambios.setattr(p, "leer_aves", lambda sesion: datos)
        cambios.setattr(p, "LADO_AVES", LADO)
        cambios.setattr(p, "RECORTE_MINIMO", LADO - 16)
        cambios.setattr(p, "ARBOLES", 5)
        p.apartado3(sesion)
    return sesion, datos, entrenamientos


def test_las_cabezas_de_a_y_de_b_se_entrenan_igual(apartado3):
    _, _, (salida, fc, sin_pooling, _) = apartado3
    assert salida.comun == fc.comun == sin_pooling.comun
    assert salida.comun == (3, p.LOTE_CABEZA, pytest.approx(p.TASA_CABEZA), None, p.SUAVIZADO_AVES)


def test_el_ajuste_fino_parte_del_discriminante_y_mueve_los_nucleos_y_la_salida(apartado3):
    sesion, datos, (*_, ajuste) = apartado3
    de_lda = sesion.resultados["Diminuta, discriminante lineal"].prob_val
    partida, discriminante = (np.log(m / m[:, :1]).ravel() for m in (ajuste.antes[1], de_lda))
    assert np.corrcoef(partida, discriminante)[0, 1] > 0.999
    assert ajuste.transformar is p.recortar_y_reflejar and ajuste.epocas == 2
    pesos = zip(ajuste.modelo.weights, ajuste.antes[0], ajuste.despues)
    quietos = [peso.path for peso, antes, despues in pesos if np.array_equal(antes, despues)]
    assert quietos == ["conv1/bias", "conv2/bias"]
    desviaciones = [np.std(peso) for peso in ajuste.antes[0] if peso.ndim == 4]
    assert ajuste.pico == pytest.approx(p.TASA_AJUSTE * np.median(desviaciones))


def test_el_ajuste_fino_usa_label_smoothing_y_se_anota_lo_que_da_la_red_que_queda(apartado3):
    sesion, datos, (*_, ajuste) = apartado3
    suaves = (1 - p.SUAVIZADO_AVES) * datos.val.y + p.SUAVIZADO_AVES / 6
    cruzada = -np.sum(suaves * np.log(ajuste.hecho.prob_val), axis=1).mean()
    assert ajuste.hecho.hist.history["val_loss"][-1] == pytest.approx(cruzada, rel=1e-3)
    fila = sesion.resultados["Diminuta, ajuste fino"]
    assert np.allclose(fila.prob_val, p.predecir(ajuste.modelo, datos.val.x), atol=1e-3)


@pytest.mark.parametrize(
    "aciertos, elegida",
    [
        ({0.0: 20, 1.0: 2}, 0.0),
        ({0.0: 2, 1.0: 20}, 1.0),
        ({0.0: 18, 1.0: 20}, 1.0),  # ganan las dos
        ({0.0: 15, 1.0: 10}, 0.5),  # gana, pero podría ser azar: 5 a 0, p = 0,06
        ({0.0: 16, 1.0: 10}, 0.0),  # 6 a 0, p = 0,03
    ],
)
def test_otra_mezcla_de_pesos_que_la_mitad_ha_de_ganar_por_mas_que_el_azar(
    aciertos, elegida, monkeypatch
):
    y = np.eye(2)[[0] * 20]
    aciertos |= {0.5: 10}
    prob = {f: np.eye(2)[[0] * bien + [1] * (20 - bien)] for f, bien in aciertos.items()}
    red = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    red.set_weights([np.ones((1, 1))])  # su único peso vale 0 antes del ajuste y 1 después
    monkeypatch.setattr(p, "predecir", lambda modelo, x: prob[modelo.get_weights()[0].item()])
    ajuste = p.Entrenamiento(red, None, 1.0, 1, prob[1.0])
    datos = p.Datos(None, p.Conjunto(None, y), None, ("a", "b"), ())
    mezcla = p.mezclar_pesos([np.zeros((1, 1))], ajuste, datos)
    assert mezcla.modelo is red and red.get_weights()[0].item() == elegida
    assert mezcla.prob_val is prob[elegida]


def test_los_recortes_del_ajuste_son_trozos_de_la_imagen_a_veces_reflejados():
    filas, columnas = np.mgrid[: p.LADO_AVES, : p.LADO_AVES]
    imagen, y = np.stack([filas, columnas, 0 * filas], 2).astype(np.uint8), np.eye(200)
    recortes, mismas = p.recortar_y_reflejar(np.stack([imagen] * 200), y, np.random.default_rng(0))
    assert mismas is y and recortes.dtype == np.float32 and recortes[0].shape == imagen.shape
    altos, anchos = (np.ptp(recortes[..., canal], (1, 2)) for canal in (0, 1))
    assert np.abs(altos - anchos).max() <= 2  # la escala es la misma en las dos dimensiones
    assert abs(altos.min() - p.RECORTE_MINIMO) <= 4 and altos.max() >= p.LADO_AVES - 4
    assert (np.diff(recortes[..., 0], axis=1) >= 0).all()
    sentidos = np.sign(recortes[:, 0, -1, 1] - recortes[:, 0, 0, 1])
    assert set(sentidos) == {1, -1} and abs(sentidos.mean()) < 0.25
    esquinas = recortes[..., 0].min((1, 2)), recortes[..., 1].min((1, 2))
    assert np.ptp(esquinas, axis=1).min() > 30 and np.corrcoef(esquinas)[0, 1] < 0.95
