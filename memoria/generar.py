"""Mide la práctica con practica2.py y compone memoria.pdf.

    python memoria/generar.py                     mide lo que falte y compone (más de una hora)
    python memoria/generar.py --apartados 2,3     vuelve a medir esos apartados y conserva los demás
    python memoria/generar.py --solo-pdf          compone con los resultados guardados (segundos)

Cada apartado se mide en un proceso propio y se guarda en resultados.json al acabar, con la huella del
código que lo midió: si se interrumpe, sigue donde se quedó.
"""

import argparse
import hashlib
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import typst

AQUI = Path(__file__).resolve().parent
SCRIPT = AQUI.parent / "practica2.py"
RESULTADOS = AQUI / "resultados.json"
FIGURAS = AQUI / "figuras"
APARTADOS = ("1", "2", "3", "bonus")
AZUL, NARANJA, GRIS = "#0072b2", "#e69f00", "#8c8c8c"  # de Okabe e Ito: también en gris y daltónicos


def huella():
    """Resumen del código que mide."""
    return hashlib.sha256(SCRIPT.read_bytes()).hexdigest()


def leer():
    """Los resultados guardados, o ninguno."""
    if RESULTADOS.exists():
        return json.loads(RESULTADOS.read_text(encoding="utf-8"))
    return {"partes": {}, "filas": [], "curvas": {}}


def medir(parte):
    """Ejecuta un apartado de practica2.py. Devuelve sus filas, sus curvas y de dónde salen."""
    sys.path.insert(0, str(SCRIPT.parent))
    import practica2

    medido = {"curvas": {}}
    mostrar, resumir = practica2.mostrarEvolucion, practica2.resumen

    def guardar_curva(hist, nombre):
        medido["curvas"][nombre.split(":")[0]] = hist.history
        mostrar(hist, nombre)

    def guardar_origen(sesion, maquina, segundos, completo):
        medido["origen"] = {
            "fecha": date.today().isoformat(),
            "maquina": maquina,
            "semilla": sesion.semilla,
            "segundos": segundos,
            "datos": sesion.origenes[0].split(": ", 1)[1].split(";")[0],
            "pesos": sesion.pesos and sesion.pesos.etiqueta,
            "codigo": huella(),
        }
        resumir(sesion, maquina, segundos, completo)

    practica2.mostrarEvolucion, practica2.resumen = guardar_curva, guardar_origen
    filas = practica2.main(["--apartados", parte, "--figuras", str(FIGURAS)])
    medido["filas"] = [asdict(fila) | {k: medido["origen"][k] for k in ("datos", "pesos")} for fila in filas]
    return medido


def parte_de(fila):
    """El apartado de la línea de órdenes al que pertenece una fila."""
    return fila["apartado"].split(".")[0].lower()


def actualizar(resultados, parte, medido):
    """Cambia en los resultados lo de una parte y los guarda."""
    filas = [fila for fila in resultados["filas"] if parte_de(fila) != parte] + medido["filas"]
    resultados["filas"] = sorted(filas, key=lambda fila: APARTADOS.index(parte_de(fila)))
    resultados["partes"][parte] = medido["origen"]
    resultados["curvas"] |= medido["curvas"]
    texto = json.dumps(resultados, ensure_ascii=False, indent=1)
    RESULTADOS.write_text(texto + "\n", encoding="utf-8")


def figura_escalera(resultados):
    """Validación de cada peldaño, con el error típico de una proporción de 1.250 imágenes."""
    filas = [f for f in resultados["filas"] if f["experimento"].startswith("Escalera: ")]
    nombres = [f["experimento"].removeprefix("Escalera: ") for f in filas]
    val = [100 * f["val"] for f in filas]
    error = [100 * (f["val"] * (1 - f["val"]) / 1250) ** 0.5 for f in filas]
    figura, eje = plt.subplots(figsize=(6.3, 3.4), layout="constrained")
    eje.errorbar(val, range(len(val)), xerr=error, fmt="o", color=AZUL, ecolor=GRIS, capsize=3)
    for y, (v, e) in enumerate(zip(val, error)):
        eje.annotate(f"{v:.1f}".replace(".", ","), (v + e, y), (6, -3), textcoords="offset points")
    eje.set_yticks(range(len(nombres)), nombres)
    eje.invert_yaxis()
    eje.margins(x=0.12)
    eje.set_xlabel("Aciertos en validación (%)")
    eje.grid(axis="x", alpha=0.3)
    figura.savefig(FIGURAS / "escalera.svg")
    plt.close(figura)


def figura_comparacion(resultados):
    """Aciertos de test de cada experimento del Apartado 3."""
    filas = [f for f in resultados["filas"] if f["apartado"].startswith("3")]
    nombres = [f["experimento"].removeprefix("ResNet50, ") for f in filas]
    test = [100 * f["test"] for f in filas]
    figura, eje = plt.subplots(figsize=(6.3, 2.5), layout="constrained")
    barras = eje.barh(nombres, test, color=[AZUL] * (len(filas) - 1) + [NARANJA])
    eje.bar_label(barras, [f"{t:.1f}".replace(".", ",") for t in test], padding=3)
    eje.invert_yaxis()
    eje.set(xlabel="Aciertos en test (%)", xlim=(0, 100))
    figura.savefig(FIGURAS / "comparacion.svg")
    plt.close(figura)


def figura_curvas(resultados, nombre):
    """Pérdida y aciertos por época de una red, en entrenamiento y en validación."""
    curva = resultados["curvas"][nombre]
    epocas = range(1, len(curva["loss"]) + 1)
    figura, ejes = plt.subplots(1, 2, figsize=(6.3, 2.3), layout="constrained")
    for eje, medida, rotulo in zip(ejes, ("loss", "accuracy"), ("Pérdida", "Aciertos (%)")):
        factor = 100 if medida == "accuracy" else 1
        for clave, color, trazo, texto in (
            (medida, AZUL, "-", "entrenamiento"),
            ("val_" + medida, NARANJA, "--", "validación"),
        ):
            valores = [factor * v for v in curva[clave]]
            eje.plot(epocas, valores, trazo, marker=".", color=color, label=texto)
        eje.set(xlabel="Época", ylabel=rotulo)
        eje.xaxis.get_major_locator().set_params(integer=True)
        eje.grid(alpha=0.3)
    ejes[0].legend(frameon=False)
    figura.savefig(FIGURAS / f"curvas_{nombre.lower().replace(' ', '_')}.svg")
    plt.close(figura)


def componer(resultados):
    """Dibuja las figuras que salen de los resultados y compone el PDF."""
    plt.rcParams.update({"font.size": 9, "svg.hashsalt": "practica2", "svg.fonttype": "path"})
    figura_escalera(resultados)
    figura_comparacion(resultados)
    for nombre in resultados["curvas"]:
        figura_curvas(resultados, nombre)
    typst.compile(AQUI / "memoria.typ", output=AQUI / "memoria.pdf")
    print(f"Memoria compuesta: {AQUI / 'memoria.pdf'}")


def main():
    opciones = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    opciones.add_argument("--apartados", default="", help="los que se vuelven a medir")
    opciones.add_argument("--solo-pdf", action="store_true", help="no mide nada")
    leidas = opciones.parse_args()
    resultados = leer()
    pedidos = [parte for parte in leidas.apartados.split(",") if parte]
    if not pedidos and not leidas.solo_pdf:
        medidos = resultados["partes"]
        pedidos = [p for p in APARTADOS if medidos.get(p, {}).get("codigo") != huella()]
    FIGURAS.mkdir(exist_ok=True)
    for parte in pedidos:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as proceso:
            actualizar(resultados, parte, proceso.submit(medir, parte).result())
    componer(resultados)


if __name__ == "__main__":
    main()
