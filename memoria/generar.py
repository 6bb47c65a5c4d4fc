"""Mide la práctica con practica2.py y compone memoria.pdf.

    python memoria/generar.py                                   compone con lo guardado (segundos)
    python memoria/generar.py --medir practica/7,imagenet/8     mide antes esas partes (horas)

Las partes y lo que mide cada una están en medir.py. Cada una se mide en un proceso propio y se
guarda en resultados.json al acabar, con el commit, la fecha y la máquina. De ahí salen el PDF, las
cifras que RESUMEN pone junto a las suyas y la tabla del README.
"""

import argparse
import hashlib
import io
import json
import os
import re
import subprocess
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import typst
from matplotlib.colors import PowerNorm
from sklearn.metrics import ConfusionMatrixDisplay

AQUI = Path(__file__).resolve().parent
RAIZ = AQUI.parent
SCRIPT, LEEME = RAIZ / "practica2.py", RAIZ / "README.md"
RESULTADOS = AQUI / "resultados.json"
FIGURAS = AQUI / "figuras"
ANCHO = 6.5  # pulgadas: el de una línea de la memoria
MEJORADA = "BaseNet mejorada, con espejo"
ALUMNA, SOLA = "Alumna de las dos, con espejo", "Alumna sin maestras, con espejo"

# Las 25 clases del guion, en su orden.
NOMBRES = """
    apple=manzana aquarium_fish=pez baby=bebé bear=oso beaver=castor bed=cama bee=abeja
    beetle=escarabajo bicycle=bicicleta bottle=botella bowl=cuenco boy=niño bridge=puente
    bus=autobús butterfly=mariposa camel=camello can=lata castle=castillo caterpillar=oruga
    cattle=ganado chair=silla chimpanzee=chimpancé clock=reloj cloud=nube cockroach=cucaracha
"""
CASTELLANO = dict(par.split("=") for par in NOMBRES.split())

# ===== Los resultados ============================================================================


def leer():
    """Los resultados guardados, {parte: lo que midió}."""
    return json.loads(RESULTADOS.read_text(encoding="utf-8"))


def guardar(parte, medido):
    """Pone lo medido de una parte en lugar de lo que hubiera, entero o en trozos, «parte/trozo»."""
    resultados = {q: v for q, v in leer().items() if not f"{q}/".startswith(f"{parte}/")}
    resultados[parte] = medido
    # Una línea por parte y por fila: git enseña qué ha cambiado.
    lineas = [f'"{q}": {json.dumps(v, ensure_ascii=False)}' for q, v in resultados.items()]
    texto = ",\n".join(lineas).replace('{"apartado"', '\n{"apartado"')
    RESULTADOS.write_text(f"{{\n{texto}\n}}\n", encoding="utf-8")


def commit():
    """El commit del código que mide; con un «+» si está cambiado."""

    def git(*orden):
        return subprocess.run(["git", *orden], cwd=RAIZ, check=True, capture_output=True, text=True)

    cambiado = git("status", "--porcelain", "--", "practica2.py", "memoria/medir.py").stdout
    return git("rev-parse", "--short", "HEAD").stdout.strip() + ("+" if cambiado else "")


def filas_de(resultados, parte):
    """Las filas de una parte, medida entera o en trozos, en el orden de RESUMEN."""
    filas = []
    for nombre, medido in resultados.items():
        filas += medido["filas"] if f"{nombre}/".startswith(f"{parte}/") else []
    return sorted(filas, key=lambda fila: fila["apartado"])


def fila_de(filas, experimento):
    """La fila de un experimento."""
    return next(fila for fila in filas if fila["experimento"] == experimento)


# ===== Lo que va a practica2.py y a README.md ====================================================


def cifras_de_la_memoria(resultados):
    """{qué: (media, desviación típica)} entre semillas o, si solo hay una, (lo medido,): de cada
    experimento, sus aciertos en test; de cada paso, lo que suma en validación; de cada comparación,
    la diferencia en test."""
    de_cada = {}
    for fila in filas_de(resultados, "practica"):
        detalles = fila["detalles"]
        suyas = {fila["experimento"]: detalles.get("diferencia", fila["test"])}
        suyas |= {q: v["diferencia"] for q, v in detalles.items() if " frente a " in q}
        for que, valor in suyas.items():
            if valor is not None:
                de_cada.setdefault(que, []).append(valor)
    # El rival del ajuste fino, la mejor cabeza en validación, cambia con la semilla: no va.
    semillas = max(map(len, de_cada.values()), default=0)
    de_cada = {que: valores for que, valores in de_cada.items() if len(valores) == semillas}
    medias = {q: [mean(v)] + ([stdev(v)] if v[1:] else []) for q, v in de_cada.items()}
    return {q: tuple(round(x, 6) for x in v) for q, v in medias.items()}


def bloque_memoria(resultados):
    """El MEMORIA de practica2.py."""
    lineas = [f'    "{que}": {v},\n' for que, v in cifras_de_la_memoria(resultados).items()]
    return "".join(["MEMORIA = {\n", *lineas, "}\n"]) if lineas else "MEMORIA = {}\n"


def tabla_resumen(p, resultados):
    """El RESUMEN de la semilla del script, con las cifras de la memoria que salen de resultados."""
    p.MEMORIA = cifras_de_la_memoria(resultados)
    with redirect_stdout(io.StringIO()) as tabla:
        p.imprimir_tabla([p.Resultado(**fila) for fila in filas_de(resultados, "practica/7")])
    return tabla.getvalue()


def reemplazar(fichero, patron, texto):
    """Pone un texto en el lugar de un fichero que dice el patrón, que ha de ser uno solo."""
    antes = fichero.read_text(encoding="utf-8")
    despues, veces = re.subn(patron, lambda _: texto, antes, flags=re.DOTALL)
    if veces != 1:
        raise SystemExit(f"{fichero.name}: «{patron}» está {veces} veces, y ha de estar una")
    if despues != antes:
        fichero.write_text(despues, encoding="utf-8")


# ===== Las figuras ===============================================================================


def guardar_figura(figura, fichero):
    """Guarda una figura vectorial con la huella de los resultados de los que sale."""
    de_los_resultados = hashlib.sha256(RESULTADOS.read_bytes()).hexdigest()
    figura.savefig(FIGURAS / fichero, metadata={"Date": None, "Description": de_los_resultados})
    plt.close(figura)


def poner_leyenda(figura):
    """La leyenda de su primer recuadro, encima de toda la figura."""
    simbolos, rotulos = figura.axes[0].get_legend_handles_labels()
    figura.legend(simbolos, rotulos, loc="outside upper center", ncols=2, frameon=False)


def figura_evolucion(p, fichero, fila):
    """La figura con la que practica2.py enseña la pérdida y los aciertos por época de una red; sin
    título, que en la memoria es el pie, y con la leyenda donde no tapa datos."""
    p.mostrarEvolucion(SimpleNamespace(history=fila["detalles"]["curvas"]), fichero)
    figura = plt.figure(fichero)
    figura.set_size_inches((ANCHO, 2))
    figura.suptitle("")
    for eje in figura.axes:
        eje.get_legend().remove()
    poner_leyenda(figura)
    guardar_figura(figura, fichero)


def figura_cabezas(p, fichero, cabezas):
    """Los aciertos por época de varias redes, {título: fila}, cada una en su recuadro."""
    tamano = {"figsize": (ANCHO, 2), "layout": "constrained"}
    figura, ejes = plt.subplots(1, len(cabezas), sharey=True, **tamano)
    for eje, (titulo, fila) in zip(ejes, cabezas.items()):
        curvas = fila["detalles"]["curvas"]
        epocas = range(1, len(curvas["accuracy"]) + 1)
        eje.plot(epocas, curvas["accuracy"], "--", label="Entrenamiento")
        eje.plot(epocas, curvas["val_accuracy"], label="Validación")
        eje.set(title=titulo, xlabel="Época")
    ejes[0].set_ylabel("Aciertos")
    ejes[0].yaxis.set_major_formatter(p.PORCENTAJES)
    poner_leyenda(figura)
    guardar_figura(figura, fichero)


def figura_parejas(p, fichero, tamano, rotulos, series, medida):
    """Dos series, {nombre: valores}, con una línea por rótulo, de arriba abajo, que las une."""
    figura, eje = plt.subplots(figsize=tamano, layout="constrained")
    alturas = range(len(rotulos))
    eje.hlines(alturas, *series.values(), color="lightgray")
    for marca, (serie, valores) in zip("os", series.items()):
        eje.plot(valores, alturas, marca, label=serie)
    eje.set_yticks(alturas, rotulos)
    eje.invert_yaxis()
    eje.set_xlabel(medida)
    eje.xaxis.set_major_formatter(p.PORCENTAJES)
    poner_leyenda(figura)
    guardar_figura(figura, fichero)


def figura_pasos(p, fichero, pasos):
    """Aciertos en train y en validación de los pasos de un capítulo; la línea que los une es la
    brecha de generalización."""
    rotulos = []
    for fila in pasos:
        nombre = fila["experimento"].split(": ")[1]
        rotulos.append(nombre if fila["detalles"].get("se_queda", True) else f"({nombre})")
    series = {
        "Entrenamiento": [fila["train"] for fila in pasos],
        "Validación": [fila["val"] for fila in pasos],
    }
    medida = "Aciertos (entre paréntesis, fuera)"
    figura_parejas(p, fichero, (3.2, 2.6), rotulos, series, medida)


def figura_confusion(p, fichero, fracciones, clases):
    """Matriz de confusión, con cada clase real en fracciones."""
    figura, eje = plt.subplots(figsize=(4.7, 3.9), layout="constrained")
    matriz = ConfusionMatrixDisplay(fracciones, display_labels=clases)
    matriz.plot(include_values=False, xticks_rotation="vertical", cmap="Blues", ax=eje)
    matriz.im_.norm = PowerNorm(0.5, 0, 1)  # con la raíz se ven también los fallos
    matriz.im_.colorbar.ax.yaxis.set_major_formatter(p.PORCENTAJES)
    eje.set(xlabel="Clase predicha", ylabel="Clase real")
    guardar_figura(figura, fichero)


def figuras(p, resultados):
    """Las de la memoria, de la semilla del script."""
    filas = filas_de(resultados, "practica/7") + filas_de(resultados, "bonus/7")
    for fichero, red in (
        ("curvas_basenet.svg", "BaseNet"),
        ("curvas_basenet_mejorada.svg", "BaseNet mejorada"),
        ("curvas_ajuste_fino.svg", "ResNet50, ajuste fino"),
    ):
        figura_evolucion(p, fichero, fila_de(filas, red))
    for capitulo, fichero in (
        ("Que aprenda", "aprender.svg"),
        ("Que no memorice", "memorizar.svg"),
    ):
        suyas = [fila for fila in filas if fila["experimento"].startswith(f"{capitulo}: ")]
        figura_pasos(p, fichero, suyas)
    cabezas = {
        "Solo la salida (A)": "solo la salida",
        "Nueva FC y salida (A)": "nueva FC y salida",
        "Sin average pooling (B)": "sin average pooling",
    }
    cabezas = {titulo: fila_de(filas, f"ResNet50, {cabeza}") for titulo, cabeza in cabezas.items()}
    figura_cabezas(p, "curvas_cabezas.svg", cabezas)
    clases, por_clase = np.array(list(CASTELLANO.values())), {}
    for red in ("BaseNet", ALUMNA, SOLA, MEJORADA):
        confusion = np.array(fila_de(filas, red)["detalles"]["confusion"])
        por_clase[red] = confusion.diagonal() / confusion.sum(1)
    figura_confusion(p, "confusion.svg", confusion / confusion.sum(1, keepdims=True), clases)
    orden = np.argsort(por_clase[MEJORADA], kind="stable")[::-1]
    for fichero, redes in (
        ("por_clase.svg", {"BaseNet": "BaseNet", MEJORADA: MEJORADA}),
        ("bonus.svg", {"Sin maestras": SOLA, "Con las dos": ALUMNA}),
    ):
        series = {nombre: por_clase[red][orden] for nombre, red in redes.items()}
        figura_parejas(p, fichero, (5, 3.5), clases[orden], series, "Aciertos en test")


# ===== La memoria ================================================================================


def componer(medir, resultados):
    """Dibuja las figuras y compone el PDF con ellas y los resultados."""
    plt.rcParams.update({"font.size": 8, "svg.hashsalt": "practica2", "svg.fonttype": "path"})
    figuras(medir.p, resultados)
    typst.compile(
        AQUI / "memoria.typ",
        output=AQUI / "memoria.pdf",
        sys_inputs={
            "castellano": json.dumps(CASTELLANO),
            "constantes": json.dumps(medir.constantes()),
            "capas": json.dumps(medir.capas(medir.red_final())),
        },
    )
    print(f"Memoria compuesta: {AQUI / 'memoria.pdf'}")


def main():
    opciones = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    opciones.add_argument("--medir", default="", metavar="PARTES", help="como practica/7,bonus/7")
    partes = [parte for parte in opciones.parse_args().medir.split(",") if parte]
    import medir  # aquí, porque tarda segundos

    os.environ["MPLBACKEND"] = "agg"  # los procesos que miden no abren ventanas
    if not set(partes) <= medir.PARTES.keys():
        opciones.error(f"--medir: elija entre {', '.join(medir.PARTES)}")
    for parte in partes:
        medido = {"commit": commit(), "fecha": date.today().isoformat()}
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as proceso:
            guardar(parte, medido | proceso.submit(medir.medir, parte).result())
    plt.switch_backend("svg")
    resultados = leer()
    reemplazar(SCRIPT, r"\bMEMORIA = \{.*?(?=# Fin de la memoria)", bloque_memoria(resultados))
    reemplazar(LEEME, r"(?<=```text\n)Apartado.*?(?=```)", tabla_resumen(medir.p, resultados))
    componer(medir, resultados)


if __name__ == "__main__":
    main()
