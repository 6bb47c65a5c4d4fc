"""Las redes de CIFAR-100, su entrenamiento, las medidas, los pasos del Apartado 2 y el Bonus."""

import gc
import inspect
import signal
import weakref
from dataclasses import fields, replace
from functools import partial
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import conjunto_al_azar, huellas
from keras import layers

import practica2 as p

p.tf.config.experimental.enable_op_determinism()  # como en preparar_entorno, con su semilla
keras.utils.set_random_seed(7)
UNA_ETAPA = replace(p.RECETA_FINAL, filtros=(8,))  # la red final, en pequeño
CLASES = tuple(f"clase {c}" for c in range(25))
CURVAS = {clave: [1.0, 0.5] for clave in ("loss", "accuracy", "val_loss", "val_accuracy")}


@pytest.fixture
def datos():
    """Datos de ruido de 25 clases; quien lea los de test, que no hay, falla."""
    return p.Datos(conjunto_al_azar(100), conjunto_al_azar(50, semilla=1), None, CLASES, ("ruido",))


@pytest.fixture
def sesion():
    return p.Sesion(7, p.RAPIDO, p.RESNET50)


def espiar(monkeypatch, nombre, devolver=None):
    """Los argumentos, por su nombre, de cada llamada a una función de practica2, que hace lo suyo
    o, si se dice qué ha de devolver, solo eso."""
    original, llamadas = getattr(p, nombre), []

    def espia(*posicionales, **con_nombre):
        argumentos = inspect.signature(original).bind(*posicionales, **con_nombre)
        argumentos.apply_defaults()
        llamadas.append(SimpleNamespace(**argumentos.arguments))
        return devolver if devolver else original(*posicionales, **con_nombre)

    monkeypatch.setattr(p, nombre, espia)
    return llamadas


def entrenar_basenet(datos, semilla=7, fases=((2, None),)):
    """BaseNet entrenada dos épocas, salvo que se diga otra cosa."""
    return p.entrenar(p.construir_basenet, datos, semilla, fases, 50, p.adam)


def sin_entrenar(modelo, datos):
    """El Entrenamiento de una red que se queda como está."""
    prob_val = p.predecir(modelo, datos.val.x)
    return p.Entrenamiento(modelo, SimpleNamespace(history=CURVAS), 5.0, 1, prob_val)


TABLA_DEL_GUION = """
    Conv2D 5 28 6, Activation - 28 6, MaxPooling2D 2 14 6,
    Conv2D 5 10 16, Activation - 10 16, MaxPooling2D 2 5 16,
    Dense - 50 -, Activation - 50 -, Dense - 25 -
"""  # tipo, núcleo, dimensión y canales de salida


def test_basenet_es_la_tabla_del_guion():
    red = p.construir_basenet()
    capas = [capa for capa in red.layers if not isinstance(capa, layers.Flatten)]
    tabla = []
    for capa in capas:
        (nucleo, *_) = getattr(capa, "kernel_size", getattr(capa, "pool_size", "-"))
        _, lado, *resto = capa.output.shape
        tabla.append(f"{type(capa).__name__} {nucleo} {lado} {resto[-1] if resto else '-'}")
    assert tabla == [" ".join(fila.split()) for fila in TABLA_DEL_GUION.split(",")]
    activaciones = [c.activation.__name__ for c in capas if "activation" in c.name]
    assert [*activaciones, capas[-1].activation.__name__] == ["relu"] * 3 + ["softmax"]
    assert red.input_shape == (None, 32, 32, 3) and red.count_params() == 24_197


# --- El entrenamiento común ----------------------------------------------------------------------


def test_un_entrenamiento_depende_de_su_semilla_y_no_de_los_que_le_preceden(datos):
    una, otra_semilla, otra = (entrenar_basenet(datos, semilla) for semilla in (7, 8, 7))
    assert una.hist.history == otra.hist.history != otra_semilla.hist.history
    assert np.array_equal(una.prob_val, otra.prob_val)


@pytest.mark.parametrize(
    "fases, paciencia, aciertos, epoca",  # aciertos, de seis, en cada época que se entrena
    [
        ([4], None, [2, 5, 3, 3], 4),
        ([4], 4, [2, 5, 3, 3], 2),
        ([4], 1, [2, 5, 3], 2),
        ([2, 2], None, [2, 5, 3, 3], 4),
    ],
)
def test_con_parada_queda_la_mejor_epoca_y_si_no_la_ultima(fases, paciencia, aciertos, epoca):
    """Una red de un peso que crece en cada época: los aciertos suben y después bajan."""
    capa = layers.Dense(2, use_bias=False, activation="softmax")
    red = keras.Sequential([keras.Input((2,)), capa])
    red.set_weights([np.array([[0.0, 0.0], [1.0, 0.0]])])
    train = p.Conjunto(np.float32([[1, 0]] * 5), np.eye(2, dtype="float32")[[1] * 5])
    # Las tres primeras se aciertan desde la segunda época; la cuarta y la quinta, hasta ella.
    x = np.float32([[1, 1], [1, 1], [1, 1], [0.6, 1], [0.6, 1], [9, 0]])
    val = p.Conjunto(x, np.eye(2, dtype="float32")[[1, 1, 1, 0, 0, 0]])
    pasos, parada = [], None
    if paciencia:
        parada = {"monitor": "val_accuracy", "mode": "max", "patience": paciencia}
    entrenada = p.entrenar(
        construir=lambda: red,
        datos=p.Datos(train, val, None, ("a", "b"), ()),
        semilla=7,
        fases=[(epocas, None) for epocas in fases],
        lote=2,
        optimizador=lambda cuantos: pasos.append(cuantos) or keras.optimizers.SGD(0.35),
        parada=parada,
    )
    assert pasos == [3 * sum(fases)]  # una sola vez, con los de todas las fases
    assert 6 * np.array(entrenada.hist.history["val_accuracy"]) == pytest.approx(aciertos)
    assert entrenada.epoca == epoca
    assert 6 * p.calcularAccuracy(val.y, entrenada.prob_val) == pytest.approx(aciertos[epoca - 1])
    assert np.array_equal(entrenada.prob_val, p.predecir(entrenada.modelo, x))


def test_cada_fase_cambia_los_lotes_de_train_con_su_azar_y_nunca_los_de_validacion(datos):
    vistas, azares = {"una": [], "otra": []}, {"una": [], "otra": []}

    def fase(nombre, x, azar):
        vistas[nombre] += huellas(x)
        azares[nombre].append(azar.random())
        return x / 2

    fases = [(1, partial(fase, "una")), (1, partial(fase, "otra"))]
    entrenada = entrenar_basenet(datos, fases=fases)
    for nombre in vistas:  # Keras pide además dos lotes, para saber de qué forma son
        assert set(vistas[nombre]) == set(huellas(datos.train.x))
        assert len(azares[nombre]) == 2 + 2
    assert vistas["una"] != vistas["otra"] and not set(azares["una"]) & set(azares["otra"])
    # Lo que se mide en cada época es la validación tal como está.
    de_la_cierta = entrenada.prob_val[np.arange(50), datos.val.y.argmax(1)]
    val_loss = entrenada.hist.history["val_loss"]
    assert len(val_loss) == 2 and val_loss[1] == pytest.approx(-np.log(de_la_cierta).mean())


def test_tras_entrenar_nada_retiene_las_imagenes(datos):
    train = conjunto_al_azar(50)
    imagenes = weakref.ref(train.x)
    _red = entrenar_basenet(datos._replace(train=train), 7, [(1, lambda x, azar: x)])
    del train
    gc.collect()
    assert imagenes() is None


def test_un_ctrl_c_se_atiende_aunque_llegue_tras_el_ultimo_lote():
    anterior = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), p.atender_ctrl_c():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is anterior


@pytest.mark.parametrize("parte", ["train", "val"])
def test_una_perdida_que_no_es_un_numero_detiene_el_entrenamiento(parte, datos):
    getattr(datos, parte).y[3] = np.nan
    with pytest.raises(FloatingPointError, match="época 1, la pérdida es .*nan"):
        entrenar_basenet(datos)


def test_los_lotes_dan_cada_imagen_una_vez_por_epoca_con_su_clase_y_en_otro_orden():
    x = np.arange(9).reshape(9, 1)
    lotes, ordenes = p.Lotes(p.Conjunto(x, 2 * x), 4, lambda x, azar: x + 100, 7), []
    for _ in range(2):
        partes = [lotes[i] for i in range(len(lotes))]
        assert [len(px) for px, _ in partes] == [3, 3, 3]  # y no 4, 4 y 1
        assert all(np.array_equal(py, 2 * (px - 100)) for px, py in partes)
        ordenes.append(np.concatenate([py for _, py in partes]).ravel().tolist())
        lotes.on_epoch_end()
    assert sorted(ordenes[0]) == sorted(ordenes[1]) == list(range(0, 18, 2))
    assert ordenes[0] != ordenes[1]


def test_con_maestra_la_clase_es_la_que_ella_da_de_la_imagen_ya_transformada():
    maestra = SimpleNamespace(predict_on_batch=lambda x: -x)
    x = np.arange(9).reshape(9, 1)
    lotes = p.Lotes(p.Conjunto(x, 2 * x), 4, lambda x, azar: x + 100, 7, maestra)
    partes = [lotes[i] for i in range(len(lotes))]
    assert all(np.array_equal(py, -px) and px.min() >= 100 for px, py in partes)


@pytest.mark.parametrize(
    "construir, tasa",
    [(p.RECETA_FINAL.optimizador, p.TASA_SGD), (partial(p.adam_ciclo, 0.3), 0.3)],
    ids=["SGD", "Adam"],
)
def test_el_ciclo_sube_recto_en_la_quinta_parte_de_los_pasos_y_baja_hasta_cero(construir, tasa):
    optimizador, tasas = construir(50), []
    for paso in range(51):
        optimizador.iterations.assign(paso)
        tasas.append(float(optimizador.learning_rate))
    assert tasas[:11] == pytest.approx(np.linspace(0, tasa, 11))
    assert (np.diff(tasas[10:]) < 0).all() and tasas[50] == pytest.approx(0, abs=1e-6)


def test_basenet_queda_en_su_mejor_epoca_y_una_receta_solo_para_si_lo_dice(sesion, monkeypatch):
    red, sesion.cifar = p.construir_basenet(), p.leer_cifar(4)
    datos = p.datos_cifar(sesion.cifar, p.CLASES, 7)
    llamadas = espiar(monkeypatch, "entrenar", sin_entrenar(red, datos))
    p.apartado1(sesion)
    p.entrenar_receta(UNA_ETAPA, datos, 9, 7)
    p.entrenar_receta(replace(UNA_ETAPA, paciencia=2), datos, 9, 7)
    epocas = [sum(cuantas for cuantas, _ in llamada.fases) for llamada in llamadas]
    assert epocas == [sesion.alcance.epocas_basenet, 9, 9]
    paradas = [
        a and (a["monitor"], a["patience"]) for a in (llamada.parada for llamada in llamadas)
    ]
    # Keras vigila la pérdida si no se le dice otra cosa.
    assert paradas == [("val_accuracy", epocas[0]), None, ("val_loss", 2)]
    assert llamadas[1].optimizador is UNA_ETAPA.optimizador


# --- La receta -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lado, sitios", [(p.LADO_RECORTE, range(9)), (32, range(-4, 5))])
def test_el_aumento_da_recortes_de_todos_los_sitios_la_mitad_reflejados(lado, sitios):
    # Cada píxel dice su fila, su columna y de qué imagen es.
    x = np.stack(np.mgrid[:300, :32, :32][[1, 2, 0]], axis=-1).astype("float32")
    antes = x.copy()
    recortes = p.aumentar(lado, p.Receta(), x, np.random.default_rng(0))
    assert recortes.shape == (300, lado, lado, 3) and recortes.dtype == np.float32
    assert np.array_equal(x, antes)
    assert (recortes[..., 2] == np.arange(300)[:, None, None]).all()
    # El centro dice de dónde sale cada recorte; cerca del borde puede haber reflexión.
    centro = recortes[:, lado // 2 - 4 : lado // 2 + 4, lado // 2 - 4 : lado // 2 + 4]
    filas, columnas = centro[..., 0], centro[..., 1]
    assert (np.diff(filas, axis=1) == 1).all()  # de arriba abajo
    sentido = np.diff(columnas, axis=2)[:, 0, 0]
    assert set(sentido) == {1, -1} and abs(sentido.mean()) < 0.2
    assert set(filas.min((1, 2)) - lado // 2 + 4) == set(sitios)
    for cual in (1, -1):
        assert set(columnas.min((1, 2))[sentido == cual] - lado // 2 + 4) == set(sitios)
    # Lo que falta se refleja y no queda negro.
    blancas = p.aumentar(lado, p.Receta(), np.ones_like(x), np.random.default_rng(0))
    assert blancas.min() == 1


def test_el_color_multiplica_el_brillo_el_contraste_y_la_saturacion_de_cada_imagen():
    azar = np.random.default_rng(0)
    x = azar.uniform(0.45, 0.55, (100, 8, 8, 3)).astype("float32")  # así nada llega a 0 ni a 1
    antes = x.copy()
    otra = p.cambiar_color(x, np.random.default_rng(1))
    assert otra.dtype == np.float32 and np.array_equal(x, antes)

    def medidas(x):  # la media, cuánto se aparta de ella su gris y cuánto de su gris el color
        gris = x.mean(3, keepdims=True)
        return np.array([x.mean((1, 2, 3)), gris.std((1, 2, 3)), (x - gris).std((1, 2, 3))])

    brillo, contraste, saturacion = medidas(otra) / medidas(x)
    factores = np.array([brillo, contraste / brillo, saturacion / contraste])
    assert np.abs(factores - 1).max() <= p.CAMBIO_COLOR + 1e-3
    assert (factores.min(1) < 0.75).all() and (factores.max(1) > 1.25).all()
    assert np.abs(np.corrcoef(factores) - np.eye(3)).max() < 0.4  # cada uno, por su cuenta
    extremos = p.cambiar_color(azar.random((50, 8, 8, 3), dtype="float32"), azar)
    assert extremos.min() == 0 and extremos.max() == 1


@pytest.mark.parametrize("filtros", [(), (8,)], ids=["BaseNet", "con filtros"])
def test_se_normaliza_con_la_media_y_la_varianza_exactas_de_cada_canal_de_train(filtros, datos):
    distintas = conjunto_al_azar(10).x * np.float32([1, 0.5, 0.1]) + np.float32([0, 1, 2])
    exactas = distintas.astype("float64")
    # 300.000 píxeles por canal: sumados de una vez en float32 ya falla la cuarta cifra.
    datos = datos._replace(train=p.Conjunto(np.repeat(distintas, 300, axis=0), None))
    capa = p.construir_mejorada(p.Receta(normalizar=True, filtros=filtros), datos).layers[1]
    assert np.allclose(capa.mean, exactas.mean((0, 1, 2)), atol=1e-6)
    assert np.allclose(capa.variance, exactas.var((0, 1, 2)), atol=1e-6)


@pytest.mark.parametrize(
    "cambio, tipo, cuantas",
    [
        ({"batchnorm": True}, "BatchNormalization", 3),
        ({"residual": True}, "Add", 1),
        ({"dropout": 0.1}, "Dropout", 1),
        ({"normalizar": True}, "Normalization", 1),
    ],
)
def test_la_receta_decide_las_capas(cambio, tipo, cuantas, datos):
    sin, con = (
        [type(capa).__name__ for capa in p.construir_mejorada(receta, datos).layers].count(tipo)
        for receta in (p.Receta(filtros=(8,)), p.Receta(filtros=(8,), **cambio))
    )
    assert (sin, con) == (0, cuantas)


def test_con_conexiones_residuales_las_ramas_empiezan_sin_cambiar_nada(datos):
    receta = p.Receta(filtros=(8, 8, 8), batchnorm=True, residual=True)
    red, x = p.construir_mejorada(receta, datos), datos.train.x[:2]
    sumas = [capa for capa in red.layers if isinstance(capa, layers.Add)]
    assert len(sumas) == 3
    for capa in sumas:
        atajo, suma = keras.Model(red.input, [capa.input[0], capa.output])(x)
        assert np.allclose(suma, atajo, atol=1e-6) and np.std(atajo) > 0


def test_los_recortes_pequenos_son_los_de_las_primeras_epocas(datos, monkeypatch):
    llamadas, de_color = espiar(monkeypatch, "aumentar"), espiar(monkeypatch, "cambiar_color")
    red = p.entrenar_receta(UNA_ETAPA, datos, 5, 7)
    # Cinco épocas de un lote, tres con recortes, y lo que Keras mira antes de cada fase.
    assert [llamada.lado for llamada in llamadas] == [p.LADO_RECORTE] * (3 + 1) + [32] * (2 + 1)
    p.aumentar(32, replace(UNA_ETAPA, color=False), datos.train.x, np.random.default_rng(0))
    assert len(de_color) == len(llamadas) - 1 == 7
    for lado in (p.LADO_RECORTE, 32):
        assert red.modelo(datos.val.x[:2, :lado, :lado]).shape == (2, 25)
    ((epocas, fase),) = p.fases_de(replace(UNA_ETAPA, recortes=False), 5)
    assert (epocas, fase.args[0]) == (5, 32)
    assert p.fases_de(replace(UNA_ETAPA, aumento=False), 5) == [(5, None)]


@pytest.mark.parametrize("suavizado, l2", [(0.1, 0.0), (0.0, 0.5)])
def test_el_suavizado_y_la_l2_entran_en_la_perdida(suavizado, l2, datos):
    receta = replace(UNA_ETAPA, recortes=False, suavizado=suavizado, l2=l2)
    entrenada = p.entrenar_receta(receta, datos, 1, 7)
    y = (1 - suavizado) * datos.val.y + suavizado / 25
    cruzada = -np.sum(y * np.log(entrenada.prob_val), axis=1).mean()
    pesos = [w for w in entrenada.modelo.get_weights() if w.ndim > 1]
    # La L2 es la de las tres convoluciones 3x3 y la salida; no la de la primera, de 2x2.
    de_la_l2 = sum(float((w**2).sum()) for w in pesos if w.shape[0] != 2)
    val_loss = entrenada.hist.history["val_loss"]
    assert val_loss == pytest.approx([cruzada + l2 * de_la_l2], rel=1e-4)


# --- Los dos capítulos ---------------------------------------------------------------------------


def test_cada_paso_cambia_un_campo_y_entre_todos_se_llega_a_la_receta_final():
    receta, probados = p.Receta(), set()
    for paso, campo, valor in p.PASOS["Que aprenda"] + p.PASOS["Que no memorice"]:
        candidata = replace(receta, **{campo: valor})
        assert candidata != receta, paso
        probados.add(campo)
        if getattr(p.RECETA_FINAL, campo):
            receta = candidata
    assert probados == {campo.name for campo in fields(p.Receta)}
    assert replace(receta, filtros=p.RECETA_FINAL.filtros) == p.RECETA_FINAL


def test_el_paso_que_la_red_final_no_lleva_se_descarta_y_el_siguiente_no_lo_hereda(
    datos, sesion, monkeypatch, capsys
):
    aciertos, recetas = iter([20, 25, 20, 26, 24, 27]), []  # de 50: de partida y cinco pasos

    def entrenada(receta, datos, epocas, semilla):
        recetas.append((receta, epocas, semilla))
        prob = np.roll(datos.val.y, 1, axis=1)
        bien = next(aciertos)
        prob[:bien] = datos.val.y[:bien]
        hechas, queda = (6, 3) if receta.paciencia else (epocas, epocas)
        hist = SimpleNamespace(history={"loss": [1.0] * hechas})
        return p.Entrenamiento(p.construir_basenet(), hist, 1.0, queda, prob)

    campos = {"normalizar": True, "paciencia": 3, "aumento": True, "recortes": True, "dropout": 0.2}
    pasos = [(f"con {campo}", campo, valor) for campo, valor in campos.items()]
    monkeypatch.setitem(p.PASOS, "Cap", pasos)
    monkeypatch.setattr(p, "entrenar_receta", entrenada)
    llega = p.probar_pasos("Cap", p.Receta(l2=0.1), 20, datos, sesion)
    # Cada paso parte de lo que se ha quedado.
    una = p.Receta(l2=0.1, normalizar=True)
    dos = replace(una, aumento=True)
    tres = replace(dos, recortes=True)
    descartadas = replace(una, paciencia=3), replace(tres, dropout=0.2)
    esperadas = [p.Receta(l2=0.1), una, descartadas[0], dos, tres, descartadas[1]]
    assert recetas == [(receta, 20, 7) for receta in esperadas] and llega == tres
    assert list(sesion.resultados)[1:] == [f"Cap: con {campo}" for campo in campos]
    filas = list(sesion.resultados.values())
    assert [fila.val for fila in filas] == [0.4, 0.5, 0.4, 0.52, 0.48, 0.54]
    assert all(fila.test is None for fila in filas)  # datos.test, sin leer
    # Frente al último que se quedó: el aumento, frente a la normalización y no a la parada.
    diferencias = [fila.detalles["diferencia"] for fila in filas[1:]]
    assert diferencias == pytest.approx([0.1, -0.1, 0.02, -0.04, 0.06])
    assert [f.detalles["se_queda"] for f in filas[1:]] == [True, False, True, True, False]
    salida = capsys.readouterr().out
    assert "  -10,00 puntos en validación; la red final no lo lleva.\n" in salida
    assert "  +2,00 puntos en validación.\n" in salida
    assert salida.count("  Ha entrenado 6 de 20 épocas; queda la 3.\n") == 1
    assert salida.count("Ha entrenado") == 1


# --- Las medidas y sus figuras -------------------------------------------------------------------


def test_con_espejo_la_red_da_la_media_de_cada_imagen_y_su_reflejo(datos, sesion, monkeypatch):
    datos = datos._replace(test=conjunto_al_azar(30, semilla=2))
    red = sin_entrenar(p.construir_basenet(), datos)
    sin = p.anotar_red("1", "red", red, datos, sesion)
    llamadas = espiar(monkeypatch, "predecir")
    con = p.anotar_red("1", "red", red, datos, sesion, espejo=True)
    assert len(llamadas) == 2  # solo los reflejos: lo demás ya se sabe
    assert sesion.resultados == {"red": sin, "red, con espejo": con}
    for conjunto, prob in ((datos.val, con.prob_val), (datos.test, con.prob_test)):
        una, otra = (p.predecir(red.modelo, x) for x in (conjunto.x, conjunto.x[:, :, ::-1]))
        assert np.allclose(prob, (una + otra) / 2, atol=1e-6) and not np.allclose(una, otra)


def test_la_evolucion_dibuja_las_curvas():
    curvas = {"loss": [3, 2], "accuracy": [0.1, 0.2], "val_loss": [4, 3], "val_accuracy": [0.3, 0]}
    p.mostrarEvolucion(SimpleNamespace(history=curvas), "Evolución")
    for eje, medida in zip(p.plt.figure("Evolución").axes, ("loss", "accuracy"), strict=True):
        train, val = (linea.get_data() for linea in eje.lines)
        assert np.array_equal(train, [[1, 2], curvas[medida]])
        assert np.array_equal(val, [[1, 2], curvas[f"val_{medida}"]])


# --- El Bonus ------------------------------------------------------------------------------------


@pytest.mark.parametrize("con_especialista", [True, False])
def test_la_generalista_no_ve_la_validacion_de_la_especialista_con_la_que_hace_comite_y_ensena(
    con_especialista, sesion, monkeypatch
):
    sesion.semilla, sesion.cifar = 8, p.leer_cifar(10)
    todas, las_25 = (p.datos_cifar(sesion.cifar, cuantas, 8) for cuantas in (100, p.CLASES))
    red, pequena, otra = (
        sin_entrenar(p.construir_mejorada(UNA_ETAPA, suyos, None), suyos)
        for suyos in (todas, las_25, las_25)
    )
    entrenadas, pendientes = [], [red, pequena]

    def entrenar_receta(*argumentos):
        entrenadas.append(argumentos)
        return pendientes.pop(0)

    monkeypatch.setattr(p, "entrenar_receta", entrenar_receta)
    azar = np.random.default_rng(0)
    especialista = p.Resultado("2", "BaseNet mejorada, con espejo", 10, 2, 4.0, test=0.5)
    especialista.prob_val = azar.dirichlet(np.ones(25), len(las_25.val.y))
    especialista.prob_test = azar.dirichlet(np.ones(25), len(las_25.test.y))
    especialista.modelo = otra.modelo
    if con_especialista:
        sesion.resultados[especialista.experimento] = especialista
    p.bonus(sesion)
    (_, de_la_generalista, *_), (receta, de_la_alumna, _, _, maestra) = entrenadas
    vistas = set(huellas(de_la_generalista.train.x))
    assert set(huellas(las_25.train.x)) <= vistas
    assert not vistas & set(huellas(np.concatenate([las_25.val.x, las_25.test.x])))
    restringido = p.restringir(red.modelo)
    restringida = p.predecir(restringido, las_25.test.x)
    de_100 = p.predecir(red.modelo, las_25.test.x)[:, :25]
    assert np.allclose(restringida, de_100 / de_100.sum(1, keepdims=True), atol=1e-5)
    suya = sesion.resultados["Generalista, 25 clases, con espejo"]
    reflejada = p.predecir(restringido, las_25.test.x[:, :, ::-1])
    assert np.allclose(suya.prob_test, (restringida + reflejada) / 2, atol=1e-5)
    comite = sesion.resultados.get("Comité, 25 clases, con espejo")
    assert bool(comite) == con_especialista
    ensena = restringida
    if comite:
        assert np.allclose(comite.prob_val, (suya.prob_val + especialista.prob_val) / 2)
        assert np.allclose(comite.prob_test, (suya.prob_test + especialista.prob_test) / 2)
        suyos = suya.parametros + 10
        assert comite.parametros == suyos and comite.segundos == 5.0 + 4.0
        ensena = (restringida + p.predecir(otra.modelo, las_25.test.x)) / 2
    assert np.allclose(maestra.predict_on_batch(las_25.test.x), ensena, atol=1e-5)
    assert receta == p.RECETA_ALUMNA and set(huellas(de_la_alumna.train.x)) <= vistas
    alumna = f"Alumna de {'las dos' if con_especialista else 'la generalista'}, con espejo"
    rival = (especialista if con_especialista else suya).experimento
    assert f"{alumna} frente a {rival}" in sesion.resultados[alumna].detalles
