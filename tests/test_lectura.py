"""La lectura de datos y pesos: dónde se buscan, qué se admite, qué se rechaza y qué se dice."""

import hashlib
import os
import pickle
import pickletools
import re
import shutil
import socket
import tarfile
import urllib.error
from functools import partial
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from conftest import (
    ESPECIES,
    NOMBRES_CIFAR,
    POR_CLASE,
    POR_CLASE_TEST,
    RAIZ,
    datos_o_error,
    escribir_aves,
    escribir_cifar,
    huellas,
    lista_aves,
    lote_cifar,
    rechazo,
    solo_de_disco,
)
from keras.src.utils import file_utils
from PIL import Image

import practica2 as p

HAY_RED = p.hay_red  # la de verdad: conftest la sustituye en cada prueba
CASOS = RAIZ.parent / "shared" / "casos"
PESOS = p.RESNET50.url.split("/")[-1]
PRIMERA = lista_aves()[0][0]
FORMATOS = {
    "tar": "tar",
    "tgz": "gztar",
    "gz": "gztar",
    "bz2": "bztar",
    "xz": "xztar",
    "zip": "zip",
}


def leer_aves(especies=None):
    """Los Datos de las aves, con la semilla 7 y unos pesos cualesquiera."""
    sesion = p.Sesion(7, p.COMPLETO, p.RESNET50, aves=p.buscar_aves(especies))
    return p.leer_aves(sesion)


# Hace de ResNet50, que tarda en construirse, y no mira sus pesos.
RED = p.RESNET50._replace(
    constructor=lambda input_tensor, **_: keras.Model(
        input_tensor, keras.layers.ReLU()(input_tensor)
    )
)


def cargar(capsys, *partes, red=RED):
    """Lee lo que piden unas partes, como main: la Sesion y lo que se dice."""
    sesion = p.Sesion(7, p.COMPLETO, red)
    origenes = p.cargar_todo(sesion, partes)
    return sesion, capsys.readouterr().out + origenes


@pytest.fixture
def sin_dibujar(monkeypatch):
    """Los datos sintéticos, en negro: dibujarlos lleva segundos."""
    monkeypatch.setattr(p, "dibujar", lambda *resto: np.zeros((*resto[-2:-1] * 2, 3), np.uint8))


def empaquetar(archivo, ruta, suelta=False):
    """Un zip o un tar, según el nombre del archivo, de lo que hay en una ruta, que se borra."""
    archivo.parent.mkdir(exist_ok=True)
    base = (ruta, ".") if suelta else (ruta.parent, ruta.name)
    hecho = shutil.make_archive(ruta.parents[1] / "hecho", FORMATOS[archivo.suffix[1:]], *base)
    shutil.rmtree(ruta) if ruta.is_dir() else ruta.unlink()
    return Path(hecho).rename(archivo)


def llevar(destino, *rutas):
    """Mueve unas rutas a una carpeta y borra la suya si queda vacía."""
    destino.mkdir(parents=True, exist_ok=True)
    for ruta in rutas:
        ruta.rename(destino / ruta.name)
    if not any(ruta.parent.iterdir()):
        ruta.parent.rmdir()
    return destino


def tabla(filas):
    """Parametriza una prueba con los casos de {nombre: caso}."""
    return pytest.mark.parametrize("caso", filas.values(), ids=filas)


# --- La partición y las funciones del guion ------------------------------------------------------


@pytest.fixture
def cifar(aislado):
    escribir_cifar(aislado)
    return p.leer_cifar()


def test_cargarimagenes_deja_las_clases_0_a_24_en_one_hot_y_los_pixeles_en_0_1(cifar):
    x, y, x_test, y_test = p.cargarImagenes()
    for imagenes, clases, cuantas in ((x, y, POR_CLASE), (x_test, y_test, POR_CLASE_TEST)):
        assert imagenes.shape == (25 * cuantas, 32, 32, 3) and imagenes.dtype == np.float32
        assert imagenes.min() == 0 and imagenes.max() == 1
        assert clases.shape == (25 * cuantas, 25) and (clases.sum(1) == 1).all()
        assert np.array_equal(clases.argmax(1), np.repeat(np.arange(25), cuantas))
        assert np.array_equal(np.rint(imagenes[:, 0, 0, 0] * 255), clases.argmax(1))
        assert (imagenes[:, 0, 1] == (1, 0, 0)).all()  # ni los ejes ni los canales cambian


@pytest.mark.parametrize("clases", [25, 100])
def test_la_validacion_es_el_diez_por_ciento_de_cada_clase_y_no_se_solapa(clases, cifar):
    datos = p.datos_cifar(cifar, clases, 7)
    assert (datos.val.y.sum(0) == POR_CLASE * 0.1).all()
    assert (datos.train.y.sum(0) == POR_CLASE * 0.9).all()
    train, val, test = (huellas(parte.x) for parte in datos[:3])
    assert len({*train, *val, *test}) == len(train) + len(val) + len(test)
    assert {*train, *val} == set(huellas(p.cargarImagenes(cifar, clases)[0]))
    for x, y in datos[:3]:  # cada imagen conserva su clase
        assert np.array_equal(np.rint(x[:, 0, 0, 0] * 255), y.argmax(1))
    assert datos.clases == tuple(NOMBRES_CIFAR.split()[:clases])
    solas = p.datos_cifar(cifar, 25, 7)
    assert np.array_equal(datos.val.x[datos.val.y.argmax(1) < 25], solas.val.x)
    otra = p.datos_cifar(cifar, 25, 8)  # la semilla decide la validación y nada más
    assert set(huellas(otra.val.x)) != set(huellas(solas.val.x))
    np.testing.assert_equal(otra.test, solas.test)


@pytest.mark.parametrize("de_la_clase, apartadas", [(4, 1), (30, 3), (500, 50)])
def test_de_cada_clase_se_aparta_su_diez_por_ciento_y_al_menos_una(de_la_clase, apartadas):
    etiquetas = np.random.default_rng(0).permutation([0] * 40 + [1] * de_la_clase)
    assert np.bincount(etiquetas[p.mascara_validacion(etiquetas, 7)]).tolist() == [4, apartadas]


def test_una_copia_barajada_da_la_misma_particion(cifar, tmp_path, monkeypatch):
    escribir_cifar(tmp_path / "otra", "gz", barajado=5)
    monkeypatch.setenv("PRACTICA2_IMAGENES", str(tmp_path / "otra"))
    de_la_otra = p.datos_cifar(p.leer_cifar(), 25, 7)
    np.testing.assert_equal(de_la_otra[:4], p.datos_cifar(cifar, 25, 7)[:4])


def test_la_pasada_rapida_lee_poco_de_cada_dato_y_lo_dice(cifar, aislado):
    pocas = p.leer_cifar(por_clase=2)
    assert np.array_equal(pocas.y_train, np.repeat(np.arange(100), 2))
    assert np.array_equal(pocas.y_test, pocas.y_train)
    assert set(huellas(pocas.x_train)) < set(huellas(cifar.x_train))
    escribir_aves(aislado, "curso")
    aves = leer_aves(2)
    assert aves.clases == ("Black footed Albatross", "Laysan Albatross")
    assert pocas.origen == ("CIFAR-100, 400 imágenes de 100 clases", "de cifar-100-python")
    assert aves.origen[:2] == ("aves, 12 imágenes de 2 especies", "de imagenes")


@pytest.mark.parametrize("formato", ["curso", "2010", "2011"])
def test_cargardatos_da_las_mismas_aves_en_los_tres_formatos(formato, tmp_path):
    raiz = escribir_aves(tmp_path / formato, formato)
    train, y_train, test, y_test, nombres = p.cargarDatos(str(tmp_path / formato))
    assert nombres == ("Black footed Albatross", "Laysan Albatross", "Sooty Albatross")
    for de_train, x, y in ((True, train, y_train), (False, test, y_test)):
        rutas = sorted(ruta for ruta, suya in lista_aves() if suya == de_train)
        assert y.shape == (len(rutas), 3) and (y.sum(1) == 1).all()
        assert [ESPECIES[c] for c in y.argmax(1)] == [ruta.split("/")[0] for ruta in rutas]
        assert np.array_equal(x, p.leerImagenes(rutas, raiz)[0])
    assert "no hay aves" in rechazo(lambda: p.cargarDatos(tmp_path / "otra"))


def test_leerimagenes_recorta_el_centro_sin_deformarlo_y_pinta_las_grises(tmp_path):
    ancha = np.zeros((100, 200, 3), np.uint8)
    ancha[:, 50:150] = (0, 0, 255)  # un cuadrado azul entre dos franjas negras
    gris = np.full((200, 100), 90, np.uint8)
    (tmp_path / "azul").mkdir()
    for numero, pixeles in enumerate((ancha, ancha.transpose(1, 0, 2), gris)):
        Image.fromarray(pixeles).save(tmp_path / f"azul/{numero}.png")
    imagenes, clases = p.leerImagenes([f"azul/{n}.png" for n in range(3)], tmp_path)
    assert imagenes.shape == (3, 224, 224, 3) and imagenes.dtype == np.uint8
    assert clases.tolist() == ["azul"] * 3 and (imagenes[2] == 90).all()
    assert (imagenes[0, :, 2:-2] == (0, 0, 255)).all()
    assert (imagenes[1, 2:-2] == (0, 0, 255)).all()


SUMAS = {(100, 32, 0): (78146163, 9769485648), (8, 224, 2): (302094139, 37761148454)}


@pytest.mark.parametrize("clases, lado, semilla", SUMAS)
def test_las_figuras_sinteticas_son_las_de_siempre(clases, lado, semilla):
    x, y, x_test, y_test, nombres = p.imagenes_sinteticas(clases, lado, 1, 1, semilla)
    assert y.tolist() == y_test.tolist() == list(range(clases)) and len(set(nombres)) == clases
    assert x.shape == (clases, lado, lado, 3) and x.dtype == np.uint8
    pixeles = np.stack([x, x_test]).reshape(-1).astype("int64")
    sumas = pixeles.sum(), pixeles @ (np.arange(len(pixeles)) % 251)
    # Con otra biblioteca matemática, algún píxel puede redondearse al valor de al lado.
    assert sumas == pytest.approx(SUMAS[clases, lado, semilla], rel=1e-6)


def test_sin_datos_y_sin_red_todo_es_sintetico_o_aleatorio_y_lo_dice(capsys, sin_dibujar):
    sesion, salida = cargar(capsys, "1", "3")
    assert [len(x) for x in sesion.cifar[:4]] == [5000, 5000, 3000, 3000]
    assert sesion.cifar.nombres[:2] == ("mosaico 1", "mosaico 2")
    aves = p.leer_aves(sesion)
    assert [len(parte.x) for parte in aves[:3]] == [176, 16, 96]
    assert aves.clases[:2] == ("mosaico 1", "mosaico 2")
    assert aves.origen[::2] == ("aves SINTÉTICAS", "pesos ALEATORIOS")
    assert "CIFAR-100 SINTÉTICO" in salida and "aves SINTÉTICAS" in salida
    assert sesion.alcance == p.SINTETICO and "datos SINTÉTICOS se entrenan menos épocas" in salida
    for url in (p.CIFAR_URLS[0], p.AVES_URL, p.RESNET50.url):
        assert salida.count(f"Sin red: no se puede descargar {url}") == 1


# --- Cada entrada, como la trae cada cual --------------------------------------------------------

AVES = dict.fromkeys(("anidada", "tgz_aves", "barras", "enlaces"), "56 imágenes de 4 especies")
CIFAR = dict.fromkeys(("kaggle_cifar", "py3_protocolo2"), "1.300 imágenes de 100 clases")
CASOS_CONOCIDOS = AVES | CIFAR | {"con_etiqueta": "jpg 1» no es como «clase/imagen.jpg»"}


@pytest.mark.skipif(not CASOS.is_dir(), reason=f"necesita {CASOS}")
@pytest.mark.parametrize("caso", CASOS_CONOCIDOS)
def test_los_casos_conocidos_hacen_lo_que_espera_su_dueno(caso, tmp_path, monkeypatch, capsys):
    shutil.unpack_archive(CASOS / f"{caso}.tar.xz", tmp_path / "caso")
    imagenes = "imagenes" if caso == "enlaces" else ""
    monkeypatch.setenv("PRACTICA2_IMAGENES", str(tmp_path / "caso" / imagenes))
    dicho = datos_o_error(lambda: cargar(capsys, "1" if caso in CIFAR else "3")[1])
    assert CASOS_CONOCIDOS[caso] in dicho and "Sin usar" not in dicho


CIFAR_EN_ARCHIVO = "cifar-100-python.tar.gz", "x (1).tgz", "x.tar.xz", "x.tar.bz2", "x.tar", "x.zip"
CIFAR_DISPUESTO = {n: lambda c, n=n: empaquetar(c.parent / n, c) for n in CIFAR_EN_ARCHIVO} | {
    "carpeta": lambda c: None,
    "carpeta con otro nombre": lambda c: c.rename(c.parent / "archive (1)"),
    "ficheros sueltos": lambda c: llevar(c.parent, *c.iterdir()),
    "en otro disco": lambda c: (c.parent / "cifar").symlink_to(c.rename(c.parents[1] / "disco")),
    "tar en la carpeta de 7-Zip": lambda c: empaquetar(c.parent / "cifar.tar/cifar.tar", c),
    "con las aves": lambda c: empaquetar(c.parent / "cifar100_y_aves.tgz", c),
    "zip sin carpeta": lambda c: empaquetar(c.parent / "a.zip", c, suelta=True),
    "tar en un zip": lambda c: empaquetar(c.parent / "a.zip", empaquetar(c.parent / "a.tgz", c)),
    "zip de macOS": lambda c: empaquetar(c.parent / "x.zip", c).with_name("._x.zip").touch(),
}


@tabla(CIFAR_DISPUESTO)
def test_cifar_se_usa_este_como_este(caso, aislado, capsys):
    caso(escribir_cifar(aislado))
    estaban = sorted(aislado.rglob("*"))
    sesion, salida = cargar(capsys, "1")
    x, y, *_ = sesion.cifar
    assert "CIFAR-100, 2.300 imágenes de 100 clases" in salida and "Sin usar" not in salida
    assert sesion.alcance == p.COMPLETO and "SINTÉTICO" not in salida
    assert np.array_equal(y, np.repeat(np.arange(100), POR_CLASE)) and (x[:, 0, 0, 0] == y).all()
    assert sorted(aislado.rglob("*")) == estaban  # se descomprime en la caché


def separar(imagenes, *en_archivo):
    """Las fotos y las listas de 2010, cada una por su lado, y las que se digan, en un archivo."""
    llevar(imagenes, *(imagenes / "CUB_200").iterdir())
    for nombre in en_archivo:
        empaquetar(imagenes / f"{nombre}.tgz", imagenes / nombre)


AVES_DISPUESTAS = {  # la primera palabra es el formato
    "curso": lambda im: None,
    "curso en un zip": lambda im: empaquetar(im / "a.zip", llevar(im / "aves", *im.iterdir())),
    "curso enlazado": lambda im: [
        f.symlink_to(f.rename(im.parent / f.name)) for f in sorted(im.glob("*/*.jpg"))
    ],
    "2010 en dos carpetas": separar,
    "2010 en dos archivos": lambda im: separar(im, "images", "lists"),
    "2010 con las listas en un archivo": lambda im: separar(im, "lists"),
    "2010 con las fotos lejos": lambda im: llevar(im / "a/b/c", *(im / "CUB_200/images").iterdir()),
    "2011 sin su carpeta": lambda im: llevar(im, *(im / "CUB_200_2011").iterdir()),
    "2011 en un tar.bz2": lambda im: empaquetar(im / "x (2).tar.bz2", im / "CUB_200_2011"),
    "2011 con otros datos": lambda im: empaquetar(im / "cifar_y_CUB_200.zip", im / "CUB_200_2011"),
    "2011 con un enlace sin fin": lambda im: (im / "CUB_200_2011/bucle").symlink_to(im),
    "2011 con un enlace roto": lambda im: (im / "CUB_200_2011/roto").symlink_to("nada"),
}


@pytest.mark.parametrize("disposicion", AVES_DISPUESTAS)
def test_las_aves_se_usan_esten_como_esten(disposicion, aislado, tmp_path, capsys):
    originales = escribir_aves(tmp_path / "originales", "curso")
    escribir_aves(aislado, disposicion.split()[0])
    AVES_DISPUESTAS[disposicion](aislado)
    sesion, salida = cargar(capsys, "3")
    aves = p.leer_aves(sesion)
    rutas = [ruta for ruta, de_train in sorted(lista_aves()) if not de_train]
    x, especies = p.leerImagenes(rutas, originales)
    assert np.array_equal(aves.test.x, x)
    assert [ESPECIES[c] for c in aves.test.y.argmax(1)] == especies.tolist()
    por_especie = [parte.y.sum(0).tolist() for parte in aves[:3]]
    assert por_especie == [[3] * 3, [1] * 3, [2] * 3]  # el 10 %, y al menos una, de validación
    assert len({huella for parte in aves[:3] for huella in huellas(parte.x)}) == 18
    assert "aves, 18 imágenes de 3 especies" in salida and "Sin usar" not in salida
    assert aves.origen[1] != "de lists"  # que no dice de qué carpeta son


def test_otro_archivo_con_el_mismo_nombre_no_se_mezcla_con_el_anterior(aislado):
    empaquetar(aislado / "x.zip", escribir_aves(aislado, "2011").parent)
    assert leer_aves().origen[1] == "de x.zip"
    (escribir_aves(aislado, "2011") / PRIMERA).unlink()
    os.utime(empaquetar(aislado / "x.zip", aislado / "CUB_200_2011"), (1, 1))
    assert PRIMERA in rechazo(leer_aves)


def test_lo_que_no_se_usa_se_nombra_en_una_linea_y_no_se_abre(aislado, capsys):
    escribir_aves(aislado, "2011")
    empaquetar(aislado / "datos.zip", escribir_cifar(aislado))
    sobran = "CUB_200_2011.tgz", "a.rar", "apuntes.pdf", "cifar-10-python"
    for nombre in (*sobran, "README.md", ".oculto"):
        (aislado / nombre).write_bytes(b"?")
    assert f"{aislado}: {', '.join(sobran)}, datos.zip.\n" in cargar(capsys, "3")[1]
    assert f"{aislado}: CUB_200_2011, {', '.join(sobran)}.\n" in cargar(capsys, "1")[1]


def test_un_archivo_que_no_hace_falta_no_se_abre(aislado):
    empaquetar(aislado / "mis_fotos.zip", escribir_aves(aislado, "2011").parent)
    (aislado / "notas.txt.gz").write_bytes(b"?")
    assert leer_aves().origen[1] == "de mis_fotos.zip"


def test_la_carpeta_es_imagenes_junto_al_script_o_la_que_se_diga(aislado, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PRACTICA2_IMAGENES", "~/imagenes")
    assert p.carpeta_imagenes() == aislado
    monkeypatch.setenv("PRACTICA2_IMAGENES", str(tmp_path / "otra"))
    assert f"PRACTICA2_IMAGENES={tmp_path / 'otra'}: " in rechazo(p.leer_cifar)
    monkeypatch.delenv("PRACTICA2_IMAGENES")
    assert p.carpeta_imagenes() == RAIZ / "imagenes"


# --- Lo que se admite y lo que se rechaza --------------------------------------------------------


def volcar(lote, protocolo):
    """El pickle de un lote; con «Python 2», con los textos de aquel, como el que se publica."""
    if protocolo != "Python 2":
        return pickle.dumps(lote, protocolo)
    escrito = bytearray(pickle.dumps(lote, 3))
    for codigo, _, lugar in pickletools.genops(bytes(escrito)):
        escrito[lugar] = {"B": ord("T"), "C": ord("U")}.get(codigo.code, escrito[lugar])
    return escrito.replace(b"cnumpy._core.", b"cnumpy.core.")


def con(clave, cambiar):
    return lambda lote: {c: cambiar(valor) if c == clave else valor for c, valor in lote.items()}


@pytest.mark.parametrize("protocolo", [*range(6), "Python 2"])
@tabla(
    {
        "con las claves en bytes": lambda lote: lote,
        "con las claves en texto": lambda lote: {c.decode(): valor for c, valor in lote.items()},
        "nombres en una matriz": con(b"fine_label_names", np.array),
        "clases de NumPy": con(b"fine_labels", lambda y: list(np.array(y))),
        "clases en una columna": con(b"fine_labels", lambda y: np.array(y, ">i4")[:, None]),
        "clases en bytes": con(b"fine_labels", lambda y: np.array(y, np.uint8)),
        "imágenes por columnas": con(b"data", np.asfortranarray),
        "con un texto vacío": lambda lote: lote | {b"batch_label": b""},
    }
)
def test_cifar_guardado_otra_vez_es_el_mismo(caso, protocolo, aislado):
    lotes = {"train": lote_cifar(2, 1), "test": lote_cifar(1, 2)}
    lotes["meta"] = {b"fine_label_names": NOMBRES_CIFAR.encode().split()}
    for nombre, lote in lotes.items():
        (aislado / nombre).write_bytes(volcar(caso(lote), protocolo))
    cifar = p.leer_cifar()
    assert cifar.nombres == tuple(NOMBRES_CIFAR.split())
    for nombre, x, y in (("train", *cifar[:2]), ("test", *cifar[2:4])):
        esperadas = lotes[nombre][b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        assert sorted(huellas(x)) == sorted(huellas(esperadas)) and (x[:, 0, 0, 0] == y).all()


BUENO = lote_cifar(2, 1)
CLASES = BUENO[b"fine_labels"]


@tabla(
    {
        "vacío": ("test", b""),
        "cortado": ("train", pickle.dumps(BUENO)[:5000]),
        "píxeles reales": ("test", BUENO | {b"data": np.zeros((200, 3072))}),
        "clases reales": ("train", BUENO | {b"fine_labels": [float(c) for c in CLASES]}),
        "clase 100": ("train", BUENO | {b"fine_labels": [*CLASES[1:], 100]}),
        "clase -1": ("train", BUENO | {b"fine_labels": [-1, *CLASES[1:]]}),
        "ninguna de una clase": ("test", BUENO | {b"fine_labels": [1, 1, *CLASES[2:]]}),
        "una sola, sin otra para validar": ("train", {c: valor[1:] for c, valor in BUENO.items()}),
        "un error de dos líneas": ("train", b"\x80\4\x8c\4os\nx\x8c\6system\x93."),
        "99 nombres": ("meta", {b"fine_label_names": [b"texto"] * 99}),
        "nombres en otra codificación": ("meta", {b"fine_label_names": [b"\xff"] * 100}),
    }
)
def test_un_pickle_que_no_es_de_cifar_se_rechaza_con_su_cura(caso, aislado):
    nombre, contenido = caso
    fichero = escribir_cifar(aislado) / nombre
    fichero.write_bytes(contenido if isinstance(contenido, bytes) else pickle.dumps(contenido, 4))
    mensaje = rechazo(p.leer_cifar)
    assert mensaje.startswith(f"{fichero}: ") and mensaje.endswith(f"; {p.REMEDIO_CIFAR}")


@tabla(
    {
        "os": b"cos\nsystem\n(Vtouch ejecutado\ntR.",
        "builtins": b"\x80\4cbuiltins\neval\n(Vopen('ejecutado', 'w')\ntR.",
        "builtins de Python 2": b"\x80\2c__builtin__\neval\n(Vopen('ejecutado', 'w')\ntR.",
        "numpy": b"cnumpy\nsavetxt\n(Vejecutado\n(I1\nltR.",
    }
)
@pytest.mark.parametrize("nombre", ["train", "test", "meta"])
def test_un_pickle_con_una_orden_no_la_ejecuta(caso, nombre, aislado, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fichero = escribir_cifar(aislado) / nombre
    fichero.write_bytes(caso)
    mensaje = rechazo(p.leer_cifar)
    assert mensaje.startswith(f"{fichero}: contiene ") and "que no es un dato" in mensaje
    assert not Path("ejecutado").exists()


@pytest.mark.parametrize("nombre", ["datos.tar.gz", "datos.tar.xz", "datos.zip"])
@pytest.mark.parametrize("contenido", [b"", b"<html>404</html>", "la mitad"])
def test_un_archivo_que_no_se_puede_abrir_se_rechaza_con_su_cura(contenido, nombre, aislado):
    archivo = empaquetar(aislado / nombre, escribir_aves(aislado, "2011").parent)
    bueno = archivo.read_bytes()
    archivo.write_bytes(bueno[: len(bueno) // 2] if contenido == "la mitad" else contenido)
    for leer in (p.leer_cifar, leer_aves):
        mensaje = rechazo(leer)
        assert mensaje.startswith(f"{archivo}: ") and "compruebe que está entero" in mensaje


def test_de_un_archivo_no_sale_nada_de_la_cache(aislado, tmp_path, capsys, sin_dibujar):
    enlace = tarfile.TarInfo("enlace")
    enlace.type, enlace.linkname = tarfile.SYMTYPE, str(aislado)
    with tarfile.open(aislado / "datos.tar", "w") as paquete:
        paquete.addfile(enlace)
        for miembro in ("../../../fuera", f"{aislado}/fuera", "enlace/fuera", "dentro"):
            paquete.addfile(tarfile.TarInfo(miembro))
    assert f"Sin usar en {aislado}: datos.tar." in cargar(capsys, "1")[1]
    assert len(list((tmp_path / "keras/datasets").rglob("dentro"))) == 1
    fuera = [ruta for ruta in tmp_path.rglob("fuera") if tmp_path / "keras" not in ruta.parents]
    assert not fuera and os.listdir(aislado) == ["datos.tar"]


@pytest.mark.parametrize(
    "nombre", ["cifar-100.crdownload", "CIFAR100.rar", "CUB_200_2011", "CUB-200.7z", "cub200"]
)
@pytest.mark.parametrize("crear", [Path.mkdir, Path.touch])
def test_lo_que_dice_ser_los_datos_y_no_lo_es_detiene_el_script(crear, nombre, aislado):
    crear(aislado / nombre)
    mensaje = rechazo(leer_aves if nombre.lower().startswith("cub") else p.leer_cifar)
    assert mensaje.startswith(f"{aislado / nombre}: ") and "complételo o quítelo" in mensaje


@pytest.mark.parametrize("formato", ["curso", "2011"])
@tabla(
    {
        "con BOM": lambda texto: "\ufeff" + texto,
        "de Windows": lambda texto: "\ufeff" + texto.replace("\n", "\r\n").replace("/", "\\"),
        "con de todo": lambda texto: "\n" + texto.replace("\n", " \n\n") + texto[:-1],
    }
)
def test_una_lista_escrita_en_otro_sistema_es_la_misma(caso, formato, aislado):
    escribir_aves(aislado, formato)
    buenas = p.encontrar_aves(aislado)
    for lista in aislado.rglob("*.txt"):
        lista.write_bytes(caso(lista.read_text()).encode())
    assert p.encontrar_aves(aislado) == buenas


def por(patron, nuevo):
    return lambda contenido: re.sub(patron, lambda _: nuevo, contenido)


BARRA = "\\"
SALEN = "../a.jpg", "..\\..\\a.jpg", "Ave/../../a.jpg", "/etc/a.jpg", "\\ave\\a.jpg", "C:\\a\\a.jpg"
NO_SON = "c:ave/a.jpg", "suelta.jpg", "una/dos/a.jpg", "Ave/a.txt", "Ave/a.jpg 1", "Ave/.a.jpg"
SPLIT, DE_DOS = "train_test_split.txt", f"2 {PRIMERA}".encode()
NO_ES = "» no es como «clase/imagen.jpg»; corrija la lista"
AVES_MALAS = {  # formato, fichero, qué se hace con su contenido y qué se dice
    **{
        linea: (
            "curso",
            "train.txt",
            por(rb"\Z", linea.encode()),
            f"train.txt: «{linea.replace(BARRA, '/')}{NO_ES}",
        )
        for linea in (*SALEN, *NO_SON)
    },
    "línea sin ruta": ("2011", "images.txt", por(rb"\Z", b"19"), "images.txt: "),
    "ruta de 2011": ("2011", "images.txt", por(b" 001", b" ../001"), "images.txt: «1 ../001"),
    "falta un id": ("2011", SPLIT, por(rb"\A1 1\n", b""), f"{SPLIT}: sus números"),
    "un id dos veces": ("2011", SPLIT, por(rb"\Z", b"1 0"), f"{SPLIT}: sus números"),
    "un id de dos fotos": ("2011", "images.txt", por(rb"\Z", b"1 a/b.jpg"), "sus números"),
    "una foto de dos ids": ("2011", "images.txt", por(b"2 .*", DE_DOS), "está dos veces"),
    "ni train ni test": ("2011", SPLIT, por(rb"\A1 1", b"1 2"), "«1 2» no es como «17 1»"),
    "UTF-16": ("curso", "test.txt", por(rb"\A", b"\xff\xfe"), "test.txt: "),
    "UTF-16 sin BOM": ("curso", "test.txt", por(b"", b"\0"), "test.txt: "),
    "de Windows": ("curso", "test.txt", por(b"Black", b"P\xe1jaro"), "test.txt: "),
    "lista que falta": ("curso", "test.txt", None, "test.txt: "),
    "lista vacía": ("curso", "train.txt", por(b".+", b" "), "train o test no tiene imágenes"),
    "en las dos": ("curso", "test.txt", por(rb"\Z", PRIMERA.encode()), "está dos veces"),
    "sin train": ("curso", "train.txt", por(b"003.*\n", b""), "no tienen las mismas clases"),
    "sin test": ("2010", "test.txt", por(b"003.*\n", b""), "no tienen las mismas clases"),
    "poco train": ("2010", "train.txt", por(b"001.*_0.jpg\n", b""), "001.Black_footed_Albatross"),
    "dos especies": ("curso", "t*.txt", por(b"003.*\n", b""), "hacen falta 3 especies"),
    "foto que falta": ("curso", PRIMERA, None, f"{PRIMERA}: "),
    "foto cortada": ("2011", PRIMERA, lambda c: c[:300], f"{PRIMERA}: "),
    "foto que no lo es": ("curso", PRIMERA, lambda c: b"texto", f"{PRIMERA}: "),
    "sin fotos": ("2011", "*.jpg", None, "train_test_split.txt: no están las fotos"),
}


@tabla(AVES_MALAS)
def test_unas_aves_incompletas_o_mal_escritas_se_rechazan_al_empezar(caso, aislado, capsys):
    formato, cuales, cambiar, dice = caso
    escribir_aves(aislado, formato)
    for fichero in list(aislado.rglob(cuales)):
        contenido = fichero.read_bytes()
        fichero.unlink()
        if cambiar:
            fichero.write_bytes(cambiar(contenido))
    mensaje = rechazo(lambda: cargar(capsys, "3"))
    assert mensaje.startswith(str(aislado)) and dice in mensaje and "; " in mensaje


# --- Pesos y descargas ---------------------------------------------------------------------------


def test_los_pesos_se_llaman_de_imagenet_si_su_md5_lo_dice(aislado, capsys):
    escribir_aves(aislado, "2011")
    fichero = aislado / "pesos" / PESOS
    fichero.parent.mkdir()
    fichero.write_bytes(b"pesos")
    md5 = hashlib.md5(b"pesos").hexdigest()
    de_imagenet = RED._replace(md5_imagenet=md5)
    otros = f"otros pesos, MD5 {md5[:6]}"
    for red, etiqueta in ((de_imagenet, "pesos de ImageNet"), (RED, otros)):
        sesion, salida = cargar(capsys, "3", red=red)
        assert sesion.preentrenada.fichero == fichero
        assert p.leer_aves(sesion).origen[-1] == etiqueta
        assert etiqueta in salida and "Sin usar" not in salida


@pytest.mark.parametrize("que_es", ["página", "HDF5 de otra red"])
def test_unos_pesos_que_no_son_de_la_red_se_rechazan_al_empezar(que_es, aislado, capsys):
    fichero = aislado / PESOS
    fichero.write_bytes(b"<html>404</html>")
    if que_es != "página":
        with h5py.File(fichero, "w") as otra:
            otra.attrs["layer_names"] = [b"conv1"]
            otra.create_group("conv1").attrs["weight_names"] = []
    mensaje = rechazo(lambda: cargar(capsys, "3", red=p.RESNET50))
    assert mensaje.startswith(f"{fichero}: ") and p.RESNET50.url in mensaje


CONTENIDO = b"lo que se descarga"
SHA256 = hashlib.sha256(CONTENIDO).hexdigest()
URLS = ["https://uno.example/a.h5", "https://dos.example/a.h5"]
FALLOS = {
    "HTTP 404": urllib.error.HTTPError(URLS[0], 404, "Not Found", {}, None),
    "no contesta": TimeoutError("timed out"),
    "no se resuelve ese nombre": urllib.error.URLError(socket.gaierror(-2, "unknown")),
    "se corta": urllib.error.ContentTooShortError("retrieval incomplete\notra línea", None),
    "manda otra cosa": b"<html>Acepte las condiciones de la wifi</html>",
}


@pytest.fixture
def internet(monkeypatch):
    """Lo que contestan los servidores, por orden (la última respuesta se repite), y lo pedido."""
    respuestas, pedidas = [], []

    def urlretrieve(url, destino, *resto):
        if url.startswith("file:"):
            return solo_de_disco(url, destino, *resto)
        assert socket.getdefaulttimeout() == p.ESPERA_DESCARGA
        pedidas.append(url)
        respuesta = respuestas.pop(0) if len(respuestas) > 1 else respuestas[0]
        if isinstance(respuesta, Exception):
            raise respuesta
        Path(destino).write_bytes(respuesta)

    monkeypatch.setattr(file_utils, "urlretrieve", urlretrieve)
    monkeypatch.setattr(p, "hay_red", lambda: True)
    return respuestas, pedidas


descargar = partial(p.descargar, "a.h5", URLS, SHA256, cache_subdir="models")


@tabla(FALLOS)
def test_se_prueban_los_servidores_por_turno(caso, internet, aislado, tmp_path):
    respuestas, pedidas = internet
    respuestas[:] = [caso]
    mensaje = rechazo(descargar)
    assert URLS[1] in mensaje and f"descomprimir, en {aislado}" in mensaje
    assert pedidas == URLS * p.INTENTOS
    respuestas[:] = [caso, caso, CONTENIDO, caso]
    (tmp_path / "keras/models/a.h5").write_bytes(CONTENIDO[:5])  # de otra vez, a medias
    pedidas.clear()
    for _ in range(2):  # la segunda vez ya está en la caché
        assert descargar() == tmp_path / "keras/models/a.h5"
        assert descargar().read_bytes() == CONTENIDO
    assert pedidas == [*URLS, URLS[0]]


def test_cada_dato_se_descarga_una_vez_o_no_se_sigue(internet, monkeypatch, tmp_path, capsys):
    respuestas, pedidas = internet
    respuestas[:] = [FALLOS["HTTP 404"]]
    assert p.CIFAR_URLS[-1] in rechazo(p.leer_cifar) and p.AVES_URL in rechazo(leer_aves)
    assert RED.url in rechazo(lambda: p.buscar_pesos(RED))
    cifar = empaquetar(tmp_path / "cifar.tgz", escribir_cifar(tmp_path / "a")).read_bytes()
    aves = empaquetar(tmp_path / "a.tgz", escribir_aves(tmp_path / "a", "2011").parent).read_bytes()
    monkeypatch.setattr(p, "CIFAR_SHA256", hashlib.sha256(cifar).hexdigest())
    monkeypatch.setattr(p, "AVES_MD5", hashlib.md5(aves).hexdigest())
    red = RED._replace(md5_imagenet=hashlib.md5(CONTENIDO).hexdigest())
    respuestas[:] = [cifar, CONTENIDO, aves, FALLOS["HTTP 404"]]
    pedidas.clear()
    for _ in range(2):
        salida = cargar(capsys, "1", "3", red=red)[1]
        assert "CIFAR-100, 2.300 imágenes de 100 clases" in salida
        assert "aves, 18 imágenes de 3 especies" in salida and "pesos de ImageNet" in salida
        assert pedidas == [p.CIFAR_URLS[0], RED.url, p.AVES_URL]


@pytest.mark.parametrize("resuelve, hay", [("", False), ("toronto", True), ("caltech", True)])
def test_no_hay_red_si_no_se_resuelve_ningun_nombre(resuelve, hay, monkeypatch):
    def resolver(servidor, puerto):
        if not (resuelve and resuelve in servidor):
            raise socket.gaierror(-3, "no hay servidor de nombres")

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    assert HAY_RED() is hay


@pytest.mark.usefixtures("imagenes_reales")
def test_cifar_100_real_tiene_las_cifras_del_guion():
    datos = p.datos_cifar(p.leer_cifar(), p.CLASES, p.SEMILLA)
    assert [len(parte.x) for parte in datos[:3]] == [11250, 1250, 2500]
    assert datos.clases[:3] == ("apple", "aquarium_fish", "baby")
