"""Mide la práctica con practica2.py y compone memoria.pdf.

    python memoria/generar.py                     mide lo que falte y compone (varias horas)
    python memoria/generar.py --apartados 3       vuelve a medir esas partes y conserva las demás
    python memoria/generar.py --solo-pdf          compone con los resultados guardados (segundos)

Las partes son los apartados (12bonus mide los tres juntos, porque comparan sus redes y forman un comité;
3 repite además las cabezas con tres semillas) y las que la ejecución normal no hace: imagenet es el
Apartado 3 con MobileNetV2 y sus pesos de ImageNet; contrastes cae a propósito en las trampas que se evitan;
semillas repite BaseNet y la red final con otras semillas, e ingredientes cambia las piezas del Bonus de
una en una. Cada una se mide en un proceso propio y se guarda en resultados.json al acabar, con la huella
del código que la midió: si se interrumpe, sigue donde se quedó.
"""

import argparse
import ast
import hashlib
import io
import json
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from datetime import date
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import stdev
from textwrap import wrap

import matplotlib.pyplot as plt
import typst
from PIL import Image

AQUI = Path(__file__).resolve().parent
SCRIPT, LEEME = AQUI.parent / "practica2.py", AQUI.parent / "README.md"
RESULTADOS = AQUI / "resultados.json"
FIGURAS = AQUI / "figuras"
SEMILLAS = (8, 9)  # además de la del script: tres en total
EPOCAS_INGREDIENTES = 3  # bastan para ordenar los ingredientes; con todas serían varias horas
BLOQUE_LEEME = re.compile(r"(?<=```text\n).*?(?=```)", re.DOTALL)  # la tabla de README.md
BLOQUE_MEMORIA = re.compile(r"MEMORIA_ORIGEN = .*?(?=# fmt: on)", re.DOTALL)  # en practica2.py
AZUL, NARANJA, GRIS = "#0072b2", "#e69f00", "#8c8c8c"  # de Okabe e Ito: también en gris y daltónicos


def definiciones():
    """{nombre: (código, nombres que usa)} de lo que define practica2.py, sin comentarios ni docstrings."""
    codigo, encontradas = BLOQUE_MEMORIA.sub("", SCRIPT.read_text(encoding="utf-8")), {}
    lineas = codigo.splitlines()
    for nodo in ast.parse(codigo).body:
        texto = "\n".join(lineas[nodo.lineno - 1 : nodo.end_lineno])
        if isinstance(nodo, (ast.FunctionDef, ast.ClassDef)):
            nombres, texto = [nodo.name], texto.replace(ast.get_docstring(nodo, clean=False) or "", "")
        elif isinstance(nodo, (ast.Assign, ast.AnnAssign)):
            destinos = getattr(nodo, "targets", None) or [nodo.target]
            nombres = [n.id for destino in destinos for n in ast.walk(destino) if isinstance(n, ast.Name)]
        else:
            continue
        limpio = " ".join(re.sub(r"(?m)(^ *|  )# .*$", "", texto).split())
        usa = {n.id for n in ast.walk(nodo) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        encontradas |= dict.fromkeys(nombres, (limpio, usa))
    return encontradas


def huella(parte):
    """Resumen del código que mide una parte: las definiciones de practica2.py a las que se llega desde las
    funciones que usa. Cambiar otra cosa, o las cifras de la memoria, no obliga a medirla otra vez."""
    todas, usadas, pendientes = definiciones(), set(), {*RAICES[parte], "Sesion", "preparar_entorno"}
    del todas["resumen"]  # enseña lo medido; no lo mide
    while pendientes:
        nombre = pendientes.pop()
        usadas.add(nombre)
        pendientes |= (todas[nombre][1] & todas.keys()) - usadas
    return hashlib.sha256("\n".join(todas[nombre][0] for nombre in sorted(usadas)).encode()).hexdigest()


def leer():
    """Los resultados guardados, o ninguno."""
    if RESULTADOS.exists():
        return json.loads(RESULTADOS.read_text(encoding="utf-8"))
    return {"partes": {}, "filas": []}


def importar():
    """El módulo practica2 de este proyecto."""
    sys.path[:0] = [str(SCRIPT.parent), str(SCRIPT.parent / "tests")]
    import practica2

    return practica2


def espiar(modulo, nombre, anotar):
    """Cambia una función del módulo por otra que hace lo mismo y después llama a anotar con lo devuelto."""
    original = getattr(modulo, nombre)

    def espia(*argumentos, **opciones):
        devuelto = original(*argumentos, **opciones)
        anotar(devuelto, *argumentos, **opciones)
        return devuelto

    setattr(modulo, nombre, espia)


def espiar_figuras(practica2, medido):
    """Guarda en medido los números que el script enseña en figuras o en frases y no están en RESUMEN."""
    medido |= {"curvas": {}, "pares": {}}
    aciertos, perdidas, busquedas = [], [], []

    def curva(_, hist, nombre, antes=None):
        medido["curvas"][nombre.split(":")[0]] = hist.history
        if antes:
            medido["curvas"]["Solo la salida"] = antes.history

    def pares(_, nombre, datos, prob):
        peores = practica2.peores_pares(datos, prob)
        medido["pares"][nombre] = [
            [datos.clases[a], datos.clases[b], int(veces)] for a, b, veces, _ in peores
        ]

    def clases(_, nombre, datos, *redes):
        aciertos = [practica2.aciertos_por_clase(datos, prob) for prob in redes]
        medido["clases"] = {c: list(map(float, par)) for c, *par in zip(datos.clases, *aciertos)}

    def capas(_, modelo):
        medido["macs"] = sum(map(practica2.macs, modelo.layers))

    def tabla(_, cabecera, filas):
        if cabecera[0] == "N.º":
            medido["capas"] = filas

    def acierto(fraccion, etiquetas, _):
        aciertos.append(fraccion)
        if etiquetas.shape[1] == 20:
            medido["superclases"] = fraccion

    def mezclas(*_):
        cuantas = len(practica2.MEZCLAS)
        medido["mezclas"] = list(zip(practica2.MEZCLAS, aciertos[-cuantas:], perdidas[-cuantas:]))

    def elegidos(*_):
        medido["elegidos"] = [b.best_params_ | {"cv": float(b.best_score_)} for b in busquedas]

    espiar(practica2, "mostrarEvolucion", curva)
    espiar(practica2, "mostrar_peores_pares", pares)
    espiar(practica2, "mostrar_confusion", pares)
    espiar(practica2, "mostrar_antes_y_despues", clases)
    espiar(practica2, "tabla_de_capas", capas)
    espiar(practica2, "imprimir_tabla", tabla)
    espiar(practica2, "calcularAccuracy", acierto)
    espiar(practica2, "log_loss", lambda perdida, *_: perdidas.append(float(perdida)))
    espiar(practica2, "mezclar_pesos", mezclas)
    espiar(practica2, "GridSearchCV", lambda busqueda, *_, **__: busquedas.append(busqueda))
    espiar(practica2, "probar_clasicos", elegidos)
    espiar(practica2, "mcnemar", lambda p, *_: medido.setdefault("mcnemar", []).append(p))


def medir_apartados(parte, apartados, figuras=FIGURAS):
    """Ejecuta unos apartados de practica2.py. Devuelve sus filas, lo que enseñan y de dónde salen."""
    practica2 = importar()
    constantes = {n: v for n, v in vars(practica2).items() if n.isupper() and isinstance(v, (int, float))}
    medido = {"constantes": constantes}
    espiar_figuras(practica2, medido)

    def guardar_origen(_, sesion, maquina, segundos, completo):
        medido["origen"] = origen(parte, maquina, sesion.semilla, segundos) | {
            "datos": next(iter(sesion.origenes.values())).split(";")[0],
            "pesos": sesion.pesos and sesion.pesos.etiqueta,
        }

    espiar(practica2, "resumen", guardar_origen)
    filas = practica2.main(["--apartados", apartados, "--figuras", str(figuras)])
    medido["filas"] = [asdict(fila) | {k: medido["origen"][k] for k in ("datos", "pesos")} for fila in filas]
    return medido


def medir_apartado3(imagenet):
    """El Apartado 3 con ResNet50, o con MobileNetV2 y los de ImageNet, y sus cabezas con tres semillas."""
    practica2 = importar()
    import comprobar_imagenet

    if imagenet:
        practica2.RESNET50 = comprobar_imagenet.MOBILENETV2
    extraidas = comprobar_imagenet.guardar_extraidas()
    parte, figuras = ("imagenet", FIGURAS / "imagenet") if imagenet else ("3", FIGURAS)
    medido = medir_apartados(parte, "3", figuras)
    cabezas = comprobar_imagenet.medir_cabezas(practica2.RESNET50, *extraidas)
    cabezas = {semilla: [asdict(fila) for fila in filas] for semilla, filas in cabezas.items()}
    if imagenet:  # no son filas de RESUMEN
        return {"origen": medido.pop("origen"), "imagenet": medido | {"cabezas": cabezas}}
    return medido | {"cabezas": cabezas}


def medir_semillas():
    """BaseNet y la red final con otras semillas, que cambian la partición y los pesos iniciales."""
    practica2 = importar()
    practica2.PASOS = ()  # de la escalera solo queda BaseNet
    inicio, filas = time.perf_counter(), {}
    for semilla in SEMILLAS:
        de_esta = practica2.main(["--apartados", "1,2", "--semilla", str(semilla)])
        filas[str(semilla)] = [asdict(fila) for fila in de_esta if fila.test is not None]
    return {"semillas": filas, "origen": origen("semillas", "", list(SEMILLAS), time.perf_counter() - inicio)}


def medir_ingredientes():
    """La generalista del Bonus, tal cual y con una pieza cambiada: aciertos de validación."""
    p = importar()
    maquina = p.preparar_entorno(p.SEMILLA)
    cifar, receta = p.leer_cifar(), p.RECETA_FINAL
    datos = p.datos_cifar(cifar, 100, p.SEMILLA)
    jerarquica = p.perdida_jerarquica(cifar.superclases, receta.suavizado)
    inicio, medidas = time.perf_counter(), {}
    for nombre, cambio, perdida in (
        ("tal cual", {}, jerarquica),
        ("sin pérdida jerárquica", {}, None),
        ("sin entrada de blanqueo", {"blanqueo": False}, jerarquica),
        ("sin aumento de datos", {"aumento": False}, jerarquica),
    ):
        print(f"\nIngredientes: {nombre}")
        e = p.entrenar_receta(replace(receta, **cambio), datos, EPOCAS_INGREDIENTES, p.SEMILLA, perdida)
        con_espejo = p.predecir_con_espejo(e.modelo, datos.val.x)
        medidas[nombre] = {
            "val": p.calcularAccuracy(datos.val.y, e.prob_val),
            "val_espejo": p.calcularAccuracy(datos.val.y, con_espejo),
            "segundos": e.segundos,
        }
    de_donde = origen("ingredientes", maquina, p.SEMILLA, time.perf_counter() - inicio)
    return {"ingredientes": medidas, "origen": de_donde | {"epocas": EPOCAS_INGREDIENTES}}


def medir_contrastes():
    """Qué habría cambiado al caer en las trampas; las de las aves, con MobileNetV2 y pesos de ImageNet."""
    p = importar()
    maquina, inicio = p.preparar_entorno(p.SEMILLA), time.perf_counter()
    medidas = trampas_de_cifar(p) | trampas_de_aves(p)
    segundos = time.perf_counter() - inicio
    return {"contrastes": medidas, "origen": origen("contrastes", maquina, p.SEMILLA, segundos)}


def trampas_de_cifar(p):
    """Elegir la época de BaseNet con el test y aumentar la validación de BaseNet con aumento de datos. Y, sin
    ser una trampa, la red final con los filtros de la escalera, que en pocas épocas no puede compararlas."""
    datos = p.datos_cifar(p.leer_cifar(), p.CLASES, p.SEMILLA)
    plan = p.Plan(p.COMPLETO.basenet, p.LOTE_BASENET, p.adam)
    con_test = p.entrenar(p.construir_basenet, replace(datos, val=datos.test), plan, p.SEMILLA)
    receta = p.Receta(normalizar=True, aumento=True)
    aumentada = p.entrenar_receta(receta, datos, p.COMPLETO.basenet, p.SEMILLA)
    entrada = p.keras.Input((32, 32, 3))
    aumento = p.keras.Model(entrada, p.aumentar(entrada, receta))
    val = p.predecir(aumentada.modelo, p.np.array(aumento(datos.val.x, training=True)))
    estrecha = replace(p.RECETA_FINAL, filtros=p.ESTRECHA)
    estrecha = p.entrenar_receta(estrecha, datos, p.COMPLETO.mejorada, p.SEMILLA)
    return {
        "la mitad de los filtros": {
            "val": p.calcularAccuracy(datos.val.y, estrecha.prob_val),
            "segundos": estrecha.segundos,
        },
        "mejor época según test": {"test": max(con_test.hist.history["val_accuracy"])},
        "validación sin aumentar": {"val": p.calcularAccuracy(datos.val.y, aumentada.prob_val)},
        "validación aumentada": {"val": p.calcularAccuracy(datos.val.y, val)},
    }


def trampas_de_aves(p):
    """La red congelada, dividiendo los píxeles por 255 antes de tiempo; y el ajuste fino, sin mezclar pesos:
    tal cual, sin la cabeza entrenada y con la batch normalization entrenable."""
    import comprobar_imagenet

    red, sesion = comprobar_imagenet.MOBILENETV2, p.Sesion(p.SEMILLA, p.COMPLETO)
    pesos, datos = p.buscar_pesos(red), p.datos_aves(None, p.SEMILLA)

    def entrenar_salida(como):
        vectores = p.extraer(p.construir_base(como, pesos, p.LADO_AVES), datos)[1]
        epocas = p.COMPLETO.cabezas
        return vectores, p.probar_cabeza(como, "3.1.A", "salida", p.cabeza_salida, vectores, epocas, sesion)

    _, dividida = entrenar_salida(replace(red, preprocesar=lambda x: red.preprocesar(x / 255)))
    medidas = {"dividir por 255 antes": {"val": p.calcularAccuracy(datos.val.y, dividida.prob_val)}}
    vectores, salida = entrenar_salida(red)
    medidas["solo la salida"] = {"val": p.calcularAccuracy(datos.val.y, salida.prob_val)}
    optimizador = partial(p.adam_ciclo, p.tasa_de_ajuste(p.construir_base(red, pesos)))
    plan = p.Plan(p.COMPLETO.ajuste, p.LOTE_AJUSTE, optimizador, p.SUAVIZADO, None, p.recortar_y_reflejar)
    pixeles = p.keras.Input((None, None, 3))
    sin_plegar = p.keras.Model(pixeles, p.cargar_red(red, pesos)(red.preprocesar(pixeles)))
    for nombre, base, entrenada in (
        ("ajuste fino", p.construir_base(red, pesos), True),
        ("batch normalization entrenable", sin_plegar, True),
        ("sin la cabeza entrenada", p.construir_base(red, pesos), False),
    ):
        print(f"\nContrastes: {nombre}")
        cabeza = p.cabeza_salida(vectores)
        if entrenada:
            cabeza.set_weights(salida.modelo.get_weights())
        construir = partial(p.construir_ajuste, base, cabeza)
        e = p.entrenar(construir, datos, plan, p.SEMILLA)
        medidas[nombre] = {"val": p.calcularAccuracy(datos.val.y, e.prob_val)}
    return medidas


def origen(parte, maquina, semilla, segundos):
    """Cuándo, dónde y con qué código se ha medido una parte."""
    return {
        "fecha": date.today().isoformat(),
        "maquina": maquina,
        "semilla": semilla,
        "segundos": segundos,
        "codigo": huella(parte),
    }


PARTES = {  # en el orden en que se miden: primero lo que cuesta menos y más se mira
    "12bonus": partial(medir_apartados, "12bonus", "1,2,bonus"),
    "3": partial(medir_apartado3, False),
    "imagenet": partial(medir_apartado3, True),
    "contrastes": medir_contrastes,
    "semillas": medir_semillas,
    "ingredientes": medir_ingredientes,
}
RAICES = {  # las funciones de practica2.py a las que llama cada parte
    "12bonus": ("apartado1", "apartado2", "bonus", "COMPLETO", "leer_cifar"),
    "3": ("apartado3", "COMPLETO", "datos_aves", "buscar_pesos"),
    "imagenet": ("apartado3", "COMPLETO", "datos_aves", "buscar_pesos"),
    "contrastes": (
        *("COMPLETO", "leer_cifar", "datos_cifar", "construir_basenet", "adam", "LOTE_BASENET"),
        *("entrenar_receta", "RECETA_FINAL", "ESTRECHA", "datos_aves", "buscar_pesos", "extraer"),
        *("probar_cabeza", "cabeza_salida", "construir_ajuste", "recortar_y_reflejar", "tasa_de_ajuste"),
    ),
    "semillas": ("apartado1", "apartado2", "COMPLETO", "leer_cifar"),
    "ingredientes": ("bonus", "leer_cifar"),
}
ORDEN = ("1", "2", "3", "bonus")  # de las filas


def apartado_de(fila):
    """El apartado de la línea de órdenes al que pertenece una fila."""
    return fila["apartado"].split(".")[0].lower()


def actualizar(resultados, parte, medido):
    """Cambia en los resultados lo de una parte y los guarda."""
    nuevas = medido.pop("filas", [])
    repetidas = {apartado_de(fila) for fila in nuevas}
    filas = [fila for fila in resultados["filas"] if apartado_de(fila) not in repetidas] + nuevas
    resultados["filas"] = sorted(filas, key=lambda fila: ORDEN.index(apartado_de(fila)))
    resultados["partes"][parte] = medido.pop("origen")
    for varias in ("curvas", "pares"):  # de varias partes
        resultados.setdefault(varias, {}).update(medido.pop(varias, {}))
    resultados |= medido
    texto = json.dumps(resultados, ensure_ascii=False, indent=1)
    RESULTADOS.write_text(texto + "\n", encoding="utf-8")


def desviacion(resultados, experimento):
    """Desviación típica de los aciertos en test de un experimento entre semillas; None si no se ha medido."""
    con_semillas = [resultados["filas"], *resultados.get("semillas", {}).values()]
    if any(f["experimento"] == experimento and f["apartado"].startswith("3") for f in resultados["filas"]):
        con_semillas = resultados.get("cabezas", {}).values()
    test = [f["test"] for filas in con_semillas for f in filas if f["experimento"] == experimento]
    return stdev(test) if len(test) > 1 else None


def bloque_memoria(resultados):
    """Las constantes de practica2.py que guardan las cifras de la memoria."""
    cifar, aves = (resultados["partes"][parte] for parte in ("12bonus", "3"))
    cifras = []
    for fila in resultados["filas"]:
        if fila["test"] is not None:
            s = desviacion(resultados, fila["experimento"])
            cifras.append(f'"{fila["experimento"]}": ({fila["test"]:.6f}, {s if s is None else round(s, 4)})')
    # Con otro carácter en lugar del espacio, wrap no parte una cifra por la mitad.
    renglones = wrap(", ".join(cifra.replace(" ", "\0") for cifra in cifras), 105)
    origenes = {"Apartados 1, 2 y Bonus": cifar["datos"]}
    origenes["Apartado 3"] = f"{aves['datos']}; ResNet50 con {aves['pesos']}"
    return (
        "MEMORIA_ORIGEN = {\n"
        + "".join(f'    "{parte}": "{origen}",\n' for parte, origen in origenes.items())
        + "}\nMEMORIA = {  # experimento: aciertos en test y su desviación típica entre semillas\n"
        + "".join(f"    {renglon}\n" for renglon in renglones).replace("\0", " ")
        + "}\n"
    )


def escribir_memoria(resultados):
    """Pone en practica2.py las cifras de la memoria, que RESUMEN enseña junto a las suyas."""
    codigo = SCRIPT.read_text(encoding="utf-8")
    SCRIPT.write_text(BLOQUE_MEMORIA.sub(bloque_memoria(resultados), codigo), encoding="utf-8")


def escribir_leeme(resultados):
    """Pone en README.md la tabla de RESUMEN con los resultados de la memoria."""
    p = importar()
    medidas = [[como(fila[campo]) for _, campo, como in p.COLUMNAS] for fila in resultados["filas"]]
    with redirect_stdout(io.StringIO()) as tabla:
        p.imprimir_tabla([titulo for titulo, _, _ in p.COLUMNAS], medidas)
    LEEME.write_text(BLOQUE_LEEME.sub(tabla.getvalue(), LEEME.read_text(encoding="utf-8")), encoding="utf-8")


def guardar(figura, fichero):
    """Guarda una figura vectorial con la huella de los resultados de los que sale."""
    huella_resultados = hashlib.sha256(RESULTADOS.read_bytes()).hexdigest()
    figura.savefig(FIGURAS / fichero, metadata={"Date": None, "Description": huella_resultados})
    plt.close(figura)


def guardar_laminas(codigo):
    """Pasa a JPEG, que pesa la cuarta parte, las figuras del script que usa la memoria, con la huella del
    código que las ha medido, y borra las demás."""
    usadas = (AQUI / "memoria.typ").read_text(encoding="utf-8")
    for lamina in FIGURAS.rglob("*.png"):
        foto = lamina.with_suffix(".jpg")
        if foto.relative_to(FIGURAS).as_posix() in usadas:
            Image.open(lamina).convert("RGB").save(foto, quality=88, comment=codigo)
        lamina.unlink()


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
    guardar(figura, "escalera.svg")


def figura_comparacion(filas, fichero):
    """Aciertos de test de cada experimento del Apartado 3."""
    nombres = [f["experimento"].split(", ", 1)[1] for f in filas]
    test = [100 * f["test"] for f in filas]
    figura, eje = plt.subplots(figsize=(6.3, 2.5), layout="constrained")
    barras = eje.barh(nombres, test, color=[NARANJA if f["apartado"] == "3.2" else AZUL for f in filas])
    eje.bar_label(barras, [f"{t:.1f}".replace(".", ",") for t in test], padding=3)
    eje.invert_yaxis()
    eje.set(xlabel="Aciertos en test (%)", xlim=(0, 100))
    guardar(figura, fichero)


def figura_curvas(curva, fichero, antes=None):
    """Pérdida y aciertos por época de una red, en entrenamiento y en validación; antes es otra fase."""
    previa = antes or dict.fromkeys(curva, [])
    inicio = len(previa["loss"])
    figura, ejes = plt.subplots(1, 2, figsize=(6.3, 2.3), layout="constrained")
    for eje, medida, rotulo in zip(ejes, ("loss", "accuracy"), ("Pérdida", "Aciertos (%)")):
        factor = 100 if medida == "accuracy" else 1
        for clave, color, trazo, texto in (
            (medida, AZUL, "-", "entrenamiento"),
            ("val_" + medida, NARANJA, "--", "validación"),
        ):
            valores = [factor * v for v in previa[clave] + curva[clave]]
            eje.plot(range(1, len(valores) + 1), valores, trazo, marker=".", ms=4, color=color, label=texto)
        if antes:
            eje.axvline(inicio + 0.5, color=GRIS, lw=1)
        eje.set(xlabel="Época", ylabel=rotulo)
        eje.xaxis.get_major_locator().set_params(integer=True)
        eje.grid(alpha=0.3)
    ejes[0].legend(frameon=False)
    guardar(figura, fichero)


def figuras_de_curvas(resultados):
    """Las curvas de cada red; las del ajuste fino, detrás de las de la cabeza de la que parte."""
    for curvas, sufijo in ((resultados["curvas"], ""), (resultados["imagenet"]["curvas"], "_imagenet")):
        for nombre in curvas.keys() - {"Solo la salida"}:
            antes = curvas["Solo la salida"] if nombre == "Ajuste fino" else None
            figura_curvas(curvas[nombre], f"curvas_{nombre.lower().replace(' ', '_')}{sufijo}.svg", antes)


def componer(resultados):
    """Dibuja las figuras que salen de los resultados y compone el PDF."""
    plt.rcParams.update({"font.size": 9, "svg.hashsalt": "practica2", "svg.fonttype": "path"})
    figura_escalera(resultados)
    aves = [fila for fila in resultados["filas"] if fila["apartado"].startswith("3")]
    figura_comparacion(aves, "comparacion.svg")
    figura_comparacion(resultados["imagenet"]["filas"], "comparacion_imagenet.svg")
    figuras_de_curvas(resultados)
    typst.compile(AQUI / "memoria.typ", output=AQUI / "memoria.pdf")
    print(f"Memoria compuesta: {AQUI / 'memoria.pdf'}")


def main():
    opciones = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    opciones.add_argument("--apartados", default="", help=f"las que se vuelven a medir: {', '.join(PARTES)}")
    opciones.add_argument("--solo-pdf", action="store_true", help="no mide nada")
    leidas = opciones.parse_args()
    resultados = leer()
    pedidas = [parte for parte in leidas.apartados.split(",") if parte]
    if not set(pedidas) <= set(PARTES):
        opciones.error(f"--apartados: elija entre {', '.join(PARTES)}")
    if not pedidas and not leidas.solo_pdf:
        medidas = resultados["partes"]
        pedidas = [p for p in PARTES if medidas.get(p, {}).get("codigo") != huella(p)]
    os.environ["MPLBACKEND"] = "svg"  # los procesos que miden no abren ventanas
    plt.switch_backend("svg")
    FIGURAS.mkdir(exist_ok=True)
    for parte in pedidas:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as proceso:
            actualizar(resultados, parte, proceso.submit(PARTES[parte]).result())
        guardar_laminas(resultados["partes"][parte]["codigo"])
    escribir_memoria(resultados)
    escribir_leeme(resultados)
    componer(resultados)


if __name__ == "__main__":
    main()
