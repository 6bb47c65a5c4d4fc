"""La memoria: las cifras que RESUMEN pone junto a las suyas, los resultados, las figuras y el PDF."""

import hashlib
import json
import re
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location

import numpy as np
import pypdf
import pytest
import typst
from conftest import RAIZ
from PIL import Image

import practica2 as p

RESULTADOS = json.loads((RAIZ / "memoria/resultados.json").read_text(encoding="utf-8"))
CIFAR, AVES = "Apartados 1, 2 y Bonus", "Apartado 3"
ORIGEN = {
    CIFAR: "CIFAR-100 real",
    AVES: "CUB-200-2011 real, 100 de sus 200 especies; ResNet50 con otros pesos",
}


@pytest.fixture
def memoria(monkeypatch):
    """Una memoria de tres filas, con la dispersión medida solo en la primera."""
    cifras = {"BaseNet": (0.44, 0.01), "Comité": (0.86, None), "ResNet50, ajuste fino": (0.85, None)}
    monkeypatch.setattr(p, "MEMORIA", cifras)
    monkeypatch.setattr(p, "MEMORIA_ORIGEN", ORIGEN)


def fila(apartado, experimento, test):
    return p.Resultado(apartado, experimento, 1, 1, 1.0, 0.5, test)


def de_cada_semilla(parte, experimento):
    """Aciertos en test de un experimento con las semillas de una parte de los resultados."""
    filas = [fila for de_una in RESULTADOS.get(parte, {}).values() for fila in de_una]
    return [fila["test"] for fila in filas if fila["experimento"] == experimento]


def test_las_cifras_de_la_memoria_son_las_de_resultados_json():
    con_test = {f["experimento"]: f["test"] for f in RESULTADOS["filas"] if f["test"] is not None}
    assert {nombre: cifra for nombre, (cifra, _) in p.MEMORIA.items()} == pytest.approx(con_test, abs=1e-6)
    for nombre, (cifra, desviacion) in p.MEMORIA.items():
        # Las cabezas del Apartado 3 se repiten con tres semillas; lo demás, con dos además de la del script.
        cabezas, otras = (de_cada_semilla(parte, nombre) for parte in ("cabezas", "semillas"))
        assert (desviacion is not None) == bool(cabezas or otras), nombre
        if desviacion:
            valores = cabezas or [cifra, *otras]
            media = sum(valores) / len(valores)
            varianza = sum((v - media) ** 2 for v in valores) / (len(valores) - 1)
            assert desviacion == pytest.approx(varianza**0.5, abs=1e-4)


def test_el_origen_de_la_memoria_es_el_de_resultados_json():
    cifar, aves = RESULTADOS["partes"]["12bonus"], RESULTADOS["partes"]["3"]
    assert p.MEMORIA_ORIGEN[CIFAR] == cifar["datos"]
    assert p.MEMORIA_ORIGEN[AVES] == f"{aves['datos']}; ResNet50 con {aves['pesos']}"


@pytest.mark.parametrize(
    "test, diferencia",
    [(0.44, "+0,00 dentro"), (0.4601, "+2,01 dentro"), (0.37, "-7,00 fuera"), (0.4399999, "+0,00 dentro")],
)
def test_con_dispersion_medida_hay_veredicto(test, diferencia, memoria):
    assert p.frente_a_memoria(fila("1", "BaseNet", test), ORIGEN) == ["44,00 % ± 1,00", diferencia]


def test_sin_dispersion_medida_no_hay_veredicto(memoria):
    assert p.frente_a_memoria(fila("Bonus", "Comité", 0.87), ORIGEN) == ["86,00 %", "+1,00"]


@pytest.mark.parametrize(
    "experimento, test", [("Escalera: BaseNet", None), ("MobileNetV2, ajuste fino", 0.9)]
)
def test_una_fila_sin_test_o_que_la_memoria_no_tiene_no_lleva_nada(experimento, test, memoria):
    assert p.frente_a_memoria(fila("2", experimento, test), ORIGEN) == ["", ""]


@pytest.mark.parametrize(
    "apartado, experimento, origen, dice",
    [
        ("1", "BaseNet", "CIFAR-100 SINTÉTICO", "memoria: CIFAR-100 real"),
        ("1", "BaseNet", "CIFAR-100 real, subconjunto", "memoria: todas las imágenes"),
        (
            "3.2",
            "ResNet50, ajuste fino",
            "CUB-200-2011 real, 100 de sus 200 especies; ResNet50 con pesos de ImageNet",
            "memoria: otros pesos",
        ),
        (
            "3.2",
            "ResNet50, ajuste fino",
            "CUB-200-2011 real, 200 de sus 200 especies; ResNet50 con otros pesos",
            "memoria: 100 de sus 200 especies",
        ),
    ],
)
def test_con_otros_datos_o_pesos_no_hay_cifra(apartado, experimento, origen, dice, memoria):
    origenes = dict.fromkeys(ORIGEN, origen)
    assert p.frente_a_memoria(fila(apartado, experimento, 0.5), origenes) == [dice, ""]


def test_la_tabla_lleva_las_columnas_de_la_memoria(memoria, capsys):
    p.imprimir_resultados([fila("1", "BaseNet", 0.45), fila("2", "Escalera: BaseNet", None)], ORIGEN)
    cabecera, _, base, peldano = capsys.readouterr().out.splitlines()
    assert re.search(r"Memoria +Diferencia$", cabecera)
    assert base.endswith("44,00 % ± 1,00  +1,00 dentro") and peldano.endswith("—")


# --- El PDF y los resultados de los que sale -----------------------------------------------------


@pytest.fixture(scope="module")
def generar():
    """El módulo memoria/generar.py."""
    especificacion = spec_from_file_location("generar", RAIZ / "memoria/generar.py")
    modulo = module_from_spec(especificacion)
    especificacion.loader.exec_module(modulo)
    return modulo


@pytest.fixture(scope="module")
def pdf(tmp_path_factory):
    """Texto de la memoria compuesta ahora con los resultados guardados."""
    fichero = tmp_path_factory.mktemp("memoria") / "memoria.pdf"
    typst.compile(RAIZ / "memoria/memoria.typ", output=fichero)
    return texto_del_pdf(fichero)


def texto_del_pdf(fichero):
    """Texto de un PDF sin espacios ni guiones de partir palabras."""
    return re.sub(r"\s", "", "".join(pagina.extract_text() for pagina in pypdf.PdfReader(fichero).pages))


def test_la_memoria_lleva_todas_las_filas_con_sus_cifras(pdf):
    for fila in RESULTADOS["filas"]:
        cifras = [p.porcentaje(fila[campo]) for campo in ("val", "test") if fila[campo] is not None]
        en_la_tabla = re.escape(fila["experimento"].replace(" ", "")) + r"[\d.:—]*" + "".join(cifras)
        assert re.search(en_la_tabla.replace(" ", ""), pdf), fila["experimento"]


def test_el_pdf_guardado_es_el_que_sale_de_los_resultados(pdf):
    assert texto_del_pdf(RAIZ / "memoria/memoria.pdf") == pdf


def test_las_filas_y_sus_parametros_son_los_que_da_hoy_el_script():
    datos = p.datos_cifar(p.cifar_sintetico(4), p.CLASES, 7)
    de_100 = replace(datos, clases=tuple(range(100)))
    vectores, mapas = (vacias(forma, 100) for forma in ((2048,), (7, 7, 2048)))
    receta, escalera = p.Receta(), {"Escalera: BaseNet": p.construir_red(p.Receta(), datos)}
    for nombre, cambio in p.PASOS:
        escalera[f"Escalera: {nombre}"] = p.construir_red(replace(receta, **cambio), datos)
        receta = receta if nombre in p.DESCARTADOS else replace(receta, **cambio)
    final, generalista = (p.construir_red(p.RECETA_FINAL, d) for d in (datos, de_100))
    resnet = p.construir_base(p.RESNET50, p.Pesos(None, ""), 64)
    ajuste = p.construir_ajuste(resnet, p.cabeza_salida(vectores))
    redes = {
        "BaseNet": p.construir_basenet(),
        **escalera,
        "BaseNet mejorada": final,
        "BaseNet mejorada, con espejo": final,
        "ResNet50, solo la salida": p.cabeza_salida(vectores),
        "ResNet50, nueva FC y salida": p.cabeza_fc(vectores),
        "ResNet50, SVM lineal": None,
        "ResNet50, discriminante lineal": None,
        "ResNet50, random forest": None,
        "ResNet50, sin average pooling": p.cabeza_convolucional(mapas),
        "ResNet50, ajuste fino": ajuste,
        "ResNet50, ajuste fino, con espejo": ajuste,
        "Generalista, 100 clases": generalista,
        "Generalista, 25 clases": generalista,
    }
    hoy = [(nombre, red and red.count_params()) for nombre, red in redes.items()]
    hoy.append(("Comité, 25 clases", final.count_params() + generalista.count_params()))
    assert [(f["experimento"], f["parametros"]) for f in RESULTADOS["filas"]] == hoy


def test_el_readme_lleva_la_tabla_de_los_resultados(generar, monkeypatch, tmp_path):
    antes = generar.LEEME.read_text(encoding="utf-8")
    otro = tmp_path / "README.md"
    otro.write_text(generar.BLOQUE_LEEME.sub("otra tabla\n", antes), encoding="utf-8")
    monkeypatch.setattr(generar, "LEEME", otro)
    generar.escribir_leeme(RESULTADOS)
    escrito = otro.read_text(encoding="utf-8")
    assert escrito == antes and all(f["experimento"] in escrito for f in RESULTADOS["filas"])


def vacias(forma, clases):
    """Datos de esa forma, de unos, para construir una cabeza."""
    unos = p.Conjunto(np.ones((2, *forma), "float32"), np.eye(2, clases))
    return p.Datos(unos, unos, unos, tuple(range(clases)), "")


def test_cada_figura_lleva_la_huella_de_los_resultados_de_los_que_sale():
    de_los_resultados = hashlib.sha256((RAIZ / "memoria/resultados.json").read_bytes()).hexdigest()
    codigos = {parte["codigo"] for parte in RESULTADOS["partes"].values()}
    figuras = RAIZ / "memoria/figuras"
    usadas = re.findall(r'imagen\("([^"]+)"', (RAIZ / "memoria/memoria.typ").read_text(encoding="utf-8"))
    assert len(usadas) > 10
    for nombre in usadas:
        if nombre.endswith(".svg"):
            assert de_los_resultados in (figuras / nombre).read_text(encoding="utf-8"), nombre
        else:
            assert Image.open(figuras / nombre).info["comment"].decode() in codigos, nombre


@pytest.mark.parametrize(
    "cambio, cambia",
    [
        (("ARBOLES = 150", "ARBOLES = 151"), {"3", "imagenet"}),
        (("PESO_SUPERCLASE = 0.5", "PESO_SUPERCLASE = 0.6"), {"12bonus", "ingredientes"}),
        (("LOTE = 128", "LOTE = 64"), {"12bonus", "3", "imagenet", "contrastes", "semillas", "ingredientes"}),
        (("ARBOLES = 150  # ", "ARBOLES = 150  # otro comentario: "), set()),
        (("MEMORIA = {", 'MEMORIA = {"otra": (0.5, None), '), set()),
    ],
)
def test_la_huella_de_una_parte_cambia_con_el_codigo_al_que_llega(
    cambio, cambia, generar, monkeypatch, tmp_path
):
    antes = {parte: generar.huella(parte) for parte in generar.PARTES}
    codigo = generar.SCRIPT.read_text(encoding="utf-8")
    assert cambio[0] in codigo
    otro = tmp_path / "practica2.py"
    otro.write_text(codigo.replace(*cambio), encoding="utf-8")
    monkeypatch.setattr(generar, "SCRIPT", otro)
    assert {parte for parte in generar.PARTES if generar.huella(parte) != antes[parte]} == cambia
