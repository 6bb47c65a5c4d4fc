"""La memoria: las cifras que RESUMEN pone junto a las suyas, los resultados, figuras y PDF."""

import hashlib
import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pypdf
import pytest
from conftest import RAIZ
from PIL import Image

import practica2 as p

sys.path.insert(0, str(RAIZ / "memoria"))
import generar
import medir

RESULTADOS = json.loads((RAIZ / "memoria/resultados.json").read_text(encoding="utf-8"))
CIFAR = ("CIFAR-100 real", "todas las imágenes")
AVES = ("CUB-200-2011 real", "100 de sus 200 especies", "otros pesos")


# --- La columna de RESUMEN -----------------------------------------------------------------------


@pytest.fixture
def memoria(monkeypatch):
    """Una memoria de tres filas, con la dispersión medida solo en la primera."""
    cifras = {
        "BaseNet": (0.44, 0.01, CIFAR),
        "Comité": (0.86, None, CIFAR),
        "ResNet50, ajuste fino": (0.85, None, AVES),
    }
    monkeypatch.setattr(p, "MEMORIA", cifras)


def fila(experimento, test, origen=CIFAR):
    return p.Resultado("1", experimento, 1, 1, 1.0, val=0.5, test=test, origen=origen)


@pytest.mark.parametrize(
    "test, diferencia, lugar",
    [
        (0.44, "+0,00", "dentro"),
        (0.4601, "+2,01", "dentro"),
        (0.37, "-7,00", "fuera"),
        (0.4399999, "+0,00", "dentro"),
    ],
)
def test_con_dispersion_medida_hay_veredicto(test, diferencia, lugar, memoria):
    esperado = ("44,00 % ± 1,00", diferencia, lugar)
    assert p.frente_a_memoria(fila("BaseNet", test)) == esperado


def test_sin_dispersion_medida_no_hay_veredicto(memoria):
    assert p.frente_a_memoria(fila("Comité", 0.87)) == ("86,00 %", "+1,00", "")


@pytest.mark.parametrize("experimento, test", [("BaseNet", None), ("Red que no está", 0.9)])
def test_una_fila_sin_test_o_que_la_memoria_no_tiene_no_lleva_nada(experimento, test, memoria):
    assert p.frente_a_memoria(fila(experimento, test)) == ("", "", "")


@pytest.mark.parametrize(
    "experimento, origen, dice",
    [
        ("BaseNet", ("CIFAR-100 SINTÉTICO",), "memoria: CIFAR-100 real"),
        ("BaseNet", (CIFAR[0], "20 imágenes por clase"), "memoria: todas las imágenes"),
        ("ResNet50, ajuste fino", (*AVES[:2], "pesos de ImageNet"), "memoria: otros pesos"),
        ("ResNet50, ajuste fino", ("aves SINTÉTICAS", "10 especies"), "memoria: CUB-200-2011 real"),
        (
            "ResNet50, ajuste fino",
            (AVES[0], "200 de sus 200 especies", "pesos de ImageNet"),
            "memoria: 100 de sus 200 especies, otros pesos",
        ),
    ],
)
def test_con_otros_datos_o_pesos_no_hay_cifra(experimento, origen, dice, memoria):
    assert p.frente_a_memoria(fila(experimento, 0.5, origen)) == (dice, "", "")


def test_la_tabla_lleva_las_columnas_de_la_memoria_y_cuantas_se_esperan_fuera(memoria, capsys):
    p.imprimir_resultados([fila("BaseNet", 0.45), fila("Comité", 0.9), fila("Escalera", None)])
    cabecera, _, base, _, peldano, _, azar = capsys.readouterr().out.splitlines()
    assert re.search(r"Memoria +Diferencia$", cabecera)
    assert base.endswith("44,00 % ± 1,00  +1,00 dentro") and peldano.endswith("—")
    assert "veredicto: 1;" in azar and azar.endswith("fuera: 0,1.")  # el 5 % de una


# --- Las cifras que guarda el script -------------------------------------------------------------


def test_las_cifras_de_la_memoria_son_las_de_resultados_json():
    bloque = generar.BLOQUE_MEMORIA.search((RAIZ / "practica2.py").read_text(encoding="utf-8"))
    assert bloque.group() == generar.bloque_memoria(RESULTADOS)
    con_test = {f["experimento"]: f for f in RESULTADOS["filas"] if f["test"] is not None}
    assert p.MEMORIA.keys() == con_test.keys()
    for experimento, (test, _, origen) in p.MEMORIA.items():
        assert test == pytest.approx(con_test[experimento]["test"], abs=1e-6)
        assert list(origen) == con_test[experimento]["origen"]


@pytest.fixture
def tres_semillas():
    """Resultados de tres filas: dos repetidas con otras semillas, de CIFAR-100 y de aves."""

    def filas(experimento, test):
        return [{"experimento": experimento, "test": test}]

    return {
        "filas": filas("Red", 0.50) + filas("Cabeza", 0.9) + filas("Sola", 0.3),
        "semillas": {"8": {"filas": filas("Red", 0.52)}, "9": {"filas": filas("Red", 0.54)}},
        "3": {"8": {"filas": filas("Cabeza", 0.8)}, "9": {"filas": filas("Cabeza", 0.7)}},
    }


@pytest.mark.parametrize("experimento, esperada", [("Red", 0.02), ("Cabeza", 0.1)])
def test_la_desviacion_es_entre_semillas(experimento, esperada, tres_semillas):
    assert generar.desviacion(tres_semillas, experimento) == pytest.approx(esperada)


def test_de_lo_que_no_se_ha_repetido_no_hay_desviacion(tres_semillas):
    assert generar.desviacion(tres_semillas, "Sola") is None


@pytest.fixture
def resultados(tmp_path, monkeypatch):
    """Unos resultados con una fila de cada parte, que se guardan en otro fichero."""
    monkeypatch.setattr(generar, "RESULTADOS", tmp_path / "resultados.json")
    red = {"apartado": "2", "experimento": "Red", "origen": ["x"], "test": 0.5}
    viejo = {"apartado": "Bonus", "experimento": "Comité", "origen": ["x"], "test": 0.1}
    aves = {"apartado": "3.2", "experimento": "Ajuste", "origen": ["y"], "test": 0.2}
    filas_de = {"12bonus": ["Red", "Comité"], "3/7": ["Ajuste"]}
    detalles = {"Red": {}, "Comité": {"curvas": 0}, "Ajuste": {}}
    return {"filas": [red, aves, viejo], "filas_de": filas_de, "detalles": detalles, "partes": {}}


DE_PASO = {"maquina": "m", "segundos": 2.0}


def test_guardar_cambia_las_filas_de_la_parte_y_solo_esas_y_las_ordena(resultados):
    paso = {"apartado": "2", "experimento": "Paso", "origen": ["x"], "test": None}
    generar.guardar(resultados, "pasos/7", {"filas": [paso], "detalles": {"Paso": {}}} | DE_PASO)
    red = {"apartado": "2", "experimento": "Red", "origen": ["x"], "test": 0.6}
    nueva = {"apartado": "Bonus", "experimento": "Destilada", "origen": ["x"], "test": 0.3}
    medido = {"filas": [red, nueva], "detalles": {"Destilada": {"curvas": 1}}}
    generar.guardar(resultados, "12bonus", medido | DE_PASO)
    guardados = generar.leer()
    assert [(f["experimento"], f["test"]) for f in guardados["filas"]] == [
        ("Paso", None),
        ("Red", 0.6),
        ("Ajuste", 0.2),
        ("Destilada", 0.3),
    ]
    assert guardados["detalles"] == {"Ajuste": {}, "Paso": {}, "Destilada": {"curvas": 1}}
    assert guardados["partes"]["12bonus"]["codigo"] == generar.huella("12bonus")
    assert guardados["partes"]["12bonus"]["origen"] == ["x"]


def test_las_piezas_de_una_parte_se_guardan_juntas(resultados):
    filas = list(resultados["filas"])
    for pieza in ("imagenet/7", "imagenet/8", "3/8"):
        generar.guardar(resultados, pieza, {"val": 0.5} | DE_PASO)
    generar.guardar(resultados, "pasos/8", {"filas": filas, "detalles": {}} | DE_PASO)
    guardados = generar.leer()
    assert guardados["filas"] == filas
    assert guardados["imagenet"] == {"7": {"val": 0.5}, "8": {"val": 0.5}}
    assert guardados["3"] == {"8": {"val": 0.5}}
    assert guardados["pasos"] == {"8": {"filas": filas, "detalles": {}}}
    assert len(guardados["partes"]) == 4


@pytest.mark.parametrize(
    "argumentos, mide",
    [
        (["--solo-pdf"], []),
        (
            ["--apartados", "3,imagenet"],
            [f"{parte}/{s}" for parte in ("3", "imagenet") for s in (7, 8, 9)],
        ),
        (["--apartados", "semillas,pasos/7"], ["semillas/8", "semillas/9", "pasos/7"]),
        ([], list(medir.PARTES)),
    ],
)
def test_solo_se_mide_lo_pedido_que_no_este_ya_medido_con_este_codigo(
    argumentos, mide, monkeypatch, resultados
):
    medidas = []

    class Proceso:
        def __enter__(self):
            return self

        def __exit__(self, *resto):
            pass

        def submit(self, funcion, parte):
            medidas.append(parte)
            return SimpleNamespace(result=lambda: {})

    monkeypatch.setattr(sys, "argv", ["generar.py", *argumentos])
    monkeypatch.setattr(generar, "ProcessPoolExecutor", lambda *a, **k: Proceso())
    monkeypatch.setattr(generar, "FIGURAS", generar.RESULTADOS.parent / "figuras")
    monkeypatch.setattr(generar, "leer", lambda: resultados)
    for nombre in ("guardar_laminas", "escribir_memoria", "escribir_leeme", "componer"):
        monkeypatch.setattr(generar, nombre, lambda *resto: None)

    def guardar(resultados, parte, medido):
        resultados["partes"][parte] = {"codigo": generar.huella(parte)}

    monkeypatch.setattr(generar, "guardar", guardar)
    generar.main()
    assert medidas == mide
    generar.main()
    assert medidas == mide  # ya están medidas


def test_una_parte_que_no_existe_se_rechaza(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["generar.py", "--apartados", "pasos/4"])
    with pytest.raises(SystemExit, match="2"):
        generar.main()
    assert "--apartados" in capsys.readouterr().err


# --- El PDF y los resultados de los que sale -----------------------------------------------------


@pytest.fixture(scope="module")
def pdf(tmp_path_factory):
    """Texto de la memoria compuesta ahora con los resultados guardados."""
    fichero = tmp_path_factory.mktemp("memoria") / "memoria.pdf"
    generar.componer_pdf(fichero)
    return texto_del_pdf(fichero)


def texto_del_pdf(fichero):
    """Texto de un PDF sin espacios ni guiones de partir palabras."""
    paginas = pypdf.PdfReader(fichero).pages
    return re.sub(r"\s", "", "".join(pagina.extract_text() for pagina in paginas))


def test_la_memoria_lleva_todas_las_filas_con_sus_cifras(pdf):
    for fila in RESULTADOS["filas"]:
        cifras = [fila[c] for c in ("train", "val", "test")]
        cifras = ["—" if c is None else p.decimal(100 * c, 1) for c in cifras]
        nombre = fila["experimento"].replace("ResNet50", "ResNet50 (destilada)")
        en_la_tabla = re.escape(nombre.replace(" ", "")) + r"[\d.:—]*" + "".join(cifras)
        assert re.search(en_la_tabla, pdf), fila["experimento"]


def test_la_memoria_lleva_el_estudio_de_la_red_final_con_sus_diferencias(pdf):
    estudio = json.loads((RAIZ / "memoria/estudio_red.json").read_text(encoding="utf-8"))
    de_partida = np.array(estudio["red"][0]["val"])
    for fila in estudio["red"][1:]:
        val = np.array(fila["val"])
        diferencias = 100 * (val - de_partida)
        error = diferencias.std(ddof=1) / len(diferencias) ** 0.5
        cifras = [100 * np.mean(fila["train"]), 100 * val.mean()]
        texto = "".join(p.decimal(cifra, 1) for cifra in cifras)
        texto += p.decimal(diferencias.mean(), 1, "+").replace("-", "−") + p.decimal(error, 1)
        nombre = fila["cambio"].replace(" ", "")
        distingue = abs(diferencias.mean()) > 2.776 * error
        assert nombre + texto + ("sedistingue" if distingue else "nosedistingue") in pdf, nombre


def test_la_memoria_lleva_los_comites_y_los_controles(pdf):
    con_generalista = [
        next(f["test"] for f in filas if f["experimento"].startswith("Comité"))
        for filas in [RESULTADOS["filas"], *(s["filas"] for s in RESULTADOS["semillas"].values())]
    ]
    medidas = [con_generalista, *RESULTADOS["comites"].values()]
    medidas += [
        [s[nombre] for s in RESULTADOS["controles"]] for nombre in RESULTADOS["controles"][0]
    ]
    for v in medidas:
        assert p.decimal(100 * np.mean(v), 1) + "±" + p.decimal(100 * np.std(v, ddof=1), 1) in pdf


def test_el_pdf_guardado_es_el_que_sale_de_los_resultados(pdf):
    assert texto_del_pdf(RAIZ / "memoria/memoria.pdf") == pdf


def exigir_medida_con_este_codigo(parte):
    """Salta la prueba si los resultados guardados de una parte son de un código anterior."""
    if RESULTADOS["partes"][parte]["codigo"] != generar.huella(parte):
        pytest.skip(f"la parte {parte} se midió con un código anterior")


def filas_guardadas(apartados):
    """[(experimento, parámetros)] de las filas guardadas de esos apartados."""
    filas = [f for f in RESULTADOS["filas"] if f["apartado"].startswith(apartados)]
    return [(fila["experimento"], fila["parametros"]) for fila in filas]


def test_las_filas_de_cifar_y_sus_parametros_son_los_que_da_hoy_el_script():
    exigir_medida_con_este_codigo("12bonus")
    exigir_medida_con_este_codigo("pasos/7")
    datos = p.datos_cifar(p.cifar_sintetico(4), p.CLASES, 7)
    de_100 = replace(datos, clases=tuple(range(100)))
    final = p.construir_mejorada(p.RECETA_FINAL, datos).count_params()
    generalista = p.construir_mejorada(p.RECETA_GENERALISTA, de_100).count_params()
    hoy = {"BaseNet": p.construir_basenet().count_params(), **parametros_de_los_pasos(datos)}
    hoy |= {
        "BaseNet mejorada": final,
        "BaseNet mejorada, con espejo": final,
        "Generalista, 100 clases, con espejo": generalista,
        "Generalista, 25 clases, con espejo": final,
        "Comité, 25 clases, con espejo": final + generalista,
        "Especialista destilada, con espejo": final,
    }
    assert filas_guardadas(("1", "2", "Bonus")) == list(hoy.items())


def parametros_de_los_pasos(datos):
    """{experimento: parámetros} de cada paso, según los que la memoria dice que se quedaron."""
    receta, parametros = p.Receta(), {}
    for capitulo in (p.APRENDER, p.NO_MEMORIZAR):
        experimento = f"{capitulo.nombre}: de partida"
        parametros[experimento] = p.construir_mejorada(receta, datos).count_params()
        for nombre, campo, valor in capitulo.pasos:
            experimento = f"{capitulo.nombre}: {nombre}"
            candidata = replace(receta, **{campo: valor})
            parametros[experimento] = p.construir_mejorada(candidata, datos).count_params()
            if RESULTADOS["detalles"][experimento]["se_queda"]:
                receta = candidata
    return parametros


def test_las_filas_de_las_aves_y_sus_parametros_son_los_que_da_hoy_el_script():
    vectores, mapas = vacias((2048,), 100), vacias((7, 7, 2048), 100)
    resnet = p.construir_base(p.RESNET50, 64)
    ajuste = p.construir_ajuste(resnet, p.cabeza_salida(vectores))
    redes = {
        "ResNet50, solo la salida": p.cabeza_salida(vectores),
        "ResNet50, nueva FC y salida": p.cabeza_fc(vectores),
        "ResNet50, SVM lineal": None,
        "ResNet50, discriminante lineal": None,
        "ResNet50, random forest": None,
        "ResNet50, sin average pooling": p.cabeza_sin_pooling(mapas),
        "ResNet50, ajuste fino": ajuste,
        "ResNet50, ajuste fino, con espejo": ajuste,
    }
    hoy = [(nombre, red and red.count_params()) for nombre, red in redes.items()]
    assert filas_guardadas("3") == hoy


def vacias(forma, clases):
    """Datos de esa forma, de unos, para construir una cabeza."""
    unos = p.Conjunto(np.ones((2, *forma), "float32"), np.eye(2, clases))
    return p.Datos(unos, unos, unos, tuple(range(clases)), ())


def test_el_readme_lleva_la_tabla_de_los_resultados(monkeypatch, tmp_path):
    antes = generar.LEEME.read_text(encoding="utf-8")
    otro = tmp_path / "README.md"
    otro.write_text(generar.BLOQUE_LEEME.sub("otra tabla\n", antes), encoding="utf-8")
    monkeypatch.setattr(generar, "LEEME", otro)
    generar.escribir_leeme(RESULTADOS)
    escrito = otro.read_text(encoding="utf-8")
    assert escrito == antes
    for fila in RESULTADOS["filas"]:
        assert fila["experimento"] in escrito


def test_cada_figura_lleva_la_huella_de_los_resultados_de_los_que_sale():
    contenido = (RAIZ / "memoria/resultados.json").read_bytes()
    de_los_resultados = hashlib.sha256(contenido).hexdigest()
    codigos = {parte["codigo"] for parte in RESULTADOS["partes"].values()}
    figuras = RAIZ / "memoria/figuras"
    texto = (RAIZ / "memoria/memoria.typ").read_text(encoding="utf-8")
    usadas = re.findall(r'"([^"]+\.(?:svg|jpg))"', texto)
    assert len(usadas) > 15
    for nombre in usadas:
        if nombre.endswith(".svg"):
            assert de_los_resultados in (figuras / nombre).read_text(encoding="utf-8"), nombre
        else:
            assert Image.open(figuras / nombre).info["comment"].decode() in codigos, nombre


# --- La huella de cada parte ---------------------------------------------------------------------

TODAS = set(generar.RAICES)
DE_CIFAR = {"12bonus", "pasos", "contrastes", "semillas", "comites"}
DEL_BONUS = {"12bonus", "semillas"}
DE_AVES = {"3", "imagenet", "contrastes"}


@pytest.mark.parametrize(
    "fichero, viejo, nuevo, cambian",
    [
        ("SCRIPT", "ARBOLES = 150", "ARBOLES = 151", {"3", "imagenet"}),
        ("SCRIPT", "(y + prob) / 2", "(y + 2 * prob) / 3", DEL_BONUS),
        ("SCRIPT", "epocas_generalista: int = 2", "epocas_generalista: int = 3", DEL_BONUS),
        ("SCRIPT", "\nLOTE = 128", "\nLOTE = 64", DE_CIFAR),
        ("SCRIPT", "RECORTE_MINIMO = 176", "RECORTE_MINIMO = 180", DE_AVES),
        ("SCRIPT", "patience=paciencia", "patience=3", TODAS),
        ("SCRIPT", "ARBOLES = 150  # ", "ARBOLES = 150  # otro comentario: ", set()),
        ("SCRIPT", '"""Adam (Kingma', '"""Otra docstring (Kingma', set()),
        ("SCRIPT", "Sin entrenar nada, el vecino", "El vecino", set()),
        ("SCRIPT", 'cmap="Blues"', 'cmap="Greens"', set()),
        ("SCRIPT", "MEMORIA = {", 'MEMORIA = {"otra": (0.5, None, ()), ', set()),
        ("MEDIR", 'md5_imagenet="73', 'md5_imagenet="74', {"imagenet", "contrastes", "controles"}),
    ],
)
def test_la_huella_de_una_parte_cambia_con_el_codigo_al_que_llega(
    fichero, viejo, nuevo, cambian, monkeypatch, tmp_path
):
    antes = {parte: generar.huella(parte) for parte in generar.RAICES}
    original = getattr(generar, fichero)
    codigo = original.read_text(encoding="utf-8")
    assert viejo in codigo
    otro = tmp_path / original.name
    otro.write_text(codigo.replace(viejo, nuevo), encoding="utf-8")
    monkeypatch.setattr(generar, fichero, otro)
    assert {parte for parte in antes if generar.huella(parte) != antes[parte]} == cambian


def test_hay_una_medida_por_parte():
    assert {parte.split("/")[0] for parte in medir.PARTES} == generar.RAICES.keys()
