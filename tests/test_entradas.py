"""Los datos como los trae cada cual: en cualquier disposición conocida se usan o se nombran."""

import hashlib
import os
import pickle
import shutil
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from conftest import (
    ESPECIES,
    NOMBRES_CIFAR,
    POR_CLASE,
    POR_CLASE_TEST,
    escribir_aves,
    escribir_cifar,
    escribir_fotos,
    lista_aves,
    lote_cifar,
    rechazo,
)
from PIL import Image

import practica2 as p

# --- Disposiciones de CIFAR-100 ------------------------------------------------------------------
# Cada función deja en una carpeta CIFAR-100 como lo tendría una persona.


def comprimir(carpeta, archivo, compresion):
    """Un tar de una carpeta, que se borra."""
    with tarfile.open(archivo, f"w:{compresion}") as tar:
        tar.add(carpeta, carpeta.name)
    shutil.rmtree(carpeta)


def comprimir_en_zip(carpeta, archivo):
    """Un zip de una carpeta, que se borra."""
    with zipfile.ZipFile(archivo, "w", zipfile.ZIP_DEFLATED) as paquete:
        for fichero in sorted(carpeta.rglob("*")):
            paquete.write(fichero, fichero.relative_to(carpeta.parent))
    shutil.rmtree(carpeta)


def cifar_en_su_carpeta(imagenes):
    escribir_cifar(imagenes)


def cifar_sin_su_carpeta(imagenes):
    carpeta = escribir_cifar(imagenes)
    for fichero in list(carpeta.iterdir()):
        fichero.rename(imagenes / fichero.name)
    carpeta.rmdir()


def cifar_en_una_carpeta_con_otro_nombre(imagenes):
    escribir_cifar(imagenes).rename(imagenes / "archive (1)")


def cifar_en_una_carpeta_dentro_de_otra(imagenes):
    escribir_cifar(imagenes / "cifar-100-python")


def cifar_por_un_enlace(imagenes):
    (imagenes / "cifar").symlink_to(escribir_cifar(imagenes.parent / "disco"))


def cifar_tgz_con_el_nombre_repetido(imagenes):
    comprimir(escribir_cifar(imagenes), imagenes / "cifar-100-python (1).tar.gz", "gz")


def cifar_tgz(imagenes):
    comprimir(escribir_cifar(imagenes), imagenes / "cifar.tgz", "gz")


def cifar_tar_sin_comprimir(imagenes):
    comprimir(escribir_cifar(imagenes), imagenes / "cifar-100-python.tar", "")


def cifar_con_el_nombre_que_le_da_keras(imagenes):
    comprimir(escribir_cifar(imagenes), imagenes / "cifar-100-python_archive", "gz")


def cifar_bz2(imagenes):
    comprimir(escribir_cifar(imagenes), imagenes / "cifar-100-python.tar.bz2", "bz2")


def cifar_tar_en_la_carpeta_que_crea_el_descompresor(imagenes):
    carpeta = escribir_cifar(imagenes)
    (imagenes / "cifar-100-python.tar").mkdir()
    comprimir(carpeta, imagenes / "cifar-100-python.tar/cifar-100-python.tar", "")


def cifar_zip(imagenes):
    comprimir_en_zip(escribir_cifar(imagenes), imagenes / "archive.zip")


def cifar_zip_con_los_ficheros_sueltos(imagenes):
    carpeta = escribir_cifar(imagenes)
    with zipfile.ZipFile(imagenes / "descarga.zip", "w") as paquete:
        for fichero in carpeta.iterdir():
            paquete.write(fichero, fichero.name)
    shutil.rmtree(carpeta)


def cifar_zip_de_un_tar(imagenes):
    (imagenes / "kaggle").mkdir()
    comprimir(escribir_cifar(imagenes), imagenes / "kaggle/cifar-100-python.tar.gz", "gz")
    comprimir_en_zip(imagenes / "kaggle", imagenes / "kaggle.zip")


def cifar_con_basura_de_macos(imagenes):
    carpeta = escribir_cifar(imagenes)
    for basura in ("__MACOSX/cifar-100-python", "cifar-100-python"):
        (imagenes / basura).mkdir(parents=True, exist_ok=True)
        (imagenes / basura / "._train").write_bytes(b"\0\5\x16\7")
        (imagenes / basura / ".DS_Store").write_bytes(b"\0")
    assert carpeta.exists()


@pytest.mark.parametrize(
    "disponer",
    [
        cifar_en_su_carpeta,
        cifar_sin_su_carpeta,
        cifar_en_una_carpeta_con_otro_nombre,
        cifar_en_una_carpeta_dentro_de_otra,
        cifar_por_un_enlace,
        cifar_tgz_con_el_nombre_repetido,
        cifar_tgz,
        cifar_tar_sin_comprimir,
        cifar_con_el_nombre_que_le_da_keras,
        cifar_bz2,
        cifar_tar_en_la_carpeta_que_crea_el_descompresor,
        cifar_zip,
        cifar_zip_con_los_ficheros_sueltos,
        cifar_zip_de_un_tar,
        cifar_con_basura_de_macos,
    ],
)
def test_cifar_se_usa_este_como_este(disponer, aislado, capsys):
    disponer(aislado)
    p.nombrar_sobras(["1", "2", "bonus"], p.RESNET50)
    cifar = p.leer_cifar()
    assert cifar.origen == ("CIFAR-100 real", "2.300 imágenes")
    assert np.array_equal(cifar.y_train, np.repeat(np.arange(100), POR_CLASE))
    assert np.array_equal(cifar.x_train[:, 0, 0, 0], cifar.y_train)
    assert "Sin usar" not in capsys.readouterr().out


# --- Pickles que guardó otro Python --------------------------------------------------------------


def con_texto(lote):
    """El mismo lote con las claves y los textos que guardaría Python 3."""
    return {clave.decode(): valor for clave, valor in lote.items()}


def guardar(carpeta, lotes, protocolo):
    """Los pickles de un CIFAR-100 con un protocolo."""
    carpeta.mkdir()
    for nombre, lote in lotes.items():
        (carpeta / nombre).write_bytes(pickle.dumps(lote, protocolo))


@pytest.fixture
def lotes():
    """Los tres diccionarios del CIFAR-100 diminuto."""
    return {
        "train": lote_cifar(POR_CLASE, 1),
        "test": lote_cifar(POR_CLASE_TEST, 2),
        "meta": {b"fine_label_names": NOMBRES_CIFAR.encode().split()},
    }


@pytest.fixture
def esperado(lotes, tmp_path, monkeypatch):
    """Lo que se lee de esos lotes, tal como se publican."""
    guardar(tmp_path / "publicado", lotes, 4)
    with monkeypatch.context() as parche:
        parche.setenv("PRACTICA2_IMAGENES", str(tmp_path / "publicado"))
        return p.leer_cifar()


def comprobar_que_se_lee(esperado):
    leido = p.leer_cifar()
    assert leido.nombres == esperado.nombres and leido.origen == esperado.origen
    assert np.array_equal(leido.x_train, esperado.x_train)
    assert np.array_equal(leido.y_test, esperado.y_test)
    assert np.array_equal(leido.superclases, esperado.superclases)


@pytest.mark.parametrize("protocolo", range(6))
@pytest.mark.parametrize("claves", ["bytes", "texto"])
def test_cifar_guardado_otra_vez_se_lee_con_cualquier_protocolo(
    protocolo, claves, lotes, esperado, aislado
):
    if claves == "texto":
        lotes = {nombre: con_texto(lote) for nombre, lote in lotes.items()}
        lotes["meta"] = {"fine_label_names": NOMBRES_CIFAR.split()}
    guardar(aislado / "otra vez", lotes, protocolo)
    comprobar_que_se_lee(esperado)


@pytest.mark.parametrize("protocolo", [2, 4, 5])
@pytest.mark.parametrize("tipo", ["<i8", ">i4", "u1"])
@pytest.mark.parametrize("forma", ["lista", "fila", "columna"])
def test_las_etiquetas_pueden_ser_matrices_o_numeros_de_numpy(
    protocolo, tipo, forma, lotes, esperado, aislado
):
    for nombre in ("train", "test"):
        for clave in (b"fine_labels", b"coarse_labels"):
            etiquetas = np.array(lotes[nombre][clave], tipo)
            if forma == "lista":
                etiquetas = list(etiquetas)
            elif forma == "columna":
                etiquetas = etiquetas[:, None]
            lotes[nombre][clave] = etiquetas
    guardar(aislado / "con numpy", lotes, protocolo)
    comprobar_que_se_lee(esperado)


@pytest.mark.parametrize("protocolo", [0, 2, 3])
def test_las_matrices_de_numpy_1_y_de_numpy_2_se_leen_igual(protocolo, lotes, esperado, aislado):
    guardar(aislado / "numpy", lotes, protocolo)
    fichero = aislado / "numpy/train"
    contenido = fichero.read_bytes()
    de_numpy_1 = contenido.replace(b"cnumpy._core.", b"cnumpy.core.")
    de_numpy_2 = contenido.replace(b"cnumpy.core.", b"cnumpy._core.")
    assert de_numpy_1 != de_numpy_2
    for escrito in (de_numpy_1, de_numpy_2):
        fichero.write_bytes(escrito)
        comprobar_que_se_lee(esperado)


def test_una_matriz_por_columnas_se_lee_con_sus_imagenes(lotes, esperado, aislado):
    lotes["train"][b"data"] = np.asfortranarray(lotes["train"][b"data"])
    for protocolo in (2, 5):
        shutil.rmtree(aislado / "columnas", ignore_errors=True)
        guardar(aislado / "columnas", lotes, protocolo)
        comprobar_que_se_lee(esperado)


@pytest.mark.parametrize("tipo", ["S13", "<U13", ">U13"])
def test_los_nombres_pueden_ser_una_matriz_de_textos(tipo, lotes, esperado, aislado):
    lotes["meta"] = {"fine_label_names": np.array(NOMBRES_CIFAR.split(), tipo)}
    guardar(aislado / "con numpy", lotes, 4)
    comprobar_que_se_lee(esperado)


@pytest.mark.parametrize("tipo", ["f4", "O", "U1", "M8[s]"])
def test_una_matriz_que_no_es_de_enteros_se_rechaza(tipo, lotes, aislado):
    lotes["train"][b"fine_labels"] = np.zeros(100 * POR_CLASE, tipo)
    guardar(aislado / "raro", lotes, 4)
    assert "train" in rechazo(p.leer_cifar)


def test_otras_clases_con_el_formato_de_cifar_no_se_llaman_cifar_real(lotes, aislado):
    lotes["meta"] = {b"fine_label_names": [f"cosa {n}".encode() for n in range(100)]}
    guardar(aislado / "cosas", lotes, 4)
    assert p.leer_cifar().origen == ("imágenes propias, en formato CIFAR-100", "2.300 imágenes")


# --- Disposiciones de las aves -------------------------------------------------------------------


def aves_2011_anidadas(imagenes):
    escribir_aves(imagenes / "CUB_200_2011", "2011")


def aves_2011_muy_anidadas(imagenes):
    escribir_aves(imagenes / "archive/CUB_200_2011", "2011")


def aves_2011_sin_su_carpeta(imagenes):
    carpeta = escribir_aves(imagenes, "2011").parent
    for entrada in list(carpeta.iterdir()):
        entrada.rename(imagenes / entrada.name)
    carpeta.rmdir()


def aves_2011_sin_las_listas_que_sobran(imagenes):
    carpeta = escribir_aves(imagenes, "2011").parent
    (carpeta / "classes.txt").unlink()
    (carpeta / "image_class_labels.txt").unlink()


def aves_2011_tgz_como_se_descarga(imagenes):
    carpeta = escribir_aves(imagenes, "2011").parent
    with tarfile.open(imagenes / "CUB_200_2011.tgz", "w:gz") as tar:
        tar.add(__file__, "attributes.txt")
        tar.add(carpeta, carpeta.name)
    shutil.rmtree(carpeta)


def aves_2011_tar_bz2_con_otro_nombre(imagenes):
    carpeta = escribir_aves(imagenes, "2011").parent
    comprimir(carpeta, imagenes / "descarga (2).tar.bz2", "bz2")


def aves_2011_zip(imagenes):
    comprimir_en_zip(escribir_aves(imagenes, "2011").parent, imagenes / "archive.zip")


def aves_2011_zip_de_un_tgz(imagenes):
    (imagenes / "bajado").mkdir()
    carpeta = escribir_aves(imagenes, "2011").parent
    comprimir(carpeta, imagenes / "bajado/CUB_200_2011.tgz", "gz")
    comprimir_en_zip(imagenes / "bajado", imagenes / "bajado.zip")


def aves_2011_por_un_enlace(imagenes):
    carpeta = escribir_aves(imagenes.parent / "disco", "2011").parent
    (imagenes / "CUB_200_2011").symlink_to(carpeta)


def aves_2010_dos_archivos(imagenes):
    carpeta = escribir_aves(imagenes, "2010").parent
    comprimir(carpeta / "images", imagenes / "images.tgz", "gz")
    comprimir(carpeta / "lists", imagenes / "lists.tgz", "gz")
    carpeta.rmdir()


def aves_2010_dos_archivos_descomprimidos(imagenes):
    carpeta = escribir_aves(imagenes, "2010").parent
    (carpeta / "images").rename(imagenes / "images")
    (carpeta / "lists").rename(imagenes / "lists")
    carpeta.rmdir()


def aves_2010_dos_archivos_descomprimidos_en_carpetas_suyas(imagenes):
    carpeta = escribir_aves(imagenes, "2010").parent
    for nombre in ("images", "lists"):
        (imagenes / nombre).mkdir()
        (carpeta / nombre).rename(imagenes / nombre / nombre)
    carpeta.rmdir()
    anotaciones = imagenes / "annotations/annotations-mat" / ESPECIES[0]
    anotaciones.mkdir(parents=True)
    (anotaciones / "ave.mat").write_bytes(b"MATLAB")


def aves_2010_las_listas_descomprimidas_y_las_fotos_no(imagenes):
    aves_2010_dos_archivos_descomprimidos(imagenes)
    comprimir(imagenes / "images", imagenes / "images.tgz", "gz")


def aves_2010_las_fotos_descomprimidas_y_las_listas_no(imagenes):
    aves_2010_dos_archivos_descomprimidos(imagenes)
    comprimir(imagenes / "lists", imagenes / "lists.tgz", "gz")


def aves_del_curso(imagenes):
    escribir_aves(imagenes, "curso")


def aves_del_curso_en_una_carpeta(imagenes):
    escribir_aves(imagenes / "aves", "curso")


def aves_del_curso_zip(imagenes):
    escribir_aves(imagenes / "imagenes", "curso")
    comprimir_en_zip(imagenes / "imagenes", imagenes / "imagenes.zip")


def aves_del_curso_con_cada_foto_enlazada(imagenes):
    escribir_aves(imagenes, "curso")
    almacen = imagenes.parent / "almacén"
    almacen.mkdir()
    for numero, foto in enumerate(sorted(imagenes.glob("*/*.jpg"))):
        foto.rename(almacen / str(numero))
        foto.symlink_to(almacen / str(numero))


def aves_del_curso_con_las_clases_enlazadas(imagenes):
    escribir_aves(imagenes.parent / "disco", "curso")
    for entrada in (imagenes.parent / "disco").iterdir():
        (imagenes / entrada.name).symlink_to(entrada)


def aves_del_curso_con_basura_de_macos(imagenes):
    escribir_aves(imagenes, "curso")
    (imagenes / "__MACOSX").mkdir()
    (imagenes / ".DS_Store").write_bytes(b"\0")
    (imagenes / "._train.txt").write_bytes(b"\0")
    for especie in ESPECIES:
        (imagenes / especie / "._ave.jpg").write_bytes(b"\0\5\x16\7")
    with open(imagenes / "train.txt", "a") as lista:
        lista.write(f"{ESPECIES[0]}/._ave.jpg\n{ESPECIES[0]}/.DS_Store\n")


DISPOSICIONES = [
    aves_2011_anidadas,
    aves_2011_muy_anidadas,
    aves_2011_sin_su_carpeta,
    aves_2011_sin_las_listas_que_sobran,
    aves_2011_tgz_como_se_descarga,
    aves_2011_tar_bz2_con_otro_nombre,
    aves_2011_zip,
    aves_2011_zip_de_un_tgz,
    aves_2011_por_un_enlace,
    aves_2010_dos_archivos,
    aves_2010_dos_archivos_descomprimidos,
    aves_2010_dos_archivos_descomprimidos_en_carpetas_suyas,
    aves_2010_las_listas_descomprimidas_y_las_fotos_no,
    aves_2010_las_fotos_descomprimidas_y_las_listas_no,
    aves_del_curso,
    aves_del_curso_en_una_carpeta,
    aves_del_curso_zip,
    aves_del_curso_con_cada_foto_enlazada,
    aves_del_curso_con_las_clases_enlazadas,
    aves_del_curso_con_basura_de_macos,
]


@pytest.mark.parametrize("disponer", DISPOSICIONES)
def test_las_aves_se_usan_esten_como_esten(disponer, aislado, monkeypatch, tmp_path):
    escribir_fotos(tmp_path / "originales")
    disponer(aislado)
    datos = p.leer_aves(p.COMPLETO, 7)
    anteriores = "CUB-200-2011" if "2011" in disponer.__name__ else "CUB-200 (2010)"
    assert datos.origen == (f"{anteriores} real", "3 de sus 200 especies")
    esperadas = [r for r, de_train in sorted(lista_aves()) if not de_train]
    fotos = [p.leer_imagen(tmp_path / "originales" / ruta) for ruta in esperadas]
    assert np.array_equal(datos.test.x, np.stack(fotos))
    assert len(datos.train.x) + len(datos.val.x) == 12


@pytest.mark.parametrize("disponer", DISPOSICIONES)
def test_de_unas_aves_que_se_usan_no_se_dice_que_sobren(disponer, aislado, capsys):
    disponer(aislado)
    p.nombrar_sobras(["3"], p.RESNET50)
    for linea in capsys.readouterr().out.splitlines():
        assert "Descomprimiendo" in linea or "annotations" in linea or "attributes.txt" in linea


def test_el_archivo_de_aves_no_se_descomprime_junto_a_el_sino_en_la_cache(aislado, tmp_path):
    aves_2011_tgz_como_se_descarga(aislado)
    p.leer_aves(p.COMPLETO, 7)
    assert os.listdir(aislado) == ["CUB_200_2011.tgz"]
    assert list((tmp_path / "keras/datasets").iterdir())


def test_otro_archivo_con_el_mismo_nombre_se_descomprime_otra_vez(aislado):
    aves_2011_tgz_como_se_descarga(aislado)
    una = p.leer_aves(p.COMPLETO, 7)
    (aislado / "CUB_200_2011.tgz").unlink()
    raiz = escribir_aves(aislado, "2011")
    Image.new("RGB", (30, 30), (9, 9, 9)).save(raiz / lista_aves()[4][0])
    comprimir(raiz.parent, aislado / "CUB_200_2011.tgz", "gz")
    otra = p.leer_aves(p.COMPLETO, 7)
    assert not np.array_equal(una.test.x, otra.test.x)


@pytest.mark.parametrize("anyo", ["2010", "2011"])
def test_con_las_dos_ediciones_de_las_aves_no_se_mezclan(anyo, aislado):
    escribir_aves(aislado, "2010")
    escribir_aves(aislado, "2011")
    if anyo == "2010":
        for entrada in (aislado / "CUB_200").iterdir():
            entrada.rename(aislado / entrada.name)
        shutil.rmtree(aislado / "CUB_200_2011/images")
    listas = p.listar_aves(aislado)
    assert listas.carpeta == aislado / ("images" if anyo == "2010" else "CUB_200_2011/images")


# --- Listas de otros sistemas y programas --------------------------------------------------------


def con_barras_de_windows(ruta):
    return ruta.replace("/", "\\")


def con_el_numero_de_la_clase(ruta):
    return f"{ruta} {int(ruta[:3])}"


def con_una_coma_y_comillas(ruta):
    return f'"{ruta}",{int(ruta[:3])}'


def con_un_tabulador_y_el_nombre(ruta):
    return f"{ruta}\t{ruta.split('/')[0]}"


def con_un_punto_delante(ruta):
    return f"./{ruta}"


def con_la_carpeta_de_las_fotos(ruta):
    return f"images/{ruta}"


def con_todas_las_carpetas_y_barras_de_windows(ruta):
    return f"CUB_200_2011\\images\\{con_barras_de_windows(ruta)}"


def igual(ruta):
    return ruta


ESCRITURAS = [
    con_barras_de_windows,
    con_el_numero_de_la_clase,
    con_una_coma_y_comillas,
    con_un_tabulador_y_el_nombre,
    con_un_punto_delante,
    con_la_carpeta_de_las_fotos,
    con_todas_las_carpetas_y_barras_de_windows,
]


def reescribir(fichero, escribir, codificacion="utf-8", final="\n"):
    """La misma lista de rutas, escrita de otra manera."""
    rutas = fichero.read_text().split("\n")[:-1]
    texto = "".join(escribir(ruta) + final for ruta in rutas)
    fichero.write_bytes(texto.encode(codificacion))


@pytest.mark.parametrize("escribir", ESCRITURAS)
@pytest.mark.parametrize("formato", ["curso", "2010"])
def test_una_lista_escrita_de_otra_manera_da_las_mismas_rutas(escribir, formato, aislado):
    carpeta = escribir_aves(aislado, formato)
    buenas = p.listar_aves(aislado)
    listas = carpeta if formato == "curso" else carpeta.parent / "lists"
    for nombre in ("train.txt", "test.txt"):
        reescribir(listas / nombre, escribir)
    assert p.listar_aves(aislado) == buenas


@pytest.mark.parametrize("codificacion", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-le-con-bom"])
@pytest.mark.parametrize("final", ["\n", "\r\n", "\r"])
def test_una_lista_en_otra_codificacion_da_las_mismas_rutas(codificacion, final, aislado):
    escribir_aves(aislado, "curso")
    buenas = p.listar_aves(aislado)
    if codificacion.endswith("con-bom"):  # la que escribe PowerShell
        for nombre in ("train.txt", "test.txt"):
            reescribir(aislado / nombre, igual, "utf-16-le", final)
            contenido = (aislado / nombre).read_bytes()
            (aislado / nombre).write_bytes(b"\xff\xfe" + contenido)
    else:
        for nombre in ("train.txt", "test.txt"):
            reescribir(aislado / nombre, igual, codificacion, final)
    assert p.listar_aves(aislado) == buenas


def test_una_lista_con_acentos_en_la_codificacion_de_windows_se_lee(aislado):
    escribir_aves(aislado, "curso")
    (aislado / ESPECIES[0]).rename(aislado / "001.Pájaro")
    for nombre in ("train.txt", "test.txt"):
        texto = (aislado / nombre).read_text().replace(ESPECIES[0], "001.Pájaro")
        (aislado / nombre).write_bytes(texto.encode("cp1252"))
    assert "Pájaro" in p.cargarDatos(aislado)[-1]


def test_las_rutas_de_2011_con_barras_de_windows_se_leen(aislado):
    escribir_aves(aislado, "2011")
    buenas = p.listar_aves(aislado)
    reescribir(aislado / "CUB_200_2011/images.txt", con_barras_de_windows, final="\r\n")
    assert p.listar_aves(aislado) == buenas


@pytest.mark.parametrize(
    "linea",
    [
        "../secreto.jpg",
        "..\\..\\secreto.jpg",
        "001.Ave/../../secreto.jpg",
        "/etc/passwd",
        "\\ave\\a.jpg",
        "\\\\servidor\\ave\\a.jpg",
        "C:\\ave\\a.jpg",
        "c:ave/a.jpg",
        "images/../../secreto.jpg",
        "suelta.jpg",
        "otra/carpeta/a.jpg",
    ],
)
def test_una_linea_que_sale_o_que_no_es_clase_e_imagen_se_rechaza_con_su_cura(linea, aislado):
    escribir_aves(aislado, "curso")
    with open(aislado / "train.txt", "a") as lista:
        lista.write(linea + "\n")
    mensaje = rechazo(lambda: p.listar_aves(aislado))
    assert "train.txt" in mensaje and linea in mensaje


def test_una_lista_que_empieza_por_el_numero_dice_como_ha_de_ser_cada_linea(aislado):
    escribir_aves(aislado, "curso")
    for nombre in ("train.txt", "test.txt"):
        reescribir(aislado / nombre, lambda ruta: f"{int(ruta[:3])},{ruta}")
    assert "«clase/imagen.jpg»" in rechazo(lambda: p.listar_aves(aislado))


def test_si_faltan_fotos_se_dice_cuantas(aislado):
    escribir_aves(aislado, "curso")
    shutil.rmtree(aislado / ESPECIES[1])
    mensaje = rechazo(lambda: p.listar_aves(aislado))
    assert ESPECIES[1] in mensaje and "faltan 6 de 18 fotos" in mensaje


# --- Etiquetas: lo que se ha comprobado, y no más ------------------------------------------------


def renombrar_clases(carpeta, listas, nombres):
    """Cambia los nombres de las carpetas de clase, también en las listas."""
    for vieja, nueva in zip(ESPECIES, nombres):
        (carpeta / vieja).rename(carpeta / nueva)
        for lista in listas:
            lista.write_text(lista.read_text().replace(f"{vieja}/", f"{nueva}/"))


@pytest.mark.parametrize("formato", ["curso", "2010", "2011"])
@pytest.mark.parametrize(
    "nombres",
    [
        ("avión", "coche", "perro"),
        ("001.Ave_0", "002.Ave_1", "003.Ave_2"),
        (*ESPECIES[:2], "003.Cormoran"),
    ],
)
def test_otras_imagenes_en_el_formato_de_las_aves_no_se_llaman_cub(formato, nombres, aislado):
    carpeta = escribir_aves(aislado, formato)
    listas = [f for f in aislado.rglob("*.txt") if f.name != "train_test_split.txt"]
    renombrar_clases(carpeta, listas, nombres)
    assert p.leer_aves(p.COMPLETO, 7).origen == ("imágenes propias", "3 clases")


def test_las_especies_se_reconocen_con_otro_numero_y_la_edicion_por_el_de_las_fotos():
    de_2010 = ["007.Laysan_Albatross/Laysan_Albatross_0002_2293084168.jpg"]
    de_2011 = ["001.Laysan_Albatross/Laysan_Albatross_0085_564.jpg"]
    assert p.nombrar_conjunto(de_2010, "rutas") == "CUB-200 (2010)"
    assert p.nombrar_conjunto(de_2011, "rutas") == "CUB-200-2011"
    assert p.nombrar_conjunto(de_2010, "ids") == "CUB-200-2011"


def test_las_doscientas_huellas_son_distintas_de_las_de_otras_cosas():
    assert len(p.HUELLAS_ESPECIES) == 4 * 200
    for otra in ("avión", "coche", "Ave_0", "canario", "Black_footed"):
        assert p.nombrar_conjunto([f"001.{otra}/a_0001_1.jpg"], "ids") == p.IMAGENES_PROPIAS


# --- Lo que no se usa, se nombra -----------------------------------------------------------------

PESOS = p.RESNET50.nombre_fichero


@pytest.mark.parametrize(
    "nombre",
    [
        PESOS.replace(".h5", " (1).h5"),
        PESOS.replace("_notop", ""),
        "resnet50.keras",
        "resnet50.weights.h5",
    ],
)
def test_unos_pesos_con_otro_nombre_se_nombran_con_el_que_se_espera(nombre, aislado, capsys):
    (aislado / nombre).write_bytes(b"pesos")
    p.nombrar_sobras(["3"], p.RESNET50)
    (linea,) = capsys.readouterr().out.splitlines()
    assert nombre in linea and PESOS in linea


def test_los_pesos_con_su_nombre_se_usan_tambien_dentro_de_una_carpeta(aislado, capsys):
    (aislado / "pesos").mkdir()
    (aislado / "pesos" / PESOS).write_bytes(b"pesos")
    assert p.buscar_pesos(p.RESNET50).fichero == aislado / "pesos" / PESOS
    p.nombrar_sobras(["3"], p.RESNET50)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("nombre", ["apuntes.pdf", "aves.rar", "cifar-10-python", "datos.7z"])
def test_lo_que_no_se_reconoce_se_nombra_en_una_linea_con_lo_que_se_esperaba(
    nombre, aislado, capsys
):
    (aislado / nombre).write_bytes(b"?")
    (aislado / "README.md").write_text("no es de nadie")
    p.nombrar_sobras(["1", "3"], p.RESNET50)
    (linea,) = capsys.readouterr().out.splitlines()
    assert nombre in linea and "train, test y meta" in linea and "README" not in linea


def test_unas_fotos_sin_listas_se_nombran_con_las_que_faltan(aislado, capsys):
    escribir_fotos(aislado / "images")
    p.nombrar_sobras(["3"], p.RESNET50)
    (linea,) = capsys.readouterr().out.splitlines()
    assert "images" in linea and "train.txt" in linea and "train_test_split.txt" in linea


def test_las_clases_que_no_estan_en_las_listas_se_nombran_juntas(aislado, capsys):
    escribir_aves(aislado, "curso")
    for numero in range(10, 30):
        shutil.copytree(aislado / ESPECIES[0], aislado / f"0{numero}.Otra")
    p.nombrar_sobras(["3"], p.RESNET50)
    (linea,) = capsys.readouterr().out.splitlines()
    assert "010.Otra" in linea and "y 16 más" in linea


def test_la_copia_que_no_se_lee_se_nombra(aislado, capsys):
    carpeta = escribir_cifar(aislado)
    with tarfile.open(aislado / "cifar-100-python.tar.gz", "w:gz") as tar:
        tar.add(carpeta, carpeta.name)
    p.nombrar_sobras(["1"], p.RESNET50)
    (linea,) = capsys.readouterr().out.splitlines()
    assert "cifar-100-python.tar.gz" in linea


@pytest.mark.parametrize(
    "nombre, leer",
    [
        ("cifar-100-binary", p.leer_cifar),
        ("cifar-100-python.tar.gz.crdownload", p.leer_cifar),
        ("CIFAR100.rar", p.leer_cifar),
        ("CUB_200_2011", lambda: p.leer_aves(p.COMPLETO, 7)),
        ("CUB-200.7z", lambda: p.leer_aves(p.COMPLETO, 7)),
    ],
)
@pytest.mark.parametrize("es_carpeta", [True, False])
def test_lo_que_dice_ser_los_datos_y_no_lo_es_detiene_el_script(nombre, leer, es_carpeta, aislado):
    if es_carpeta:
        (aislado / nombre).mkdir()
    else:
        (aislado / nombre).write_bytes(b"a medias")
    assert nombre in rechazo(leer)


@pytest.mark.parametrize("nombre", ["archive.zip", "descarga.tar.gz", "images.tgz"])
@pytest.mark.parametrize("contenido", [b"", b"<html>404</html>", b"PK\3\4 a medias"])
def test_un_archivo_que_no_se_puede_abrir_se_dice_con_su_cura(nombre, contenido, aislado):
    (aislado / nombre).write_bytes(contenido)
    for leer in (p.leer_cifar, lambda: p.leer_aves(p.COMPLETO, 7)):
        mensaje = rechazo(leer)
        assert nombre in mensaje and "descargarlo" in mensaje


def test_un_zip_con_contrasena_o_que_sale_de_su_carpeta_se_rechaza(aislado, tmp_path):
    with zipfile.ZipFile(aislado / "aves.zip", "w") as paquete:
        paquete.writestr("../../fuera.jpg", b"secreto")
    assert "aves.zip" in rechazo(lambda: p.leer_aves(p.COMPLETO, 7))
    assert not list(tmp_path.rglob("fuera.jpg"))


def test_un_archivo_sin_nada_que_sirva_se_nombra_y_no_se_descomprime(aislado, capsys, tmp_path):
    with zipfile.ZipFile(aislado / "apuntes.zip", "w") as paquete:
        paquete.writestr("tema1.pdf", b"apuntes")
    p.nombrar_sobras(["1", "3"], p.RESNET50)
    assert "apuntes.zip" in capsys.readouterr().out
    assert p.leer_aves(p.COMPLETO, 7).origen == ("aves SINTÉTICAS", "10 especies")
    assert not (tmp_path / "keras").exists()


def test_sin_carpeta_imagenes_no_hay_nada_que_nombrar(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("PRACTICA2_IMAGENES")
    monkeypatch.setattr(p, "AQUI", tmp_path / "vacío")
    p.nombrar_sobras(["1", "3"], p.RESNET50)
    assert capsys.readouterr().out == ""
    assert p.leer_cifar().origen == ("CIFAR-100 SINTÉTICO",)


def test_los_pesos_de_imagenet_se_reconocen_por_su_huella(aislado):
    (aislado / PESOS).write_bytes(b"pesos")
    de_imagenet = replace(p.RESNET50, md5_imagenet=hashlib.md5(b"pesos").hexdigest())
    assert p.buscar_pesos(de_imagenet).etiqueta == "pesos de ImageNet"
    assert p.buscar_pesos(p.RESNET50).etiqueta == "otros pesos"


@pytest.mark.parametrize("enlace", ["bucle", "roto"])
def test_un_enlace_sin_fin_o_roto_no_estorba(enlace, aislado):
    escribir_aves(aislado, "curso")
    hacia = aislado if enlace == "bucle" else aislado / "no existe"
    (aislado / enlace).symlink_to(hacia)
    assert p.listar_aves(aislado).carpeta == aislado
