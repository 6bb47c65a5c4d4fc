"""Rendimiento de practica2.py frente a la manera habitual, en la misma máquina y a la misma hora.

Se ejecuta a mano. Imprime tiempos y cocientes; los cocientes son lo que vale:

    PRACTICA2_IMAGENES=carpeta python tests/rendimiento.py           el Apartado 2, con CIFAR-100 real
    PRACTICA2_IMAGENES=carpeta python tests/rendimiento.py ajuste    el 3, con los pesos de ResNet50 que haya
    python tests/rendimiento.py memoria                              el 3, del tamaño de CUB-200-2011 entero
"""

import resource
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


def construir_habitual(pesos, pooling=None):
    """ResNet50 como la usan las soluciones públicas, con su batch normalization congelada y preprocesado."""
    entrada = keras.Input((p.LADO_AVES, p.LADO_AVES, 3))
    base = p.RESNET50.constructor(include_top=False, weights=pesos.fichero, pooling=pooling)
    for capa in base.layers:
        capa.trainable = not isinstance(capa, layers.BatchNormalization)
    return keras.Model(entrada, base(p.RESNET50.preprocesar(entrada)))


def ritmo(imagenes, hacer):
    """Imágenes por segundo de hacer(), que ya se ha llamado una vez para que lo compilado lo esté."""
    hacer()
    inicio = time.perf_counter()
    hacer()
    return imagenes / (time.perf_counter() - inicio)


def medir_extraccion(pesos, x):
    """Una pasada por lotes frente a dos de predict con lote 1, con pooling y sin él."""
    nuestra = p.construir_base(p.RESNET50, pesos, p.LADO_AVES)
    con, sin = construir_habitual(pesos, "avg"), construir_habitual(pesos)
    pocas = x[:24]
    por_lotes = ritmo(len(x), lambda: p.predecir(nuestra, x, p.LOTE_EXTRACCION, "float16"))
    de_una_en_una = ritmo(
        len(pocas), lambda: [red.predict(pocas, batch_size=1, verbose=0) for red in (con, sin)]
    )
    print(
        f"  extracción: {por_lotes:.1f} imágenes/s; la habitual, {de_una_en_una:.1f};"
        f" cociente {por_lotes / de_una_en_una:.1f}",
        flush=True,
    )


def ritmo_de_ajuste(base, x, y, lote):
    """Imágenes por segundo de entrenar la red entera con Adam."""
    salida = layers.Dense(y.shape[1], activation="softmax", dtype="float32")
    red = keras.Model(base.input, salida(layers.GlobalAveragePooling2D()(base.output)))
    red.compile("adam", "categorical_crossentropy")
    return ritmo(len(x), lambda: red.fit(x, y, batch_size=lote, verbose=0))


def medir_ajuste(pesos, x):
    """El ajuste fino de la práctica frente a fit en float32, lote 32, con batch normalization congelada."""
    y = np.eye(100, dtype="float32")[np.arange(len(x)) % 100]
    recortes = p.recortar_y_reflejar(x, np.random.default_rng(0))
    habitual = ritmo_de_ajuste(construir_habitual(pesos), x, y, 32)
    for nombre, imagenes, lote in (
        ("mismos píxeles y lote", x, 32),
        (f"recortes de {p.LADO_AJUSTE} px, lote {p.LOTE_AJUSTE}", recortes, p.LOTE_AJUSTE),
    ):
        nuestro = ritmo_de_ajuste(p.construir_base(p.RESNET50, pesos), imagenes, y, lote)
        print(
            f"  ajuste fino, {nombre}: {nuestro:.1f} imágenes/s; el habitual, {habitual:.1f};"
            f" cociente {nuestro / habitual:.1f}",
            flush=True,
        )


def medir_apartado3():
    """Extracción y ajuste fino de ResNet50 con imágenes inventadas."""
    pesos = p.buscar_pesos(p.RESNET50)
    print("\nApartado 3, {}, {}; {}".format(pesos.etiqueta, *p.precision_preentrenada()))
    x = np.random.default_rng(0).integers(0, 256, (96, p.LADO_AVES, p.LADO_AVES, 3), np.uint8)
    medir_extraccion(pesos, x)
    medir_ajuste(pesos, x)


def red_barata(include_top, weights, input_tensor):
    """Los mismos mapas de 7 x 7 x 2048 que ResNet50, casi sin cuentas."""
    x = layers.Conv2D(2048, 1, activation="relu")(layers.AveragePooling2D(32)(input_tensor))
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x)


def decir_memoria(fase):
    """Imprime el máximo de memoria residente del proceso hasta ahora."""
    maximo = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  máximo hasta {fase}: {maximo:.2f} GiB", flush=True)


def medir_memoria(clases=200, train=5994, test=5794):
    """Memoria del Apartado 3 con imágenes inventadas: todas pasan por una red barata que da mapas del mismo
    tamaño, y unas pocas por ResNet50, para extraer y para ajustarla con todo lo demás en memoria."""
    azar = np.random.default_rng(0)
    sesion = p.Sesion(p.SEMILLA, replace(p.RAPIDO, cabezas=1, convolucional=1))
    p.PLIEGUES, p.C_SVM, p.CONTRACCIONES = 2, (10.0,), (0.1,)
    imagenes = [azar.integers(0, 256, (n, p.LADO_AVES, p.LADO_AVES, 3), np.uint8) for n in (train, test)]
    y, y_test = (np.eye(clases, dtype="float32")[np.arange(n) % clases] for n in (train, test))
    datos = p.partir(imagenes[0], y, imagenes[1], y_test, range(clases), "inventadas", p.SEMILLA)
    del imagenes
    decir_memoria("leer")
    aleatorios = p.Pesos(None, "")
    barata = replace(p.RESNET50, constructor=red_barata)
    mapas, vectores = p.extraer(p.construir_base(barata, aleatorios, p.LADO_AVES), datos)
    p.predecir(p.construir_base(p.RESNET50, aleatorios, p.LADO_AVES), datos.val.x[:64], p.LOTE_EXTRACCION)
    decir_memoria("extraer")
    cabeza = p.probar_cabezas(barata, mapas, vectores, sesion)
    del mapas
    decir_memoria("las cabezas")
    pocas = p.Conjunto(datos.train.x[:64], datos.train.y[:64])
    plan = p.Plan(1, p.LOTE_AJUSTE, p.adam, transformar=p.recortar_y_reflejar)
    construir = partial(p.construir_ajuste, p.construir_base(p.RESNET50, aleatorios), cabeza.modelo)
    p.entrenar(construir, replace(datos, train=pocas, val=pocas), plan, p.SEMILLA)
    decir_memoria("el ajuste fino")


def main():
    print(p.preparar_entorno(p.SEMILLA))
    if sys.argv[1:]:
        return {"ajuste": medir_apartado3, "memoria": medir_memoria}[sys.argv[1]]()
    datos = p.datos_cifar(p.leer_cifar(), p.CLASES, p.SEMILLA)
    p.exigir(
        "real" in datos.procedencia, "hace falta CIFAR-100 real: indique su carpeta en PRACTICA2_IMAGENES"
    )
    medir_velocidad(datos)
    comparar_tiempos(datos)


if __name__ == "__main__":
    main()
