"""Los datos: formatos, orden canónico, partición y entradas dañadas."""

import hashlib
import os
import pickle
import re
import shutil
import tarfile

import numpy as np
import pytest
from conftest import (
    ESPECIES,
    POR_CLASE,
    POR_CLASE_TEST,
    escribir_aves,
    escribir_cifar,
    huellas,
    lista_aves,
    lote_cifar,
    rechazo,
)
from PIL import Image

import practica2 as p

PARTES = ("train", "val", "test")
PRIMERA, ULTIMA = lista_aves()[0][0], lista_aves()[-1][0]


def iguales(unos, otros):
    """¿Tienen dos Datos las mismas imágenes y clases, en el mismo orden, en cada parte?"""
    return all(
        np.array_equal(getattr(getattr(unos, parte), eje), getattr(getattr(otros, parte), eje))
        for parte in PARTES
        for eje in "xy"
    )


# --- CIFAR-100: lectura --------------------------------------------------------------------------


@pytest.mark.parametrize("formato", ["", "gz", "xz"])
def test_cifar_se_lee_igual_de_una_carpeta_y_de_un_tar(formato, aislado):
    escribir_cifar(aislado, formato)
    cifar = p.leer_cifar()
    assert cifar.origen == ("CIFAR-100 real", "2.300 imágenes")
    assert cifar.nombres[3] == "bear"
    assert cifar.superclases.tolist() == [c // 5 for c in range(100)]
    for x, y, cuantas in (
        (cifar.x_train, cifar.y_train, POR_CLASE),
        (cifar.x_test, cifar.y_test, POR_CLASE_TEST),
    ):
        assert x.dtype == np.uint8 and x.shape == (100 * cuantas, 32, 32, 3)
        assert np.array_equal(y, np.repeat(np.arange(100), cuantas))
        assert np.array_equal(x[:, 0, 0, 0], y)  # cada imagen conserva su clase
        assert (x[:, 0, 1] == (255, 0, 0)).all()  # y sus ejes y canales


def test_la_copia_de_quien_ejecuta_va_antes_que_la_cache_de_keras(tmp_path):
    escribir_cifar(tmp_path / "imagenes")
    danada = tmp_path / "keras/datasets/cifar-100-python.tar.gz"
    danada.parent.mkdir(parents=True)
    danada.write_bytes(b"")
    assert p.leer_cifar().origen[0] == "CIFAR-100 real"


def test_la_carpeta_y_el_archivo_de_la_cache_de_keras_se_usan_sin_red(tmp_path, monkeypatch):
    de_la_cache = tmp_path / "keras/datasets"
    carpeta = escribir_cifar(de_la_cache / "cifar-100-python_extracted")  # así la deja Keras 3
    de_la_carpeta = p.leer_cifar()
    shutil.rmtree(carpeta.parent)
    archivo = escribir_cifar(de_la_cache, "gz").with_suffix(".tar.gz")
    huella = hashlib.sha256(archivo.read_bytes()).hexdigest()
    monkeypatch.setattr(p, "CIFAR_SHA256", huella)
    del_archivo = p.leer_cifar()
    assert de_la_carpeta.origen == del_archivo.origen == ("CIFAR-100 real", "2.300 imágenes")
    assert np.array_equal(de_la_carpeta.x_train, del_archivo.x_train)


def test_lo_que_esta_a_medias_en_la_cache_no_se_usa_ni_detiene_el_script(tmp_path):
    de_la_cache = tmp_path / "keras/datasets"
    (escribir_cifar(de_la_cache) / "test").write_bytes(b"a medias")
    escribir_cifar(de_la_cache / "otra", "gz").with_suffix(".tar.gz").rename(
        de_la_cache / "cifar-100-python.tar.gz"
    )
    (escribir_aves(de_la_cache, "2011") / PRIMERA).unlink()
    assert p.leer_cifar().origen == ("CIFAR-100 SINTÉTICO",)
    assert p.leer_aves(p.COMPLETO, 7).origen == ("aves SINTÉTICAS", "10 especies")


def test_sin_datos_y_sin_red_cifar_es_sintetico_y_lo_dice():
    assert p.leer_cifar().origen == ("CIFAR-100 SINTÉTICO",)


def test_basenet_aprende_los_datos_sinteticos_pero_no_le_resultan_triviales():
    datos = p.datos_cifar(p.cifar_sintetico(), p.CLASES, 1)
    basenet = p.entrenar(
        p.construir_basenet,
        datos,
        1,
        fases=[(8, None)],
        lote=p.LOTE_BASENET,
        optimizador=p.adam,
    )
    aciertos = p.calcularAccuracy(datos.val.y, basenet.prob_val)
    assert 4 / p.CLASES < aciertos < 0.7  # cuatro veces el azar


def test_los_datos_sinteticos_tienen_veinte_familias_de_cinco_clases_que_solo_cambian_de_puntas():
    cifar = p.cifar_sintetico(2)
    assert len(set(cifar.nombres)) == 100
    assert np.array_equal(np.bincount(cifar.superclases), np.full(20, 5))
    sin_puntas = [re.sub(r"\d", "", nombre) for nombre in cifar.nombres]
    for familia in range(20):
        suyas = np.flatnonzero(cifar.superclases == familia)
        assert len({sin_puntas[clase] for clase in suyas}) == 1
    # Las 25 primeras, como las de CIFAR-100, son de muchas familias.
    assert len(set(cifar.superclases[: p.CLASES])) > 10


def test_dos_imagenes_sinteticas_de_una_clase_no_son_iguales_y_siempre_son_las_mismas():
    una, otra = p.cifar_sintetico(2), p.cifar_sintetico(2)
    assert np.array_equal(una.x_train, otra.x_train) and np.array_equal(una.x_test, otra.x_test)
    assert len(set(huellas(una.x_train)) | set(huellas(una.x_test))) == 400


# --- CIFAR-100: partición ------------------------------------------------------------------------


@pytest.fixture
def cifar(aislado):
    """El CIFAR-100 diminuto, leído de imagenes/."""
    escribir_cifar(aislado)
    return p.leer_cifar()


def test_cargarimagenes_deja_las_clases_0_a_24_en_one_hot_y_los_pixeles_en_0_1(cifar):
    x, y, x_test, y_test = p.cargarImagenes(cifar)
    assert x.shape == (25 * POR_CLASE, 32, 32, 3) and y.shape == (25 * POR_CLASE, 25)
    assert x_test.shape == (25 * POR_CLASE_TEST, 32, 32, 3) and y_test.shape[1] == 25
    assert x.dtype == np.float32 and x.min() == 0 and x.max() == 1
    assert set(y.argmax(1)) == set(range(25)) and (y.sum(1) == 1).all()
    assert np.array_equal(np.rint(x[:, 0, 0, 0] * 255), y.argmax(1))


def test_la_validacion_es_el_diez_por_ciento_de_cada_clase_y_no_se_solapa(cifar):
    datos = p.datos_cifar(cifar, 25, 7)
    assert (datos.val.y.sum(0) == POR_CLASE * p.FRACCION_VALIDACION).all()
    assert (datos.train.y.sum(0) == POR_CLASE * (1 - p.FRACCION_VALIDACION)).all()
    train, val, test = (huellas(getattr(datos, parte).x) for parte in PARTES)
    assert len({*train, *val, *test}) == len(train) + len(val) + len(test)
    assert {*train, *val} == set(huellas(p.cargarImagenes(cifar)[0]))
    assert np.array_equal(np.rint(datos.val.x[:, 0, 0, 0] * 255), datos.val.y.argmax(1))


def test_una_copia_barajada_da_la_misma_particion(cifar, tmp_path, monkeypatch):
    escribir_cifar(tmp_path / "otra", "gz", barajado=5)
    monkeypatch.setenv("PRACTICA2_IMAGENES", str(tmp_path / "otra"))
    assert iguales(p.datos_cifar(cifar, 25, 7), p.datos_cifar(p.leer_cifar(), 25, 7))


def test_la_semilla_decide_la_validacion(cifar):
    una, otra = (p.datos_cifar(cifar, 25, semilla) for semilla in (7, 8))
    assert set(huellas(una.val.x)) != set(huellas(otra.val.x))
    assert np.array_equal(una.test.x, otra.test.x)


def test_las_25_clases_apartan_las_mismas_imagenes_solas_que_entre_las_100(cifar):
    de_25, de_100 = p.datos_cifar(cifar, 25, 7), p.datos_cifar(cifar, 100, 7)
    suyas = de_100.val.y.argmax(1) < 25
    assert set(huellas(de_100.val.x[suyas])) == set(huellas(de_25.val.x))


def test_el_subconjunto_toma_las_mismas_imagenes_de_cada_clase_y_lo_dice(cifar):
    pocas = p.leer_cifar(imagenes_por_clase=2)
    assert pocas.origen == ("CIFAR-100 real", "2 imágenes por clase")
    for y in (pocas.y_train, pocas.y_test):
        assert np.array_equal(np.bincount(y), np.full(100, 2))
    assert set(huellas(pocas.x_train)) < set(huellas(cifar.x_train))


# --- CIFAR-100: entradas dañadas -----------------------------------------------------------------


class Trampa:
    """Un objeto cuyo pickle, leído sin cuidado, ejecuta una orden."""

    def __init__(self, orden):
        self.orden = orden

    def __reduce__(self):
        return os.system, (self.orden,)


def sin(lote, clave):
    return {k: v for k, v in lote.items() if k != clave}


BUENO = lote_cifar(1, 1)
MALOS = {
    "vacío": b"",
    "texto": b"<html>404</html>",
    "cortado": pickle.dumps(BUENO)[:5000],
    "una lista": pickle.dumps([1, 2]),
    "sin imágenes": pickle.dumps(BUENO | {b"data": None}, 4),
    "sin etiquetas": pickle.dumps(sin(BUENO, b"fine_labels"), 4),
    "etiquetas de más": pickle.dumps(BUENO | {b"fine_labels": [0] * 101}, 4),
    "clase 100": pickle.dumps(BUENO | {b"fine_labels": list(range(1, 101))}, 4),
    "superclase negativa": pickle.dumps(BUENO | {b"coarse_labels": [-1] * 100}, 4),
    "otro tamaño": pickle.dumps(BUENO | {b"data": np.zeros((100, 99), np.uint8)}, 4),
    "píxeles reales": pickle.dumps(BUENO | {b"data": np.zeros((100, 3072))}, 4),
    "faltan clases": pickle.dumps(BUENO | {b"fine_labels": [7] * 100}, 4),
}


@pytest.mark.parametrize("contenido", MALOS.values(), ids=MALOS)
def test_un_pickle_danado_se_rechaza_nombrando_el_fichero(contenido, aislado):
    (escribir_cifar(aislado) / "train").write_bytes(contenido)
    with pytest.raises(p.ErrorEntrada, match="cifar-100-python"):
        p.leer_cifar()


@pytest.mark.parametrize("nombre", p.PICKLES_CIFAR)
def test_un_pickle_que_falta_se_dice(nombre, aislado):
    (escribir_cifar(aislado) / nombre).unlink()
    with pytest.raises(p.ErrorEntrada, match=nombre):
        p.leer_cifar()


@pytest.mark.parametrize(
    "meta", [{}, {b"fine_label_names": [b"texto"] * 99}, {b"fine_label_names": 3}]
)
def test_unos_nombres_de_clase_incorrectos_se_rechazan(meta, aislado):
    (escribir_cifar(aislado) / "meta").write_bytes(pickle.dumps(meta, 4))
    with pytest.raises(p.ErrorEntrada):
        p.leer_cifar()


@pytest.mark.parametrize("donde", p.PICKLES_CIFAR)
def test_un_pickle_con_una_orden_no_la_ejecuta(donde, aislado, tmp_path):
    testigo = tmp_path / "ejecutado"
    trampa = pickle.dumps(BUENO | {b"batch_label": Trampa(f"touch {testigo}")}, 4)
    (escribir_cifar(aislado) / donde).write_bytes(trampa)
    with pytest.raises(p.ErrorEntrada, match="system"):
        p.leer_cifar()
    assert not testigo.exists()


@pytest.mark.parametrize("formato", ["gz", "xz"])
@pytest.mark.parametrize("dano", ["cortado", "bytes cambiados", "vacío", "otro contenido"])
def test_un_tar_danado_se_rechaza_nombrandolo(formato, dano, aislado, tmp_path):
    archivo = escribir_cifar(aislado, formato).with_suffix(f".tar.{formato}")
    bytes_ = bytearray(archivo.read_bytes())
    mitad = len(bytes_) // 2
    if dano == "cortado":
        del bytes_[mitad:]
    elif dano == "bytes cambiados":
        bytes_[mitad : mitad + 200] = os.urandom(200)
    elif dano == "vacío":
        bytes_.clear()
    archivo.write_bytes(bytes_)
    if dano == "otro contenido":
        with tarfile.open(archivo, f"w:{formato}") as tar:
            tar.add(__file__, "cifar-100-python/train")
    with pytest.raises(p.ErrorEntrada, match="cifar-100-python.tar"):
        p.leer_cifar()


# --- Aves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("formato", ["curso", "2010", "2011"])
def test_las_aves_son_las_mismas_en_los_tres_formatos(formato, tmp_path):
    raiz = escribir_aves(tmp_path / formato, formato)
    train, y_train, test, y_test, nombres = p.cargarDatos(tmp_path / formato)
    assert nombres == ["Black footed Albatross", "Laysan Albatross", "Sooty Albatross"]
    for de_train, x, y in ((True, train, y_train), (False, test, y_test)):
        rutas = sorted(ruta for ruta, suya in lista_aves() if suya == de_train)
        assert x.dtype == np.uint8 and y.shape == (len(rutas), len(ESPECIES))
        assert [ESPECIES[c] for c in y.argmax(1)] == [ruta.split("/")[0] for ruta in rutas]
        assert np.array_equal(x, np.stack([p.leer_imagen(raiz / ruta) for ruta in rutas]))


def test_leerimagenes_recorta_el_centro_sin_deformarlo(tmp_path):
    ancha = np.zeros((100, 200, 3), np.uint8)
    ancha[:, 50:150] = (0, 0, 255)  # un cuadrado azul entre dos franjas negras
    (tmp_path / "azul").mkdir()
    Image.fromarray(ancha).save(tmp_path / "azul/ancha.png")
    Image.new("L", (100, 200), 90).save(tmp_path / "azul/gris.png")
    (azul, gris), clases = p.leerImagenes(["azul/ancha.png", "azul/gris.png"], tmp_path)
    assert azul.shape == (p.LADO_AVES, p.LADO_AVES, 3)
    assert (azul[:, 2:-2] == (0, 0, 255)).all()
    assert (gris == 90).all()
    assert clases.tolist() == ["azul", "azul"]


def test_las_aves_se_parten_con_validacion_de_cada_especie(aislado):
    escribir_aves(aislado, "2011")
    datos = p.leer_aves(p.COMPLETO, 7)
    assert datos.origen == ("CUB-200-2011 real", "3 de sus 200 especies")
    assert (datos.val.y.sum(0) == 1).all() and (datos.train.y.sum(0) == 3).all()
    train, val, test = (huellas(getattr(datos, parte).x) for parte in PARTES)
    assert len({*train, *val, *test}) == len(lista_aves())


def test_la_pasada_rapida_lee_pocas_especies_de_las_aves_y_lo_dice(aislado):
    escribir_aves(aislado, "curso")
    datos = p.leer_aves(p.Alcance(especies=2), 7)
    assert datos.origen == ("CUB-200 (2010) real", "2 de sus 200 especies")
    assert datos.clases == ("Black footed Albatross", "Laysan Albatross")
    assert datos.test.y.shape == (4, 2)


def test_sin_aves_y_sin_red_son_sinteticas_y_lo_dicen():
    datos = p.leer_aves(p.COMPLETO, 7)
    assert datos.origen == ("aves SINTÉTICAS", "10 especies")
    assert datos.train.x.shape[1:] == (p.LADO_AVES, p.LADO_AVES, 3)


@pytest.fixture
def archivo(tmp_path, monkeypatch):
    """El archivo de las aves, ya descargado en la caché de Keras."""
    escribir_aves(tmp_path / "original", "2011")
    archivo = tmp_path / "keras/datasets/CUB_200_2011.tgz"
    archivo.parent.mkdir(parents=True)
    with tarfile.open(archivo, "w:gz") as tar:
        tar.add(tmp_path / "original/CUB_200_2011", "CUB_200_2011")
    monkeypatch.setattr(p, "AVES_MD5", hashlib.md5(archivo.read_bytes()).hexdigest())
    return archivo


def test_el_archivo_descargado_se_descomprime_una_vez_y_luego_no_hace_falta(archivo):
    una = p.leer_aves(p.COMPLETO, 7)
    archivo.unlink()
    assert iguales(una, p.leer_aves(p.COMPLETO, 7))
    assert una.origen == ("CUB-200-2011 real", "3 de sus 200 especies")


def test_si_a_lo_descomprimido_le_falta_algo_se_descomprime_otra_vez(archivo):
    una = p.leer_aves(p.COMPLETO, 7)
    (foto,) = archivo.parent.glob(f"cub*/CUB_200_2011/images/{PRIMERA}")
    foto.unlink()
    assert iguales(una, p.leer_aves(p.COMPLETO, 7))


def rechazo_de_las_aves():
    """El mensaje, de una línea, con el que se rechazan las aves de imagenes/."""
    return rechazo(lambda: p.leer_aves(p.COMPLETO, 7))


def anadir(fichero, linea):
    with open(fichero, "a") as lista:
        lista.write(linea + "\n")


def cambiar(fichero, viejo, nuevo):
    texto = fichero.read_text()
    assert viejo in texto
    fichero.write_text(texto.replace(viejo, nuevo, 1))


def rutas_de_train(sin_especie):
    """Las rutas de train, una por línea, salvo las de una especie."""
    rutas = [r for r, de_train in lista_aves() if de_train and not r.startswith(sin_especie)]
    return "\n".join(rutas) + "\n"


def test_una_foto_que_falta_se_nombra(aislado):
    escribir_aves(aislado, "curso")
    (aislado / PRIMERA).unlink()
    assert PRIMERA in rechazo_de_las_aves()


def test_una_foto_cortada_se_nombra(aislado):
    escribir_aves(aislado, "curso")
    (aislado / PRIMERA).write_bytes((aislado / PRIMERA).read_bytes()[:300])
    assert PRIMERA in rechazo_de_las_aves()


def test_un_fichero_que_no_es_una_foto_se_nombra(aislado):
    raiz = escribir_aves(aislado, "2010")
    (raiz / PRIMERA).write_text("a")
    assert PRIMERA in rechazo_de_las_aves()


def test_una_lista_vacia_se_nombra(aislado):
    escribir_aves(aislado, "curso")
    (aislado / "train.txt").write_text(" \n\n")
    assert "train.txt" in rechazo_de_las_aves()


def test_una_lista_que_no_es_texto_se_nombra(aislado):
    escribir_aves(aislado, "curso")
    (aislado / "test.txt").write_bytes(b"\xff\xfe\x00")
    assert "test.txt" in rechazo_de_las_aves()


def test_una_lista_que_falta_se_nombra(aislado):
    escribir_aves(aislado, "curso")
    (aislado / "test.txt").unlink()
    assert "test.txt" in rechazo_de_las_aves()


@pytest.mark.parametrize("ruta", ["../secreto.jpg", "/etc/passwd", "suelta.jpg"])
def test_una_ruta_que_no_es_de_una_clase_de_la_carpeta_se_nombra(ruta, aislado):
    escribir_aves(aislado, "curso")
    anadir(aislado / "train.txt", ruta)
    assert ruta in rechazo_de_las_aves()


def test_una_especie_con_una_sola_foto_de_train_se_nombra(aislado):
    escribir_aves(aislado, "curso")
    (aislado / "train.txt").write_text(rutas_de_train(sin_especie=ESPECIES[2]) + ULTIMA)
    (aislado / "test.txt").write_text("\n".join(f"{e}/ave_{e[:3]}_4.jpg" for e in ESPECIES))
    mensaje = rechazo_de_las_aves()
    assert ESPECIES[2] in mensaje and "4 imágenes" in mensaje


def test_una_especie_que_solo_esta_en_test_se_nombra(aislado):
    escribir_aves(aislado, "curso")
    (aislado / "train.txt").write_text(rutas_de_train(sin_especie=ESPECIES[2]))
    assert ESPECIES[2] in rechazo_de_las_aves()


def test_un_id_que_falta_en_una_lista_de_2011_se_nombra(aislado):
    escribir_aves(aislado, "2011")
    cambiar(aislado / "CUB_200_2011/train_test_split.txt", "1 1\n", "")
    assert "train_test_split.txt: el id 1 " in rechazo_de_las_aves()


def test_una_foto_que_no_es_de_train_ni_de_test_se_nombra(aislado):
    escribir_aves(aislado, "2011")
    cambiar(aislado / "CUB_200_2011/train_test_split.txt", "1 1\n", "1 2\n")
    assert PRIMERA in rechazo_de_las_aves()


def test_una_linea_sin_valor_de_2011_se_nombra(aislado):
    escribir_aves(aislado, "2011")
    anadir(aislado / "CUB_200_2011/images.txt", "19")
    assert "images.txt: la línea de 19 " in rechazo_de_las_aves()


def test_cargardatos_sin_aves_lo_dice(tmp_path):
    with pytest.raises(p.ErrorEntrada, match="no hay aves"):
        p.cargarDatos(tmp_path)


# --- Datos reales --------------------------------------------------------------------------------


def test_cifar_real_tiene_las_cifras_del_guion(imagenes_reales):
    datos = p.datos_cifar(p.leer_cifar(), p.CLASES, p.SEMILLA)
    assert [len(getattr(datos, parte).x) for parte in PARTES] == [11250, 1250, 2500]
    assert datos.clases[:3] == ("apple", "aquarium_fish", "baby")
    assert datos.origen == ("CIFAR-100 real", "todas las imágenes")


def test_las_listas_de_las_aves_reales_se_leen_enteras(imagenes_reales):
    listas = p.listar_aves(imagenes_reales)
    assert not set(listas.train) & set(listas.test)
    de_train, de_test = (
        {ruta.split("/")[0] for ruta in lista} for lista in (listas.train, listas.test)
    )
    assert de_train == de_test and 3 <= len(de_train) <= 200


def test_los_pesos_reales_se_cargan_y_se_llaman_de_imagenet_si_su_md5_lo_dice(imagenes_reales):
    encontrada = p.buscar_pesos(p.RESNET50)
    md5 = hashlib.md5(encontrada.fichero.read_bytes()).hexdigest()
    esperada = "pesos de ImageNet" if md5 == p.RESNET50.md5_imagenet else "otros pesos"
    assert encontrada.etiqueta == esperada
    assert p.construir_base(encontrada, lado=64).output_shape == (None, 2, 2, 2048)
