"""Lo que comparten las pruebas: aislamiento de la red y de los datos reales, y datos diminutos."""

import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections import namedtuple
from pathlib import Path

# Antes de importar practica2: sin pantalla, sin tocar ~/.keras y sin los datos de quien prueba.
IMAGENES_REALES = os.environ.pop("PRACTICA2_IMAGENES", None)
os.environ["MPLBACKEND"] = "agg"
CACHE_DE_IMPORTACION = tempfile.TemporaryDirectory()
os.environ["KERAS_HOME"] = CACHE_DE_IMPORTACION.name

RAIZ = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(RAIZ))

import keras
import numpy as np
import pytest
from keras.src.utils import file_utils
from PIL import Image

import practica2 as p

MIXTAS = ("mixed_bfloat16", "mixed_float16")  # las de una CPU que lo tenga y las de una GPU
POR_CLASE, POR_CLASE_TEST = 20, 3  # del CIFAR-100 diminuto
ESPECIES = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")
NOMBRES_CIFAR = " ".join(f"clase_{clase}" for clase in range(100))


@pytest.fixture(autouse=True)
def aislado(monkeypatch, tmp_path):
    """Sin red, con la caché de Keras vacía y una carpeta de imágenes vacía, que devuelve."""
    imagenes = tmp_path / "imagenes"
    imagenes.mkdir()
    p.plt.close("all")  # las figuras que dejó otra prueba
    sin_red(monkeypatch, tmp_path / "keras")
    monkeypatch.setenv("PRACTICA2_IMAGENES", str(imagenes))
    yield imagenes
    keras.config.set_dtype_policy("float32")  # con bfloat16 pudo dejar otra


def sin_red(monkeypatch, cache):
    """Ningún servidor se resuelve y la caché de Keras, vacía, es esa carpeta."""
    cache.mkdir(exist_ok=True)
    monkeypatch.setattr(file_utils.config, "keras_home", lambda: str(cache))
    monkeypatch.setattr(file_utils, "urlretrieve", solo_de_disco)
    monkeypatch.setattr(p, "hay_red", lambda: False)


def solo_de_disco(url, *resto):
    """urlretrieve sin red: solo copia ficheros."""
    if not url.startswith("file:"):
        raise urllib.error.URLError(socket.gaierror("sin red"))
    return urllib.request.urlretrieve(url, *resto)


@pytest.fixture
def imagenes_reales(monkeypatch):
    """Carpeta con los datos reales; salta la prueba si PRACTICA2_IMAGENES no la nombraba."""
    if not (IMAGENES_REALES and Path(IMAGENES_REALES).is_dir()):
        pytest.skip("necesita los datos reales: PRACTICA2_IMAGENES no nombra su carpeta")
    monkeypatch.setenv("PRACTICA2_IMAGENES", IMAGENES_REALES)
    return Path(IMAGENES_REALES)


def datos_o_error(leer):
    """Lo que devuelve leer(), o el mensaje de su ErrorEntrada, que ocupa una línea."""
    try:
        return leer()
    except p.ErrorEntrada as error:
        assert len(str(error).splitlines()) == 1, error
        return str(error)


def rechazo(leer):
    """El mensaje con el que leer() rechaza su entrada."""
    assert isinstance(mensaje := datos_o_error(leer), str), "no se ha rechazado"
    return mensaje


def huellas(imagenes):
    """Los bytes de cada imagen, para compararlas como conjuntos."""
    return [imagen.tobytes() for imagen in imagenes]


def conjunto_al_azar(cuantas, clases=25, forma=(32, 32, 3), semilla=0):
    """Conjunto de ruido en [0, 1] con las clases repartidas por igual."""
    azar = np.random.default_rng(semilla)
    y = keras.utils.to_categorical(np.arange(cuantas) % clases, clases)
    return p.Conjunto(azar.random((cuantas, *forma), "float32"), y)


def lote_cifar(por_clase, semilla):
    """Un pickle de CIFAR-100: el primer píxel es la clase y el número de la imagen; el segundo solo
    tiene rojo, y delata una imagen con los ejes o los canales cambiados."""
    azar = np.random.default_rng(semilla)
    finas = np.repeat(np.arange(100), por_clase)
    x = np.repeat(azar.integers(0, 256, (len(finas), 3, 1), np.uint8), 32 * 32, axis=2)
    x[:, :, 0] = np.stack([finas, np.arange(len(finas)) % por_clase, 0 * finas], 1)
    x[:, :, 1] = (255, 0, 0)
    lote = {b"data": x.reshape(len(x), -1), b"fine_labels": finas.tolist()}
    return lote | {b"coarse_labels": (finas // 5).tolist()}


def barajar(lote, semilla):
    """El mismo lote en otro orden."""
    orden = np.random.default_rng(semilla).permutation(len(lote[b"data"]))
    otro = {clave: np.asarray(valor)[orden] for clave, valor in lote.items()}
    return {clave: valor if clave == b"data" else valor.tolist() for clave, valor in otro.items()}


def escribir_cifar(carpeta, formato="", barajado=None):
    """CIFAR-100 diminuto en carpeta: la de los pickles o, con formato «gz» o «xz», su tar."""
    destino = carpeta / "cifar-100-python"
    destino.mkdir(parents=True)
    lotes = {"train": lote_cifar(POR_CLASE, 1), "test": lote_cifar(POR_CLASE_TEST, 2)}
    if barajado is not None:
        lotes = {nombre: barajar(lote, barajado) for nombre, lote in lotes.items()}
    lotes["meta"] = {b"fine_label_names": NOMBRES_CIFAR.encode().split()}
    for nombre, lote in lotes.items():
        (destino / nombre).write_bytes(pickle.dumps(lote, protocol=4))
    if formato:
        with tarfile.open(f"{destino}.tar.{formato}", f"w:{formato}") as tar:
            tar.add(destino, destino.name)
        shutil.rmtree(destino)
    return destino


def lista_aves():
    """[(ruta relativa, es de train)]: cuatro de train y dos de test por especie."""
    return [(f"{e}/ave_{e[:3]}_{n}.jpg", n < 4) for e in ESPECIES for n in range(6)]


def escribir_fotos(raiz):
    """Una foto JPEG de ruido, apaisada o vertical, por ruta; la primera es gris."""
    azar = np.random.default_rng(3)
    for numero, (ruta, _) in enumerate(lista_aves()):
        alto, ancho = (30, 42) if numero % 2 else (42, 30)
        pixeles = azar.integers(0, 256, (alto, ancho, 3), np.uint8)
        (raiz / ruta).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixeles).convert("RGB" if numero else "L").save(raiz / ruta)


def escribir_rutas(fichero, train):
    """La lista de rutas de train o de test, en un orden que no es el alfabético."""
    fichero.parent.mkdir(parents=True, exist_ok=True)
    rutas = [ruta for ruta, de_train in lista_aves()[::-1] if de_train == train]
    fichero.write_text("\n".join([*rutas, ""]))


def escribir_aves(carpeta, formato):
    """Aves diminutas en el formato «curso», «2010» o «2011». Devuelve la carpeta de las fotos."""
    if formato == "2011":
        raiz, aves = carpeta / "CUB_200_2011", lista_aves()
        escribir_fotos(raiz / "images")
        for nombre, valores in {
            "images": [ruta for ruta, _ in aves],
            "train_test_split": [int(de_train) for _, de_train in aves],
            "image_class_labels": [ESPECIES.index(ruta.split("/")[0]) + 1 for ruta, _ in aves],
            "classes": ESPECIES,
        }.items():
            lineas = [f"{numero} {valor}\n" for numero, valor in enumerate(valores, 1)]
            (raiz / f"{nombre}.txt").write_text("".join(lineas))
        return raiz / "images"
    cub = carpeta / "CUB_200"
    raiz, listas = (cub / "images", cub / "lists") if formato == "2010" else (carpeta, carpeta)
    escribir_fotos(raiz)
    for nombre in ("train", "test"):
        escribir_rutas(listas / f"{nombre}.txt", nombre == "train")
    return raiz


# --- El script entero, en otro proceso -----------------------------------------------------------

# Lo que deja arranque.py: filas, los Resultado de main, como diccionarios; escrituras, lo que abrió
# para escribir, sin las cachés; y nuevos, lo que apareció o cambió en el mundo del Escenario.
Pasada = namedtuple("Pasada", "codigo salida errores filas escrituras nuevos")


def instantanea(carpeta):
    """{ruta: tamaño y fecha} de todo lo que hay bajo una carpeta."""
    ficheros = {f: f.stat() for f in carpeta.rglob("*") if f.is_file()}
    return {str(f.relative_to(carpeta)): (e.st_size, e.st_mtime_ns) for f, e in ficheros.items()}


class Escenario:
    """Una copia del script en una carpeta propia, con otra de trabajo y las cachés aparte."""

    def __init__(self, carpeta):
        self.carpeta, self.mundo = carpeta, carpeta / "mundo"  # el script no debe cambiar el mundo
        self.proyecto, self.trabajo = self.mundo / "proyecto", self.mundo / "trabajo"
        self.informe = carpeta / "salida" / "informe.json"
        aparte = [carpeta / nombre for nombre in ("salida", "keras", "matplotlib")]
        for nueva in (self.proyecto / "imagenes", self.trabajo, self.mundo / "hogar", *aparte):
            nueva.mkdir(parents=True)
        (self.proyecto / "practica2.py").write_bytes((RAIZ / "practica2.py").read_bytes())

    def entorno(self):
        """Variables del proceso: sin pantalla y sin nada que lleve a los datos de quien prueba."""
        sobran = ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND", "PRACTICA2_IMAGENES", "PYTHONPATH")
        return {clave: valor for clave, valor in os.environ.items() if clave not in sobran} | {
            "HOME": str(self.mundo / "hogar"),
            "KERAS_HOME": str(self.carpeta / "keras"),
            "MPLCONFIGDIR": str(self.carpeta / "matplotlib"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONIOENCODING": "utf-8",
        }

    def orden(self, *argumentos, epocas=3):
        """Orden que ejecuta la copia del script con los argumentos dados."""
        arranque = sys.executable, Path(__file__).with_name("arranque.py")
        return [*map(str, (*arranque, self.proyecto, self.informe, epocas, *argumentos))]

    def ejecutar(self, *argumentos, delante=()):
        """Ejecuta el script con la entrada estándar cerrada, desde otra carpeta; da su Pasada."""
        antes = instantanea(self.mundo)
        orden = ["sh", "-c", 'exec "$@" <&-', "sh", *delante, *self.orden(*argumentos)]
        aqui = {"cwd": self.trabajo, "env": self.entorno()}
        proceso = subprocess.run(orden, **aqui, capture_output=True, text=True, timeout=600)
        assert self.informe.exists(), proceso.stderr
        nuevos = {ruta for ruta, _ in instantanea(self.mundo).items() - antes.items()}
        informe = json.loads(self.informe.read_text())
        return Pasada(proceso.returncode, proceso.stdout, proceso.stderr, **informe, nuevos=nuevos)

    def interrumpir(self, orden, senal):
        """(código, salida) de una orden a la que se manda Ctrl-C al ver la señal en su salida."""
        entorno = self.entorno() | {"PYTHONUNBUFFERED": "1"}
        juntas = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        proceso = subprocess.Popen(orden, cwd=self.trabajo, env=entorno, **juntas)
        leidas = []
        for linea in proceso.stdout:
            leidas.append(linea)
            if senal in linea:
                break
        proceso.send_signal(signal.SIGINT)
        resto, _ = proceso.communicate(timeout=60)
        return proceso.returncode, "".join(leidas) + resto


@pytest.fixture(scope="session")
def pasada(tmp_path_factory):
    """El script entero, todas las partes, sin opciones; la comparten las pruebas que lo miran."""
    return Escenario(tmp_path_factory.mktemp("pasada")).ejecutar()
