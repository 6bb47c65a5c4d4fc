"""Práctica 2: Redes Neuronales Convolucionales (Visión por Computador, Universidad de Granada).

Ejecuta la práctica entera, de principio a fin, sin preguntar nada y sin escribir en el disco:

    Apartado 1   BaseNet en 25 clases de CIFAR-100.
    Apartado 2   BaseNet mejorada paso a paso; cada paso se mide en validación.
    Apartado 3   ResNet50 en las aves de Caltech-UCSD: extractor de características (3.1.A y 3.1.B)
                 y ajuste fino de toda la red (3.2).
    Bonus        una red que aprende las 100 clases y sus 20 superclases, y su comité con la anterior.

Uso:         python practica2.py            (con --help, las opciones; ninguna es necesaria)
Necesita:    pip install -r requirements.txt
Datos:       los busca en imagenes/ (véase imagenes/README.md); si faltan, los descarga Keras; sin
             red, usa datos sintéticos y pesos aleatorios, y lo dice en cada parte, figura y RESUMEN.
Duración:    entre 50 minutos y hora y tres cuartos en dos núcleos sin GPU; con GPU, no medido.
Al terminar: RESUMEN, una tabla con una fila por experimento y sus aciertos en validación y test.
"""

import argparse
import gc
import hashlib
import io
import os
import pickle
import platform
import re
import socket
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

# Con Ctrl-C durante los import, que tardan, tampoco hay traza.
sys.excepthook = lambda c, *r: os._exit(130) if c is KeyboardInterrupt else sys.__excepthook__(c, *r)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow avisa de la GPU que no encuentra

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers
from PIL import Image
from scipy.stats import binomtest
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.manifold import TSNE
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix, log_loss, top_k_accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, normalize
from sklearn.svm import SVC

# ===== CONSTANTES ================================================================================

# --- Dónde están los datos -----------------------------------------------------------------------
AQUI = Path(__file__).resolve().parent  # las rutas no dependen de la carpeta de trabajo
VARIABLE_IMAGENES = "PRACTICA2_IMAGENES"  # nombra otra carpeta en lugar de imagenes/

CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"  # 169 MB
CIFAR_SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
LISTAS_AVES = ("train.txt", "test.txt")
AVES_URL = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"  # 1,1 GB
AVES_MD5 = "97eceeb196236b17998738112f37df78"
PICKLES_CIFAR = ("train", "test", "meta")
ESPERA_CONEXION = 4.0  # s; sin red no se pierde más tiempo que este en cada descarga
ESPERA_DESCARGA = 30.0  # s sin recibir un byte; get_file no tiene límite propio

# --- El problema, tal como lo fija el guion ------------------------------------------------------
CLASES = 25  # de las 100 de CIFAR-100: las etiquetas finas 0 a 24
FRACCION_VALIDACION = 0.1  # «del conjunto de entrenamiento se usará un 10 % para validación»
LADO_AVES = 224  # px; el lado con el que se entrenó ResNet50 en ImageNet
MINIMO_POR_CLASE = 4  # imágenes de train: una para validar y tres para la validación cruzada
MINIMO_ESPECIES = 3  # con dos clases, la SVM da un solo margen y el problema es otro
CLASES_AVES_RAPIDO = 10  # especies de --rapido y de los datos sintéticos
SEMILLA = 7  # una para Python, NumPy y Keras

# --- Apartado 1 ----------------------------------------------------------------------------------
LOTE_BASENET = 32  # imágenes; 352 pasos por época

# --- Apartado 2 ----------------------------------------------------------------------------------
LOTE = 128  # imágenes; 88 pasos por época
TASA_ADAM = 1e-3  # la de Kingma y Ba (2015)
TASA_SGD = 0.2  # pico del ciclo; con batch normalization, el orden de He et al. (2016)
CALENTAMIENTO = 0.2  # fracción de los pasos en la que sube la tasa (Smith y Topin, 2019)
L2 = 2.5e-4  # por la suma de cuadrados: un weight decay de 5e-4 (Zagoruyko y Komodakis, 2016)
SUAVIZADO = 0.1  # label smoothing; también en las cabezas y el ajuste fino del Apartado 3
DESPLAZAMIENTO = 0.125  # 4 px de 32, la ampliación habitual en CIFAR (He et al., 2016)
BORRADO = (0.03, 0.125)  # fracción del área que tapa el borrado; alrededor de 8 x 8 px
EPSILON_BLANQUEO = 5e-4  # varianza que se suma, para no ampliar el ruido de las últimas componentes
SIGNIFICACION = 0.05  # p por debajo de la cual una diferencia no se atribuye al azar

# --- Apartado 3 ----------------------------------------------------------------------------------
LOTE_EXTRACCION = 32  # imágenes; acota la memoria de cada pasada
TROZO = 512  # imágenes por predicción: múltiplo de los lotes, acota la memoria
LOTE_CABEZA = 64  # vectores; una época de una cabeza son 43 pasos de milisegundos
LOTE_AJUSTE = 16  # imágenes; la memoria del gradiente crece en proporción
LADO_AJUSTE = 160  # px de los recortes con los que se entrena; abaratan la época a la mitad
RECORTE_MINIMO = 128  # px de 224: con menos, al recorte le falta el ave
TASA_CABEZA = 2e-3  # pico del ciclo de Adam
TASA_AJUSTE = 1e-3  # pico del ciclo de Adam, en veces lo que mide un núcleo típico de la red
MEZCLAS = (0.25, 0.5, 0.75, 1.0)  # parte de los pesos ajustados que se prueba; 1 es el ajuste entero
NEURONAS_FC = 512  # de la nueva capa fully connected de 3.1.A
CANALES_REDUCCION = 256  # de la convolución 1x1 de 3.1.B, que quita 7/8 del coste de la siguiente
DROPOUT_CABEZA = 0.5  # hay pocas imágenes por clase (13 a 27) para cientos de miles de pesos
PLIEGUES = 5  # de la validación cruzada en train
C_SVM = (1.0, 10.0, 100.0)  # sobre vectores de norma 1; se elige por validación cruzada
COMPONENTES_LDA = 1024  # a las que PCA reduce los vectores: sin perder aciertos, seis veces más rápido
CONTRACCIONES = (0.1, 0.2, 0.3)  # de la covarianza del discriminante hacia una esfera (Friedman, 1989)
EPSILON_RAIZ = 1e-3  # sin él, la derivada de la raíz en un canal apagado sería infinita
ESPECIES_PROYECTADAS = 12  # las que caben en una figura
ARBOLES = 150  # del random forest; el tiempo crece en proporción
HOJA = 3  # imágenes por hoja, como mínimo: el bosque regulado así ocupa la tercera parte

# --- Bonus ---------------------------------------------------------------------------------------
PESO_SUPERCLASE = 0.5  # de la pérdida de las 20 superclases frente a la de las 100 clases

# --- La memoria: una referencia junto a las cifras de RESUMEN; la escribe memoria/generar.py --------
# fmt: off
MEMORIA_ORIGEN = {
    "Apartados 1, 2 y Bonus": "CIFAR-100 real",
    "Apartado 3": "CUB-200-2011 real, 100 de sus 200 especies; ResNet50 con otros pesos",
}
MEMORIA = {  # experimento: aciertos en test y su desviación típica entre semillas
    "BaseNet": (0.441200, 0.0117), "BaseNet mejorada": (0.824800, 0.0013),
    "BaseNet mejorada, con espejo": (0.836800, 0.0021), "ResNet50, solo la salida": (0.820530, 0.0038),
    "ResNet50, nueva FC y salida": (0.815708, 0.0068), "ResNet50, SVM lineal": (0.775749, 0.0066),
    "ResNet50, discriminante lineal": (0.832243, 0.003), "ResNet50, random forest": (0.730968, 0.0033),
    "ResNet50, sin average pooling": (0.799862, 0.0059), "ResNet50, ajuste fino": (0.816397, None),
    "ResNet50, ajuste fino, con espejo": (0.821564, None), "Generalista, 100 clases": (0.686400, None),
    "Generalista, 25 clases": (0.848400, None), "Comité, 25 clases": (0.868000, None)
}
# fmt: on
# En el 95 % de los casos dos ejecuciones difieren menos que estas desviaciones, estimadas con tres semillas.
DISPERSIONES = 4.3 * 2**0.5  # 4,3 es la t de Student con dos grados de libertad

# --- Presentación --------------------------------------------------------------------------------
ANCHO = 110  # columnas de la tabla
plt.rcParams["text.parse_math"] = False  # un nombre con dos $ no es una fórmula
CURA_FIGURAS = "elija una carpeta en la que se pueda escribir"
SEGUNDOS_PAUSA = 3.0  # que se ven las figuras en una pantalla; nadie tiene que pulsar nada


@dataclass(frozen=True)
class Alcance:
    """Cuánto se entrena: épocas de cada parte e imágenes por clase (None: todas)."""

    basenet: int
    escalera: int
    mejorada: int
    cabezas: int
    convolucional: int
    ajuste: int
    bonus: int
    imagenes_por_clase: int | None = None


COMPLETO = Alcance(basenet=30, escalera=5, mejorada=26, cabezas=40, convolucional=12, ajuste=5, bonus=11)
RAPIDO = Alcance(3, 1, 2, 3, 2, 1, 1, imagenes_por_clase=20)  # en el mismo orden


class ErrorEntrada(Exception):
    """Una entrada está mal: el mensaje dice qué fichero, qué le pasa y cómo se arregla."""


def exigir(condicion, mensaje):
    """ErrorEntrada con ese mensaje si no se cumple la condición."""
    if not condicion:
        raise ErrorEntrada(mensaje)


@contextmanager
def al_leer(que, cura, errores=(OSError, ValueError)):
    """Convierte los errores de leer una entrada en un ErrorEntrada que dice cómo se arregla."""
    try:
        yield
    except errores as error:
        motivo = str(error).strip() or type(error).__name__
        if isinstance(error, OSError):
            motivo = "no existe" if isinstance(error, FileNotFoundError) else "no se puede leer"
            que = error.filename or que
        raise ErrorEntrada(f"{que}: {motivo.splitlines()[0]}; {cura}") from error


# ===== PRESENTACIÓN: textos, tablas, figuras y puntos de parada ==================================


@dataclass
class Presentacion:
    """Cómo se enseñan los resultados en esta ejecución."""

    esperar_tecla: bool = False  # --pausas
    carpeta: Path | None = None  # --figuras
    pendientes: list = field(default_factory=list)  # (título, figura) hasta la próxima pausa
    etiqueta: str = ""  # datos y pesos de la parte en curso, al pie del título de cada figura


PRESENTACION = Presentacion()


@dataclass(frozen=True)
class Resultado:
    """Una fila de la tabla. Los aciertos son fracciones; None es «no medido»."""

    apartado: str
    experimento: str
    parametros: int | None
    epocas: int | None
    segundos: float | None
    val: float | None
    test: float | None = None
    top5: float | None = None
    perdida_test: float | None = None


def decimal(valor, cifras=2, signo=""):
    """Número con coma decimal y puntos de millar; «—» si no se ha medido. Con signo «+», siempre lo lleva."""
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


def titulo(texto, etiqueta=""):
    """Cabecera de una parte, con sus datos y pesos, que también llevan sus figuras."""
    PRESENTACION.etiqueta = etiqueta
    print(f"\n{'=' * ANCHO}\n{texto}{f' [{etiqueta}]' if etiqueta else ''}\n{'=' * ANCHO}")


def imprimir_tabla(cabecera, filas):
    """Tabla alineada: la primera columna y la segunda a la izquierda, las demás a la derecha."""
    anchos = [max(map(len, columna)) for columna in zip(cabecera, *filas)]
    for numero, fila in enumerate([cabecera, *filas]):
        celdas = [c.ljust(a) if i < 2 else c.rjust(a) for i, (c, a) in enumerate(zip(fila, anchos))]
        print("  ".join(celdas).rstrip())
        if numero == 0:
            print("-" * (sum(anchos) + 2 * (len(anchos) - 1)))


COLUMNAS = (  # título, campo de Resultado y cómo se escribe
    ("Apartado", "apartado", str),
    ("Experimento", "experimento", str),
    ("Parámetros", "parametros", partial(decimal, cifras=0)),
    ("Épocas", "epocas", partial(decimal, cifras=0)),
    ("Tiempo", "segundos", duracion),
    ("Val.", "val", porcentaje),
    ("Test", "test", porcentaje),
    ("Top-5", "top5", porcentaje),
    ("Pérdida", "perdida_test", partial(decimal, cifras=3)),
)


def frente_a_memoria(r, origenes):
    """Lo que dice la memoria de la misma fila, y la diferencia en puntos con un veredicto si se midió cuánto
    cambia con otra semilla. Con otros datos o pesos, en lugar de la cifra, los que usó la memoria."""
    if r.test is None or r.experimento not in MEMORIA:
        return ["", ""]
    parte = "Apartado 3" if r.apartado.startswith("3") else "Apartados 1, 2 y Bonus"
    if origenes[parte] != MEMORIA_ORIGEN[parte]:
        distintos = [d for d in re.split(", |; .* con ", MEMORIA_ORIGEN[parte]) if d not in origenes[parte]]
        return ["memoria: " + (distintos or ["todas las imágenes"])[-1], ""]
    test, desviacion = MEMORIA[r.experimento]
    diferencia = decimal(round(100 * (r.test - test), 2) + 0.0, signo="+")  # y no «-0,00»
    if desviacion is None:
        return [porcentaje(test), diferencia]
    lugar = "dentro" if abs(r.test - test) <= DISPERSIONES * desviacion else "fuera"
    return [f"{porcentaje(test)} ± {decimal(100 * desviacion)}", f"{diferencia} {lugar}"]


def imprimir_resultados(resultados, origenes):
    """Las filas de Resultado como tabla, junto a las cifras de la memoria."""
    filas = [[c(getattr(r, n)) for _, n, c in COLUMNAS] + frente_a_memoria(r, origenes) for r in resultados]
    imprimir_tabla([*(cabecera for cabecera, _, _ in COLUMNAS), "Memoria", "Diferencia"], filas)


def nueva_figura(nombre, filas=1, columnas=1, tamano=(7, 4.5)):
    """Figura que se enseñará en la próxima pausa. Devuelve sus ejes en una lista plana."""
    figura, ejes = plt.subplots(filas, columnas, figsize=tamano, layout="constrained", squeeze=False)
    figura.suptitle(f"{nombre}\n[{PRESENTACION.etiqueta}]", fontsize=10)
    PRESENTACION.pendientes.append((nombre, figura))
    return list(ejes.flat)


def pausa(texto):
    """Punto de parada: enseña las figuras pendientes sin bloquear la ejecución."""
    print(f"{'-' * ANCHO}\nPausa · {texto}")
    figuras, PRESENTACION.pendientes = PRESENTACION.pendientes, []
    for nombre, figura in figuras if PRESENTACION.carpeta else ():
        limpio = "".join(c if c.isalnum() else "_" for c in nombre.lower())
        with al_leer(PRESENTACION.carpeta, CURA_FIGURAS):
            figura.savefig(PRESENTACION.carpeta / f"{limpio}.png", dpi=110)
    if figuras:
        if figuras[0][1].canvas.required_interactive_framework:
            plt.show(block=False)
            plt.pause(SEGUNDOS_PAUSA)
        elif "inline" in plt.get_backend():
            plt.show()
        else:
            print("  Sin pantalla; figuras: " + " · ".join(nombre for nombre, _ in figuras))
    if PRESENTACION.esperar_tecla and sys.stdin and sys.stdin.isatty():
        input("  Pulse Intro para continuar… ")
    plt.close("all")


def mostrarEvolucion(hist, nombre="Evolución del entrenamiento", antes=None):
    """Pérdida y aciertos por época, en train y en validación, con la mejor; antes es otra fase anterior."""
    previas = antes.history if antes else dict.fromkeys(hist.history, [])
    inicio, cuantas = len(previas["loss"]), len(hist.history["loss"])
    val = hist.history["val_accuracy"]
    mejor, ultima = int(np.argmax(val)) + 1, porcentaje(val[-1])
    print(f"  Early stopping: se queda con la época {mejor} de {cuantas}; en la última, val. {ultima}")
    epocas = range(1, inicio + cuantas + 1)
    ejes = nueva_figura(nombre, 1, 2, (10, 4))
    for eje, medida, rotulo in zip(ejes, ("loss", "accuracy"), ("Pérdida", "Aciertos")):
        for clave, trazo, de in ((medida, "o-", "Entrenamiento"), ("val_" + medida, "s-", "Validación")):
            eje.plot(epocas, [*previas[clave], *hist.history[clave]], trazo, ms=3, label=de)
        eje.axvline(inicio + mejor, color="gray", ls=":", label=f"Mejor época ({mejor})")
        if antes:
            eje.axvline(inicio + 0.5, color="black", lw=0.8, label="Termina la cabeza sola")
        eje.set(xlabel="Época", ylabel=rotulo)
        eje.xaxis.get_major_locator().set_params(integer=True)
        eje.legend()


def mostrar_rejilla(nombre, imagenes, rotulos, aciertos=None, columnas=6, mapas=None):
    """Rejilla de imágenes con su rótulo, verde si es un acierto y rojo si es un fallo, y un mapa encima."""
    filas = -(-len(imagenes) // columnas)
    ejes = nueva_figura(nombre, filas, columnas, (1.9 * columnas, 2.1 * filas + 0.5))
    for eje in ejes:
        eje.axis("off")
    for numero, (eje, imagen, rotulo) in enumerate(zip(ejes, imagenes, rotulos)):
        color = "black" if aciertos is None else ("green" if aciertos[numero] else "firebrick")
        eje.imshow(imagen)
        if mapas is not None:
            alto, ancho = imagen.shape[:2]
            encima = dict(alpha=0.5, cmap="inferno", interpolation="bilinear")
            eje.imshow(mapas[numero], extent=(0, ancho, alto, 0), **encima)
        eje.set_title(rotulo, fontsize=8, color=color)


def mostrar_predicciones(nombre, datos, probabilidades, elegidas=None, mapas=None):
    """Las imágenes de test elegidas, o 18 repartidas por él, con lo predicho y, si falla, lo cierto."""
    real, predicha = datos.test.y.argmax(1), probabilidades.argmax(1)
    if elegidas is None:
        elegidas = np.linspace(0, len(real) - 1, 18).astype(int)
    rotulos = [
        datos.clases[predicha[i]] + ("" if predicha[i] == real[i] else f"\n(es {datos.clases[real[i]]})")
        for i in elegidas
    ]
    aciertos = (predicha == real)[elegidas]
    mostrar_rejilla(nombre, datos.test.x[elegidas], rotulos, aciertos, mapas=mapas)


def mostrar_confusion(nombre, datos, probabilidades):
    """Matriz de confusión de test, normalizada por filas (la clase real)."""
    (eje,) = nueva_figura(nombre, tamano=(9, 8))
    clases = dict(labels=range(len(datos.clases)), display_labels=datos.clases, normalize="true")
    aspecto = dict(include_values=False, xticks_rotation="vertical", cmap="Blues", ax=eje)
    real, predicha = datos.test.y.argmax(1), probabilidades.argmax(1)
    ConfusionMatrixDisplay.from_predictions(real, predicha, **clases, **aspecto)
    eje.set(xlabel="Clase predicha", ylabel="Clase real")


def peores_pares(datos, probabilidades, cuantos=5):
    """Pares de clases que más se confunden: [(real, predicha, veces, índice de un ejemplo)]."""
    real, predicha = datos.test.y.argmax(1), probabilidades.argmax(1)
    matriz = confusion_matrix(real, predicha, labels=range(len(datos.clases)))
    np.fill_diagonal(matriz, 0)
    orden = np.argsort(-matriz, axis=None, kind="stable")[:cuantos]
    pares = [(a, b) for a, b in zip(*np.unravel_index(orden, matriz.shape)) if matriz[a, b]]
    return [(a, b, matriz[a, b], np.flatnonzero((real == a) & (predicha == b))[0]) for a, b in pares]


def mostrar_peores_pares(nombre, datos, probabilidades):
    """Imprime y enseña los pares más confundidos: el fallo y un ejemplo de la otra clase."""
    imagenes, rotulos = [], []
    clases_train = datos.train.y.argmax(1)
    for a, b, veces, ejemplo in peores_pares(datos, probabilidades):
        print(f"  {datos.clases[a]} tomada por {datos.clases[b]}: {veces} veces en test")
        de_la_otra = np.median(np.flatnonzero(clases_train == b)).astype(int)
        imagenes += [datos.test.x[ejemplo], datos.train.x[de_la_otra]]
        rotulos += [f"{datos.clases[a]}\npredicha {datos.clases[b]}", f"{datos.clases[b]}\n(train)"]
    if imagenes:
        mostrar_rejilla(nombre, imagenes, rotulos, columnas=2 * -(-len(imagenes) // 4))


def aciertos_por_clase(datos, probabilidades):
    """Fracción de aciertos en test de cada clase, (clases,)."""
    real, predicha = datos.test.y.argmax(1), probabilidades.argmax(1)
    return np.array([(predicha[real == c] == c).mean() for c in range(len(datos.clases))])


def mostrar_antes_y_despues(nombre, datos, antes, despues):
    """Aciertos por clase de dos redes, ordenados por los de la segunda."""
    a, d = aciertos_por_clase(datos, antes), aciertos_por_clase(datos, despues)
    orden = np.argsort(d)
    (eje,) = nueva_figura(nombre, tamano=(8, 7))
    eje.hlines(range(len(orden)), a[orden], d[orden], color="lightgray")
    eje.plot(a[orden], range(len(orden)), "o", label="BaseNet")
    eje.plot(d[orden], range(len(orden)), "s", label="BaseNet mejorada")
    eje.set_yticks(range(len(orden)), [datos.clases[c] for c in orden])
    eje.set(xlabel="Aciertos en test")
    eje.legend()


class Progreso(keras.callbacks.Callback):
    """Una línea por época con lo que falta; en un terminal lo hace mejor la barra de Keras."""

    def on_train_begin(self, logs=None):
        self.inicio = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        hechas, total = epoch + 1, self.params["epochs"]
        gastado = time.perf_counter() - self.inicio
        print(
            f"  época {hechas:3}/{total} · pérdida {decimal(logs['loss'], 3)}"
            f" · aciertos {porcentaje(logs['accuracy'])} · val. {porcentaje(logs['val_accuracy'])}"
            f" · {duracion(gastado)} (quedan {duracion(gastado / hechas * (total - hechas))})"
        )


# ===== DATOS Y PESOS =============================================================================


@dataclass(frozen=True)
class Conjunto:
    """Imágenes (n, alto, ancho, 3) y sus clases en one-hot (n, clases)."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Datos:
    """Un problema de clasificación ya partido, con el nombre de cada clase y su procedencia."""

    train: Conjunto
    val: Conjunto
    test: Conjunto
    clases: tuple
    procedencia: str


@dataclass(frozen=True)
class Cifar:
    """CIFAR-100 en orden canónico: uint8 (n, 32, 32, 3), clase fina y superclase de cada clase."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    nombres: tuple
    superclases: np.ndarray  # (100,): superclase de cada clase fina
    procedencia: str


def carpeta_imagenes():
    """Carpeta de los datos: la de PRACTICA2_IMAGENES o imagenes/ junto al script."""
    otra = os.environ.get(VARIABLE_IMAGENES)
    if not otra:
        return AQUI / "imagenes"
    carpeta = Path(os.path.expanduser(otra))
    with al_leer(f"{VARIABLE_IMAGENES}={otra}", "indique una carpeta que exista y se pueda leer"):
        os.listdir(f"{carpeta}/.")  # con el punto, también falla si no se puede entrar
    return carpeta


def cache_keras():
    """Carpeta donde Keras guarda lo que descarga (~/.keras salvo que KERAS_HOME diga otra)."""
    return Path(os.path.expanduser(os.environ.get("KERAS_HOME", "~/.keras")))


def hay_conexion(url):
    """¿Responde el servidor de la URL en ESPERA_CONEXION segundos?"""
    responde = threading.Event()

    def llamar():
        with suppress(OSError), socket.create_connection((urlsplit(url).hostname, 443), ESPERA_CONEXION):
            responde.set()

    # En otro hilo, porque la consulta del nombre (DNS) no admite un límite de tiempo.
    hilo = threading.Thread(target=llamar, daemon=True)
    hilo.start()
    hilo.join(ESPERA_CONEXION)
    return responde.is_set()


def descargar(url, resumen, subcarpeta="datasets"):
    """Fichero de la URL en la caché de Keras, comprobado con su resumen; None si no hay red."""
    nombre, cache = urlsplit(url).path.rsplit("/", 1)[-1], cache_keras()
    if not os.path.exists(cache / subcarpeta / nombre) and not hay_conexion(url):
        print(f"  Sin conexión con {urlsplit(url).hostname}: no se puede descargar {nombre}.")
        return None
    anterior = socket.getdefaulttimeout()
    socket.setdefaulttimeout(ESPERA_DESCARGA)
    try:
        opciones = dict(cache_subdir=subcarpeta, file_hash=resumen, cache_dir=cache)
        return Path(keras.utils.get_file(nombre, url, **opciones))
    except Exception as error:  # get_file lanza Exception a secas cuando falla la red
        print(f"  No se ha podido descargar {nombre}: {error}")
        return None
    finally:
        socket.setdefaulttimeout(anterior)


# --- CIFAR-100 -----------------------------------------------------------------------------------

CURA_CIFAR = "bórrelo y vuelva a descargar CIFAR-100"


class MatrizGuardada:
    """Lo que un pickle guarda de una matriz; con uno corrupto, NumPy puede tumbar a Python."""

    def __setstate__(self, *estado):
        self.estado = estado

    __init__ = __setstate__


class LectorSeguro(pickle._Unpickler):  # el de C reserva lo que pida un índice corrupto
    """Lee los pickles de CIFAR-100 sin ejecutar nada: solo admite matrices de NumPy."""

    def find_class(self, module, name):
        if module.split(".")[0] != "numpy" or name not in ("_reconstruct", "ndarray", "dtype"):
            raise pickle.UnpicklingError(f"contiene {module}.{name}, que no es un dato")
        return MatrizGuardada


def leer_pickle(contenido, nombre):
    """Diccionario de los bytes de un pickle de CIFAR-100."""
    with al_leer(nombre, CURA_CIFAR, Exception):  # uno ilegible puede lanzar cualquier cosa
        lote = LectorSeguro(io.BytesIO(contenido), encoding="bytes").load()
    exigir(isinstance(lote, dict), f"{nombre}: no contiene un diccionario; {CURA_CIFAR}")
    return lote


def leer_lote_cifar(lote, nombre):
    """(imágenes uint8 (n, 32, 32, 3), finas (n,), superclases (n,)) de un pickle ya leído."""
    with al_leer(f"{nombre}, falta o está mal", CURA_CIFAR, Exception):
        ((_, forma, _, por_columnas, pixeles),) = lote[b"data"].estado
        x = np.frombuffer(pixeles, np.uint8).reshape(forma, order="F" if por_columnas else "C")
        listas = lote[b"fine_labels"], lote[b"coarse_labels"]
        finas, gruesas = (np.array([e for e in lista if isinstance(e, int)]) for lista in listas)
    correcta = x.shape[1:] == (3 * 32 * 32,) and len(x)
    exigir(correcta, f"{nombre}: las imágenes no son filas de 3.072 bytes; {CURA_CIFAR}")
    for etiquetas, clases in ((finas, 100), (gruesas, 20)):
        enteras = etiquetas.shape == (len(x),) and etiquetas.dtype.kind == "i"
        exigir(enteras, f"{nombre}: no hay una etiqueta entera por imagen; {CURA_CIFAR}")
        fuera = etiquetas.min() < 0 or etiquetas.max() >= clases
        exigir(not fuera, f"{nombre}: hay etiquetas fuera de 0-{clases - 1}; {CURA_CIFAR}")
    return x.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), finas, gruesas


def pickles_cifar(origen):
    """Bytes de los ficheros train, test y meta, de una carpeta o de un tar sin extraer."""
    with al_leer(origen, CURA_CIFAR, Exception):  # uno dañado puede lanzar cualquier cosa
        if origen.is_dir():
            return {nombre: (origen / nombre).read_bytes() for nombre in PICKLES_CIFAR}
        with tarfile.open(origen) as tar:  # de una pasada: volver atrás descomprime otra vez
            leidos = {Path(m.name).name: tar.extractfile(m).read() for m in tar if m.isfile()}
        return {nombre: leidos[nombre] for nombre in PICKLES_CIFAR}


def orden_canonico(x, y, por_clase=None):
    """Índices por clase y, dentro de ella, por los bytes de la imagen: las copias de Keras y del archivo, que
    vienen en otro orden, dan la misma partición. Con por_clase, solo tantas, y salteadas."""
    clases = [sorted(np.flatnonzero(y == c), key=lambda i: x[i].tobytes()) for c in np.unique(y)]
    if por_clase:
        clases = [indices[:: max(1, len(indices) // por_clase)][:por_clase] for indices in clases]
    return np.concatenate(clases)


def leer_cifar(imagenes_por_clase=None):
    """CIFAR-100 de donde esté: imagenes/, la caché de Keras o su descarga; si no, sintético."""
    cache = cache_keras() / "datasets"
    carpetas = (carpeta_imagenes(), cache, cache / "cifar-100-python-target")
    nombres = ("cifar-100-python", "cifar-100-python.tar.gz", "cifar-100-python.tar.xz")
    candidatos = [carpeta / nombre for carpeta in carpetas for nombre in nombres]
    origen = next((c for c in candidatos if os.path.exists(c)), None) or descargar(CIFAR_URL, CIFAR_SHA256)
    if origen is None:
        return cifar_sintetico(imagenes_por_clase)
    pickles = {n: leer_pickle(b, f"{origen}, {n}") for n, b in pickles_cifar(origen).items()}
    x, finas, gruesas = leer_lote_cifar(pickles["train"], f"{origen}, train")
    x_test, finas_test, _ = leer_lote_cifar(pickles["test"], f"{origen}, test")
    with al_leer(f"{origen}, meta", CURA_CIFAR, (AttributeError, TypeError, ValueError)):
        nombres_clases = [n.decode() for n in pickles["meta"].get(b"fine_label_names", [])]
    completo = len(nombres_clases) == len(np.unique(finas_test)) == (np.bincount(finas) > 1).sum() == 100
    exigir(completo, f"{origen}: no tiene imágenes y nombre de las 100 clases; {CURA_CIFAR}")
    superclases = np.zeros(100, int)
    superclases[finas] = gruesas
    train, test = (orden_canonico(*par, imagenes_por_clase) for par in ((x, finas), (x_test, finas_test)))
    procedencia = "CIFAR-100 real" + (", subconjunto" if imagenes_por_clase else "")
    partes = (x[train], finas[train], x_test[test], finas_test[test])
    return Cifar(*partes, tuple(nombres_clases), superclases, procedencia)


def imagenes_sinteticas(clases, rejilla, lado, cuantas):
    """[x, y, x, y] de train y test, con cuantas imágenes por clase: un mosaico de color y ruido. Sirven para
    que el script funcione sin red: se aprenden, pero no dicen nada de los datos reales."""
    azar, partes = np.random.default_rng(0), []
    mosaicos = azar.uniform(40, 215, (clases, rejilla, rejilla, 3))
    for y in (np.repeat(np.arange(clases), por_clase) for por_clase in cuantas):
        x = (mosaicos[y] + azar.normal(0, 45, (len(y), rejilla, rejilla, 3))).clip(0, 255).astype(np.uint8)
        partes += [np.kron(x, np.ones((1, lado // rejilla, lado // rejilla, 1), np.uint8)), y]
    return partes


def cifar_sintetico(imagenes_por_clase=None):
    """Sustituto de CIFAR-100."""
    partes = imagenes_sinteticas(100, 8, 32, (imagenes_por_clase or 60, imagenes_por_clase or 20))
    nombres = tuple(f"clase {c}" for c in range(100))
    return Cifar(*partes, nombres, np.arange(100) // 5, "CIFAR-100 SINTÉTICO")


def indices_validacion(etiquetas, semilla):
    """Máscara (n,) del 10 % de validación, estratificado: al menos una imagen de cada clase. Cada clase se
    sortea por su cuenta, y así las 25 clases apartan las mismas imágenes solas que entre las 100."""
    mascara = np.zeros(len(etiquetas), bool)
    for clase in np.unique(etiquetas):
        indices = np.flatnonzero(etiquetas == clase)
        cuantas = max(1, round(FRACCION_VALIDACION * len(indices)))
        azar = np.random.default_rng([semilla, int(clase)])
        mascara[azar.choice(indices, cuantas, replace=False)] = True
    return mascara


def partir(x, y, x_test, y_test, clases, procedencia, semilla):
    """Datos con la validación apartada de train; y, en one-hot."""
    val = indices_validacion(y.argmax(1), semilla)
    partes = ((x[~val], y[~val]), (x[val], y[val]), (x_test, y_test))
    return Datos(*(Conjunto(*parte) for parte in partes), tuple(clases), procedencia)


def cargarImagenes(cifar=None, num_clases=CLASES):
    """Las primeras num_clases de CIFAR-100, como la función que da el guion. Devuelve x_train, y_train,
    x_test, y_test: imágenes float32 en [0, 1], (n, 32, 32, 3), y clases en one-hot, (n, num_clases)."""
    cifar = cifar or leer_cifar()
    partes = []
    for x, y in ((cifar.x_train, cifar.y_train), (cifar.x_test, cifar.y_test)):
        suyas = y < num_clases
        partes += [x[suyas].astype("float32") / 255, keras.utils.to_categorical(y[suyas], num_clases)]
    return tuple(partes)


def datos_cifar(cifar, num_clases, semilla):
    """Datos de las primeras num_clases de CIFAR-100."""
    nombres = cifar.nombres[:num_clases]
    return partir(*cargarImagenes(cifar, num_clases), nombres, cifar.procedencia, semilla)


# --- Aves de Caltech-UCSD ------------------------------------------------------------------------

CURA_LISTA = "copie otra vez la lista entera"


@dataclass(frozen=True)
class ListasAves:
    """Rutas relativas («001.Nombre/imagen.jpg») de train y de test bajo una carpeta."""

    raiz: Path
    train: list
    test: list
    procedencia: str


def leer_lineas(fichero):
    """Líneas no vacías de un fichero de texto, sin blancos ni finales de Windows."""
    with al_leer(fichero, CURA_LISTA):
        texto = fichero.read_text(encoding="utf-8-sig")
    lineas = list(dict.fromkeys(linea.strip() for linea in texto.splitlines() if linea.strip()))
    exigir(lineas, f"{fichero}: está vacío; {CURA_LISTA}")
    return lineas


def leer_por_id(fichero):
    """Diccionario id -> valor de una lista de CUB-200-2011 («17 001.Nombre/imagen.jpg»)."""
    pares = [linea.split(maxsplit=1) for linea in leer_lineas(fichero)]
    corta = next((par[0] for par in pares if len(par) != 2), "")
    exigir(not corta, f"{fichero}: la línea de {corta} no tiene valor; {CURA_LISTA}")
    return dict(pares)


def listas_2011(raiz):
    """Listas de CUB-200-2011 en su formato oficial; un 1 en train_test_split.txt es train."""
    ficheros = ("images.txt", "train_test_split.txt", "image_class_labels.txt", "classes.txt")
    rutas, particion, etiquetas, clases = (leer_por_id(raiz / fichero) for fichero in ficheros)
    for fichero, lista in zip(ficheros[1:3], (particion, etiquetas)):
        suelto = min(rutas.keys() ^ lista.keys(), default="")
        exigir(not suelto, f"{raiz / fichero}: el id {suelto} falta aquí o en images.txt; {CURA_LISTA}")
    for i, ruta in rutas.items():
        bien = particion[i] in ("0", "1") and clases.get(etiquetas[i]) == ruta.split("/")[0]
        exigir(bien, f"{raiz}: {ruta} no es de train ni de test (1 o 0) o su clase es otra; {CURA_LISTA}")
    train, test = ([r for i, r in rutas.items() if particion[i] == cual] for cual in "10")
    return ListasAves(raiz / "images", train, test, "CUB-200-2011")


def listar_aves(path):
    """Listas de las aves en cualquiera de los tres formatos; None si no hay ninguno en path."""
    path = Path(path)
    if (path / "train.txt").exists() or (path / "test.txt").exists():
        listas = ListasAves(path, *(leer_lineas(path / f) for f in LISTAS_AVES), "CUB-200 (2010)")
    elif (path / "CUB_200_2011").is_dir():
        listas = listas_2011(path / "CUB_200_2011")
    elif (path / "CUB_200").is_dir():
        raiz = path / "CUB_200"
        rutas = (leer_lineas(raiz / "lists" / f) for f in LISTAS_AVES)
        listas = ListasAves(raiz / "images", *rutas, "CUB-200 (2010)")
    else:
        return None
    comprobar_listas(listas)
    return listas


def comprobar_listas(listas):
    """ErrorEntrada si una ruta sale de la carpeta o falta, o si una clase no se puede partir."""
    raiz = listas.raiz
    for ruta in listas.train + listas.test:
        exigir(os.path.isfile(raiz / ruta), f"{raiz / ruta}: está en la lista y no existe; cópiela")
        dentro = ruta.count("/") == 1 and (raiz / ruta).resolve().is_relative_to(raiz.resolve())
        exigir(dentro, f"{ruta}: no es «clase/imagen» dentro de {raiz}; {CURA_LISTA}")
    exigir(listas.train and listas.test, f"{raiz}: train o test no tiene imágenes; {CURA_LISTA}")
    repetida = min(set(listas.train) & set(listas.test), default="")
    exigir(not repetida, f"{raiz}: {repetida} está en train y en test; {CURA_LISTA}")
    clases, cuentas = np.unique([ruta.split("/")[0] for ruta in listas.train], return_counts=True)
    pocas = f"{raiz / clases[cuentas.argmin()]}: necesita {MINIMO_POR_CLASE} imágenes de train; {CURA_LISTA}"
    exigir(cuentas.min() >= MINIMO_POR_CLASE, pocas)
    coja = min({ruta.split("/")[0] for ruta in listas.test} ^ set(clases), default="")
    exigir(not coja, f"{raiz}: la clase {coja} no tiene imágenes de train o de test; {CURA_LISTA}")
    exigir(len(clases) >= MINIMO_ESPECIES, f"{raiz}: hacen falta {MINIMO_ESPECIES} especies")


def leer_imagen(fichero):
    """Imagen RGB uint8 de LADO_AVES px de lado; recorta el centro para no deformarla."""
    with al_leer(fichero, "vuelva a copiar la imagen", Exception), Image.open(fichero) as original:
        exigir(original.mode[0] not in "IF", "tiene más de 8 bits por canal")  # Keras los recorta a 255
        forma = dict(target_size=(LADO_AVES, LADO_AVES), interpolation="bilinear")
        imagen = keras.utils.load_img(fichero, keep_aspect_ratio=True, **forma)
    return np.asarray(imagen, np.uint8)


def leerImagenes(vec_imagenes, path):
    """Imágenes uint8 (n, 224, 224, 3) de una lista de rutas relativas a path, y su clase por nombre (n,)."""
    with ThreadPoolExecutor() as hilos:  # PIL suelta el GIL mientras descomprime
        imagenes = list(hilos.map(leer_imagen, [Path(path) / ruta for ruta in vec_imagenes]))
    return np.stack(imagenes), np.array([ruta.split("/")[0] for ruta in vec_imagenes])


def cargarDatos(path, listas=None):
    """Aves de la carpeta path, en cualquiera de los tres formatos, como la función del guion. Devuelve
    train, train_clases, test, test_clases y nombres, en orden canónico (por clase y nombre del fichero):
    imágenes uint8 (n, 224, 224, 3), clases en one-hot (n, clases) y el nombre de cada clase, que salen de
    los datos. ErrorEntrada si en path no hay aves."""
    listas = listas or listar_aves(path)
    exigir(listas, f"{path}: no hay aves en ninguno de los formatos de imagenes/README.md")
    train, nombres_train = leerImagenes(sorted(listas.train), listas.raiz)
    test, nombres_test = leerImagenes(sorted(listas.test), listas.raiz)
    nombres, clases = np.unique(nombres_train, return_inverse=True)
    y_train = keras.utils.to_categorical(clases, len(nombres))
    y_test = keras.utils.to_categorical(np.searchsorted(nombres, nombres_test), len(nombres))
    return train, y_train, test, y_test, [n.split(".")[-1].replace("_", " ") for n in nombres]


def extraer_aves(archivo):
    """Descomprime CUB_200_2011.tgz una sola vez junto a él y devuelve la carpeta que lo contiene. Lo hace
    con otro nombre y lo renombra al acabar: un corte no deja nada a medias."""
    destino = archivo.parent / "cub_200_2011_extraido"
    if not destino.exists():
        print(f"  Descomprimiendo {archivo.name}…")
        with (
            al_leer(archivo, "libere espacio o bórrelo", Exception),
            tempfile.TemporaryDirectory(dir=archivo.parent) as provisional,
            tarfile.open(archivo) as tar,
        ):
            tar.extraction_filter = tarfile.data_filter  # nada sale de la carpeta
            tar.extractall(Path(provisional) / "datos")
            os.replace(Path(provisional) / "datos", destino)
    return destino


def datos_aves(imagenes_por_clase, semilla):
    """Datos de las aves de donde estén: imagenes/ o la descarga; si no, sintéticas."""
    listas = listar_aves(carpeta_imagenes())
    if listas is None:
        archivo = descargar(AVES_URL, AVES_MD5)
        if archivo is None:
            return aves_sinteticas(semilla)
        listas = listar_aves(extraer_aves(archivo))
        exigir(listas, f"{archivo.parent}/cub_200_2011_extraido: no tiene aves; bórrela")
    if imagenes_por_clase:
        listas = recortar_listas(listas)
    print(f"  Leyendo {len(listas.train) + len(listas.test)} imágenes de aves…")
    *aves, nombres = cargarDatos(listas.raiz, listas)
    procedencia = f"{listas.procedencia} real, {len(nombres)} de sus 200 especies"
    return partir(*aves, nombres, procedencia, semilla)


def recortar_listas(listas):
    """Unas pocas especies con unas pocas imágenes, para --rapido."""
    especies = sorted({ruta.split("/")[0] for ruta in listas.train})[:CLASES_AVES_RAPIDO]

    def pocas(rutas, cuantas):
        return [r for e in especies for r in [r for r in rutas if r.startswith(e + "/")][:cuantas]]

    return replace(listas, train=pocas(listas.train, 8), test=pocas(listas.test, 4))


def aves_sinteticas(semilla):
    """Sustituto de las aves."""
    clases = CLASES_AVES_RAPIDO
    x, y, x_test, y_test = imagenes_sinteticas(clases, 7, LADO_AVES, (12, 6))
    y, y_test = (keras.utils.to_categorical(clase, clases) for clase in (y, y_test))
    return partir(x, y, x_test, y_test, [f"especie {c}" for c in range(clases)], "aves SINTÉTICAS", semilla)


# --- Redes preentrenadas -------------------------------------------------------------------------


@dataclass(frozen=True)
class RedPreentrenada:
    """Una red de keras.applications sin su cabeza: cómo se construye y de dónde salen sus pesos."""

    nombre: str
    constructor: Callable
    preprocesar: Callable  # la preprocess_input de la red; recibe píxeles de 0 a 255
    fichero: str
    carpeta_url: str  # de donde se descarga el fichero
    md5_imagenet: str  # el del fichero con los pesos de ImageNet


RESNET50 = RedPreentrenada(
    "ResNet50",
    keras.applications.ResNet50,
    keras.applications.resnet.preprocess_input,
    "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "https://storage.googleapis.com/tensorflow/keras-applications/resnet/",
    "4d473c1dd8becc155b73f8504c6f6626",
)


@dataclass(frozen=True)
class Pesos:
    """Fichero de pesos (None: aleatorios) y cómo se llaman en cada cifra que sale de ellos."""

    fichero: Path | None
    etiqueta: str


def buscar_pesos(red):
    """Pesos de una red: imagenes/, la caché de Keras o su descarga; si no, aleatorios."""
    fichero = carpeta_imagenes() / red.fichero
    if not fichero.exists():
        fichero = descargar(red.carpeta_url + red.fichero, red.md5_imagenet, "models")
    if fichero is None:
        return Pesos(None, "pesos ALEATORIOS")
    with al_leer(fichero, "ponga ahí el fichero de pesos o quítelo"):
        md5 = hashlib.md5(fichero.read_bytes()).hexdigest()
    return Pesos(fichero, "pesos de ImageNet" if md5 == red.md5_imagenet else "otros pesos")


def cargar_red(red, pesos, lado=None):
    """Red preentrenada sin cabeza, tal como la publica Keras. ErrorEntrada si los pesos no son los suyos."""
    cura = f"ponga los pesos de {red.nombre} sin cabeza o quite el fichero"
    with al_leer(pesos.fichero, cura, (OSError, ValueError, KeyError, RuntimeError)):
        entrada = keras.Input((lado, lado, 3))
        return red.constructor(include_top=False, weights=pesos.fichero, input_tensor=entrada)


def precision_preentrenada():
    """(precisión, motivo) de la red preentrenada. En un procesador con AMX bfloat16 multiplica su ritmo; sin
    AMX, lo divide. Decide la marca del procesador y no un cronómetro, para que se repitan las cifras."""
    if keras.config.dtype_policy().name != "float32":
        return keras.config.dtype_policy().name, "hay GPU"
    con_amx = "amx_bf16" in leer_cpuinfo()
    return ("mixed_bfloat16", "hay AMX") if con_amx else ("float32", "el procesador no tiene AMX")


def plegar(base):
    """La misma red sin batch normalization. En inferencia es una escala y un desplazamiento por canal, que se
    multiplican por el núcleo y se suman al sesgo de la convolución anterior (Jacob et al., 2018). El sesgo
    queda congelado, como lo estaría ella: en un ajuste fino con lotes pequeños no debe moverse."""
    precision, anterior = precision_preentrenada()[0], {id(capa.output): capa for capa in base.layers}

    def copiar(capa):
        con_sesgo = {"use_bias": True} if hasattr(capa, "kernel_size") else {}
        return type(capa).from_config(capa.get_config() | con_sesgo | {"dtype": precision})

    def sin_normalizar(capa, x, **_):
        return x if isinstance(capa, layers.BatchNormalization) else capa(x)

    plegada = keras.models.clone_model(base, clone_function=copiar, call_function=sin_normalizar)
    for bn in (capa for capa in base.layers if isinstance(capa, layers.BatchNormalization)):
        previa = anterior[id(bn.input)]
        nucleo, *sesgo = previa.get_weights()
        gamma, beta, media, varianza = bn.get_weights()
        escala = gamma / np.sqrt(varianza + bn.epsilon)
        # El núcleo de una convolución por canales, (h, w, canales, 1), los lleva en la penúltima dimensión.
        en_canales = escala if nucleo.shape[-1] == len(escala) else escala[:, None]
        capa = plegada.get_layer(previa.name)
        capa.set_weights([nucleo * en_canales, beta + (sum(sesgo) - media) * escala])
        capa.bias.trainable = False
    return plegada


def construir_base(red, pesos, lado=None):
    """Red preentrenada, plegada, con preprocesado: píxeles 0-255 (n, lado, lado, 3) -> mapas (n, h, w, c)."""
    entrada = keras.Input((lado, lado, 3))
    return keras.Model(entrada, plegar(cargar_red(red, pesos, lado))(red.preprocesar(entrada)))


# ===== ENTRENAMIENTO COMÚN A TODAS LAS REDES =====================================================


class Lotes(keras.utils.PyDataset):
    """Lotes barajados en cada época, transformados al servirlos y no antes. Con mapas en float16 evita que
    fit convierta la matriz entera a float32; con aves, aumenta los datos, y nunca los de validación."""

    def __init__(self, x, y, lote, transformar, semilla):
        super().__init__()
        self.x, self.y, self.lote, self.transformar = x, y, lote, transformar
        self.azar = np.random.default_rng(semilla)
        self.on_epoch_end()

    def __len__(self):
        return -(-len(self.x) // self.lote)

    def __getitem__(self, numero):
        indices = self.orden[numero * self.lote : (numero + 1) * self.lote]
        return self.transformar(self.x[indices], self.azar), self.y[indices]

    def on_epoch_end(self):
        self.orden = self.azar.permutation(len(self.x))


@dataclass(frozen=True)
class Plan:
    """Cómo se entrena una red."""

    epocas: int
    lote: int
    optimizador: Callable  # recibe el número total de pasos y devuelve un optimizador
    suavizado: float = 0.0  # label smoothing (Szegedy et al., 2016)
    perdida: Callable | None = None  # None: entropía cruzada
    transformar: Callable | None = None  # (lote de x, azar) -> lote de x; solo en train


@dataclass(frozen=True)
class Ejecucion:
    """Una red entrenada, en su mejor época de validación."""

    modelo: keras.Model
    hist: keras.callbacks.History
    segundos: float
    prob_val: np.ndarray  # (n_val, clases)


def adam(pasos):
    """Adam de tasa constante (Kingma y Ba, 2015)."""
    return keras.optimizers.Adam(TASA_ADAM)


def ciclo(tasa, pasos):
    """Tasa que sube en recta (Smith y Topin, 2019) y baja a cero en coseno (Loshchilov y Hutter, 2017)."""
    subida = max(1, round(CALENTAMIENTO * pasos))
    rampa = dict(warmup_target=tasa, warmup_steps=subida)
    return keras.optimizers.schedules.CosineDecay(0.0, max(1, pasos - subida), **rampa)


def sgd_ciclo(pasos):
    """SGD con momento de Nesterov y un ciclo de tasa."""
    return keras.optimizers.SGD(ciclo(TASA_SGD, pasos), momentum=0.9, nesterov=True)


def adam_ciclo(tasa, pasos):
    """Adam con un ciclo de tasa."""
    return keras.optimizers.Adam(ciclo(tasa, pasos))


def entrenar(construir, datos, plan, semilla):
    """Entrena la red sin compilar que devuelve construir() y la deja en su mejor época de validación. Parte
    de la semilla: ningún experimento continúa el anterior ni depende del orden. De datos no se mira test."""
    train, val = datos.train, datos.val
    keras.utils.set_random_seed(semilla)
    modelo = construir()
    pasos = -(-len(train.x) // plan.lote) * plan.epocas
    perdida = plan.perdida or keras.losses.CategoricalCrossentropy(label_smoothing=plan.suavizado)
    modelo.compile(plan.optimizador(pasos), perdida, metrics=["accuracy"])
    # Se queda con la mejor época, pero no para antes: el ciclo de tasa acaba en la última.
    sin_parar = dict(patience=plan.epocas, restore_best_weights=True)
    mejor_epoca = keras.callbacks.EarlyStopping("val_accuracy", mode="max", **sin_parar)
    en_terminal = sys.stdout.isatty()
    avisos = [mejor_epoca] if en_terminal else [mejor_epoca, Progreso()]
    opciones = dict(epochs=plan.epocas, validation_data=(val.x, val.y), verbose=int(en_terminal))
    inicio = time.perf_counter()
    entrada = dict(x=train.x, y=train.y, batch_size=plan.lote)
    if plan.transformar:
        entrada = dict(x=Lotes(train.x, train.y, plan.lote, plan.transformar, semilla))
    hist = modelo.fit(**entrada, callbacks=avisos, **opciones)
    segundos = time.perf_counter() - inicio
    return Ejecucion(modelo, hist, segundos, predecir(modelo, val.x))


def predecir(modelo, x, lote=LOTE, tipo="float32", avisar=False):
    """Salidas de la red para cada x, (n, ...), por trozos: predict guarda dos veces lo que devuelve."""
    salida = np.empty((len(x), *modelo.output_shape[1:]), tipo)
    inicio = time.perf_counter()
    for i in range(0, len(x), TROZO):
        trozo = x[i : i + TROZO]
        if trozo.dtype == np.float16:  # los mapas se guardan en la mitad de memoria
            trozo = trozo.astype("float32")
        salida[i : i + TROZO] = modelo.predict(trozo, batch_size=lote, verbose=0)
        if avisar:
            hechas, gastado = min(i + TROZO, len(x)), time.perf_counter() - inicio
            ritmo = decimal(hechas / gastado, 1)
            print(f"  {hechas} de {len(x)} imágenes · {duracion(gastado)} · {ritmo} por segundo")
    return salida


def predecir_con_espejo(modelo, x, lote=LOTE, directa=None):
    """Media de las probabilidades de la imagen, directa, y de su reflejo (test-time augmentation)."""
    directa = predecir(modelo, x, lote) if directa is None else directa
    return (directa + predecir(modelo, x[:, :, ::-1], lote)) / 2


def calcularAccuracy(labels, preds):
    """Fracción de aciertos; labels y preds son one-hot o probabilidades, (n, clases)."""
    return float(np.mean(np.argmax(labels, axis=1) == np.argmax(preds, axis=1)))


def fila(apartado, experimento, e, datos, prob_test=None, prob_val=None):
    """Resultado de la Ejecucion e; las medidas de test, solo si se dan sus probabilidades."""
    val = calcularAccuracy(datos.val.y, e.prob_val if prob_val is None else prob_val)
    medidas = medir_test(datos.test.y, prob_test) if prob_test is not None else {}
    tamano, epocas = e.modelo.count_params(), len(e.hist.epoch)
    return Resultado(apartado, experimento, tamano, epocas, e.segundos, val, **medidas)


def medir_test(y, prob, es_probabilidad=True):
    """Aciertos, aciertos entre las cinco más probables y pérdida; sin pérdida si son márgenes."""
    clases = range(y.shape[1])
    return dict(
        test=calcularAccuracy(y, prob),
        top5=float(top_k_accuracy_score(y.argmax(1), prob, k=min(5, len(clases)), labels=clases)),
        perdida_test=float(log_loss(y, normalize(prob.astype("float64"), "l1"))) if es_probabilidad else None,
    )


# ===== APARTADO 1: BaseNet en CIFAR-100 ==========================================================


def capas_basenet(num_clases=CLASES):
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
        # 9, con el softmax que el guion pide a la salida; en float32 también en precisión mixta.
        layers.Dense(num_clases, activation="softmax", dtype="float32"),
    ]


def construir_basenet():
    """BaseNet, de 24.197 parámetros: imágenes (n, 32, 32, 3) -> probabilidades (n, 25)."""
    return keras.Sequential([keras.Input((32, 32, 3)), *capas_basenet()], name="BaseNet")


def apartado1(sesion):
    """1. BaseNet: arquitectura, entrenamiento con un 10 % de validación y evaluación en test."""
    datos = sesion.datos25()
    titulo(f"APARTADO 1 · BaseNet en {CLASES} clases de CIFAR-100", datos.procedencia)
    print(f"  Entrenamiento {len(datos.train.x)} · validación {len(datos.val.x)} · test {len(datos.test.x)}")
    print("  Clases: " + ", ".join(datos.clases))
    print("\n1.1 Arquitectura")
    construir_basenet().summary(line_length=80)
    clase = datos.train.y.argmax(1)
    ejemplos = [np.median(np.flatnonzero(clase == c)).astype(int) for c in range(CLASES)]
    mostrar_rejilla("Una imagen de cada clase", datos.train.x[ejemplos], datos.clases, columnas=9)
    pausa("1.1: la red y los datos")

    print("\n1.2 Entrenamiento y evaluación")
    plan = Plan(sesion.alcance.basenet, LOTE_BASENET, adam)
    ejecucion = entrenar(construir_basenet, datos, plan, sesion.semilla)
    test = sesion.basenet_test = predecir(ejecucion.modelo, datos.test.x)
    sesion.anotar(fila("1", "BaseNet", ejecucion, datos, test))
    mostrarEvolucion(ejecucion.hist, "BaseNet: evolución")
    mostrar_confusion("BaseNet: matriz de confusión", datos, test)
    mostrar_predicciones("BaseNet: imágenes de test", datos, test)
    pausa("1.2: resultados de BaseNet")


# ===== APARTADO 2: mejora de BaseNet =============================================================


@dataclass(frozen=True)
class Receta:
    """Todo lo que se decide sobre la red mejorada y su entrenamiento. Por defecto, BaseNet."""

    normalizar: bool = False
    aumento: bool = False
    filtros: tuple = ()  # de la entrada (24 si es de blanqueo) y de cada etapa; vacío: BaseNet
    batchnorm: bool = False
    l2: float = 0.0
    suavizado: float = 0.0
    dropout: float = 0.0
    optimizador: Callable = adam
    residual: bool = False
    borrado: bool = False
    blanqueo: bool = False


ESTRECHA = (32, 32, 64, 128)  # filtros de la escalera: un tercio de las operaciones de la red final
ANCHA = (32, 64, 128, 256)  # filtros de la red final

# Los pasos de la escalera, en el orden del guion: nombre y lo que cambia en la receta.
PASOS = (
    ("Normalización", dict(normalizar=True)),
    ("Aumento de datos", dict(aumento=True)),
    ("Más profundidad", dict(filtros=ESTRECHA)),
    ("Batch normalization", dict(batchnorm=True)),
    ("Regularización", dict(l2=L2, suavizado=SUAVIZADO)),
    ("Dropout", dict(dropout=0.2)),
    ("SGD con un ciclo de tasa", dict(optimizador=sgd_ciclo)),
    ("Conexiones residuales", dict(residual=True)),
    ("Borrado aleatorio", dict(borrado=True)),
    ("Entrada de blanqueo", dict(blanqueo=True)),
    ("El doble de filtros", dict(filtros=ANCHA)),
)

# Los que no mejoran la validación: quedan en la tabla como resultados negativos y fuera de la red.
DESCARTADOS = ("Dropout", "Conexiones residuales", "Borrado aleatorio")
RECETA_FINAL = Receta(
    **{campo: valor for paso, cambio in PASOS if paso not in DESCARTADOS for campo, valor in cambio.items()}
)


def aumentar(x, receta):
    """Aumento de datos con capas de Keras, que solo actúan al entrenar."""
    if receta.aumento:
        x = layers.RandomFlip("horizontal")(x)
        relleno = dict(fill_mode="reflect", interpolation="nearest")
        x = layers.RandomTranslation(DESPLAZAMIENTO, DESPLAZAMIENTO, **relleno)(x)
    if receta.borrado:  # tapa un rectángulo con la media (DeVries y Taylor, 2017)
        opciones = dict(fill_value=0.0, value_range=(-3, 3), dtype="float32")  # en float16 falla
        x = layers.RandomErasing(scale=BORRADO, **opciones)(x)
    return x


def convolucion(x, filtros, receta, reducir=False):
    """Convolución 3x3, pooling si se reduce, batch normalization si la hay, y ReLU."""
    pesos = dict(kernel_initializer="he_normal", kernel_regularizer=keras.regularizers.L2(receta.l2))
    x = layers.Conv2D(filtros, 3, padding="same", use_bias=not receta.batchnorm, **pesos)(x)
    if reducir:
        x = layers.MaxPooling2D(2)(x)
    if receta.batchnorm:
        x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.Activation("relu")(x)


def nucleo_blanqueo(x):
    """Núcleo (2, 2, 3, 24) cuyas salidas no tienen correlación en los parches de 2x2 de x, (n, 32, 32, 3).
    Son sus componentes principales divididas por su desviación típica, cada una con los dos signos para que
    ReLU no pierda nada (Coates y Ng, 2012; Page, 2019)."""
    x = (x[::10] - x.mean((0, 1, 2))) / x.std((0, 1, 2))  # con una de cada diez bastan
    parches = [x[:, i : 31 + i : 3, j : 31 + j : 3] for i in (0, 1) for j in (0, 1)]
    pca = PCA().fit(np.concatenate(parches, axis=-1).reshape(-1, 12))
    filtros = (pca.components_ / np.sqrt(pca.explained_variance_ + EPSILON_BLANQUEO)[:, None]).T
    return np.concatenate([filtros, -filtros], axis=1).reshape(2, 2, 3, 24)


def entrada_profunda(x, receta, x_train):
    """Convolución 2x2 sin relleno con la que empieza la red; la de blanqueo no se entrena."""
    if not receta.blanqueo:
        return layers.Conv2D(receta.filtros[0], 2, activation="relu")(x)
    nucleo = keras.initializers.Constant(nucleo_blanqueo(x_train))
    capa = layers.Conv2D(24, 2, activation="relu", use_bias=False, kernel_initializer=nucleo, trainable=False)
    return capa(x)


def cuerpo_profundo(x, receta):
    """Etapas de dos convoluciones, de las que la primera reduce a la mitad el lado. La entrada sin relleno
    deja lados impares, 31, 15, 7 y 3, que cuestan un quinto menos que 32, 16, 8 y 4. La segunda convolución
    es, si la receta lo pide, una rama residual (He et al., 2016)."""
    for filtros in receta.filtros[1:]:
        x = convolucion(x, filtros, receta, reducir=True)
        rama = convolucion(x, filtros, receta)
        x = layers.Add()([x, rama]) if receta.residual else rama
    return layers.GlobalMaxPooling2D()(x)


def construir_red(receta, datos):
    """La red de una receta: imágenes (n, 32, 32, 3) en [0, 1] -> probabilidades (n, clases). Normaliza con
    la media y la varianza por canal de train, que quedan dentro de la red para validación y test."""
    entrada = x = keras.Input((32, 32, 3))
    num_clases, train = len(datos.clases), datos.train.x
    if receta.normalizar:
        media, varianza = train.mean((0, 1, 2)), train.var((0, 1, 2))
        x = layers.Normalization(mean=media, variance=varianza)(x)
    x = aumentar(x, receta)
    if not receta.filtros:
        return keras.Model(entrada, keras.Sequential(capas_basenet(num_clases))(x))
    x = cuerpo_profundo(entrada_profunda(x, receta, train), receta)
    if receta.dropout:
        x = layers.Dropout(receta.dropout)(x)
    regularizador = keras.regularizers.L2(receta.l2)
    salida = layers.Dense(num_clases, activation="softmax", kernel_regularizer=regularizador, dtype="float32")
    return keras.Model(entrada, salida(x))


def entrenar_receta(receta, datos, epocas, semilla, perdida=None):
    """Entrena desde cero la red de una receta."""
    plan = Plan(epocas, LOTE, receta.optimizador, receta.suavizado, perdida)
    return entrenar(partial(construir_red, receta, datos), datos, plan, semilla)


def mcnemar(y, prob_a, prob_b):
    """Valor p del contraste exacto de McNemar (1947) entre dos redes sobre las mismas imágenes."""
    real = y.argmax(1)
    acierta_a, acierta_b = prob_a.argmax(1) == real, prob_b.argmax(1) == real
    solo_a, solo_b = int((acierta_a & ~acierta_b).sum()), int((acierta_b & ~acierta_a).sum())
    return binomtest(solo_a, solo_a + solo_b).pvalue if solo_a + solo_b else 1.0


def veredicto(diferencia, p):
    """Frase sobre un peldaño a partir de lo que cambia en validación y de su valor p."""
    return "no se distingue del azar" if p >= SIGNIFICACION else "mejora" if diferencia > 0 else "empeora"


def subir_escalera(datos, sesion):
    """Prueba los pasos de uno en uno y se queda con cada uno que mejora la validación; los demás quedan en la
    tabla y fuera de la red. Devuelve la receta a la que llega."""
    receta, epocas = Receta(), sesion.alcance.escalera
    print(f"\n2.1 Escalera: cada peldaño, {epocas} épocas desde cero")
    actual = entrenar_receta(receta, datos, epocas, sesion.semilla)
    sesion.anotar(fila("2", "Escalera: BaseNet", actual, datos))
    for nombre, cambio in PASOS:
        print(f"\n  Peldaño «{nombre}»")
        candidata = replace(receta, **cambio)
        prueba = entrenar_receta(candidata, datos, epocas, sesion.semilla)
        sesion.anotar(fila("2", f"Escalera: {nombre}", prueba, datos))
        antes, ahora = (calcularAccuracy(datos.val.y, e.prob_val) for e in (actual, prueba))
        p = mcnemar(datos.val.y, actual.prob_val, prueba.prob_val)
        valor_p = "p < 0,0001" if p < 1e-4 else "p = " + decimal(p, 4)
        puntos, decision = decimal(100 * (ahora - antes)), "se queda" if ahora > antes else "se descarta"
        print(f"  {nombre}: {puntos} puntos en val., {valor_p}: {veredicto(ahora - antes, p)}; {decision}")
        if ahora > antes:
            receta, actual = candidata, prueba
    return receta


def macs(capa):
    """Productos y sumas de una capa por imagen: los de su núcleo en cada posición de la salida."""
    nucleo = capa.kernel.shape if isinstance(capa, (layers.Conv2D, layers.Dense)) else (0,)
    return int(np.prod(nucleo) * np.prod(capa.output.shape[1:-1]))


def tabla_de_capas(modelo):
    """Imprime la red como la tabla del guion, con sus parámetros y sus MACs por imagen."""
    capas, filas = [c for c in modelo.layers if not isinstance(c, layers.InputLayer)], []
    for numero, capa in enumerate(capas, 1):
        nucleo = getattr(capa, "kernel_size", None) or getattr(capa, "pool_size", "—")
        antes = (capa.input[0] if isinstance(capa.input, list) else capa.input).shape
        despues = capa.output.shape
        canales = f"{antes[-1]} → {despues[-1]}" if len(antes) == 4 else "—"
        dimension = f"{antes[1]} → {despues[1]}"
        coste = (decimal(capa.count_params(), 0), decimal(macs(capa), 0))
        filas.append((str(numero), type(capa).__name__, str(nucleo[0]), dimension, canales, *coste))
    imprimir_tabla(("N.º", "Capa", "Núcleo", "Dimensión", "Canales", "Parámetros", "MACs"), filas)
    print(f"  {decimal(sum(map(macs, modelo.layers)) / 1e6, 1)} millones de MACs por imagen")


def apartado2(sesion):
    """2. BaseNet mejorada: la escalera, la red final y dónde falla."""
    datos = sesion.datos25()
    titulo("APARTADO 2 · Mejora de BaseNet", datos.procedencia)
    alcanzada = subir_escalera(datos, sesion)
    distintos = [n for n in vars(RECETA_FINAL) if getattr(RECETA_FINAL, n) != getattr(alcanzada, n)]
    print(f"\n  La receta final difiere de la de la escalera en: {', '.join(distintos) or 'nada'}.")
    pausa("2.1: la escalera")

    print(f"\n2.2 Red final, {sesion.alcance.mejorada} épocas")
    red = construir_red(RECETA_FINAL, datos)
    red.summary(line_length=100)
    tabla_de_capas(red)
    ejecucion = entrenar_receta(RECETA_FINAL, datos, sesion.alcance.mejorada, sesion.semilla)
    test = predecir(ejecucion.modelo, datos.test.x)
    sesion.anotar(fila("2", "BaseNet mejorada", ejecucion, datos, test))
    val, test = (predecir_con_espejo(ejecucion.modelo, x) for x in (datos.val.x, datos.test.x))
    sesion.especialista = ejecucion, val, test
    sesion.anotar(fila("2", "BaseNet mejorada, con espejo", ejecucion, datos, test, val))
    mostrarEvolucion(ejecucion.hist, "BaseNet mejorada: evolución")
    mostrar_confusion("BaseNet mejorada: matriz de confusión", datos, test)
    mostrar_peores_pares("BaseNet mejorada: pares más confundidos", datos, test)
    mostrar_predicciones("BaseNet mejorada: imágenes de test", datos, test)
    if sesion.basenet_test is not None:
        mostrar_antes_y_despues("Aciertos por clase", datos, sesion.basenet_test, test)
    pausa("2.2: resultados de la red mejorada")


# ===== APARTADO 3: ResNet50 en Caltech-UCSD ======================================================


def extraer(base, datos):
    """Mapas (n, 7, 7, 2048), en float16, y vectores (n, 2048) de las tres particiones, como Datos. La media
    de cada mapa es lo que calcula avg_pool: una sola pasada sirve a 3.1.A, que corta después, y a 3.1.B."""
    partes = (datos.train, datos.val, datos.test)
    mapas = [predecir(base, parte.x, LOTE_EXTRACCION, "float16", avisar=True) for parte in partes]
    vectores = [m.mean((1, 2), dtype="float32") for m in mapas]
    return tuple(
        Datos(*(Conjunto(x, p.y) for x, p in zip(xs, partes)), datos.clases, datos.procedencia)
        for xs in (mapas, vectores)
    )


def raiz(x):
    """Raíz de las medias de avg_pool, que no son negativas: unos pocos canales muy activos dejan de tapar
    a los demás (Perronnin et al., 2010)."""
    return (x + EPSILON_RAIZ) ** 0.5


def capas_escala(vectores):
    """Raíz, norma 1 por vector y media de train cero: iguala imágenes muy y poco contrastadas."""
    unitarios = normalize(raiz(vectores))
    media = unitarios.mean(0)
    varianza = np.full_like(media, ((unitarios - media) ** 2).mean())
    # En float32, porque en float16 el cuadrado de la norma de un vector se desborda.
    return [
        layers.Activation(raiz),
        layers.UnitNormalization(dtype="float32"),
        layers.Normalization(mean=media, variance=varianza, dtype="float32"),
    ]


def cabeza(datos, *capas):
    """Red con esas capas, dropout y salida softmax, de la forma de datos.train.x a (n, clases)."""
    entrada = keras.Input(datos.train.x.shape[1:])
    salida = layers.Dense(len(datos.clases), activation="softmax", dtype="float32")
    return keras.Sequential([entrada, *capas, layers.Dropout(DROPOUT_CABEZA), salida])


def cabeza_salida(datos):
    """3.1.A, solo la salida: (n, 2048) -> (n, clases)."""
    return cabeza(datos, *capas_escala(datos.train.x))


def cabeza_fc(datos):
    """3.1.A, nueva fully connected y salida: (n, 2048) -> (n, clases)."""
    capas = [*capas_escala(datos.train.x), layers.Dropout(DROPOUT_CABEZA)]
    capas += [layers.Dense(NEURONAS_FC, use_bias=False), layers.BatchNormalization(momentum=0.9)]
    return cabeza(datos, *capas, layers.Activation("relu"))


def cabeza_convolucional(datos):
    """3.1.B, sin avg_pool: reducción 1x1, convolución 3x3 y pooling sobre los mapas 7x7x2048."""
    capas = [layers.SpatialDropout2D(DROPOUT_CABEZA / 2)]
    for nucleo in (1, 3):
        capas += [
            layers.Conv2D(CANALES_REDUCCION, nucleo, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.Activation("relu"),
        ]
    return cabeza(datos, *capas, layers.GlobalAveragePooling2D())


def probar_cabeza(red, apartado, nombre, construir, datos, epocas, sesion):
    """Ejecución de una cabeza de Keras sobre los mapas o los vectores de la red, ya anotada."""
    print(f"\n{apartado} {red.nombre}, {nombre}")
    optimizador = partial(adam_ciclo, TASA_CABEZA)
    plan = Plan(epocas, LOTE_CABEZA, optimizador, SUAVIZADO, transformar=lambda x, azar: x.astype("float32"))
    ejecucion = entrenar(partial(construir, datos), datos, plan, sesion.semilla)
    prob = predecir(ejecucion.modelo, datos.test.x)
    sesion.anotar(fila(apartado, f"{red.nombre}, {nombre}", ejecucion, datos, prob))
    return ejecucion


def probar_clasicos(red, datos, sesion):
    """Otros clasificadores de los vectores; su C y su contracción, por validación cruzada en train."""
    x, y = datos.train.x, datos.train.y.argmax(1)
    azar = dict(random_state=sesion.semilla)
    particiones = StratifiedKFold(min(PLIEGUES, np.bincount(y).min()), shuffle=True, **azar)
    reducir = PCA(min(COMPONENTES_LDA, len(x) // 2, x.shape[1]), **azar)
    lda = LinearDiscriminantAnalysis("lsqr")
    for nombre, *pasos in (
        # Con np.inner los productos se calculan de una vez: tarda la quinta parte que con "linear".
        ("SVM lineal", GridSearchCV(SVC(kernel=np.inner), {"C": C_SVM}, cv=particiones)),
        ("discriminante lineal", reducir, GridSearchCV(lda, {"shrinkage": CONTRACCIONES}, cv=particiones)),
        ("random forest", RandomForestClassifier(ARBOLES, min_samples_leaf=HOJA, n_jobs=-1, **azar)),
    ):
        print(f"\n3.1.A {red.nombre}, {nombre}")
        inicio = time.perf_counter()
        completo = make_pipeline(FunctionTransformer(raiz), Normalizer(), *pasos).fit(x, y)
        segundos = time.perf_counter() - inicio
        for parametro, valor in getattr(pasos[-1], "best_params_", {}).items():
            print(f"  {parametro} = {valor}: {porcentaje(pasos[-1].best_score_)} en la validación cruzada")
        puntuar = completo.predict_proba if nombre == "random forest" else completo.decision_function
        val = calcularAccuracy(datos.val.y, puntuar(datos.val.x))
        # Por trozos, porque la SVM da un margen por imagen y par de clases.
        trozos = [puntuar(datos.test.x[i : i + TROZO]) for i in range(0, len(datos.test.x), TROZO)]
        test = medir_test(datos.test.y, np.concatenate(trozos), es_probabilidad=False)
        sesion.anotar(Resultado("3.1.A", f"{red.nombre}, {nombre}", None, None, segundos, val, **test))


def probar_cabezas(red, mapas, vectores, sesion):
    """Todas las de 3.1 sobre la red congelada. Devuelve la Ejecucion de la más sencilla: solo la salida."""
    probar, epocas = partial(probar_cabeza, red), sesion.alcance.cabezas
    salida = probar("3.1.A", "solo la salida", cabeza_salida, vectores, epocas, sesion)
    probar("3.1.A", "nueva FC y salida", cabeza_fc, vectores, epocas, sesion)
    probar_clasicos(red, vectores, sesion)
    probar("3.1.B", "sin average pooling", cabeza_convolucional, mapas, sesion.alcance.convolucional, sesion)
    return salida


def recortar_y_reflejar(x, azar):
    """Recortes cuadrados al azar, desde RECORTE_MINIMO px hasta la imagen entera, llevados a LADO_AJUSTE px y
    la mitad reflejados (Szegedy et al., 2015): (n, lado, lado, 3) -> los recortes, en float32."""
    recortes = np.empty((len(x), LADO_AJUSTE, LADO_AJUSTE, 3), "float32")
    for recorte, imagen in zip(recortes, x):
        lado = azar.integers(RECORTE_MINIMO, len(imagen) + 1)
        arriba, izquierda = azar.integers(0, len(imagen) - lado + 1, 2)
        caja = (izquierda, arriba, izquierda + lado, arriba + lado)
        trozo = Image.fromarray(imagen).resize((LADO_AJUSTE, LADO_AJUSTE), Image.BILINEAR, caja)
        recorte[:] = np.fliplr(trozo) if azar.random() < 0.5 else trozo
    return recortes


def tasa_de_ajuste(base):
    """Tasa de Adam en proporción a los núcleos de la red: sus pasos son absolutos, y el que apenas mueve los
    de MobileNetV2 deshace los de ResNet50, que son seis veces menores."""
    return TASA_AJUSTE * float(np.median([np.std(peso) for peso in base.get_weights() if peso.ndim == 4]))


def construir_ajuste(base, cabeza):
    """Red entera para 3.2: la preentrenada, avg_pool y la cabeza, que sigue entrenándose con ella."""
    return keras.Model(base.input, cabeza(layers.GlobalAveragePooling2D(name="avg_pool")(base.output)))


def mezclar_pesos(antes, ejecucion, datos):
    """La Ejecucion con la media de los pesos de antes y de después del ajuste fino que menos pierde en la
    validación: de los primeros conserva lo que ya servía para otras imágenes (Wortsman et al., 2022). Decide
    la pérdida porque con pocas imágenes es menos ruidosa que los aciertos."""
    modelo, despues, mejor = ejecucion.modelo, ejecucion.modelo.get_weights(), (np.inf,)
    for parte in MEZCLAS:
        pesos = [a + parte * (d - a) for a, d in zip(antes, despues)]
        modelo.set_weights(pesos)
        prob = predecir(modelo, datos.val.x, LOTE_EXTRACCION)
        aciertos, perdida = porcentaje(calcularAccuracy(datos.val.y, prob)), log_loss(datos.val.y, prob)
        print(f"  {decimal(100 * parte, 0)} % ajustados: val. {aciertos}, pérdida {decimal(perdida, 3)}")
        if perdida < mejor[0]:
            mejor = perdida, pesos, prob
    modelo.set_weights(mejor[1])
    return replace(ejecucion, prob_val=mejor[2])


def mostrar_vecinos(nombre, datos, vectores, cuantas=4, vecinos=5):
    """Para unas imágenes de test, las de train más próximas en el espacio de características."""
    elegidas = np.linspace(0, len(vectores.test.x) - 1, cuantas + 2).astype(int)[1:-1]
    indice = NearestNeighbors(n_neighbors=vecinos, metric="cosine").fit(vectores.train.x)
    imagenes, rotulos, aciertos = [], [], []
    for i, cercanas in zip(elegidas, indice.kneighbors(vectores.test.x[elegidas])[1]):
        real = datos.test.y[i].argmax()
        suyas = datos.train.y[cercanas].argmax(1)
        imagenes += [datos.test.x[i], *datos.train.x[cercanas]]
        rotulos += ["test: " + datos.clases[real], *(datos.clases[c] for c in suyas)]
        aciertos += [True, *(suyas == real)]
    mostrar_rejilla(nombre, imagenes, rotulos, aciertos, columnas=vecinos + 1)


def mostrar_proyeccion(nombre, datos, vectores, red, semilla):
    """Las primeras especies de test en dos dimensiones (t-SNE, van der Maaten y Hinton, 2008): según los
    vectores de antes del ajuste fino, (n, 2048), y según la red ajustada."""
    real = datos.test.y.argmax(1)
    suyas = real < ESPECIES_PROYECTADAS
    media = keras.Model(red.input, red.get_layer("avg_pool").output)
    despues = predecir(media, datos.test.x[suyas], LOTE_EXTRACCION)
    ejes = nueva_figura(nombre, 1, 2, (12, 5))
    for eje, rotulo, de in zip(ejes, ("Antes", "Después"), (vectores.test.x[suyas], despues)):
        puntos = TSNE(perplexity=min(30, len(de) / 4), random_state=semilla).fit_transform(normalize(de))
        for c in np.unique(real[suyas]):
            aspecto = dict(s=22, color=plt.cm.tab20(c), marker="osv^DP"[c % 6])
            eje.scatter(*puntos[real[suyas] == c].T, **aspecto, label=datos.clases[c])
        eje.set(xlabel=f"{rotulo} del ajuste fino", xticks=[], yticks=[])
    eje.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def mapas_de_activacion(red, x, clases):
    """Cuánto apoya cada zona de cada x a su clase, (n, alto, ancho): class activation maps (Zhou et al.,
    2016). Son exactos, salvo una escala por imagen: la raíz de una media es la media entre esa raíz."""
    mapas = keras.Model(red.input, red.get_layer("avg_pool").input).predict(x, verbose=0) + EPSILON_RAIZ
    nucleo = red.get_weights()[-2]  # (canales, clases), de la capa de salida
    return np.einsum("nhwc,nc->nhw", mapas, nucleo.T[clases] / mapas.mean((1, 2)) ** 0.5)


def mostrar_activacion(nombre, datos, red, prob, cuantas=6):
    """Dónde mira la red en unas aves de test que acierta y en otras que falla."""
    acierta = prob.argmax(1) == datos.test.y.argmax(1)
    grupos = np.flatnonzero(acierta), np.flatnonzero(~acierta)
    cuales = np.concatenate([g[np.linspace(0, len(g) - 1, min(cuantas, len(g))).astype(int)] for g in grupos])
    mapas = mapas_de_activacion(red, datos.test.x[cuales], prob[cuales].argmax(1))
    mostrar_predicciones(nombre, datos, prob, cuales, mapas)


def comparar(resultados):
    """Lo que dicen las cifras del Apartado 3, en una frase por comparación."""
    test = {r.experimento.split(", ", 1)[1]: 100 * r.test for r in resultados}
    salida, fc, mapas = "solo la salida", "nueva FC y salida", "sin average pooling"
    for uno, otro in ((fc, salida), (mapas, salida), (mapas, fc), ("ajuste fino", salida)):
        print(f"  «{uno}» frente a «{otro}»: {decimal(test[uno] - test[otro], signo='+'):>7} puntos en test")


def apartado3(sesion):
    """3. ResNet50 en las aves: extractor de características (3.1) y ajuste fino (3.2)."""
    red, pesos, datos = RESNET50, sesion.pesos, sesion.aves
    sesion.aves = None  # ninguna otra parte las usa y ocupan cerca de 1 GB
    titulo(f"APARTADO 3 · {red.nombre} en Caltech-UCSD", f"{datos.procedencia} · {pesos.etiqueta}")
    tamanos = (len(parte.x) for parte in (datos.train, datos.val, datos.test))
    print("  {} especies · entrenamiento {} · validación {} · test {}".format(len(datos.clases), *tamanos))
    print("  Las «dos últimas capas» que quita el guion son avg_pool y predictions.")
    primeras = np.linspace(0, len(datos.train.x) - 1, 18).astype(int)
    nombres = [datos.clases[c] for c in datos.train.y[primeras].argmax(1)]
    mostrar_rejilla("Aves de entrenamiento", datos.train.x[primeras], nombres)
    pausa("3: los datos")

    print(f"\n3.1 {red.nombre} como extractor de características")
    print("  Precisión: {}, porque {}".format(*precision_preentrenada()))
    mapas, vectores = extraer(construir_base(red, pesos, LADO_AVES), datos)
    cabeza = probar_cabezas(red, mapas, vectores, sesion)
    mostrar_vecinos("Vecinos en el espacio de características", datos, vectores)
    del mapas  # ya no hacen falta y el ajuste fino necesita la memoria
    pausa("3.1: cabezas sobre la red congelada")

    print(f"\n3.2 Ajuste fino de toda {red.nombre} (batch normalization, plegada)")
    ajustar(red, pesos, datos, vectores, cabeza, sesion)
    comparar([r for r in sesion.filas if r.apartado.startswith("3.")])
    pausa("3.2: ajuste fino y comparación")


def ajustar(red, pesos, datos, vectores, cabeza, sesion):
    """3.2: entrena la red entera desde la cabeza ya entrenada y anota el resultado."""
    base = construir_base(red, pesos)
    epocas, optimizador = sesion.alcance.ajuste, partial(adam_ciclo, tasa_de_ajuste(base))
    plan = Plan(epocas, LOTE_AJUSTE, optimizador, SUAVIZADO, transformar=recortar_y_reflejar)
    construir = partial(construir_ajuste, base, cabeza.modelo)
    antes = construir().get_weights()
    ejecucion = mezclar_pesos(antes, entrenar(construir, datos, plan, sesion.semilla), datos)
    prob = predecir(ejecucion.modelo, datos.test.x, LOTE_EXTRACCION, avisar=True)
    sesion.anotar(fila("3.2", f"{red.nombre}, ajuste fino", ejecucion, datos, prob))
    val = predecir_con_espejo(ejecucion.modelo, datos.val.x, LOTE_EXTRACCION, ejecucion.prob_val)
    prob = predecir_con_espejo(ejecucion.modelo, datos.test.x, LOTE_EXTRACCION, prob)
    sesion.anotar(fila("3.2", f"{red.nombre}, ajuste fino, con espejo", ejecucion, datos, prob, val))
    mostrarEvolucion(ejecucion.hist, "Ajuste fino: evolución", antes=cabeza.hist)
    mostrar_peores_pares("Ajuste fino: especies más confundidas", datos, prob)
    mostrar_activacion("Ajuste fino: dónde mira la red", datos, ejecucion.modelo, prob)
    mostrar_proyeccion("Características de test", datos, vectores, ejecucion.modelo, sesion.semilla)


# ===== BONUS: una generalista de las 100 clases y su comité con la especialista de las 25 ========


def perdida_jerarquica(superclases, suavizado):
    """Entropía cruzada de las clases más la de sus superclases, cuya probabilidad es la suma de las de sus
    clases: confundir un roble con un arce cuesta menos que con un tanque, sin una sola neurona más."""
    pertenece = keras.utils.to_categorical(superclases).astype("float32")  # (100, 20)

    def perdida(y, prob):
        cruzada = keras.losses.categorical_crossentropy
        fina = cruzada(y, prob, label_smoothing=suavizado)
        y, prob = keras.ops.cast(y, "float32"), keras.ops.cast(prob, "float32")
        gruesa = cruzada(keras.ops.matmul(y, pertenece), keras.ops.matmul(prob, pertenece))
        return fina + PESO_SUPERCLASE * gruesa

    return perdida


def restringir(prob):
    """Probabilidades de las 100 clases restringidas a las 25 del guion y renormalizadas."""
    return normalize(np.maximum(prob[:, :CLASES], keras.config.epsilon()), "l1")


def bonus(sesion):
    """Bonus: una generalista con pérdida jerárquica y su comité con la especialista del Apartado 2."""
    datos, superclases = datos_cifar(sesion.cifar, 100, sesion.semilla), sesion.cifar.superclases
    titulo("BONUS · Una generalista de las 100 clases y su comité", datos.procedencia)
    print("  Una red para dos tareas: las 100 clases y, restringiendo su salida, las 25 del guion.")
    print("  Para las 25 ha visto 75 clases más que BaseNet; ninguna imagen de validación ni de test.")
    perdida = perdida_jerarquica(superclases, RECETA_FINAL.suavizado)
    ejecucion = entrenar_receta(RECETA_FINAL, datos, sesion.alcance.bonus, sesion.semilla, perdida)
    val, test = (predecir_con_espejo(ejecucion.modelo, c.x) for c in (datos.val, datos.test))
    sesion.anotar(fila("Bonus", "Generalista, 100 clases", ejecucion, datos, test, val))
    en_superclase = calcularAccuracy(*(v @ np.eye(20)[superclases] for v in (datos.test.y, test)))
    print(f"  Aciertos de superclase en test (20): {porcentaje(en_superclase)}")
    mostrarEvolucion(ejecucion.hist, "Generalista: evolución")
    mostrar_predicciones("Bonus: imágenes de test", datos, test)
    formar_comite(sesion, ejecucion)
    pausa("Bonus: resultados")


def formar_comite(sesion, generalista):
    """La generalista en las 25 clases y, si se ha entrenado la del Apartado 2, la media de las dos."""
    datos = sesion.datos25()
    val, test = (restringir(predecir_con_espejo(generalista.modelo, c.x)) for c in (datos.val, datos.test))
    sesion.anotar(fila("Bonus", "Generalista, 25 clases", generalista, datos, test, val))
    if sesion.especialista:
        ejecucion, val_especialista, test_especialista = sesion.especialista
        val, test = (val + val_especialista) / 2, (test + test_especialista) / 2
        medidas = medir_test(datos.test.y, test) | {"val": calcularAccuracy(datos.val.y, val)}
        parametros = sum(e.modelo.count_params() for e in (generalista, ejecucion))
        segundos = generalista.segundos + ejecucion.segundos
        sesion.anotar(Resultado("Bonus", "Comité, 25 clases", parametros, None, segundos, **medidas))
    mostrar_confusion("Bonus: matriz de confusión, 25 clases", datos, test)


# ===== PROGRAMA PRINCIPAL ========================================================================

PARTES = {"1": apartado1, "2": apartado2, "3": apartado3, "bonus": bonus}


@dataclass
class Sesion:
    """Lo que comparten las partes: datos, semilla, alcance y la tabla que se va llenando."""

    semilla: int
    alcance: Alcance
    cifar: Cifar | None = None
    aves: Datos | None = None
    pesos: Pesos | None = None
    filas: list = field(default_factory=list)
    origenes: dict = field(default_factory=dict)  # qué datos y pesos usa cada parte, para RESUMEN
    basenet_test: np.ndarray | None = None  # para comparar BaseNet con la red mejorada
    especialista: tuple | None = None  # la red mejorada y sus probabilidades de val y test, para el comité

    def datos25(self):
        """Datos de las 25 clases del guion."""
        return datos_cifar(self.cifar, CLASES, self.semilla)

    def anotar(self, r):
        """Añade un Resultado a la tabla y lo enseña en una línea."""
        self.filas.append(r)
        medidas = ((c, como(getattr(r, campo))) for c, campo, como in COLUMNAS[4:])
        print(f"  → {r.experimento} · " + " · ".join(f"{c} {m}" for c, m in medidas if m != "—"))


def preparar_entorno(semilla):
    """Semilla, operaciones deterministas y precisión; devuelve la descripción de la máquina."""
    keras.utils.set_random_seed(semilla)
    motor = keras.backend.backend()
    if motor == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()
    con_gpu = "cpu" not in str(keras.ops.exp(keras.ops.zeros(2)).device).lower()  # en los tres motores
    keras.config.set_dtype_policy("mixed_float16" if con_gpu else "float32")
    return (
        f"Python {platform.python_version()} · Keras {keras.__version__} sobre {motor}"
        f" · NumPy {np.__version__} · {procesador()} ({os.cpu_count()} núcleos)"
        f"{' y GPU' if con_gpu else ', sin GPU'} · {keras.config.dtype_policy().name}"
    )


def leer_cpuinfo():
    """Lo que Linux dice del procesador; vacío donde no se puede leer."""
    with suppress(OSError):
        return Path("/proc/cpuinfo").read_text()
    return ""


def procesador():
    """Nombre del procesador, hasta donde el sistema lo dice."""
    nombre = re.search(r"model name\s*: (.+)", leer_cpuinfo())
    return nombre[1] if nombre else platform.processor() or platform.machine()


class Opciones(argparse.ArgumentParser):
    """Analizador de argumentos que se queja en español y con el código de salida 2."""

    def error(self, message):
        raise ErrorEntrada(f"opciones incorrectas ({message}); pruebe «python practica2.py --help»")


def leer_opciones(argumentos):
    """Opciones de la línea de órdenes; sin ninguna, la práctica entera."""
    opciones = Opciones(add_help=False, usage=argparse.SUPPRESS, description=__doc__.split("\n")[0])
    grupo = opciones.add_argument_group("opciones, ninguna necesaria")
    grupo.add_argument("-h", "--help", action="help", help="muestra esta ayuda y termina")
    grupo.add_argument("--rapido", action="store_true", help="pasa por todo en unos 3 minutos")
    grupo.add_argument("--pausas", action="store_true", help="espera a Intro en cada pausa")
    grupo.add_argument("--semilla", type=int, default=SEMILLA, metavar="N", help="otra semilla")
    grupo.add_argument("--apartados", default=",".join(PARTES), metavar="LISTA", help="como 1,3 o 2,bonus")
    grupo.add_argument("--figuras", type=Path, metavar="CARPETA", help="guarda ahí las figuras")
    leidas = opciones.parse_args(argumentos)
    leidas.apartados = [parte.strip().lower() for parte in leidas.apartados.split(",")]
    exigir(set(leidas.apartados) <= set(PARTES), f"--apartados: elija entre {', '.join(PARTES)}, con comas")
    exigir(0 <= leidas.semilla < 2**32, "--semilla: ha de ser un entero entre 0 y 4.294.967.295")
    return leidas


def cargar_todo(sesion, apartados):
    """Lee y comprueba todas las entradas antes de entrenar nada."""
    print("\nDatos y pesos")
    por_clase = sesion.alcance.imagenes_por_clase
    if {"1", "2", "bonus"} & set(apartados):
        sesion.cifar = leer_cifar(por_clase)
        sesion.origenes["Apartados 1, 2 y Bonus"] = sesion.cifar.procedencia
    if "3" in apartados:
        sesion.pesos = buscar_pesos(RESNET50)
        cargar_red(RESNET50, sesion.pesos)
        sesion.aves = datos_aves(por_clase, sesion.semilla)
        origen = f"{sesion.aves.procedencia}; {RESNET50.nombre} con {sesion.pesos.etiqueta}"
        sesion.origenes["Apartado 3"] = origen
    print(*map(": ".join, sesion.origenes.items()), sep="\n")


def resumen(sesion, maquina, segundos, completo):
    """Imprime la tabla final con lo que hace falta para saber de dónde sale cada cifra."""
    titulo("RESUMEN" if completo else "RESUMEN PARCIAL: la ejecución se interrumpió")
    total = f"{maquina} · semilla {sesion.semilla} · {duracion(segundos)} en total"
    print(total, *map(": ".join, sesion.origenes.items()), sep="\n")
    if sesion.pesos:
        print("En 3.1, parámetros y tiempo son los de la cabeza; la extracción es común a todas.")
    if sesion.alcance is not COMPLETO:
        print("Pasada RÁPIDA: pocas imágenes y pocas épocas; estas cifras no son las de la práctica.")
    print("± es la desviación típica entre semillas; «dentro», lo que puede cambiar otra semilla.")
    imprimir_resultados(sesion.filas, sesion.origenes)


def main(argumentos=None):
    """Ejecuta la práctica y devuelve la lista de Resultado que imprime RESUMEN. ErrorEntrada si una entrada
    está mal; con Ctrl-C imprime lo medido y lo propaga."""
    inicio = time.perf_counter()
    opciones = leer_opciones(argumentos)
    if opciones.figuras:
        with al_leer(opciones.figuras, CURA_FIGURAS):
            opciones.figuras.mkdir(parents=True, exist_ok=True)
            exigir(os.access(opciones.figuras, os.W_OK), f"{opciones.figuras}: {CURA_FIGURAS}")
    PRESENTACION.esperar_tecla, PRESENTACION.carpeta = opciones.pausas, opciones.figuras
    maquina = preparar_entorno(opciones.semilla)
    print(f"{__doc__.splitlines()[0]}\n{maquina}")
    sesion = Sesion(opciones.semilla, RAPIDO if opciones.rapido else COMPLETO)
    cargar_todo(sesion, opciones.apartados)
    completo = False
    try:
        for parte, ejecutar_parte in PARTES.items():
            if parte in opciones.apartados:
                ejecutar_parte(sesion)
                keras.backend.clear_session()  # las redes de una parte no estorban a la siguiente
                gc.collect()
        completo = True
    finally:
        resumen(sesion, maquina, time.perf_counter() - inicio, completo)
    return sesion.filas


def ejecutar(argumentos=None):
    """main con códigos de salida: 0, 2 si una entrada está mal y 130 tras Ctrl-C."""
    sys.stdout, sys.stderr = (s or io.StringIO() for s in (sys.stdout, sys.stderr))  # si están cerradas
    for salida in (sys.stdout, sys.stderr):
        if isinstance(salida, io.TextIOWrapper):  # en un cuaderno no lo es
            # Un terminal sin acentos no detiene la práctica, y cada línea sale en cuanto se escribe.
            salida.reconfigure(errors="replace", line_buffering=True)
    try:
        main(argumentos)
    except ErrorEntrada as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # quien leía la salida (head, less) se ha ido
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # y Python todavía la vacía al terminar
        return 141
    except KeyboardInterrupt:
        print("Interrumpido con Ctrl-C.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(ejecutar())
