"""Apartado 3: la red preentrenada, sus pesos, las cabezas y el ajuste fino."""

import hashlib
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from conftest import MIXTAS, conjunto_al_azar
from keras import layers
from sklearn.base import clone

import practica2 as p

LADO = 64


def red_diminuta(include_top, weights, input_tensor, canales=8):
    """Hace de ResNet50 donde no importa cuál sea: dos convoluciones con batch normalization."""
    x = input_tensor
    for numero in (1, 2):
        x = layers.Conv2D(canales, 3, strides=4, name=f"conv{numero}")(x)
        x = layers.Activation("relu")(layers.BatchNormalization(name=f"bn{numero}")(x))
    if include_top:
        x = layers.Dense(10, name="predictions")(layers.GlobalAveragePooling2D()(x))
    red = keras.Model(keras.utils.get_source_inputs(input_tensor), x)
    if weights:
        red.load_weights(weights)
    return red


DIMINUTA = replace(
    p.RESNET50,
    nombre="Diminuta",
    constructor=red_diminuta,
    nombre_fichero="diminuta.h5",
)


def guardar_h5(red, fichero):
    """Pesos de una red en el formato de los ficheros de keras.applications: un grupo por capa."""
    with h5py.File(fichero, "w") as h5:
        h5.attrs["layer_names"] = [capa.name.encode() for capa in red.layers]
        for capa in red.layers:
            grupo = h5.create_group(capa.name)
            nombres = [f"{capa.name}_{i}:0".encode() for i in range(len(capa.weights))]
            grupo.attrs["weight_names"] = nombres
            for nombre, peso in zip(nombres, capa.get_weights()):
                grupo[nombre.decode()] = peso


def desordenar(red):
    """Da a cada batch normalization de la red pesos al azar, como los que deja un entrenamiento."""
    azar = np.random.default_rng(0)
    for capa in red.layers:
        if isinstance(capa, layers.BatchNormalization):
            gamma, beta, media, varianza = capa.get_weights()
            capa.set_weights(
                [
                    azar.uniform(0.5, 1.5, gamma.shape),
                    azar.normal(0, 0.1, beta.shape),
                    azar.normal(0, 0.1, media.shape),
                    azar.uniform(0.5, 1.5, varianza.shape),
                ]
            )
    return red


def capas_con_nucleo(red):
    """Las convoluciones de la red plegada que hay dentro de otra, por su nombre."""
    plegada = next(capa for capa in red.layers if isinstance(capa, keras.Model))
    return {capa.name: capa for capa in plegada.layers if hasattr(capa, "kernel")}


@pytest.fixture(scope="session")
def resnet50():
    """ResNet50 con pesos aleatorios, para imágenes de LADO px."""
    keras.utils.set_random_seed(0)
    return desordenar(p.cargar_preentrenada(p.RESNET50, LADO))


def construir_mobilenetv2():
    """Una MobileNetV2 estrecha, que tiene convoluciones por canales, con pesos aleatorios."""
    return keras.applications.MobileNetV2(
        alpha=0.35, include_top=False, weights=None, input_shape=(LADO, LADO, 3)
    )


@pytest.fixture(scope="session")
def mobilenetv2():
    keras.utils.set_random_seed(0)
    return desordenar(construir_mobilenetv2())


@pytest.fixture
def aves():
    """Un problema de aves diminuto: 12, 6 y 6 imágenes uint8 de seis clases."""
    partes = []
    for semilla, cuantas in enumerate((12, 6, 6)):
        ruido = conjunto_al_azar(cuantas, 6, (LADO, LADO, 3), semilla)
        partes.append(p.Conjunto((255 * ruido.x).astype(np.uint8), ruido.y))
    return p.Datos(*partes, tuple("abcdef"), ("aves de ruido",))


# --- La base -------------------------------------------------------------------------------------


def test_una_pasada_da_los_vectores_de_pooling_avg_con_el_preprocesado_una_vez(resnet50, aves):
    hecha = replace(p.RESNET50, constructor=lambda **_: resnet50, fichero=Path("hecha"))
    de_keras = keras.applications.ResNet50(
        include_top=False, weights=None, pooling="avg", input_shape=(LADO, LADO, 3)
    )
    de_keras.set_weights(resnet50.get_weights())
    mapas, vectores = p.extraer(p.construir_base(hecha, LADO), aves)
    for parte in ("train", "val", "test"):
        rgb = getattr(aves, parte).x
        bgr_centrado = rgb[..., ::-1] - np.array([103.939, 116.779, 123.68], "float32")
        esperados = de_keras.predict(bgr_centrado, verbose=0)
        obtenidos = getattr(vectores, parte)
        assert obtenidos.x.dtype == np.float32 and obtenidos.x.shape == (len(rgb), 2048)
        assert np.allclose(obtenidos.x, esperados, rtol=2e-3, atol=2e-3 * esperados.max())
        assert np.array_equal(obtenidos.y, getattr(aves, parte).y)
        assert getattr(mapas, parte).x.dtype == np.float16
        assert getattr(mapas, parte).x.shape == (len(rgb), 2, 2, 2048)


def test_sin_fichero_de_pesos_la_red_aleatoria_es_siempre_la_misma_y_sus_filtros_suman_cero():
    una, otra = (p.cargar_preentrenada(DIMINUTA, LADO) for _ in range(2))
    for peso, el_mismo in zip(una.get_weights(), otra.get_weights()):
        assert np.array_equal(peso, el_mismo)
        if peso.ndim == 4:
            assert peso.std() > 0 and np.allclose(peso.sum((0, 1, 2)), 0, atol=1e-5)


@pytest.mark.parametrize("nombre", ["resnet50", "mobilenetv2"])
def test_la_red_plegada_da_lo_mismo_sin_batch_normalization(nombre, request):
    red = request.getfixturevalue(nombre)
    plegada = p.plegar(red)
    assert any(isinstance(capa, layers.BatchNormalization) for capa in red.layers)
    assert not any(isinstance(capa, layers.BatchNormalization) for capa in plegada.layers)
    x = np.random.default_rng(0).normal(0, 50, (4, LADO, LADO, 3)).astype("float32")
    esperado = red.predict(x, verbose=0)
    assert esperado.std() > 0
    assert np.abs(plegada.predict(x, verbose=0) - esperado).max() < 1e-4 * np.abs(esperado).max()


def test_de_la_red_plegada_se_entrenan_todos_los_nucleos_y_nada_mas(resnet50):
    plegada = p.plegar(resnet50)
    nucleos = [capa.kernel for capa in plegada.layers if hasattr(capa, "kernel")]
    assert [id(v) for v in plegada.trainable_variables] == [id(v) for v in nucleos]
    assert len(nucleos) == 53


@pytest.mark.parametrize("precision", MIXTAS)
def test_en_precision_mixta_la_red_plegada_da_casi_lo_mismo(precision, mobilenetv2, en_precision):
    x = np.random.default_rng(0).normal(0, 1, (4, LADO, LADO, 3)).astype("float32")
    esperado = p.predecir(p.plegar(mobilenetv2), x)
    en_precision(precision)
    red = construir_mobilenetv2()
    red.set_weights(mobilenetv2.get_weights())
    plegada = p.plegar(red)
    convoluciones = [capa for capa in plegada.layers if hasattr(capa, "kernel")]
    assert {capa.dtype_policy.name for capa in convoluciones} == {precision}
    assert {capa.variable_dtype for capa in convoluciones} == {"float32"}
    assert np.corrcoef(p.predecir(plegada, x).ravel(), esperado.ravel())[0, 1] > 0.99


# --- Los pesos -----------------------------------------------------------------------------------


def test_el_fichero_de_resnet50_se_carga_exactamente(resnet50, tmp_path):
    guardar_h5(resnet50, tmp_path / "resnet50.h5")
    cargada = p.cargar_preentrenada(replace(p.RESNET50, fichero=tmp_path / "resnet50.h5"), LADO)
    for peso, esperado in zip(cargada.get_weights(), resnet50.get_weights()):
        assert np.array_equal(peso, esperado)


def test_los_pesos_se_buscan_y_se_llaman_segun_su_md5(aislado):
    assert p.buscar_pesos(DIMINUTA) == DIMINUTA
    assert (DIMINUTA.fichero, DIMINUTA.etiqueta) == (None, "pesos ALEATORIOS")
    fichero = aislado / DIMINUTA.nombre_fichero
    fichero.write_bytes(b"pesos")
    otros = replace(DIMINUTA, fichero=fichero, etiqueta="otros pesos")
    assert p.buscar_pesos(DIMINUTA) == otros
    de_imagenet = replace(DIMINUTA, md5_imagenet=hashlib.md5(b"pesos").hexdigest())
    assert p.buscar_pesos(de_imagenet).etiqueta == "pesos de ImageNet"


def cortar(fichero):
    contenido = fichero.read_bytes()
    fichero.write_bytes(contenido[: len(contenido) // 2])


def con_otros_canales(fichero):
    guardar_h5(red_diminuta(False, None, keras.Input((LADO, LADO, 3)), canales=6), fichero)


def con_cabeza(fichero):
    guardar_h5(red_diminuta(True, None, keras.Input((LADO, LADO, 3))), fichero)


def con_un_texto(fichero):
    fichero.write_text("<html>404</html>")


@pytest.mark.parametrize("estropear", [cortar, con_otros_canales, con_cabeza, con_un_texto])
def test_un_fichero_de_pesos_incorrecto_se_rechaza_nombrandolo(estropear, aislado):
    fichero = aislado / DIMINUTA.nombre_fichero
    guardar_h5(red_diminuta(False, None, keras.Input((LADO, LADO, 3))), fichero)
    estropear(fichero)
    with pytest.raises(p.ErrorEntrada) as rechazo:
        p.cargar_preentrenada(p.buscar_pesos(DIMINUTA), LADO)
    assert str(fichero) in str(rechazo.value) and "\n" not in str(rechazo.value)


# --- Las cabezas ---------------------------------------------------------------------------------


def test_la_escala_de_las_cabezas_sale_solo_de_train():
    train, otros = (1 + conjunto_al_azar(20, 2, (16,), semilla).x for semilla in (0, 1))
    aplicar = keras.Sequential(p.capas_escala(train))
    escalados, raices = aplicar(train), np.sqrt(train + p.EPSILON_RAIZ)
    unitarios = raices / np.linalg.norm(raices, axis=1, keepdims=True)
    assert np.allclose(np.mean(escalados, axis=0), 0, atol=1e-3)
    assert np.mean(np.square(escalados)) == pytest.approx(1, rel=1e-3)
    raices = np.sqrt(otros + p.EPSILON_RAIZ)
    esperados = raices / np.linalg.norm(raices, axis=1, keepdims=True) - unitarios.mean(0)
    assert np.allclose(aplicar(otros) * (unitarios - unitarios.mean(0)).std(), esperados, atol=1e-4)


@pytest.mark.parametrize("precision", MIXTAS)
def test_la_escala_no_desborda_en_precision_mixta(precision, en_precision):
    en_precision(precision)
    vectores = (
        100 * conjunto_al_azar(20, 2, (2048,)).x
    )  # el cuadrado de la norma de la raíz no cabe
    escalados = keras.Sequential(p.capas_escala(vectores))(vectores)
    assert np.std(escalados) == pytest.approx(1, rel=0.05)


def problema_facil(forma):
    """Datos de seis clases con ruido, cada una con un canal que destaca."""

    def parte(semilla):
        ruido = conjunto_al_azar(42, 6, forma, semilla)
        destaca = 12 * np.eye(6, forma[-1])[ruido.y.argmax(1)]
        x = ruido.x + destaca.reshape(len(ruido.x), *[1] * (len(forma) - 1), forma[-1])
        return p.Conjunto(x.astype("float16"), ruido.y)

    return p.Datos(parte(0), parte(1), parte(2), tuple("abcdef"), ("fácil",))


@pytest.mark.parametrize(
    "construir, forma",
    [(p.cabeza_salida, (16,)), (p.cabeza_fc, (16,)), (p.cabeza_sin_pooling, (3, 3, 16))],
    ids=["solo la salida", "nueva FC", "sin pooling"],
)
def test_cada_cabeza_aprende_un_problema_facil_y_anota_su_fila(construir, forma, monkeypatch):
    monkeypatch.setattr(p, "TASA_CABEZA", 0.05)  # son quince pasos
    sesion = p.Sesion(7, replace(p.RAPIDO, epocas_cabezas=15), DIMINUTA)
    datos = problema_facil(forma)
    entrenada = p.probar_cabeza("3.1", "cabeza", construir, datos, sesion)
    r = sesion.resultado("Diminuta, cabeza")
    assert r.train > 0.8 and r.val > 0.8 and r.top5 >= r.test > 0.8
    assert (r.apartado, r.epocas, r.origen) == ("3.1", 15, datos.origen)
    assert r.parametros == entrenada.modelo.count_params()
    assert sesion.detalles["Diminuta, cabeza"]["curvas"] == entrenada.hist.history
    assert entrenada.modelo.loss.get_config()["label_smoothing"] == p.SUAVIZADO_AVES


def test_los_clasificadores_separan_lo_separable_y_anotan_sus_filas(monkeypatch):
    monkeypatch.setattr(p, "TROZO", 41)  # de las 42 imágenes, una queda para otro trozo
    sesion = p.Sesion(7, p.RAPIDO, p.RESNET50)
    ajustados = p.probar_clasificadores(problema_facil((16,)), sesion)
    nombres = ("SVM lineal", "discriminante lineal", "random forest")
    assert tuple(ajustados) == nombres
    for r, nombre in zip(sesion.resultados, nombres, strict=True):
        assert r.experimento == f"ResNet50, {nombre}"
        assert (r.apartado, r.val, r.test, r.parametros) == ("3.1.A", 1, 1, None)
        # La SVM da márgenes; de los otros dos hay probabilidades y, con ellas, pérdida.
        assert (r.perdida_test is None) == (nombre == "SVM lineal")
    # Donde todo acierta, el primer valor.
    elegido = {r.experimento: sesion.detalles[r.experimento]["elegido"] for r in sesion.resultados}
    assert elegido == {
        "ResNet50, SVM lineal": [("C", p.C_SVM[0], 1.0)],
        "ResNet50, discriminante lineal": [("shrinkage", p.CONTRACCIONES[0], 1.0)],
        "ResNet50, random forest": [],
    }


def test_unas_caracteristicas_que_no_caben_en_float16_paran_la_practica():
    pixeles = keras.Input((4, 4, 3))
    desbordada = keras.Model(pixeles, layers.Rescaling(1e6)(pixeles))
    una = p.Conjunto(np.ones((1, 4, 4, 3), "uint8"), np.eye(1))
    with pytest.raises(p.ErrorNumerico, match="no caben"):
        p.extraer(desbordada, p.Datos(una, una, una, ("a",), ()))


def test_la_c_y_la_contraccion_se_eligen_por_validacion_cruzada(monkeypatch):
    """Lo que separa las clases es poco junto al ruido de los demás canales: acierta quien se ajusta
    más a train."""
    monkeypatch.setattr(p, "CONTRACCIONES", (0.9, 0.1))

    def parte(semilla):
        ruido = conjunto_al_azar(60, 3, (8,), semilla)
        x = 10 * ruido.x
        x[:, :3] = 1 + 0.4 * ruido.y
        return p.Conjunto(x, ruido.y)

    datos = p.Datos(parte(0), parte(1), parte(2), tuple("abc"), ("difícil",))
    sesion = p.Sesion(7, p.RAPIDO, p.RESNET50)
    p.probar_clasificadores(datos, sesion)
    ((_, c, aciertos),) = sesion.detalles["ResNet50, SVM lineal"]["elegido"]
    assert c == max(p.C_SVM) and aciertos > 0.9
    assert sesion.resultado("ResNet50, SVM lineal").test > 0.9  # y con esa se mide
    ((_, contraccion, _),) = sesion.detalles["ResNet50, discriminante lineal"]["elegido"]
    assert contraccion == 0.1


def test_el_apartado_3_responde_a_cada_comparacion_del_guion_con_una_frase(capsys):
    sesion = p.Sesion(7, p.RAPIDO, DIMINUTA)
    y = np.eye(2)[[0] * 100]
    datos = p.Datos(None, None, p.Conjunto(None, y), ("a", "b"), ())
    for nombre, aciertos in (
        ("solo la salida", 50),
        ("nueva FC y salida", 48),
        ("sin average pooling", 51),
        ("discriminante lineal", 50),
        ("ajuste fino", 75),
    ):
        prob_test = np.eye(2)[[0] * aciertos + [1] * (100 - aciertos)]
        sesion.probabilidades[f"Diminuta, {nombre}"] = None, prob_test
    p.comparar_en_test(datos, sesion)
    a, b, c, ajuste = capsys.readouterr().out.splitlines()
    assert "nueva FC y salida» frente a «Diminuta, solo la salida»: -2,00 puntos" in a
    assert "sin average pooling» frente a «Diminuta, solo la salida»: +1,00 puntos" in b
    assert "sin average pooling» frente a «Diminuta, nueva FC y salida»: +3,00 puntos" in c
    assert "ajuste fino» frente a «Diminuta, discriminante lineal»: +25,00 puntos" in ajuste
    assert all("no se distinguen" in frase for frase in (a, b, c))
    assert "es más que el azar" in ajuste
    assert "frente a Diminuta, discriminante lineal" in sesion.detalles["Diminuta, ajuste fino"]


# --- El ajuste fino ------------------------------------------------------------------------------


@pytest.fixture
def preentrenada(aislado, monkeypatch):
    """La red diminuta con los pesos de un fichero, para imágenes de LADO px."""
    fichero = aislado / DIMINUTA.nombre_fichero
    guardar_h5(desordenar(red_diminuta(False, None, keras.Input((LADO, LADO, 3)))), fichero)
    monkeypatch.setattr(p, "RECORTE_MINIMO", LADO - 16)
    return p.buscar_pesos(DIMINUTA)


@pytest.fixture
def vectores(preentrenada, aves):
    """Los de las aves según esa red."""
    return p.extraer(p.construir_base(preentrenada, LADO), aves)[1]


@pytest.fixture
def cabeza(preentrenada, vectores):
    """Una cabeza ya entrenada sobre esos vectores."""
    sesion = p.Sesion(7, p.RAPIDO, preentrenada)
    return p.probar_cabeza("3.1.A", p.FC, p.cabeza_fc, vectores, sesion).modelo


@pytest.fixture
def red_entera(preentrenada, vectores):
    """Esa red con una cabeza sin entrenar, la de solo la salida."""
    return p.construir_ajuste(p.construir_base(preentrenada), p.cabeza_salida(vectores))


def entrenar_ajuste(preentrenada, cabeza, aves):
    """Una época de ajuste fino desde esa cabeza."""
    return p.entrenar(
        lambda: p.construir_ajuste(p.construir_base(preentrenada), cabeza),
        aves,
        semilla=7,
        fases=[(1, p.recortar_y_reflejar)],
        lote=4,
        optimizador=p.adam,
    )


def test_el_ajuste_fino_parte_de_la_base_y_de_la_cabeza_ya_entrenada(
    preentrenada, cabeza, vectores, aves
):
    entera = p.construir_ajuste(p.construir_base(preentrenada), cabeza)
    de_la_cabeza = p.predecir(cabeza, vectores.test.x)
    assert np.allclose(p.predecir(entera, aves.test.x), de_la_cabeza, atol=1e-3)


def discriminante_de_seis_clases():
    """Unos vectores de 16 componentes, como Datos, y su discriminante ya ajustado."""
    azar = np.random.default_rng(0)
    y = np.tile(np.eye(6), (40, 1))
    partes = [p.Conjunto(azar.gamma(2, 1 + 0.4 * y @ np.eye(6, 16)), y) for _ in range(3)]
    datos = p.Datos(*partes, tuple("abcdef"), ())
    clasificadores = p.probar_clasificadores(datos, p.Sesion(7, p.RAPIDO, DIMINUTA))
    return datos, clasificadores[p.DISCRIMINANTE]


def test_el_discriminante_se_escribe_como_una_capa_softmax_que_da_las_mismas_clases():
    datos, discriminante = discriminante_de_seis_clases()
    prob = p.predecir(p.cabeza_discriminante(datos, discriminante), datos.val.x)
    puntos = discriminante.decision_function(p.normalize(p.raiz_cuadrada(datos.val.x)))
    # Los logaritmos de las probabilidades son los puntos por un factor, salvo una constante.
    de_la_capa, del_discriminante = (m - m[:, :1] for m in (np.log(prob), puntos))
    factor = np.sum(de_la_capa * del_discriminante) / np.sum(del_discriminante**2)
    assert np.allclose(de_la_capa, factor * del_discriminante, atol=1e-3)
    assert factor == pytest.approx(1 / p.medir_temperatura(datos, discriminante), rel=1e-3)


def test_la_temperatura_es_la_que_menos_pierde_en_train_sin_haber_visto_cada_imagen():
    datos, discriminante = discriminante_de_seis_clases()
    temperatura = p.medir_temperatura(replace(datos, val=None, test=None), discriminante)
    x, y = p.normalize(p.raiz_cuadrada(datos.train.x)), datos.train.y
    clases = y.argmax(1)
    perdidas = np.zeros(3)
    for de_train, fuera in discriminante.cv.split(x, clases):
        en_el_pliegue = clone(discriminante.best_estimator_).fit(x[de_train], clases[de_train])
        margenes = en_el_pliegue.decision_function(x[fuera]) / temperatura
        for i, otro in enumerate((0.9, 1, 1.1)):
            perdidas[i] += p.log_loss(y[fuera], p.softmax(otro * margenes, axis=1))
    assert temperatura > 1 and perdidas[1] < min(perdidas[0], perdidas[2])


def test_el_ajuste_fino_mueve_los_nucleos_y_la_cabeza_pero_no_los_sesgos_plegados(
    preentrenada, cabeza, aves
):
    iniciales = capas_con_nucleo(p.construir_base(preentrenada, LADO))
    de_la_cabeza = cabeza.get_weights()[-2]
    finales = capas_con_nucleo(entrenar_ajuste(preentrenada, cabeza, aves).modelo)
    for nombre, capa in iniciales.items():
        (nucleo, sesgo), (nuevo, sesgo_nuevo) = capa.get_weights(), finales[nombre].get_weights()
        assert not np.array_equal(nucleo, nuevo) and np.array_equal(sesgo, sesgo_nuevo)
    assert not np.array_equal(cabeza.get_weights()[-2], de_la_cabeza)


def test_la_tasa_del_ajuste_es_proporcional_a_los_nucleos_de_la_red(preentrenada):
    base = p.construir_base(preentrenada)
    tasa = p.tasa_de_ajuste(base)
    base.set_weights([3 * peso for peso in base.get_weights()])
    assert p.tasa_de_ajuste(base) == pytest.approx(3 * tasa)


def red_de_un_umbral():
    """La segunda de dos clases es la de los x que pasan de un umbral: sesgo entre peso."""
    return keras.Sequential([keras.Input((1,)), layers.Dense(2, activation="softmax")])


@pytest.mark.parametrize("mejor", p.FRACCIONES_AJUSTE)
def test_el_ajuste_se_queda_con_la_mezcla_de_pesos_que_mas_acierta_en_validacion(mejor):
    modelo = red_de_un_umbral()
    # El umbral es 0 antes del ajuste y 1 después; cada mezcla lo deja entre los dos.
    iniciales, finales = ([np.array([[0.0, 10.0]]), np.array([0.0, -10.0 * u])] for u in (0, 1))
    modelo.set_weights(finales)
    x = np.linspace(-0.02, 1.18, 25, dtype="float32")[:, None]
    y = np.eye(2)[(x[:, 0] > mejor).astype(int)]
    datos = p.Datos(*[p.Conjunto(x, y)] * 3, ("a", "b"), ())
    mezcla, probadas = p.mezclar_pesos(iniciales, p.Entrenamiento(modelo, None, 1.0, None), datos)
    assert modelo.get_weights()[1] == pytest.approx([0, -10 * mejor])
    assert p.calcularAccuracy(y, mezcla.prob_val) == 1
    assert np.array_equal(mezcla.prob_val, p.predecir(modelo, x))
    assert [fraccion for fraccion, _ in probadas] == list(p.FRACCIONES_AJUSTE)
    assert max(probadas, key=lambda probada: probada[1]) == (mejor, 1)


@pytest.mark.parametrize(
    "aciertos, elegida",
    [
        ({0.0: 20, 1.0: 2}, 0.0),
        ({0.0: 2, 1.0: 20}, 1.0),
        ({0.0: 18, 1.0: 20}, 1.0),  # ganan las dos
        ({0.0: 10, 1.0: 2}, 0.5),
        ({0.0: 15, 1.0: 10}, 0.5),  # gana, pero podría ser azar: 5 a 0, p = 0,06
        ({0.0: 16, 1.0: 10}, 0.0),  # 6 a 0, p = 0,03
    ],
)
def test_otra_mezcla_que_la_mitad_ha_de_ganar_por_mas_que_el_azar(aciertos, elegida):
    y = np.eye(2)[[0] * 20]
    prob_val = {
        fraccion: np.eye(2)[[0] * cuantos + [1] * (20 - cuantos)]
        for fraccion, cuantos in (aciertos | {0.5: 10}).items()
    }
    assert p.elegir_fraccion(y, prob_val) == elegida


@pytest.mark.parametrize("precision", MIXTAS)
def test_un_ajuste_fino_en_precision_mixta_da_probabilidades_en_float32(
    precision, en_precision, preentrenada, aves
):
    en_precision(precision)
    _, vectores = p.extraer(p.construir_base(preentrenada, LADO), aves)
    cabeza = p.cabeza_salida(vectores)
    entrenada = entrenar_ajuste(preentrenada, cabeza, aves)
    assert capas_con_nucleo(entrenada.modelo)["conv1"].compute_dtype == precision.removeprefix(
        "mixed_"
    )
    assert entrenada.prob_val.dtype == np.float32
    assert np.allclose(entrenada.prob_val.sum(1), 1, atol=1e-5)


def test_los_mapas_de_activacion_suman_lo_que_la_salida_da_a_cada_clase(red_entera, vectores, aves):
    x, prob = aves.test.x, p.predecir(red_entera, aves.test.x)
    una, otra = np.zeros(len(x), int), np.ones(len(x), int)
    mapas = p.mapas_de_activacion(red_entera, x, una) - p.mapas_de_activacion(red_entera, x, otra)
    assert mapas.ndim == 3
    # La media del mapa entre la norma del vector es la diferencia de las dos salidas: una recta.
    norma = np.linalg.norm(np.sqrt(vectores.test.x + p.EPSILON_RAIZ), axis=1)
    salidas = np.log(prob[:, 0] / prob[:, 1])
    assert abs(np.corrcoef(mapas.mean((1, 2)) / norma, salidas)[0, 1]) > 0.999


def test_la_figura_de_activacion_ensena_la_clase_predicha_y_no_la_cierta(red_entera, aves):
    predicha = np.array([0, 1, 2, 4, 5, 0])  # de las seis clases se aciertan tres
    p.mostrar_activacion("Dónde mira", aves, red_entera, np.eye(6)[predicha], cuantas=2)
    ejes = p.plt.figure("Dónde mira").axes
    elegidas = [0, 2, 3, 5]  # dos que acierta y dos que falla
    mapas = p.mapas_de_activacion(red_entera, aves.test.x[elegidas], predicha[elegidas])
    for eje, i, mapa in zip(ejes, elegidas, mapas):
        imagen, activacion = eje.images
        assert np.array_equal(imagen.get_array(), aves.test.x[i])
        assert np.allclose(activacion.get_array(), mapa)
        assert eje.get_title().split("\n")[0] == aves.clases[predicha[i]]


def test_los_vecinos_son_los_de_train_mas_parecidos_en_el_espacio_de_caracteristicas(aves, capsys):
    sentidos = np.eye(6)  # cada vector de test apunta hacia el de dos imágenes de train
    train = np.concatenate([sentidos, 5 * sentidos + 0.1])
    test = np.roll(sentidos, 1, axis=0)
    vectores = replace(
        aves,
        train=p.Conjunto(train, np.tile(sentidos, (2, 1))),
        test=p.Conjunto(test, sentidos[[5, 0, 2, 3, 4, 5]]),  # las dos primeras, con su clase
    )
    aciertos = p.mostrar_vecinos("Vecinos", aves, vectores, cuantas=1, vecinos=2)
    de_test, *cercanos = p.plt.figure("Vecinos").axes
    i = next(i for i in range(6) if np.array_equal(de_test.images[0].get_array(), aves.test.x[i]))
    suyos = [(i - 1) % 6, (i - 1) % 6 + 6]
    for eje, j in zip(cercanos, suyos, strict=True):
        assert np.array_equal(eje.images[0].get_array(), aves.train.x[j])
        assert eje.get_title() == aves.clases[j % 6]
        assert eje.title.get_color() == "firebrick"  # son de otra clase
    assert aves.clases[i] in de_test.get_title()
    assert aciertos == {1: 2 / 6, 2: 2 / 6}
    assert "el vecino más próximo acierta la especie en el 33,33 %" in capsys.readouterr().out


def test_la_proyeccion_pone_cada_imagen_de_test_con_su_especie_antes_y_despues(
    red_entera, vectores, aves
):
    p.mostrar_proyeccion("Proyección", p.proyectar(aves, vectores, red_entera, 7))
    ejes = p.plt.figure("Proyección").axes
    assert [eje.get_xlabel().split()[0] for eje in ejes] == ["Antes", "Después"]
    for eje in ejes:
        assert [grupo.get_label() for grupo in eje.collections] == list(aves.clases)
        assert [len(grupo.get_offsets()) for grupo in eje.collections] == [1] * 6


def test_los_recortes_del_ajuste_son_trozos_de_la_imagen_a_veces_reflejados():
    filas, columnas = np.mgrid[: p.LADO_AVES, : p.LADO_AVES]
    imagen = np.stack([filas, columnas, 0 * filas], 2).astype(np.uint8)
    y = np.eye(20)
    recortes, mismas = p.recortar_y_reflejar(np.stack([imagen] * 20), y, np.random.default_rng(0))
    assert np.array_equal(mismas, y)
    assert recortes.shape == (20, *imagen.shape) and recortes.dtype == np.float32
    sentidos, esquinas = set(), set()
    for recorte in recortes:
        alto, ancho = np.ptp(recorte[:, :, 0]), np.ptp(recorte[:, :, 1])
        assert alto == pytest.approx(ancho, abs=2)  # la escala es la misma en las dos dimensiones
        assert p.RECORTE_MINIMO - 3 <= alto < p.LADO_AVES
        assert (np.diff(recorte[:, :, 0], axis=0) >= 0).all()
        sentidos.add(np.sign(recorte[0, -1, 1] - recorte[0, 0, 1]))
        esquinas.add((recorte[:, :, 0].min(), recorte[:, :, 1].min()))
    assert sentidos == {1, -1} and len(esquinas) > 10
