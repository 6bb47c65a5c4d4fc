"""Intentos de romper el script: cada uno acaba en datos, en un error claro o en un final limpio."""

import importlib.util
import io
import os
import pickle
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
from conftest import (
    ESPECIES,
    RAIZ,
    Escenario,
    datos_o_error,
    escribir_aves,
    escribir_cifar,
    huellas,
    lista_aves,
    lote_cifar,
    rechazo,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras.src.legacy.saving import legacy_h5_format
from PIL import Image

import practica2 as p

propiedad = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


# --- Propiedades ---------------------------------------------------------------------------------

LINEA = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1).filter(str.strip)


@propiedad
@given(
    st.lists(LINEA.map(str.strip), min_size=1, unique=True),
    st.sampled_from(["\n", "\r\n", "\n\n", " \r\n\t\r\n"]),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_leer_lineas_da_las_lineas_sin_blancos_bom_ni_finales_de_windows(lineas, final, bom):
    with tempfile.TemporaryDirectory() as carpeta:
        fichero = Path(carpeta) / "lista.txt"
        fichero.write_bytes(bom + final.join(["", *lineas]).encode())
        assert p.leer_lineas(fichero) == lineas


CLAVE = st.text(st.characters(categories=("N", "L")), min_size=1)


@propiedad
@given(st.dictionaries(CLAVE, LINEA.map(str.strip), min_size=1), st.sampled_from([" ", "\t", "  "]))
def test_leer_por_id_conserva_cada_valor_con_sus_espacios_y_acentos(esperado, separador):
    with tempfile.TemporaryDirectory() as carpeta:
        fichero = Path(carpeta) / "lista.txt"
        lineas = (f"{clave}{separador}{valor}\r\n" for clave, valor in esperado.items())
        fichero.write_bytes("".join(lineas).encode())
        assert p.leer_por_id(fichero) == esperado


ETIQUETAS = st.lists(st.integers(0, 6), min_size=1, max_size=150).map(np.array)


@propiedad
@given(ETIQUETAS, st.integers(0, 2**32 - 1))
def test_la_validacion_es_el_diez_por_ciento_de_cada_clase(etiquetas, semilla):
    mascara = p.mascara_validacion(etiquetas, semilla)
    assert mascara.dtype == bool and mascara.shape == etiquetas.shape
    apartadas = Counter(etiquetas[mascara].tolist())
    for clase, cuantas in Counter(etiquetas.tolist()).items():
        assert apartadas[clase] == max(1, round(0.1 * cuantas))
    assert np.array_equal(mascara, p.mascara_validacion(etiquetas, semilla))


@propiedad
@given(ETIQUETAS, st.integers(0, 2**32 - 1))
def test_la_validacion_de_una_clase_no_depende_de_las_demas(etiquetas, semilla):
    mascara = p.mascara_validacion(etiquetas, semilla)
    for clase in np.unique(etiquetas):
        suya = etiquetas == clase
        assert np.array_equal(mascara[suya], p.mascara_validacion(etiquetas[suya], semilla))


@propiedad
@given(ETIQUETAS, ETIQUETAS, st.integers(1, 7))
def test_cargarimagenes_conserva_la_clase_de_cada_imagen(y, y_test, num_clases):
    def imagenes(etiquetas):  # el primer píxel es la clase
        x = np.zeros((len(etiquetas), 32, 32, 3), np.uint8)
        x[:, 0, 0, 0] = etiquetas
        return x

    cifar = p.Cifar(imagenes(y), y, imagenes(y_test), y_test, ("",) * 7, np.zeros(7, int), ())
    partes = p.cargarImagenes(cifar, num_clases)
    for x, onehot, etiquetas in ((*partes[:2], y), (*partes[2:], y_test)):
        suyas = etiquetas[etiquetas < num_clases]
        assert onehot.shape == (len(suyas), num_clases) and x.dtype == np.float32
        assert np.array_equal(onehot, np.eye(num_clases)[suyas])
        assert np.array_equal(np.rint(x[:, 0, 0, 0] * 255), suyas)


# --- Ficheros mutados al azar --------------------------------------------------------------------


def mutar(contenido, azar):
    """Los bytes con una a tres averías: cambiados, cortados, repetidos o insertados."""
    bytes_ = bytearray(contenido)
    for _ in range(azar.integers(1, 4)):
        # La mitad de las averías caen en los extremos, donde está la estructura de un pickle.
        n = len(bytes_)
        if azar.random() < 0.5:
            i = int(azar.integers(0, n + 1))
        else:
            i = int(azar.integers(-150, 150) % (n + 1))
        largo = int(azar.integers(1, 9))
        match azar.integers(0, 4):
            case 0:
                bytes_[i : i + largo] = azar.bytes(largo)
            case 1:
                del bytes_[i : i + (largo if azar.random() < 0.8 else n)]
            case 2:
                bytes_[i:i] = bytes_[i : i + 10 * largo]
            case 3:
                bytes_[i:i] = azar.bytes(largo)
    return bytes(bytes_)


def memoria(cual):
    """VmRSS, VmHWM (su pico) o VmSize de este proceso, en bytes."""
    estado = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{cual}:\s+(\d+)", estado).group(1))


@contextmanager
def memoria_acotada(gib=0.5):
    """Falla si el bloque llega a ocupar más de gib; y no deja reservar mucho más, por si acaso."""
    antes = resource.getrlimit(resource.RLIMIT_AS)
    ocupada = memoria("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # pone el pico en lo que se ocupa ahora
    resource.setrlimit(resource.RLIMIT_AS, (memoria("VmSize") + int(8 * gib * 2**30), antes[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, antes)
    assert memoria("VmHWM") - ocupada < gib * 2**30


def leer_lote_de_bytes(contenido):
    """Lo que el script lee de los bytes de un pickle."""
    return p.leer_lote_cifar(p.leer_pickle(contenido, "train"), "train")


solo_linux = pytest.mark.skipif(sys.platform != "linux", reason="mide la memoria como en Linux")


class ComoPython2(pickle._Pickler):
    """Guarda las cadenas de bytes como Python 2, con el que se hicieron los ficheros publicados."""

    def guardar_bytes(self, cadena):
        self.write(b"T" + struct.pack("<i", len(cadena)) + cadena)
        self.memoize(cadena)

    dispatch = pickle._Pickler.dispatch | {bytes: guardar_bytes}


def guardar_como_python2(lote):
    """Los bytes de un lote, como están en los ficheros publicados."""
    escritos = io.BytesIO()
    ComoPython2(escritos, 2).dump(lote)
    return escritos.getvalue()


GUARDAR = {
    "python2": guardar_como_python2,
    3: partial(pickle.dumps, protocol=3),
    4: partial(pickle.dumps, protocol=4),
}


@solo_linux
@pytest.mark.parametrize("guardar", GUARDAR.values(), ids=map(str, GUARDAR))
def test_400_pickles_mutados_dan_datos_o_un_error_de_una_linea(guardar):
    azar = np.random.default_rng(3)
    contenido = guardar({clave: valor[:4] for clave, valor in lote_cifar(1, 1).items()})
    leidos = Counter()
    with memoria_acotada():
        for _ in range(400):
            mutado = mutar(contenido, azar)
            leido = datos_o_error(partial(leer_lote_de_bytes, mutado))
            leidos[type(leido)] += 1
            if isinstance(leido, tuple):
                x, finas, gruesas = leido
                assert x.shape[1:] == (32, 32, 3) and len(x) == len(finas) == len(gruesas) > 0
    assert leidos[str] > 100 and leidos[tuple] > 10  # las averías lo son, y no todas estorban


@pytest.mark.parametrize("formato", ["gz", "xz"])
def test_150_tar_mutados_dan_datos_o_un_error_de_una_linea(formato, tmp_path):
    azar = np.random.default_rng(1)
    carpeta = tmp_path / "cifar-100-python"
    carpeta.mkdir()
    for nombre in p.PICKLES_CIFAR:
        (carpeta / nombre).write_bytes(nombre.encode() * 100)
    archivo = tmp_path / f"cifar.tar.{formato}"
    contenidos = []
    for compresion in (formato, ""):  # sin comprimir, las averías llegan a las cabeceras del tar
        with tarfile.open(archivo, f"w:{compresion}") as tar:
            tar.add(carpeta, carpeta.name)
        contenidos.append(archivo.read_bytes())
    rechazados = 0
    for numero in range(150):
        archivo.write_bytes(mutar(contenidos[numero % 2], azar))
        leido = datos_o_error(lambda: p.pickles_cifar(archivo))
        rechazados += isinstance(leido, str)
        assert isinstance(leido, str) or leido.keys() == set(p.PICKLES_CIFAR)
    assert rechazados > 30


LISTAS = {
    "curso": ["train.txt", "test.txt"],
    "2010": ["CUB_200/lists/train.txt", "CUB_200/lists/test.txt"],
    "2011": [
        f"CUB_200_2011/{nombre}.txt"
        for nombre in ("images", "train_test_split", "image_class_labels", "classes")
    ],
}


@pytest.mark.parametrize("formato", LISTAS)
def test_200_listas_mutadas_dan_rutas_de_dentro_o_un_error_de_una_linea(formato, tmp_path):
    azar = np.random.default_rng(2)
    escribir_aves(tmp_path, formato)
    rechazadas = 0
    for numero in range(200):
        fichero = tmp_path / LISTAS[formato][numero % len(LISTAS[formato])]
        bueno = fichero.read_bytes()
        fichero.write_bytes(mutar(bueno, azar))
        listas = datos_o_error(lambda: p.listar_aves(tmp_path))
        fichero.write_bytes(bueno)
        rechazadas += isinstance(listas, str)
        if not isinstance(listas, str):
            assert set(listas.train + listas.test) <= {ruta for ruta, _ in lista_aves()}
    assert rechazadas > 50


def foto(modo="RGB", ancho=24, alto=18):
    """Imagen de ruido de un modo de PIL."""
    azar = np.random.default_rng(4)
    return Image.fromarray(azar.integers(0, 256, (alto, ancho, 3), np.uint8)).convert(modo)


@pytest.mark.filterwarnings("ignore::UserWarning")  # los de PIL
@pytest.mark.parametrize("formato", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"])
def test_100_imagenes_mutadas_dan_pixeles_o_un_error_de_una_linea(formato, tmp_path):
    azar = np.random.default_rng(5)
    foto().save(tmp_path / "buena", formato)
    bueno = (tmp_path / "buena").read_bytes()
    rechazadas = 0
    for _ in range(100):
        (tmp_path / "mala.jpg").write_bytes(mutar(bueno, azar))
        leida = datos_o_error(lambda: p.leer_imagen(tmp_path / "mala.jpg"))
        rechazadas += isinstance(leida, str)
        assert isinstance(leida, str) or (leida.shape == (224, 224, 3) and leida.dtype == np.uint8)
    assert rechazadas > 5


def red_minima(include_top, weights, input_tensor):
    """Hace de ResNet50 en dos capas que se cargan de un fichero como el suyo."""
    x = keras.layers.Conv2D(2, 3, name="conv")(input_tensor)
    x = keras.layers.BatchNormalization(name="bn")(x)
    modelo = keras.Model(keras.utils.get_source_inputs(input_tensor), x)
    if weights:
        modelo.load_weights(weights)
    return modelo


def test_100_pesos_mutados_se_cargan_o_dan_un_error_de_una_linea(tmp_path):
    azar = np.random.default_rng(6)
    fichero = tmp_path / "pesos.h5"
    red = replace(p.RESNET50, constructor=red_minima, fichero=fichero)
    modelo = red_minima(False, None, keras.Input((32, 32, 3)))
    with h5py.File(fichero, "w") as h5:
        legacy_h5_format.save_weights_to_hdf5_group(h5, modelo)
    bueno = fichero.read_bytes()
    rechazados = 0
    for _ in range(100):
        fichero.write_bytes(mutar(bueno, azar))
        base = datos_o_error(lambda: p.construir_base(red, lado=32))
        rechazados += isinstance(base, str)
        assert isinstance(base, str) or base.output_shape == (None, 30, 30, 2)
    assert rechazados > 50


# --- CIFAR-100: pickles hostiles -----------------------------------------------------------------


def leer_lote(lote):
    """Lo que el script lee de un lote guardado en un pickle."""
    return leer_lote_de_bytes(pickle.dumps(lote, 4))


MATRIZ = b"\x80\x02}U\x04datacnumpy\nndarray\n(J%bJ%btcnumpy\ndtype\n(U\x02%btRtRs."
RECONSTRUIDA = (
    b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(J%bJ%btU\x02%btRs."
)
MILLARES = struct.pack("<i", 4000), struct.pack("<i", 300_000)
HOSTILES = {
    "índice de memoria": b"\x80\x02}r" + struct.pack("<I", 2**26) + b".",
    "matriz de 1,2 GB": MATRIZ % (*MILLARES, b"u1"),
    "matriz de objetos de 10 GB": MATRIZ % (*MILLARES, b"O8"),
    "matriz reconstruida": RECONSTRUIDA % (*MILLARES, b"u1"),
    "cadena de 1 EB": b"\x80\x04}\x8e" + struct.pack("<Q", 2**60) + b".",
    "bytearray de 1 TB": b"\x80\x05}\x96" + struct.pack("<Q", 2**40) + b".",
    "mil llamadas anidadas": b"\x80\x02" + b"(" * 10**5 + b"l" * 10**5 + b".",
}


@solo_linux
@pytest.mark.parametrize("contenido", HOSTILES.values(), ids=HOSTILES)
def test_un_pickle_que_pide_mucha_memoria_no_la_ocupa(contenido):
    with memoria_acotada(0.25):
        assert "train" in rechazo(partial(leer_lote_de_bytes, contenido))


@solo_linux
@pytest.mark.parametrize("clave", [b"data", b"fine_labels", b"coarse_labels"])
def test_unas_listas_anidadas_no_se_multiplican(clave):
    lista = [1] * 20
    for _ in range(5):  # 64 millones de elementos en un pickle de un kilobyte
        lista = [lista] * 20
    with memoria_acotada(0.25):
        rechazo(lambda: leer_lote(lote_cifar(1, 1) | {clave: lista}))


# El estado de un dtype al que le falta un campo: NumPy 2.4 se cae al rehacerlo.
MENOS_UNO = b"\xff" * 4
CAIDA = b"\x80\x02cnumpy\ndtype\n(U\x02u1\x89\x88tR(K\x03U\x01|NJ%bJ%bK\x00tb." % (
    MENOS_UNO,
    MENOS_UNO,
)


@solo_linux
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # por bifurcar un proceso con hilos
def test_un_pickle_que_tumba_a_numpy_no_tumba_al_script():
    # En otro proceso, porque fallar aquí es una violación de segmento y no una excepción.
    hijo = os.fork()
    if hijo == 0:
        codigo = 1
        try:
            p.leer_pickle(CAIDA, "train")
        except p.ErrorEntrada:
            codigo = 0
        finally:
            os._exit(codigo)
    assert os.waitpid(hijo, 0)[1] == 0


RAROS = {
    "número": np.array(3, np.uint8),
    "fila": np.zeros(3072, np.uint8),
    "tres ejes": np.zeros((100, 3072, 1), np.uint8),
    "sin filas": np.zeros((0, 3072), np.uint8),
    "bytes": bytes(3072),
    "lista": [[0] * 3072] * 100,
}


@pytest.mark.parametrize("datos", RAROS.values(), ids=RAROS)
def test_unas_imagenes_con_otra_forma_se_rechazan(datos):
    rechazo(lambda: leer_lote(lote_cifar(1, 1) | {b"data": datos}))


@pytest.mark.parametrize("valor", [10**30, 2**63, 1.0, None, b"1", [1], float("nan")])
def test_una_etiqueta_que_no_es_un_entero_se_rechaza(valor):
    lote = lote_cifar(1, 1)
    lote[b"fine_labels"][7] = valor
    rechazo(lambda: leer_lote(lote))


def test_una_sola_imagen_de_train_por_clase_se_rechaza_antes_de_entrenar(aislado):
    (escribir_cifar(aislado) / "train").write_bytes(pickle.dumps(lote_cifar(1, 1), 4))
    assert "100 clases" in rechazo(p.leer_cifar)


# --- Aves: imágenes ------------------------------------------------------------------------------


@pytest.mark.parametrize("modo", ["RGBA", "P", "L", "LA", "1", "CMYK"])
def test_una_imagen_de_otro_modo_se_convierte_a_rgb(modo, tmp_path):
    original = foto(modo)
    fichero = tmp_path / "ave.jpg"  # con el nombre de un JPEG, aunque no lo sea
    original.save(fichero, "JPEG" if modo == "CMYK" else "PNG")
    leida = p.leer_imagen(fichero)
    assert leida.shape == (224, 224, 3) and leida.dtype == np.uint8
    cuadrada = original.convert("RGB").crop((3, 0, 21, 18))
    esperada = np.asarray(cuadrada.resize((224, 224), Image.BILINEAR))
    assert abs(leida.astype(float) - esperada).mean() < 20


def test_un_png_de_16_bits_se_rechaza_porque_saldria_en_blanco(tmp_path):
    grises = np.full((30, 30), 100 * 257, np.uint16)
    Image.fromarray(grises).save(tmp_path / "ave.jpg", "PNG")
    assert "8 bits" in rechazo(lambda: p.leer_imagen(tmp_path / "ave.jpg"))


def test_una_foto_con_exif_se_lee_con_sus_colores(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "gorrión"  # girada 90 grados
    Image.new("RGB", (40, 30), (200, 10, 10)).save(tmp_path / "ave.jpg", exif=exif)
    leida = p.leer_imagen(tmp_path / "ave.jpg")
    assert abs(leida.mean((0, 1)) - (200, 10, 10)).max() < 4


@pytest.mark.parametrize("tamano", [(1, 1), (1, 20_000), (20_000, 2)])
def test_una_imagen_muy_pequena_o_muy_alargada_se_lee(tamano, tmp_path):
    Image.new("RGB", tamano, (9, 9, 9)).save(tmp_path / "ave.png")
    assert (p.leer_imagen(tmp_path / "ave.png") == 9).all()


def png_que_dice_medir(lado):
    """PNG de un kilobyte cuya cabecera anuncia lado x lado píxeles."""

    def trozo(tipo, datos):
        suma = struct.pack(">I", zlib.crc32(tipo + datos))
        return struct.pack(">I", len(datos)) + tipo + datos + suma

    cabecera = struct.pack(">IIBBBBB", lado, lado, 8, 2, 0, 0, 0)
    cuerpo = (
        trozo(b"IHDR", cabecera) + trozo(b"IDAT", zlib.compress(bytes(1000))) + trozo(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + cuerpo


@solo_linux
@pytest.mark.parametrize("lado", [20_000, 2**31 - 1])
def test_una_bomba_de_descompresion_se_rechaza_sin_ocupar_memoria(lado, tmp_path):
    (tmp_path / "ave.png").write_bytes(png_que_dice_medir(lado))
    with memoria_acotada(0.25):
        assert "ave.png" in rechazo(lambda: p.leer_imagen(tmp_path / "ave.png"))


def test_una_imagen_de_cero_bytes_se_rechaza_nombrandola(aislado):
    raiz = escribir_aves(aislado, "2011")
    (raiz / lista_aves()[8][0]).write_bytes(b"")
    assert lista_aves()[8][0] in rechazo(lambda: p.leer_aves(p.COMPLETO, 7))


# --- Aves: listas y rutas ------------------------------------------------------------------------


@pytest.mark.parametrize("formato", LISTAS)
def test_nombres_con_espacios_y_acentos_finales_de_windows_y_bom(formato, tmp_path):
    carpeta = tmp_path / "mis imágenes ñ"
    carpeta.mkdir()
    raiz = escribir_aves(carpeta, formato)
    viejo, nuevo = ESPECIES[1], "002.Pájaro bobo ñandú"
    (raiz / viejo).rename(raiz / nuevo)
    for lista in LISTAS[formato]:
        texto = (carpeta / lista).read_text().replace(viejo, nuevo).replace("\n", "\r\n\r\n")
        (carpeta / lista).write_bytes(b"\xef\xbb\xbf" + texto.encode())
    *_, y_test, nombres = p.cargarDatos(carpeta)
    assert nombres[1] == "Pájaro bobo ñandú" and y_test.shape == (6, 3)


RUTAS = {
    "byte nulo": "a\0b.jpg",
    "nombre de 300 letras": "a" * 300 + ".jpg",
    "ruta de 5.000 letras": "a" * 5000,
    "carpeta": ".",
    "la de arriba": "..",
    "enlace sin fin": "bucle.jpg",
    "subcarpeta": "sub/ave.jpg",
    "barra invertida": "..\\..\\..\\secreto.jpg",
    "tubería": "tuberia.jpg",
}


@pytest.mark.parametrize("nombre", RUTAS.values(), ids=RUTAS)
def test_una_ruta_que_no_es_una_foto_de_la_carpeta_se_rechaza(nombre, aislado, tmp_path):
    raiz = escribir_aves(aislado, "curso")
    clase = raiz / ESPECIES[0]
    foto().save(tmp_path / "secreto.jpg")
    (clase / "bucle.jpg").symlink_to("bucle.jpg")
    os.mkfifo(clase / "tuberia.jpg")
    (clase / "sub").mkdir()
    foto().save(clase / "sub/ave.jpg")
    with open(aislado / "train.txt", "a") as lista:
        lista.write(f"{ESPECIES[0]}/{nombre}\n")
    assert ESPECIES[0] in rechazo(lambda: p.leer_aves(p.COMPLETO, 7))


def test_una_foto_repetida_en_la_lista_no_cae_a_la_vez_en_train_y_en_validacion(aislado):
    escribir_aves(aislado, "curso")
    lista = aislado / "train.txt"
    lista.write_text(lista.read_text() * 5)
    datos = p.leer_aves(p.COMPLETO, 7)
    fotos = huellas(datos.train.x) + huellas(datos.val.x)
    assert len(fotos) == len(set(fotos)) == 4 * len(ESPECIES)


@pytest.mark.parametrize("alcance", [p.COMPLETO, p.RAPIDO], ids=["completo", "rápido"])
def test_una_especie_sin_imagenes_de_test_se_rechaza_antes_de_entrenar(alcance, aislado):
    escribir_aves(aislado, "curso")
    (aislado / "test.txt").write_text(lista_aves()[-1][0])
    assert ESPECIES[0] in rechazo(lambda: p.leer_aves(alcance, 7))


# --- Carpetas ------------------------------------------------------------------------------------


def test_una_carpeta_de_imagenes_que_es_un_fichero_se_rechaza(tmp_path, monkeypatch):
    (tmp_path / "fichero con ñ").write_text("")
    monkeypatch.setenv("PRACTICA2_IMAGENES", str(tmp_path / "fichero con ñ"))
    assert "fichero con ñ" in rechazo(p.carpeta_imagenes)


def test_una_carpeta_de_imagenes_relativa_o_con_virgulilla_se_encuentra(tmp_path, monkeypatch):
    (tmp_path / "mis fotos").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for escrita in ("mis fotos", "./mis fotos/", "~/mis fotos"):
        monkeypatch.setenv("PRACTICA2_IMAGENES", escrita)
        assert p.carpeta_imagenes().samefile(tmp_path / "mis fotos")


def test_el_hogar_de_un_usuario_que_no_existe_se_rechaza(monkeypatch):
    monkeypatch.setenv("PRACTICA2_IMAGENES", "~nadie_existe/imagenes")
    assert "nadie_existe" in rechazo(p.carpeta_imagenes)


@contextmanager
def como_nadie():
    """Este proceso, por un momento, con los permisos de nobody."""
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def de_root():
    """Carpeta de root en la que otros entran; salta la prueba si no se es root."""
    if os.name != "posix" or os.getuid() != 0:
        pytest.skip("hay que ser root para dejar de serlo")
    with tempfile.TemporaryDirectory() as carpeta:
        os.chmod(carpeta, 0o755)
        yield Path(carpeta)


@pytest.mark.parametrize("permisos", [0o700, 0o744])
def test_una_carpeta_de_imagenes_que_no_se_puede_leer_se_rechaza(permisos, de_root, monkeypatch):
    (de_root / "imagenes").mkdir()
    (de_root / "imagenes").chmod(permisos)
    monkeypatch.setenv("PRACTICA2_IMAGENES", str(de_root / "imagenes"))
    with como_nadie():
        mensaje = rechazo(lambda: p.listar_aves(p.carpeta_imagenes()))
    assert "imagenes" in mensaje


def test_una_cache_de_keras_ajena_no_impide_seguir_con_datos_sinteticos(de_root, monkeypatch):
    for subcarpeta in ("datasets", "models"):
        (de_root / "keras" / subcarpeta).mkdir(parents=True)
    (de_root / "keras").chmod(0o700)
    (de_root / "imagenes").mkdir()
    monkeypatch.setenv("KERAS_HOME", str(de_root / "keras"))
    monkeypatch.setenv("PRACTICA2_IMAGENES", str(de_root / "imagenes"))
    monkeypatch.setattr(p.tempfile, "gettempdir", lambda: str(de_root))
    with como_nadie():
        assert p.leer_cifar(1).origen == ("CIFAR-100 SINTÉTICO",)
        assert p.buscar_pesos(p.RESNET50).fichero is None


def test_sin_hogar_la_cache_es_otra_y_no_una_carpeta_llamada_virgulilla(monkeypatch):
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", "~")
    assert p.caches_keras()[-1] == Path(tempfile.gettempdir(), ".keras")


@pytest.mark.parametrize(
    "nombre, leer",
    [
        ("cifar-100-python.tar.gz", p.leer_cifar),
        ("train.txt", lambda: p.leer_aves(p.COMPLETO, 7)),
    ],
)
def test_una_carpeta_donde_va_un_fichero_se_rechaza_nombrandola(nombre, leer, aislado):
    escribir_aves(aislado, "curso")
    (aislado / "train.txt").unlink()
    (aislado / nombre).mkdir()
    assert nombre in rechazo(leer)


# --- Figuras -------------------------------------------------------------------------------------


def test_un_nombre_con_dolares_no_se_toma_por_una_formula(tmp_path, monkeypatch):
    monkeypatch.setattr(p.PRESENTACION, "carpeta", tmp_path)
    p.mostrar_rejilla("Lámina", np.zeros((2, 4, 4, 3)), [r"ave $\nada$", "a_b^c {"])
    p.pausa("fin")
    assert (tmp_path / "lámina.png").exists()


# --- Archivos de aves ----------------------------------------------------------------------------


def tar_de_aves(tmp_path, *extra):
    """CUB_200_2011.tgz diminuto en la caché de Keras, con miembros de más."""
    escribir_aves(tmp_path / "original", "2011")
    archivo = tmp_path / "keras/datasets/CUB_200_2011.tgz"
    archivo.parent.mkdir(parents=True)
    with tarfile.open(archivo, "w:gz") as tar:
        tar.add(tmp_path / "original/CUB_200_2011", "CUB_200_2011")
        for miembro in extra:
            tar.addfile(miembro)
    return archivo


@pytest.mark.parametrize("corte", [KeyboardInterrupt, OSError, EOFError])
def test_una_extraccion_interrumpida_no_deja_nada_y_se_repite(corte, tmp_path, monkeypatch):
    archivo = tar_de_aves(tmp_path)
    leer_entero, leidos = p.leer_entero, []

    def a_medias(abierto):
        leidos.append(abierto)
        if len(leidos) > 5:
            raise corte("cortado")
        return leer_entero(abierto)

    with monkeypatch.context() as parche, pytest.raises((KeyboardInterrupt, p.ErrorEntrada)):
        parche.setattr(p, "leer_entero", a_medias)
        p.descomprimir([archivo])
    assert list(archivo.parent.iterdir()) == [archivo]
    assert p.listar_aves(p.descomprimir([archivo])).conjunto == "CUB-200-2011"


def miembro(nombre, tipo=tarfile.REGTYPE, enlace=""):
    nuevo = tarfile.TarInfo(nombre)
    nuevo.type, nuevo.linkname = tipo, enlace
    return nuevo


MIEMBROS = {
    "sube": miembro("../../fuera.txt"),
    "sube con barras de Windows": miembro("..\\..\\fuera.txt"),
    "absoluta": miembro("/tmp/fuera.txt"),
    "con unidad": miembro("C:\\fuera.txt"),
    "enlace fuera": miembro("CUB_200_2011/enlace", tarfile.SYMTYPE, "../../../fuera.txt"),
    "enlace duro fuera": miembro("CUB_200_2011/enlace", tarfile.LNKTYPE, "../../../fuera.txt"),
    "dispositivo": miembro("CUB_200_2011/tuberia", tarfile.CHRTYPE),
    "tubería": miembro("CUB_200_2011/tuberia", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("con_filtro", [True, False], ids=["Python actual", "el de Debian 12"])
@pytest.mark.parametrize("malo", MIEMBROS.values(), ids=MIEMBROS)
def test_un_tar_con_un_miembro_que_sale_se_rechaza_entero(malo, con_filtro, tmp_path, monkeypatch):
    if not con_filtro:
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    archivo = tar_de_aves(tmp_path, malo)
    assert "CUB_200_2011" in rechazo(lambda: p.descomprimir([archivo]))
    assert list(archivo.parent.iterdir()) == [archivo]
    assert not list(tmp_path.rglob("fuera.txt"))


def test_un_tar_que_guarda_un_fichero_enorme_y_hueco_no_llena_el_disco(tmp_path, monkeypatch):
    monkeypatch.setattr(p, "MAXIMO_BYTES", 10_000)
    enorme = miembro("CUB_200_2011/enorme.jpg")
    enorme.size = 10_001
    archivo = tmp_path / "aves.tar"
    with tarfile.open(archivo, "w") as tar:
        tar.addfile(enorme, io.BytesIO(bytes(10_001)))
    assert "aves.tar" in rechazo(lambda: p.descomprimir([archivo]))


def test_sin_poder_escribir_en_la_cache_se_dice(de_root, monkeypatch):
    archivo = tar_de_aves(de_root)
    monkeypatch.setattr(p.tempfile, "gettempdir", lambda: str(de_root))
    monkeypatch.setenv("KERAS_HOME", str(de_root / "keras"))
    with como_nadie():
        assert "queda" in rechazo(lambda: p.descomprimir([archivo]))


# --- El script en otros entornos -----------------------------------------------------------------


@pytest.fixture
def escenario(tmp_path):
    return Escenario(tmp_path / "escenario")


def correr(escenario, guion, *argumentos, **entorno):
    """Ejecuta el script por medio de una orden de sh en la que "$@" es él; el proceso terminado."""
    return subprocess.run(
        ["sh", "-c", guion, "sh", *escenario.orden(*argumentos)],
        cwd=escenario.trabajo,
        env=escenario.entorno() | entorno,
        capture_output=True,
        timeout=120,
    )


def test_una_salida_que_se_cierra_termina_sin_traza(escenario):
    proceso = correr(escenario, '{ "$@"; echo codigo $? >&2; } | head -1', "--apartados", "1")
    errores = proceso.stderr.decode()
    assert proceso.stdout.decode().startswith("Práctica 2") and proceso.stdout.count(b"\n") == 1
    assert "Traceback" not in errores and "Exception ignored" not in errores
    assert "BrokenPipe" not in errores and "codigo 141" in errores


def test_un_terminal_ascii_y_una_carpeta_relativa_con_acentos(escenario):
    escribir_cifar(escenario.trabajo / "mis imágenes")
    proceso = correr(
        escenario,
        'exec "$@" 2>&1',
        "--apartados",
        "1",
        LANG="C",
        LC_ALL="C",
        PYTHONIOENCODING="ascii",
        PRACTICA2_IMAGENES="./mis imágenes",
    )
    salida = proceso.stdout.decode("ascii")
    assert proceso.returncode == 0, salida
    assert "Traceback" not in salida and "Apartados 1, 2 y Bonus: CIFAR-100 real" in salida


def test_con_la_salida_y_los_errores_cerrados_termina_bien(escenario):
    proceso = correr(escenario, 'exec "$@" >&- 2>&- <&-', "--apartados", "1")
    assert proceso.returncode == 0 and '"BaseNet"' in escenario.informe.read_text()


def test_ctrl_c_mientras_se_leen_los_datos_termina_con_130_sin_traza(escenario):
    orden = escenario.orden("--apartados", "3")
    codigo, salida = escenario.interrumpir(orden, "Datos y pesos")
    assert codigo == 130 and "Interrumpido con Ctrl-C." in salida
    assert "Traceback" not in salida


# Anuncia cada import y devuelve a Ctrl-C su efecto, que pudo heredarse anulado.
QUE_IMPORTA = """
import runpy, signal, sys

class Anunciador:
    def find_spec(nombre, *resto):
        print("importa", nombre, flush=True)

sys.meta_path.insert(0, Anunciador)
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.mark.parametrize("paquete", ["keras", "tensorflow", "sklearn"])
def test_ctrl_c_mientras_se_importan_los_paquetes_termina_sin_traza(paquete, escenario):
    orden = [sys.executable, "-c", QUE_IMPORTA, str(RAIZ / "practica2.py")]
    codigo, salida = escenario.interrumpir(orden, f"importa {paquete}.")
    assert codigo in (130, -signal.SIGINT)
    assert "Traceback" not in salida


@pytest.mark.parametrize("motor", ["theano", "no_existe"])
def test_un_motor_de_keras_que_no_existe_se_dice_en_una_linea(motor, escenario):
    proceso = correr(escenario, 'exec "$@"', "--apartados", "1", KERAS_BACKEND=motor)
    errores = proceso.stderr.decode()
    assert proceso.returncode == 2 and motor in errores
    assert len(errores.splitlines()) == 1


@pytest.mark.parametrize("modo", ["module://no_instalado.backend", "no_existe", "TkAgg"])
def test_un_modo_de_figuras_que_no_se_puede_usar_no_detiene_el_script(modo, monkeypatch, capsys):
    monkeypatch.setattr(p, "MODO_FIGURAS", modo)
    monkeypatch.setitem(sys.modules, "tkinter", None)  # como si no estuviera
    p.asegurar_figuras()
    assert p.plt.get_backend() == "agg" and modo in capsys.readouterr().out


def test_con_el_modo_de_figuras_de_un_cuaderno_en_otro_python_el_script_empieza(escenario):
    proceso = correr(
        escenario,
        'exec "$@"',
        "--apartados",
        "ninguno",
        MPLBACKEND="module://matplotlib_inline.backend_inline",
    )
    assert proceso.returncode == 2 and b"--apartados" in proceso.stderr


@pytest.mark.parametrize("perdida", [float("nan"), float("inf")])
@pytest.mark.parametrize("en_terminal", [True, False])
def test_una_perdida_que_no_es_finita_detiene_el_entrenamiento(perdida, en_terminal, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: en_terminal)
    vigilante = p.Progreso(5)
    vigilante.set_model(SimpleNamespace(optimizer=SimpleNamespace(learning_rate=0.5)))
    medidas = {"loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5}
    vigilante.on_epoch_end(0, medidas)
    for cual in ("loss", "val_loss"):
        with pytest.raises(p.ErrorNumerico, match="época 2 de 5"):
            vigilante.on_epoch_end(1, medidas | {cual: perdida})


def test_tras_una_perdida_que_no_es_finita_se_imprime_lo_medido(monkeypatch, capsys):
    """BaseNet con una tasa con la que diverge: una línea dice dónde, y hay RESUMEN."""
    monkeypatch.setattr(p, "TASA_ADAM", 1e38)
    monkeypatch.setattr(p, "RAPIDO", p.Alcance(*[1] * 8, imagenes_por_clase=4, especies=3))
    assert p.ejecutar(["--rapido", "--apartados", "1"]) == 1
    salida = capsys.readouterr()
    assert "RESUMEN PARCIAL" in salida.out
    (linea,) = salida.err.splitlines()
    assert "parte 1, en el primer experimento" in linea and "época 1 de 1" in linea


@pytest.fixture
def pantalla(tmp_path):
    """Una pantalla virtual: (su nombre, función que dice si hay algo dibujado en ella)."""
    if not shutil.which("Xvfb"):
        pytest.skip("necesita Xvfb")
    if not importlib.util.find_spec("_tkinter"):
        pytest.skip("necesita tkinter")
    leer, escribir = os.pipe()
    servidor = subprocess.Popen(
        f"Xvfb -displayfd {escribir} -screen 0 1280x1024x24 -noreset -fbdir {tmp_path}".split(),
        pass_fds=[escribir],
        stderr=subprocess.DEVNULL,
    )
    numero = os.read(leer, 20).decode().strip()

    def hay_algo():
        pixeles = np.fromfile(tmp_path / "Xvfb_screen0", np.uint8)[-1280 * 1024 * 4 :]
        return pixeles.any()

    yield f":{numero}", hay_algo
    servidor.terminate()
    servidor.wait()
    os.close(leer)
    os.close(escribir)


def test_en_una_pantalla_ensena_las_figuras_sin_bloquear(pantalla, escenario):
    nombre, hay_algo = pantalla
    assert not hay_algo()
    proceso = subprocess.Popen(
        escenario.orden("--apartados", "1"),
        cwd=escenario.trabajo,
        env=escenario.entorno() | {"DISPLAY": nombre},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    visto = False
    while proceso.poll() is None:
        visto = visto or hay_algo()
        time.sleep(0.3)
    salida = proceso.stdout.read()
    assert proceso.returncode == 0 and "Pausa · 1.2" in salida and "Sin pantalla" not in salida
    assert visto


@pytest.mark.parametrize("motor", ["jax", "torch"])
def test_otro_motor_de_keras_llega_a_resumen(motor, escenario):
    if not importlib.util.find_spec(motor):
        pytest.skip(f"necesita {motor}")
    proceso = correr(escenario, 'exec "$@"', "--apartados", "1,2,3,bonus", KERAS_BACKEND=motor)
    salida = proceso.stdout.decode()
    assert proceso.returncode == 0, proceso.stderr.decode()[-3000:]
    assert re.search(rf"sobre {motor}\b", salida) and "\nRESUMEN\n" in salida
