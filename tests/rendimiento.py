"""Rendimiento de practica2.py frente a la manera habitual, en la misma máquina y a la misma hora.

Se ejecuta a mano y necesita CIFAR-100 real. Imprime tiempos y cocientes; los cocientes son lo que vale:

    PRACTICA2_IMAGENES=carpeta python tests/rendimiento.py
"""

import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
from keras import layers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import practica2 as p

META = 0.726  # test de la mejor solución pública; aquí, en validación
EPOCAS_PUBLICAS = 84  # las que entrena esa solución
EPOCAS_NUESTRAS = 10  # un ciclo corto: basta para pasar la meta


def construir_publica(datos):
    """La red de la mejor solución pública (antcc/practicas-vc): 1,38 millones de parámetros."""
    media, varianza = datos.train.x.mean((0, 1, 2)), datos.train.x.var((0, 1, 2))

    def normalizada(capa):
        return [capa, layers.BatchNormalization(), layers.Activation("relu")]

    bloques = []
    for filtros in (32, 64):
        for relleno in ("same", "valid"):
            bloques += normalizada(layers.Conv2D(filtros, 3, padding=relleno))
        bloques += [layers.MaxPooling2D(2), layers.Dropout(0.25)]
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Normalization(mean=media, variance=varianza),
            layers.RandomFlip("horizontal"),
            layers.RandomTranslation(0.1, 0.1, fill_mode="nearest"),
            layers.RandomZoom(0.2, fill_mode="nearest"),
            *bloques,
            layers.Flatten(),
            *normalizada(layers.Dense(512)),
            *normalizada(layers.Dense(256)),
            layers.Dropout(0.5),
            layers.Dense(len(datos.clases), activation="softmax"),
        ]
    )


def sgd_publico(pasos):
    """SGD de tasa constante con momento de Nesterov."""
    return keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)


class HastaLaMeta(keras.callbacks.Callback):
    """Para cuando la validación pasa META y guarda los segundos que ha tardado."""

    segundos = None

    def on_train_begin(self, logs=None):
        self.inicio, self.mejor = time.perf_counter(), 0.0

    def on_epoch_end(self, epoch, logs=None):
        self.gastado = time.perf_counter() - self.inicio
        self.mejor = max(self.mejor, logs["val_accuracy"])
        print(
            f"    época {epoch + 1}: val. {p.porcentaje(logs['val_accuracy'])}, {self.gastado:.0f} s",
            flush=True,
        )
        if logs["val_accuracy"] >= META:
            self.segundos, self.model.stop_training = self.gastado, True


def tiempo_hasta_la_meta(nombre, red, plan, datos):
    """Entrena hasta pasar META. Devuelve los segundos, o todos los gastados si no la pasa."""
    print(f"  {nombre}: {p.decimal(red.count_params(), 0)} parámetros", flush=True)
    pasos = -(-len(datos.train.x) // plan.lote) * plan.epocas
    perdida = keras.losses.CategoricalCrossentropy(label_smoothing=plan.suavizado)
    red.compile(plan.optimizador(pasos), perdida, metrics=["accuracy"])
    meta = HastaLaMeta()
    red.fit(
        datos.train.x,
        datos.train.y,
        batch_size=plan.lote,
        epochs=plan.epocas,
        validation_data=(datos.val.x, datos.val.y),
        callbacks=[meta],
        verbose=0,
    )
    resultado = "la pasa" if meta.segundos else f"no la pasa (mejor, {p.porcentaje(meta.mejor)})"
    print(f"  {nombre}: {resultado}; {meta.gastado:.0f} s", flush=True)
    return meta.gastado


def comparar_tiempos(datos):
    """Cociente entre los segundos de nuestra red y los de la pública hasta META."""
    print(f"\nSegundos hasta el {p.porcentaje(META)} de validación")
    receta, semilla = p.RECETA_FINAL, p.SEMILLA
    nuestro = p.Plan(EPOCAS_NUESTRAS, p.LOTE, receta.optimizador, receta.suavizado)
    publico = p.Plan(EPOCAS_PUBLICAS, 64, sgd_publico)
    segundos = []
    for nombre, construir, plan in (
        ("Red final, ciclo corto", partial(p.construir_red, receta), nuestro),
        ("Receta pública", construir_publica, publico),
    ):
        keras.utils.set_random_seed(semilla)
        segundos.append(tiempo_hasta_la_meta(nombre, construir(datos), plan, datos))
    print(f"  Cociente: {p.decimal(segundos[0] / segundos[1], 3)}")


def imagenes_por_segundo(receta, datos, vueltas=3, imagenes=30 * p.LOTE):
    """Mediana de las imágenes por segundo de una época de entrenamiento de la red de una receta."""
    x, y = datos.train.x[:imagenes], datos.train.y[:imagenes]
    red = p.construir_red(receta, datos)
    red.compile(receta.optimizador(1000), "categorical_crossentropy")
    red.fit(x[: p.LOTE], y[: p.LOTE], batch_size=p.LOTE, verbose=0)
    segundos = []
    for _ in range(vueltas):
        inicio = time.perf_counter()
        red.fit(x, y, batch_size=p.LOTE, verbose=0)
        segundos.append(time.perf_counter() - inicio)
    return len(x) / np.median(segundos)


def medir_velocidad(datos):
    """Imágenes por segundo de la red final con aumento y sin él, y GFLOP/s: 6 x MACs x imágenes/s."""
    print("\nVelocidad de entrenamiento de la red final")
    receta = p.RECETA_FINAL
    macs = sum(map(p.macs, p.construir_red(receta, datos).layers))
    for nombre, r in (
        ("con aumento", receta),
        ("sin aumento", replace(receta, aumento=False, borrado=False)),
    ):
        ritmo = imagenes_por_segundo(r, datos)
        print(
            f"  {nombre}: {ritmo:.0f} imágenes/s, {macs / 1e6:.1f} millones de MACs por imagen,"
            f" {6 * macs * ritmo / 1e9:.0f} GFLOP/s",
            flush=True,
        )


def main():
    print(p.preparar_entorno(p.SEMILLA))
    datos = p.datos_cifar(p.leer_cifar(), p.CLASES, p.SEMILLA)
    p.exigir(
        "real" in datos.procedencia, "hace falta CIFAR-100 real: indique su carpeta en PRACTICA2_IMAGENES"
    )
    medir_velocidad(datos)
    comparar_tiempos(datos)


if __name__ == "__main__":
    main()
