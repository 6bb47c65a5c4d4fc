"""Rendimiento de practica2.py frente a la manera habitual. Se ejecuta a mano; lo que vale son los
cocientes, de la misma máquina y a la misma hora:

    python tests/rendimiento.py          el Apartado 2, con CIFAR-100 de verdad
    python tests/rendimiento.py memoria  la RAM del Apartado 3, con tantas aves como en CUB-200-2011

Los datos se buscan como en practica2.py: en imagenes/ o en PRACTICA2_IMAGENES.
"""

import math
import resource
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

RAIZ = Path(__file__).resolve().parents[1]
sys.path += [str(RAIZ), str(RAIZ / "memoria")]

import practica2 as p  # antes que Keras: el script calla las líneas con las que arranca

import keras  # isort: skip
import medir  # isort: skip
import numpy as np  # isort: skip
from keras import layers  # isort: skip

META = 0.726  # test de la mejor solución pública; aquí, en validación
EPOCAS_PUBLICAS, LOTE_PUBLICO = 84, 64  # las que entrena esa solución, y sus lotes
EPOCAS_NUESTRAS = 12  # un ciclo corto: basta para pasar la meta
NUESTRA_CORTA = replace(p.RECETA_FINAL, recortes=False)  # la que antes aprende
CRUZADA = "categorical_crossentropy"
CUB = (200, 5994, 5794)  # especies e imágenes de train y de test de CUB-200-2011


def construir_publica(datos):
    """La red de la mejor solución pública (antcc/practicas-vc): 1,38 millones de parámetros."""
    media, varianza = p.media_y_varianza(datos.train.x)

    def normalizada(capa):
        return [capa, layers.BatchNormalization(), layers.Activation("relu")]

    capas = [
        layers.Normalization(mean=media, variance=varianza),
        layers.RandomFlip("horizontal"),
        layers.RandomTranslation(0.1, 0.1, fill_mode="nearest"),
        layers.RandomZoom(0.2, fill_mode="nearest"),
    ]
    for filtros in (32, 64):
        for relleno in ("same", "valid"):
            capas += normalizada(layers.Conv2D(filtros, 3, padding=relleno))
        capas += [layers.MaxPooling2D(2), layers.Dropout(0.25)]
    capas += [layers.Flatten(), *normalizada(layers.Dense(512)), *normalizada(layers.Dense(256))]
    capas += [layers.Dropout(0.5), layers.Dense(len(datos.clases), activation="softmax")]
    return keras.Sequential([keras.Input((32, 32, 3)), *capas])


def hasta_la_meta(nombre, modelo, datos, epocas, lote, sgd, perdida=CRUZADA, transformar=None):
    """Entrena hasta pasar META. Devuelve (segundos, operaciones), las gastadas si no la pasa."""
    modelo.compile(sgd, perdida, metrics=["accuracy"])
    x, y = datos.train
    if transformar:
        x, y, lote = p.Lotes(datos.train, lote, transformar, p.SEMILLA), None, None
    inicio, mejor, epoca = time.perf_counter(), 0.0, 0
    while mejor < META and epoca < epocas:
        hist = modelo.fit(x, y, batch_size=lote, validation_data=datos.val, verbose=0)
        mejor, epoca = max(mejor, *hist.history["val_accuracy"]), epoca + 1
    segundos = time.perf_counter() - inicio
    print(f"  {nombre}: {p.porcentaje(mejor)} en {epoca} épocas y {segundos:.0f} s", flush=True)
    macs = sum(map(medir.macs, modelo.layers))
    return segundos, 6 * macs * len(datos.train.x) * epoca


def medir_apartado2():
    """Segundos y operaciones de nuestra red y de la pública hasta META de validación."""
    cifar = p.leer_cifar()
    if "SINTÉTICO" in cifar.origen[0]:
        sys.exit("Hace falta CIFAR-100 de verdad: indique su carpeta en PRACTICA2_IMAGENES.")
    datos = p.datos_cifar(cifar, p.CLASES, p.SEMILLA)
    red, pasos = p.construir_mejorada(NUESTRA_CORTA, datos), math.ceil(len(datos.train.x) / p.LOTE)
    sgd = NUESTRA_CORTA.optimizador(EPOCAS_NUESTRAS * pasos)
    perdida = keras.losses.CategoricalCrossentropy(label_smoothing=NUESTRA_CORTA.suavizado)
    aumentar = partial(p.aumentar, 32, NUESTRA_CORTA)
    nuestros = hasta_la_meta(
        "Red final, ciclo corto", red, datos, EPOCAS_NUESTRAS, p.LOTE, sgd, perdida, aumentar
    )
    red, sgd = construir_publica(datos), keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
    suyos = hasta_la_meta("Receta pública", red, datos, EPOCAS_PUBLICAS, LOTE_PUBLICO, sgd)
    segundos, operaciones = (nuestro / suyo for nuestro, suyo in zip(nuestros, suyos))
    print(f"  Cocientes: {segundos:.3f} en segundos, {operaciones:.3f} en operaciones")


def aves_inventadas(clases, train, test):
    """Datos de ruido del tamaño que se diga; la validación sale de train."""
    azar, partes = np.random.default_rng(0), []
    for cuantas in (train, test):
        partes.append(azar.integers(0, 256, (cuantas, p.LADO_AVES, p.LADO_AVES, 3), np.uint8))
        partes.append(np.eye(clases, dtype="float32")[np.arange(cuantas) % clases])
    return p.partir(*partes, [str(clase) for clase in range(clases)], ("ruido",), p.SEMILLA)


def red_barata(include_top, weights, input_tensor):
    """Los mismos mapas de 7 x 7 x 2048 que ResNet50, casi sin cuentas."""
    x = layers.Conv2D(2048, 1, activation="relu")(layers.AveragePooling2D(32)(input_tensor))
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x)


def decir_memoria(fase):
    """Imprime el máximo de memoria residente del proceso hasta ahora."""
    maximo = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  máximo hasta {fase}: {maximo:.2f} GiB", flush=True)


def medir_memoria():
    """RAM del Apartado 3 con imágenes inventadas, tantas como en CUB-200-2011: todas pasan por una
    red barata que da mapas del mismo tamaño, y unas pocas ajustan ResNet50."""
    p.PLIEGUES, p.C_SVM, p.CONTRACCIONES = 2, (10.0,), (0.1,)
    datos, barata = aves_inventadas(*CUB), p.RESNET50._replace(constructor=red_barata)
    sesion = p.Sesion(p.SEMILLA, replace(p.RAPIDO, epocas_cabezas=1), p.RESNET50)
    base = p.construir_base(barata, p.LADO_AVES)
    mapas, vectores = p.extraer(base, list(datos))
    decir_memoria("extraer")
    pocas = [p.Conjunto(datos.train.x[:64].copy(), datos.train.y[:64])] * 3
    pocas = p.Datos(*pocas, *datos[3:])
    del datos  # como en apartado3, que para el ajuste fino las lee otra vez
    cabeza = p.probar_cabeza("3.1.A", "A", list, vectores, sesion)
    p.probar_cabeza("3.1.B", "B", p.capas_sin_pooling, mapas, sesion)
    del mapas
    p.probar_clasificadores(vectores, sesion)
    decir_memoria("las cabezas")
    p.ajustar(pocas, cabeza.modelo, sesion)
    decir_memoria("el ajuste fino")


MEDIDAS = {"": medir_apartado2, "memoria": medir_memoria}


if __name__ == "__main__":
    medida = MEDIDAS["".join(sys.argv[1:])]
    print(p.preparar_entorno(p.SEMILLA), flush=True)
    medida()
