"""La memoria: el PDF, sus figuras y las cifras que llevan practica2.py y README.md salen de
resultados.json, y las funciones que miden siguen funcionando."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pypdf
import pytest
from arranque import achicar, red_diminuta
from conftest import RAIZ

import practica2 as p

MEMORIA = RAIZ / "memoria"
sys.path.insert(0, str(MEMORIA))
import generar
import medir

RESULTADOS = generar.leer()
TEXTO = (MEMORIA / "memoria.typ").read_text(encoding="utf-8")
CAMPOS = {campo.name for campo in fields(p.Resultado)} - {"prob_val", "prob_test", "modelo"}
DE_LA_7 = generar.filas_de(RESULTADOS, "practica/7")


@pytest.fixture(scope="module")
def copia(tmp_path_factory):
    """Una copia del proyecto en la que se acaba de componer la memoria, sin medir nada."""
    raiz = tmp_path_factory.mktemp("proyecto")
    shutil.copytree(MEMORIA, raiz / "memoria", ignore=shutil.ignore_patterns("*.svg", "*.pdf"))
    for fichero in ("practica2.py", "README.md"):
        shutil.copy(RAIZ / fichero, raiz)
    subprocess.run([sys.executable, raiz / "memoria/generar.py"], check=True)
    return raiz


@pytest.fixture(scope="module")
def pdf(copia):
    """Texto de la memoria compuesta ahora."""
    return texto_del_pdf(copia / "memoria/memoria.pdf")


def texto_del_pdf(fichero):
    """Texto de un PDF sin espacios ni guiones de partir palabras."""
    paginas = pypdf.PdfReader(fichero).pages
    return re.sub(r"\s", "", "".join(pagina.extract_text() for pagina in paginas))


def test_componer_otra_vez_no_cambia_nada(copia, pdf):
    for fichero in ("practica2.py", "README.md"):
        assert (copia / fichero).read_text("utf-8") == (RAIZ / fichero).read_text("utf-8"), fichero
    assert texto_del_pdf(MEMORIA / "memoria.pdf") == pdf


def test_cada_figura_se_usa_y_sale_de_los_resultados(copia):
    huella = hashlib.sha256(generar.RESULTADOS.read_bytes()).hexdigest()
    usadas = set(re.findall(r'"(?:figuras/)?([^"/]+\.svg)"', TEXTO))
    for figuras in (MEMORIA / "figuras", copia / "memoria/figuras"):
        assert {fichero.name for fichero in figuras.iterdir()} == usadas
        for fichero in figuras.glob("*.svg"):
            assert huella in fichero.read_text("utf-8"), fichero.name


def test_las_figuras_llevan_los_aciertos_de_los_resultados(monkeypatch):
    ejes = {}
    monkeypatch.setattr(generar, "guardar_figura", lambda f, nombre: ejes.update({nombre: f.axes}))
    generar.figuras(p, RESULTADOS)
    for nombre, capitulo in (("aprender.svg", "Que aprenda"), ("memorizar.svg", "Que no memorice")):
        pasos = [fila for fila in DE_LA_7 if fila["experimento"].startswith(capitulo)]
        for campo, linea in zip(("train", "val"), ejes[nombre][0].lines):
            assert list(linea.get_xdata())[: len(pasos)] == [fila[campo] for fila in pasos]
    rotulos = [rotulo.get_text() for rotulo in ejes["por_clase.svg"][0].get_yticklabels()]
    de_manzana = generar.fila_de(DE_LA_7, "BaseNet")["detalles"]["confusion"][0]
    aciertos = ejes["por_clase.svg"][0].lines[0].get_xdata()
    assert aciertos[rotulos.index("manzana")] == de_manzana[0] / sum(de_manzana)


def test_las_cifras_del_script_son_la_media_y_la_desviacion_de_las_semillas(monkeypatch):
    assert generar.cifras_de_la_memoria(RESULTADOS) == p.MEMORIA
    de_cada = {}
    for semilla, extra, rival in zip((7, 8, 9), (0.0, 0.01, 0.05), "AAB"):
        contraste = {"red frente a otra": {"diferencia": 0.1 + extra, "p": 0.5}}
        contraste[f"ajuste fino frente a {rival}"] = {"diferencia": extra, "p": 0.5}  # no va
        filas = [
            {"apartado": "2", "experimento": "paso", "test": None},
            {"apartado": "2", "experimento": "red", "test": 0.5 + extra},
        ]
        for fila, detalles in zip(filas, ({"diferencia": extra}, contraste)):
            fila["detalles"] = detalles
        de_cada[f"practica/{semilla}"] = {"filas": filas}
    esperadas = {"paso": 0.02, "red": 0.52, "red frente a otra": 0.12}
    cifras = generar.cifras_de_la_memoria(de_cada)
    assert cifras == {nombre: (media, 0.026458) for nombre, media in esperadas.items()}
    assert generar.cifras_de_la_memoria({"practica/7": de_cada["practica/7"]})["red"] == (0.5,)
    bloque = generar.bloque_memoria(de_cada)
    assert '\n    "red frente a otra": (0.12, 0.026458),\n}\n' in bloque
    monkeypatch.setattr(p, "MEMORIA", cifras)
    origen = (*p.AVES_MEMORIA[:1], "de otra carpeta", *p.AVES_MEMORIA[1:])
    datos = SimpleNamespace(origen=origen)
    dicho = "+7,00 puntos en test (en la memoria, 12,0 ± 2,6)"
    assert p.en_puntos(0.07, "test", "red frente a otra", datos) == dicho
    assert "(" not in p.en_puntos(0.07, "test", "otra frente a red", datos)


def test_un_bloque_que_no_esta_no_se_escribe(tmp_path):
    fichero = tmp_path / "README.md"
    fichero.write_text("```text\nOtra cosa\n```\n")
    with pytest.raises(SystemExit, match=r"README\.md"):
        generar.reemplazar(fichero, r"(?<=```text\n)Apartado.*?(?=```)", "tabla\n")


def test_la_memoria_lleva_todas_las_filas_de_una_ejecucion_con_sus_cifras(pdf):
    for fila in DE_LA_7 + generar.filas_de(RESULTADOS, "imagenet/7"):
        medidas = [fila[campo] for campo in ("train", "val", "test")]
        medidas = ["—" if v is None else p.decimal(100 * v, 1) for v in medidas]
        nombre = fila["experimento"].replace("ResNet50", "ResNet50 (destilada)")
        en_la_tabla = re.escape(nombre.replace(" ", "")) + r"[\d.:—]*" + "".join(medidas)
        assert re.search(en_la_tabla, pdf), fila["experimento"]


def test_la_memoria_lleva_cada_comparacion_con_su_diferencia_media_y_sus_p(pdf):
    comparaciones = {}
    for fila in generar.filas_de(RESULTADOS, "practica"):
        for contraste, medido in fila["detalles"].items():
            if " frente a " in contraste:
                cual = contraste.replace("ResNet50, ", "").replace(" frente a", ", frente a")
                cual = re.sub("(ajuste fino, frente a).*", r"\1 la mejor cabeza", cual)
                cual = re.sub(r"(Comité|Alumna) ?\w*\W.*", r"\1 de las dos 25", cual).lower()
                comparaciones.setdefault(cual.replace(" ", ""), []).append(medido)
    assert len(comparaciones) == 6
    for cual, medidas in comparaciones.items():
        diferencias = [100 * medida["diferencia"] for medida in medidas]
        media = p.decimal(np.mean(diferencias), 1, "+").replace("-", "−")
        cifra = re.escape(f"{media}±{p.decimal(np.std(diferencias, ddof=1), 1)}")
        dichas = [p.decimal(m["p"], 4) if m["p"] >= 0.0001 else "<0,0001" for m in medidas]
        (entre,) = re.findall(rf"(?i){cual}[^+−]*{cifra}°?(.{{26}})", pdf)
        assert all(dicha in (pdf if "25" in cual else entre) for dicha in dichas), cual


def test_la_memoria_tiene_14_paginas_y_con_los_apendices_19():
    paginas = [pagina.extract_text() for pagina in pypdf.PdfReader(MEMORIA / "memoria.pdf").pages]
    referencias = next(n for n, texto in enumerate(paginas) if "Referencias\n" in texto)
    assert referencias <= 14 and len(paginas) <= 19


def test_ni_la_memoria_ni_los_resultados_llevan_rutas_ni_servidores_de_quien_midio(pdf):
    for texto in (TEXTO, pdf, json.dumps(RESULTADOS)):
        assert not re.search(r"/(work|root|home|tmp|Users)/|localhost|127\.0\.0\.1|pypi", texto)


def test_cada_parte_dice_con_que_codigo_cuando_y_donde_se_midio():
    for parte, medido in RESULTADOS.items():
        assert re.fullmatch(r"[0-9a-f]{7,}\+?", medido["commit"]), parte
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", medido["fecha"]), parte
        assert medido["maquina"].startswith("Python 3."), parte
        assert all(fila.keys() == CAMPOS for fila in medido.get("filas", [])), parte


def test_los_resultados_son_de_lo_que_hoy_se_entrena():
    alcance, epocas = p.COMPLETO, {fila["experimento"]: fila["epocas"] for fila in DE_LA_7}
    assert epocas["BaseNet"] == alcance.epocas_basenet
    assert epocas["Que aprenda: de partida"] == alcance.epocas_aprender
    assert epocas["Que no memorice: de partida"] == alcance.epocas_no_memorizar
    assert epocas["BaseNet mejorada"] == alcance.epocas_mejorada
    assert epocas["ResNet50, nueva FC y salida"] == alcance.epocas_cabezas
    assert epocas["ResNet50, ajuste fino"] == alcance.epocas_ajuste
    assert epocas["Generalista, 100 clases, con espejo"] == alcance.epocas_generalista
    assert epocas["Alumna de las dos, con espejo"] == alcance.epocas_alumna
    final = generar.fila_de(DE_LA_7, "BaseNet mejorada")
    assert final["parametros"] == medir.red_final().count_params()
    pasos = [f"{capitulo}: {paso[0]}" for capitulo, suyos in p.PASOS.items() for paso in suyos]
    assert set(pasos) < epocas.keys()


def test_se_mide_solo_lo_que_se_pide_y_ocupa_el_lugar_de_lo_anterior(monkeypatch, tmp_path):
    monkeypatch.setattr(generar, "RESULTADOS", tmp_path / "resultados.json")
    viejos = {parte: {"filas": []} for parte in ("practica/7/pasos", "practica/7/cifar", "otra")}
    generar.RESULTADOS.write_text(json.dumps(viejos))
    monkeypatch.setattr(generar.plt, "switch_backend", lambda modo: None)
    proceso = SimpleNamespace(
        submit=lambda _, parte: SimpleNamespace(result=lambda: {"maquina": "m", "filas": [parte]})
    )
    monkeypatch.setattr(generar, "ProcessPoolExecutor", lambda *a, **k: nullcontext(proceso))
    monkeypatch.setattr(generar, "commit", lambda: "abc1234+")
    for nombre in ("bloque_memoria", "tabla_resumen", "reemplazar", "componer"):
        monkeypatch.setattr(generar, nombre, lambda *resto: None)
    monkeypatch.setattr(sys, "argv", ["generar.py", "--medir", "practica/7,imagenet/8"])
    generar.main()
    guardados = generar.leer()
    assert list(guardados) == ["otra", "practica/7", "imagenet/8"]
    assert guardados["practica/7"]["commit"] == "abc1234+"
    assert guardados["practica/7"]["filas"] == ["practica/7"]
    monkeypatch.setattr(sys, "argv", ["generar.py", "--medir", "practica/4"])
    with pytest.raises(SystemExit, match="2"):
        generar.main()


@pytest.mark.parametrize(
    "parte, argumentos",
    [
        ("practica/8", (["--semilla", "8"],)),
        ("imagenet/9", (["--apartados", "3", "--semilla", "9"], medir.MOBILENETV2)),
    ],
)
def test_la_practica_se_mide_como_se_ejecuta(parte, argumentos, monkeypatch):
    fila = p.Resultado("1", "BaseNet", prob_test=np.eye(2), modelo=object(), origen=("x",))
    sesion = p.Sesion(7, p.COMPLETO, p.RESNET50, maquina="m", resultados={"BaseNet": fila})
    recibidos = []
    monkeypatch.setattr(p, "main", lambda *resto: recibidos.append(resto) or sesion)
    medido = medir.medir(parte)
    assert recibidos == [argumentos]
    assert json.loads(json.dumps(medido))["filas"][0].keys() == CAMPOS


@pytest.fixture
def en_pequeno(monkeypatch):
    """La práctica con pocas imágenes y épocas, y redes diminutas en lugar de las preentrenadas."""
    achicar(p, 2, monkeypatch.setattr)
    for modulo, nombre in ((p, "RESNET50"), (medir, "MOBILENETV2")):
        red = getattr(modulo, nombre)._replace(constructor=red_diminuta)
        monkeypatch.setattr(modulo, nombre, red)


def test_sin_cada_ingrediente(en_pequeno, monkeypatch):
    entrenar, recetas, redes, pedidas = p.entrenar_receta, [], [], []

    def entrenar_algunas(receta, datos, epocas, semilla):
        """Solo entrena la completa y la última, con Adam; las demás tardarían."""
        recetas.append(receta)
        pedidas.append((epocas, semilla))
        if len(recetas) in (1, len(medir.SIN_INGREDIENTE)):
            redes.append(entrenar(receta, datos, epocas, semilla))
        return redes[-1]

    monkeypatch.setattr(p, "entrenar_receta", entrenar_algunas)
    filas = {fila["experimento"]: fila for fila in medir.medir("ablacion/8")["filas"]}
    assert list(filas) == list(medir.SIN_INGREDIENTE)
    assert recetas[0] == p.RECETA_FINAL and len(set(recetas)) == len(recetas)
    assert replace(recetas[-1], optimizador=p.RECETA_FINAL.optimizador) == p.RECETA_FINAL
    assert set(pedidas) == {(1, 8)}  # la mitad de las épocas de la red final
    (larga,) = medir.medir("larga/8")["filas"]
    assert (larga["experimento"], pedidas[-1]) == ("sin label smoothing", (2, 8))
    assert recetas[-1] == replace(p.RECETA_FINAL, suavizado=0.0)


def test_los_controles_se_miden_en_test(en_pequeno, monkeypatch):
    monkeypatch.setattr(p, "TASA_AJUSTE", 0.4)
    adam_ciclo, tasas = p.adam_ciclo, []
    monkeypatch.setattr(p, "adam_ciclo", lambda *a: tasas.append(a[0]) or adam_ciclo(*a))
    construir, bases = p.construir_base, []
    monkeypatch.setattr(p, "construir_base", lambda *a: bases.append(a[0]) or construir(*a))
    monkeypatch.setattr(medir, "EPOCAS_MAS", 2)
    filas = json.loads(json.dumps(medir.medir("controles/8")))["filas"]
    assert len(filas) == 12 and all(0 <= fila["test"] <= 1 for fila in filas)
    de = {fila["experimento"]: fila["epocas"] for fila in filas if fila["apartado"] == "3.2"}
    redes = ("MobileNetV2", "ResNet50", "ResNet50 a un cuarto de tasa")
    assert [de[f"{red}, ajuste fino"] for red in redes] == [2, 2, p.COMPLETO.epocas_ajuste]
    assert tasas == [p.TASA_CABEZA] * 3 + [0.4] + [p.TASA_CABEZA] * 2 + [0.4, p.TASA_CABEZA, 0.1]
    x = np.full((1, 2, 2, 3), 51.0)
    assert np.allclose(bases[0].preprocesar(x.copy()), bases[1].preprocesar(x / 255))
    de_b, con_media = (
        [type(capa).__name__ for capa in capas()]
        for capas in (p.capas_sin_pooling, medir.capas_con_media)
    )
    assert con_media == [nombre.replace("Flatten", "GlobalAveragePooling2D") for nombre in de_b]


def test_los_controles_del_bonus(en_pequeno, monkeypatch):
    apuntar, apuntadas = p.anotar, []
    monkeypatch.setattr(p, "anotar", lambda f, *resto: apuntadas.append(f) or apuntar(f, *resto))
    entrenar, recetas = p.entrenar_receta, []
    monkeypatch.setattr(p, "entrenar_receta", lambda *a: recetas.append(a[0]) or entrenar(*a))
    filas = json.loads(json.dumps(medir.medir("bonus/8")))["filas"]
    epocas = [p.COMPLETO.epocas_alumna, *[p.COMPLETO.epocas_mejorada] * 2, None]
    assert [fila["epocas"] for fila in filas] == epocas
    assert recetas[0] == replace(p.RECETA_FINAL, filtros=p.RECETA_ALUMNA.filtros)
    _, primera, segunda, comite = (fila.prob_test for fila in apuntadas)
    assert not np.allclose(primera, segunda)  # otra semilla
    assert np.allclose(comite, (primera + segunda) / 2)


def test_la_tabla_de_capas_dice_de_cada_una_lo_que_pide_el_guion():
    capas = medir.capas(p.construir_basenet())
    pesan = [(capa[3], *capa[4:]) for capa in capas if capa[4]]
    assert pesan[0] == ("3 → 6", 456, 28 * 28 * 450) and capas[0][1:3] == ("5", "32 → 28")
    assert [parametros for _, parametros, _ in pesan] == [456, 2416, 20050, 1275]
    final = medir.capas(medir.red_final())
    assert sum(capa[4] for capa in final) == medir.red_final().count_params()
    assert final[1] == ("Conv2D", "2", "32 → 31", "3 → 24", 312, 31 * 31 * 12 * 24)
    assert final[2] == ("Conv2D", "3", "31 → 31", "24 → 64", 13824, 31 * 31 * 13824)
    assert final[-1] == ("Dense", "—", "256 → 25", "—", 6425, 6400)
