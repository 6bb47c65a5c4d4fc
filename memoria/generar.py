"""Mide la práctica con practica2.py y compone memoria.pdf.

    python memoria/generar.py                                   compone con lo guardado (segundos)
    python memoria/generar.py --medir practica/7,imagenet/8     mide antes esas partes (horas)

Las partes y lo que mide cada una están en medir.py. Cada una se mide en un proceso propio y se
guarda en resultados.json al acabar, con el commit, la fecha y la máquina. De ahí salen las figuras
y las cifras del PDF, las que RESUMEN pone junto a las suyas y la tabla del README.
"""

import argparse
import hashlib
import io
import json
import os
import re
import shutil
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
from PIL import Image

AQUI = Path(__file__).resolve().parent
RAIZ = AQUI.parent
SCRIPT, LEEME = RAIZ / "practica2.py", RAIZ / "README.md"
RESULTADOS, FIGURAS = AQUI / "resultados.json", AQUI / "figuras"
AZUL, NARANJA = "#0072b2", "#e69f00"  # de Okabe e Ito: también en gris y para daltónicos
ANCHO = 6.5  # pulgadas: el de una línea de la memoria
MEJORADA = "BaseNet mejorada, con espejo"

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
    return json.loads(RESULTADOS.read_text(encoding="utf-8")) if RESULTADOS.exists() else {}


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
    """{experimento: (media, desviación típica)} de los aciertos en test entre semillas."""
    test = {}
    for fila in filas_de(resultados, "practica"):
        if fila["test"] is not None:
            test.setdefault(fila["experimento"], []).append(fila["test"])
    return {n: (round(mean(v), 6), round(stdev(v), 6)) for n, v in test.items() if v[1:]}


def bloque_memoria(resultados):
    """El MEMORIA de practica2.py."""
    cifras = cifras_de_la_memoria(resultados)
    lineas = [f'    "{nombre}": ({m:.6f}, {s:.6f}),' for nombre, (m, s) in cifras.items()]
    return "\n".join(["MEMORIA = {", *lineas, "}", ""])


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


def guardar_laminas(laminas):
    """Pasa a JPEG, que pesa la cuarta parte, las figuras de la práctica que usa la memoria."""
    for lamina in laminas.glob("*.png"):
        foto = FIGURAS / f"{lamina.stem}.jpg"
        if f'"{foto.name}"' in (AQUI / "memoria.typ").read_text(encoding="utf-8"):
            Image.open(lamina).convert("RGB").save(foto, quality=88)
    shutil.rmtree(laminas, ignore_errors=True)


def guardar_del_script(fichero, tamano):
    """Guarda la figura de ese nombre, dibujada por practica2.py, al tamaño al que se imprime, en
    pulgadas; sin título, que en la memoria es el pie, y con la leyenda donde no tapa datos."""
    figura = plt.figure(fichero)
    figura.set_size_inches(tamano)
    figura.suptitle("")
    simbolos = []
    for eje in figura.axes:
        if eje.get_legend():
            simbolos, rotulos = eje.get_legend_handles_labels()
            eje.get_legend().remove()
    if simbolos:
        figura.legend(simbolos, rotulos, loc="outside upper center", ncols=4, frameon=False)
    guardar_figura(figura, fichero)


def figura_evolucion(p, fichero, fila):
    """Pérdida y aciertos por época de una red."""
    p.mostrarEvolucion(SimpleNamespace(history=fila["detalles"]["curvas"]), fichero)
    guardar_del_script(fichero, (ANCHO, 2))


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
    figura.legend(loc="outside upper center", ncols=2, frameon=False)
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


def figuras_de_cifar(p, resultados):
    """Las de los apartados 1 y 2 y del Bonus."""
    filas = filas_de(resultados, "practica/7")
    for fichero, red in (
        ("curvas_basenet.svg", "BaseNet"),
        ("curvas_basenet_mejorada.svg", "BaseNet mejorada"),
        ("curvas_generalista.svg", "Generalista, 100 clases, con espejo"),
        ("curvas_destilada.svg", "Especialista destilada, con espejo"),
    ):
        figura_evolucion(p, fichero, fila_de(filas, red))
    con_cutmix = filas + filas_de(resultados, "cutmix/7")  # se probó con el script anterior
    for capitulo, fichero in (
        ("Que aprenda", "aprender.svg"),
        ("Que no memorice", "memorizar.svg"),
    ):
        suyas = [fila for fila in con_cutmix if fila["experimento"].startswith(f"{capitulo}: ")]
        figura_pasos(p, fichero, suyas)
    clases, por_clase = np.array(list(CASTELLANO.values())), {}
    for fichero, red in (("confusion_basenet.svg", "BaseNet"), ("confusion.svg", MEJORADA)):
        fila = SimpleNamespace(**fila_de(filas, red))
        p.mostrar_confusion(fichero, fila, SimpleNamespace(clases=clases))
        guardar_del_script(fichero, (4.7, 3.9))
        confusion = np.array(fila.detalles["confusion"])
        por_clase[red] = confusion.diagonal() / confusion.sum(1)
    orden = np.argsort(por_clase[MEJORADA], kind="stable")[::-1]
    series = {red: aciertos[orden] for red, aciertos in por_clase.items()}
    figura_parejas(p, "por_clase.svg", (5, 3.5), clases[orden], series, "Aciertos en test")


def figuras_de_aves(p, resultados, semillas):
    """Las del Apartado 3, con las dos redes; la de los aciertos en test lleva su media y su
    desviación típica entre semillas."""
    figura, eje = plt.subplots(figsize=(ANCHO, 3), layout="constrained")
    for fichero, parte, red, pesos, color, marca in (
        ("curvas_ajuste_fino.svg", "practica", "ResNet50", "destilada", AZUL, "o"),
        ("curvas_ajuste_fino_imagenet.svg", "imagenet", "MobileNetV2", "ImageNet", NARANJA, "s"),
    ):
        corridas = [filas_de(resultados, f"{parte}/{semilla}") for semilla in semillas]
        figura_evolucion(p, fichero, fila_de(corridas[0], f"{red}, ajuste fino"))
        suyas = [fila["experimento"] for fila in corridas[0] if fila["apartado"].startswith("3")]
        test = [[100 * fila_de(filas, suya)["test"] for filas in corridas] for suya in suyas]
        eje.errorbar(
            [mean(de_uno) for de_uno in test],
            [altura + 0.1 * (marca == "s") for altura in range(len(suyas))],
            xerr=[stdev(de_uno) for de_uno in test],
            fmt=marca,
            color=color,
            capsize=3,
            label=f"{red} ({pesos})",
        )
    eje.set_yticks(range(len(suyas)), [suya.split(", ", 1)[1] for suya in suyas])
    eje.invert_yaxis()
    eje.set_xlabel("Aciertos en test (%)")
    eje.xaxis.set_major_formatter(p.DECIMALES)
    eje.grid(axis="x", alpha=0.3)
    figura.legend(loc="outside upper center", ncols=2, frameon=False)
    guardar_figura(figura, "aves.svg")


# ===== La memoria ================================================================================


def componer(medir, resultados):
    """Dibuja las figuras y compone el PDF con ellas, los resultados y lo que se cita del código."""
    plt.rcParams.update({"font.size": 8, "svg.hashsalt": "practica2", "svg.fonttype": "path"})
    figuras_de_cifar(medir.p, resultados)
    figuras_de_aves(medir.p, resultados, medir.SEMILLAS)
    del_codigo = {
        "constantes": medir.constantes(),
        "capas": medir.capas(medir.red_final()),
        "castellano": CASTELLANO,
    }
    typst.compile(
        AQUI / "memoria.typ",
        output=AQUI / "memoria.pdf",
        sys_inputs={nombre: json.dumps(valor) for nombre, valor in del_codigo.items()},
    )
    print(f"Memoria compuesta: {AQUI / 'memoria.pdf'}")


def main():
    opciones = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    opciones.add_argument("--medir", default="", metavar="PARTES", help="como practica/7,comites")
    partes = [parte for parte in opciones.parse_args().medir.split(",") if parte]
    os.environ["MPLBACKEND"] = "agg"  # los procesos que miden no abren ventanas
    import medir  # aquí, porque tarda segundos

    if not set(partes) <= medir.PARTES.keys():
        opciones.error(f"--medir: elija entre {', '.join(medir.PARTES)}")
    for parte in partes:
        medido = {"commit": commit(), "fecha": date.today().isoformat()}
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as proceso:
            guardar(parte, medido | proceso.submit(medir.medir, parte).result())
        guardar_laminas(medir.LAMINAS)
    plt.switch_backend("svg")
    resultados = leer()
    reemplazar(SCRIPT, r"\bMEMORIA = \{.*?(?=# Fin de la memoria)", bloque_memoria(resultados))
    reemplazar(LEEME, r"(?<=```text\n)Apartado.*?(?=```)", tabla_resumen(medir.p, resultados))
    componer(medir, resultados)


if __name__ == "__main__":
    main()
