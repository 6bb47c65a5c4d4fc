"""Apartado 3 con unos pesos reales de ImageNet: los de MobileNetV2, por las mismas funciones.

Se ejecuta a mano; necesita las aves y mobilenet_v2_imagenet_notop.weights.h5 en la misma carpeta:

    PRACTICA2_IMAGENES=carpeta python tests/comprobar_imagenet.py [--figuras CARPETA]

Imprime la misma tabla que practica2.py y después compara las cabezas con tres semillas, que cambian la
partición y los pesos iniciales.
"""

import sys
from pathlib import Path
from statistics import mean, stdev

import keras
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import practica2 as p

SEMILLAS = (7, 8, 9)
MOBILENETV2 = p.RedPreentrenada(
    "MobileNetV2",
    keras.applications.MobileNetV2,
    keras.applications.mobilenet_v2.preprocess_input,
    "mobilenet_v2_imagenet_notop.weights.h5",
    "",  # no se descarga: ha de estar en la carpeta
    "73236f95668c34e6f8c3793e873deb04",
)


def partir_otra_vez(datos, semilla):
    """Los mismos datos con la validación que aparta otra semilla."""
    x, y = (np.concatenate([getattr(c, eje) for c in (datos.train, datos.val)]) for eje in "xy")
    return p.partir(x, y, datos.test.x, datos.test.y, datos.clases, datos.procedencia, semilla)


def medir_cabezas(red, mapas, vectores):
    """{semilla: [Resultado]} de todas las cabezas sobre unas características ya extraídas."""
    filas = {}
    for semilla in SEMILLAS:
        sesion = p.Sesion(semilla, p.COMPLETO)
        de_mapas, de_vectores = (partir_otra_vez(datos, semilla) for datos in (mapas, vectores))
        p.probar_cabezas(red, de_mapas, de_vectores, sesion)
        filas[semilla] = sesion.filas
    return filas


def comparar(filas):
    """Imprime la media y la desviación típica de cada cabeza, y de cada diferencia semilla a semilla."""
    test = {}
    for r in (r for de_esta in filas.values() for r in de_esta):
        test.setdefault(r.experimento.split(", ", 1)[1], []).append(100 * r.test)
    print(f"\nAciertos en test con las semillas {', '.join(map(str, filas))}: media y desviación típica")
    for nombre, valores in test.items():
        print(f"  {nombre}: {p.decimal(mean(valores))} ± {p.decimal(stdev(valores))}")
    for uno, otro in (
        ("nueva FC y salida", "solo la salida"),
        ("sin average pooling", "solo la salida"),
        ("sin average pooling", "nueva FC y salida"),
    ):
        puntos = [a - b for a, b in zip(test[uno], test[otro])]
        diferencia = f"{p.decimal(mean(puntos), signo='+')} ± {p.decimal(stdev(puntos))}"
        print(f"  «{uno}» menos «{otro}»: {diferencia} puntos")


def guardar_extraidas():
    """Lista en la que la próxima extracción de practica2 dejará sus mapas y sus vectores."""
    extraer, extraidas = p.extraer, []

    def extraer_y_guardar(*argumentos):
        extraidas.extend(extraer(*argumentos))
        return extraidas

    p.extraer = extraer_y_guardar
    return extraidas


def main():
    if not (p.carpeta_imagenes() / MOBILENETV2.fichero).exists():
        sys.exit(f"Falta {MOBILENETV2.fichero} en la carpeta que nombra PRACTICA2_IMAGENES.")
    p.RESNET50 = MOBILENETV2
    extraidas = guardar_extraidas()
    codigo = p.ejecutar(["--apartados", "3", *sys.argv[1:]])
    if codigo == 0:
        comparar(medir_cabezas(MOBILENETV2, *extraidas))
    return codigo


if __name__ == "__main__":
    sys.exit(main())
