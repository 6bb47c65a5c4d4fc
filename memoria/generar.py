"""Mide la práctica con practica2.py y compone memoria.pdf.

    python memoria/generar.py                     mide lo que falte y compone (varias horas)
    python memoria/generar.py --apartados 3       mide solo lo que falte de esas partes; 3/7 es
                                                  la de una semilla, y 3, las de todas
    python memoria/generar.py --solo-pdf          compone con los resultados guardados (segundos)

Las partes y lo que mide cada una están en medir.py. Cada parte se mide en un proceso propio y se
guarda en resultados.json al acabar, con la huella del código que la midió: si se interrumpe, sigue
donde se quedó.
"""

import argparse
import ast
import hashlib
import io
import json
import os
import re
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from datetime import date
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import typst
from PIL import Image

AQUI = Path(__file__).resolve().parent
SCRIPT, MEDIR = AQUI.parent / "practica2.py", AQUI / "medir.py"
LEEME = AQUI.parent / "README.md"
RESULTADOS = AQUI / "resultados.json"
FIGURAS = AQUI / "figuras"
AZUL, NARANJA = "#0072b2", "#e69f00"  # de Okabe e Ito: también en gris y para daltónicos
AVES_TEST = 2903  # imágenes
ANCHO = 6.5  # pulgadas: el de una línea de la memoria
BLOQUE_LEEME = re.compile(r"(?<=```text\n).*?(?=```)", re.DOTALL)  # la tabla de README.md
BLOQUE_MEMORIA = re.compile(r"CIFAR_MEMORIA = .*?(?=# Fin de la memoria)", re.DOTALL)

CASTELLANO = {  # las 25 clases del guion
    "apple": "manzana",
    "aquarium_fish": "pez",
    "baby": "bebé",
    "bear": "oso",
    "beaver": "castor",
    "bed": "cama",
    "bee": "abeja",
    "beetle": "escarabajo",
    "bicycle": "bicicleta",
    "bottle": "botella",
    "bowl": "cuenco",
    "boy": "niño",
    "bridge": "puente",
    "bus": "autobús",
    "butterfly": "mariposa",
    "camel": "camello",
    "can": "lata",
    "castle": "castillo",
    "caterpillar": "oruga",
    "cattle": "ganado",
    "chair": "silla",
    "chimpanzee": "chimpancé",
    "clock": "reloj",
    "cloud": "nube",
    "cockroach": "cucaracha",
}

# ===== Qué partes hay que medir ==================================================================

RAICES = {  # por dónde entra cada parte en el código; las demás partes de la práctica no son suyas
    "12bonus": ("medir_cifar",),
    "pasos": ("medir_pasos",),
    "3": ("medir_aves", "apartado3"),
    "imagenet": ("medir_aves", "MOBILENETV2", "apartado3"),
    "contrastes": ("medir_contrastes",),
    "comites": ("medir_comites",),
    "controles": ("medir_controles",),
    "semillas": ("medir_semilla",),
}
# A las primeras llega main desde cualquier parte; las demás dibujan lo ya medido, y lo vuelven a
# dibujar al componer la memoria.
NO_MIDEN = {
    "PARTES",
    "MEMORIA",
    "imprimir_resumen",
    "minutos_previstos",
    "mostrarEvolucion",
    "mostrar_confusion",
    "mostrar_pasos",
    "mostrar_por_clase",
    "mostrar_proyeccion",
}
DE_RESUMEN = ("pasos/7", "12bonus", "3/7")  # las que dan sus filas, por apartados, en este orden


def huella(parte):
    """Resumen del código que mide una parte: todo lo que se alcanza, en practica2.py y en medir.py,
    desde donde ella entra. Cambiar otra cosa no obliga a medirla otra vez. No cubre RESUMEN, que
    enseña lo medido, ni las versiones de las bibliotecas, que guarda el origen de la parte."""
    codigos, usos = definiciones()
    alcanzados, pendientes = set(), set(RAICES[parte.split("/")[0]])
    while pendientes:
        nombre = pendientes.pop()
        alcanzados.add(nombre)
        pendientes |= usos[nombre] - alcanzados - NO_MIDEN
    texto = "\n".join(codigos[nombre] for nombre in sorted(alcanzados))
    return hashlib.sha256(texto.encode()).hexdigest()


def definiciones():
    """{nombre: su código, sin comentarios ni textos} y {nombre: los que usa}, de lo que definen
    practica2.py y medir.py."""
    codigos, usos = {}, {}
    for fichero in (SCRIPT, MEDIR):
        sentencias = SinTextos().visit(ast.parse(fichero.read_text(encoding="utf-8"))).body
        for nodo in [trozo for sentencia in sentencias for trozo in trocear(sentencia)]:
            for nombre in nombres_que_define(nodo):
                codigos[nombre] = ast.unparse(nodo)
                usos[nombre] = {n.id for n in ast.walk(nodo) if isinstance(n, ast.Name)}
                usos[nombre] |= {n.attr for n in ast.walk(nodo) if isinstance(n, ast.Attribute)}
    for nombre in usos:
        usos[nombre] &= codigos.keys()
    return codigos, usos


def trocear(sentencia):
    """Los campos de una clase que no es más que campos con su valor, como Alcance: cada uno es solo
    de las partes que lo usan. Cualquier otra sentencia, entera."""
    if isinstance(sentencia, ast.ClassDef):
        campos = [n for n in sentencia.body if isinstance(n, ast.AnnAssign) and n.value]
        if len(campos) == sum(not isinstance(n, ast.Pass) for n in sentencia.body):
            return campos
    return [sentencia]


def nombres_que_define(nodo):
    """Los nombres que define una sentencia del módulo o un campo: una función, una clase, unas
    constantes o el campo."""
    if isinstance(nodo, (ast.FunctionDef, ast.ClassDef)):
        return [nodo.name]
    if isinstance(nodo, ast.AnnAssign):
        return [nodo.target.id]
    if isinstance(nodo, ast.Assign):
        return [n.id for destino in nodo.targets for n in ast.walk(destino) if hasattr(n, "id")]
    return []


class SinTextos(ast.NodeTransformer):
    """Cambia por pass las docstrings y los print: no cambian lo que se mide."""

    def visit_Expr(self, nodo):
        es_docstring = isinstance(nodo.value, ast.Constant)
        return ast.Pass() if es_docstring or ast.unparse(nodo).startswith("print(") else nodo


# ===== Los resultados ============================================================================


def medir_parte(parte):
    """Mide una parte; en un proceso propio, que es quien importa TensorFlow."""
    import medir

    return medir.medir(parte)


def leer():
    """Los resultados guardados, o ninguno."""
    if RESULTADOS.exists():
        return json.loads(RESULTADOS.read_text(encoding="utf-8"))
    return {"filas": [], "detalles": {}, "partes": {}}


def guardar(resultados, parte, medido):
    """Pone lo medido de una parte en los resultados, y los guarda."""
    filas = medido.get("filas", [])
    resultados["partes"][parte] = {
        "fecha": date.today().isoformat(),
        "maquina": medido.pop("maquina"),
        "segundos": medido.pop("segundos"),
        "codigo": huella(parte),
        "origen": filas[0]["origen"] if filas else [],
    }
    grupo, _, semilla = parte.partition("/")
    if parte in DE_RESUMEN:
        poner_filas(resultados, parte, medido)
    elif semilla:
        resultados.setdefault(grupo, {})[semilla] = medido
    else:
        resultados |= medido
    texto = json.dumps(resultados, ensure_ascii=False, indent=1)
    RESULTADOS.write_text(texto + "\n", encoding="utf-8")


def poner_filas(resultados, parte, medido):
    """Cambia las filas que dio una parte la vez anterior, y sus detalles, por los de ahora."""
    de_la_parte = resultados.setdefault("filas_de", {})
    viejas = de_la_parte.get(parte, [])
    de_la_parte[parte] = [fila["experimento"] for fila in medido["filas"]]
    filas = [f for f in resultados["filas"] if f["experimento"] not in viejas] + medido.pop("filas")
    orden = [experimento for una in DE_RESUMEN for experimento in de_la_parte.get(una, [])]
    filas.sort(key=lambda fila: (fila["apartado"], orden.index(fila["experimento"])))
    detalles = {n: v for n, v in resultados["detalles"].items() if n not in viejas}
    resultados["filas"] = filas
    resultados["detalles"] = detalles | medido.pop("detalles")
    resultados |= medido


def desviacion(resultados, experimento):
    """Desviación típica de los aciertos en test de un experimento entre semillas; None si no se ha
    medido con tres, las que supone DESVIACIONES_FUERA."""
    varias = [resultados["filas"]]
    for grupo in ("semillas", "3"):
        varias += [medido["filas"] for medido in resultados.get(grupo, {}).values()]
    test = [f["test"] for filas in varias for f in filas if f["experimento"] == experimento]
    return stdev(test) if len(test) > 2 else None


def bloque_memoria(resultados):
    """Las constantes de practica2.py que guardan las cifras de la memoria."""
    filas = [fila for fila in resultados["filas"] if fila["test"] is not None]
    cifar = next(fila for fila in filas if not fila["apartado"].startswith("3"))
    aves = next(fila for fila in filas if fila["apartado"].startswith("3"))
    lineas = [
        "CIFAR_MEMORIA = ({})".format(", ".join(f'"{e}"' for e in cifar["origen"])),
        "AVES_MEMORIA = ({})".format(", ".join(f'"{e}"' for e in aves["origen"])),
        "MEMORIA = {",
    ]
    for fila in filas:
        s = desviacion(resultados, fila["experimento"])
        origen = "AVES_MEMORIA" if fila["apartado"].startswith("3") else "CIFAR_MEMORIA"
        cifra = f"{fila['test']:.6f}, {None if s is None else round(s, 4)}, {origen}"
        lineas.append(f'    "{fila["experimento"]}": ({cifra}),')
    return "\n".join([*lineas, "}", ""])


def escribir_memoria(resultados):
    """Pone en practica2.py las cifras de la memoria, que RESUMEN enseña junto a las suyas."""
    codigo = SCRIPT.read_text(encoding="utf-8")
    codigo = BLOQUE_MEMORIA.sub(bloque_memoria(resultados), codigo)
    SCRIPT.write_text(codigo, encoding="utf-8")


def escribir_leeme(resultados):
    """Pone en README.md la tabla de RESUMEN con los resultados de la memoria."""
    import medir

    p = medir.p
    filas = []
    for fila in resultados["filas"]:
        filas.append([escribir(fila[campo]) for _, campo, escribir in p.COLUMNAS])
    with redirect_stdout(io.StringIO()) as tabla:
        p.imprimir_tabla([columna for columna, _, _ in p.COLUMNAS], filas)
    texto = LEEME.read_text(encoding="utf-8")
    LEEME.write_text(BLOQUE_LEEME.sub(tabla.getvalue(), texto), encoding="utf-8")


# ===== Las figuras y el PDF ======================================================================


def guardar_figura(figura, fichero):
    """Guarda una figura vectorial con la huella de los resultados de los que sale."""
    de_los_resultados = hashlib.sha256(RESULTADOS.read_bytes()).hexdigest()
    figura.savefig(FIGURAS / fichero, metadata={"Date": None, "Description": de_los_resultados})
    plt.close(figura)


def guardar_laminas(codigo):
    """Pasa a JPEG, que pesa la cuarta parte, las figuras del script que usa la memoria, con la
    huella del código que las ha medido, y borra las demás."""
    usadas = (AQUI / "memoria.typ").read_text(encoding="utf-8")
    for lamina in FIGURAS.rglob("*.png"):
        foto = lamina.with_suffix(".jpg")
        if foto.relative_to(FIGURAS).as_posix() in usadas:
            imagen = quitar_franjas(Image.open(lamina).convert("RGB"))
            imagen.save(foto, quality=88, comment=codigo)
        lamina.unlink()


def quitar_franjas(imagen, alto=12):
    """La misma imagen sin lo que, de cada franja en blanco de lado a lado, pasa de unos píxeles."""
    pixeles = np.asarray(imagen)
    en_blanco = (pixeles > 250).all((1, 2))
    seguidas, quedan = 0, []
    for fila, blanca in enumerate(en_blanco):
        seguidas = seguidas + 1 if blanca else 0
        if seguidas <= alto:
            quedan.append(fila)
    return Image.fromarray(pixeles[quedan])


def figura_del_script(fichero, tamano, mostrar, *medido):
    """Dibuja lo que se midió con una función de practica2.py, y lo guarda al tamaño al que se
    imprime, en pulgadas."""
    with redirect_stdout(io.StringIO()):
        mostrar(fichero, *medido)
    figura = plt.figure(fichero)
    figura.set_size_inches(tamano)
    sacar_leyenda(figura)
    guardar_figura(figura, fichero)


def sacar_leyenda(figura, caben=4):
    """Pone encima de los ejes la leyenda que está dentro, donde puede tapar datos, si es corta."""
    leyendas = [eje.get_legend() for eje in figura.axes if eje.get_legend()]
    if leyendas and len(leyendas[0].get_texts()) <= caben:
        rotulos = [texto.get_text() for texto in leyendas[0].get_texts()]
        simbolos = leyendas[0].legend_handles
        for leyenda in leyendas:
            leyenda.remove()
        figura.legend(simbolos, rotulos, loc="outside upper center", ncols=caben, frameon=False)


def figuras_de_cifar(p, filas, detalles):
    """Las de los apartados 1 y 2 y del Bonus."""
    for fichero, red in (
        ("curvas_basenet.svg", "BaseNet"),
        ("curvas_basenet_mejorada.svg", "BaseNet mejorada"),
        ("curvas_generalista.svg", "Generalista, 100 clases, con espejo"),
        ("curvas_destilada.svg", "Especialista destilada, con espejo"),
    ):
        figura_evolucion(p, fichero, detalles[red])
    for capitulo, fichero in (
        ("Que aprenda", "aprender.svg"),
        ("Que no memorice", "memorizar.svg"),
    ):
        suyas = [fila for fila in filas if fila["experimento"].startswith(f"{capitulo}: ")]
        descartados = [
            fila["experimento"].split(": ")[1]
            for fila in suyas
            if detalles[fila["experimento"]].get("se_queda") is False
        ]
        pasos = [SimpleNamespace(**fila) for fila in suyas]
        figura_del_script(fichero, (3.2, 2.6), p.mostrar_pasos, pasos, descartados)
    por_clase = {}
    for fichero, red in (
        ("confusion_basenet.svg", "BaseNet"),
        ("confusion.svg", "BaseNet mejorada, con espejo"),
    ):
        por_clase[red] = {
            CASTELLANO[clase]: aciertos for clase, aciertos in detalles[red]["por_clase"].items()
        }
        confusion = detalles[red]["confusion"]
        clases = list(por_clase[red])
        figura_del_script(fichero, (4.7, 3.9), p.mostrar_confusion, clases, confusion)
    figura_del_script("por_clase.svg", (5, 3.5), p.mostrar_por_clase, por_clase)


def figuras_de_aves(p, resultados):
    """Las del Apartado 3, con las dos redes."""
    imagenet = resultados["imagenet"]["7"]["detalles"]
    for sufijo, detalle in (
        ("", resultados["detalles"]["ResNet50, ajuste fino"]),
        ("_imagenet", imagenet["MobileNetV2, ajuste fino"]),
    ):
        figura_evolucion(p, f"curvas_ajuste_fino{sufijo}.svg", detalle)
        figura_del_script(
            f"proyeccion{sufijo}.svg",
            (ANCHO, 2.8),
            p.mostrar_proyeccion,
            detalle["proyeccion"],
        )
    de_resnet = [fila for fila in resultados["filas"] if fila["apartado"].startswith("3")]
    pesos = resultados["partes"]["3/7"]["origen"][-1]
    redes = {
        "ResNet50 (destilada)" if pesos == "otros pesos" else f"ResNet50 ({pesos})": [
            de_resnet,
            *(medido["filas"] for medido in resultados.get("3", {}).values()),
        ],
        "MobileNetV2 (ImageNet)": [medido["filas"] for medido in resultados["imagenet"].values()],
    }
    figura_aciertos_aves("aves.svg", redes, p.DECIMALES)


def figura_evolucion(p, fichero, detalle):
    """Pérdida y aciertos por época de una red, con la tasa si cambia."""
    hist = SimpleNamespace(history=detalle["curvas"])
    figura_del_script(fichero, (ANCHO, 2), partial(p.mostrarEvolucion, hist))


def figura_aciertos_aves(fichero, redes, decimales):
    """Aciertos en test de cada experimento del Apartado 3, {red: las filas de cada semilla}: la
    media y su desviación típica o, si solo hay una, el error típico de esa proporción."""
    figura, eje = plt.subplots(figsize=(ANCHO, 3), layout="constrained")
    for (red, corridas), color, marca in zip(redes.items(), (AZUL, NARANJA), "os"):
        nombres = [fila["experimento"].split(", ", 1)[1] for fila in corridas[0]]
        test = [[100 * fila["test"] for fila in de_uno] for de_uno in zip(*corridas)]
        error = [
            stdev(de_uno) if len(de_uno) > 1 else (de_uno[0] * (100 - de_uno[0]) / AVES_TEST) ** 0.5
            for de_uno in test
        ]
        alturas = [i + 0.1 * (marca == "s") for i in range(len(nombres))]
        eje.errorbar(
            [mean(de_uno) for de_uno in test],
            alturas,
            xerr=error,
            fmt=marca,
            color=color,
            capsize=3,
            label=red,
        )
    eje.set_yticks(range(len(nombres)), nombres)
    eje.invert_yaxis()
    eje.set_xlabel("Aciertos en test (%)")
    eje.xaxis.set_major_formatter(decimales)
    eje.grid(axis="x", alpha=0.3)
    figura.legend(loc="outside upper center", ncols=len(redes), frameon=False)
    guardar_figura(figura, fichero)


def componer(resultados):
    """Dibuja las figuras que salen de los resultados y compone el PDF."""
    import medir

    p = medir.p
    plt.rcParams.update({"font.size": 8, "svg.hashsalt": "practica2", "svg.fonttype": "path"})
    figuras_de_cifar(p, resultados["filas"], resultados["detalles"])
    figuras_de_aves(p, resultados)
    componer_pdf(AQUI / "memoria.pdf")
    print(f"Memoria compuesta: {AQUI / 'memoria.pdf'}")


def componer_pdf(fichero):
    """Compone el PDF con las figuras ya dibujadas y lo que la memoria cita del código."""
    import medir

    del_codigo = {"constantes": medir.constantes(), "castellano": CASTELLANO}
    typst.compile(
        AQUI / "memoria.typ",
        output=fichero,
        sys_inputs={nombre: json.dumps(valor) for nombre, valor in del_codigo.items()},
    )


def main():
    opciones = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    opciones.add_argument("--apartados", default="", help=f"a medir: {', '.join(RAICES)}")
    opciones.add_argument("--solo-pdf", action="store_true", help="no mide nada")
    leidas = opciones.parse_args()
    import medir  # aquí, porque tarda segundos

    resultados, pedidas = leer(), []
    for prefijo in leidas.apartados.split(",") if leidas.apartados else []:
        suyas = [parte for parte in medir.PARTES if f"{parte}/".startswith(f"{prefijo}/")]
        pedidas += suyas or opciones.error(f"--apartados: elija entre {', '.join(RAICES)}")
    if not pedidas and not leidas.solo_pdf:
        pedidas = list(medir.PARTES)
    # Lo que ya se midió con este código no se repite.
    medidas = resultados["partes"]
    pedidas = [parte for parte in pedidas if medidas.get(parte, {}).get("codigo") != huella(parte)]
    os.environ["MPLBACKEND"] = "svg"  # los procesos que miden no abren ventanas
    plt.switch_backend("svg")
    FIGURAS.mkdir(exist_ok=True)
    for parte in pedidas:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as proceso:
            guardar(resultados, parte, proceso.submit(medir_parte, parte).result())
        guardar_laminas(resultados["partes"][parte]["codigo"])
    escribir_memoria(resultados)
    escribir_leeme(resultados)
    componer(resultados)


if __name__ == "__main__":
    main()
