"""Rendimiento de practica2.py frente a la manera habitual, en la misma máquina y a la misma hora.

Se ejecuta a mano. Imprime tiempos y cocientes; los cocientes son lo que vale:

    python tests/rendimiento.py          el Apartado 2, con CIFAR-100 real
    python tests/rendimiento.py ajuste   el Apartado 3, con los pesos de ResNet50 que haya
    python tests/rendimiento.py memoria  la RAM del Apartado 3, con tantas aves como en CUB-200-2011

Los datos y los pesos se buscan como en practica2.py: en imagenes/ o en PRACTICA2_IMAGENES.
"""

import math
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import practica2 as p  # antes que Keras: el script calla las líneas con las que arranca

import keras  # isort: skip
import numpy as np  # isort: skip
from keras import layers  # isort: skip

META = 0.726  # test de la mejor solución pública; aquí, en validación
EPOCAS_PUBLICAS, LOTE_PUBLICO = 84, 64  # las que entrena esa solución, y sus lotes
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
        val = p.porcentaje(logs["val_accuracy"])
        print(f"    época {epoch + 1}: val. {val}, {self.gastado:.0f} s", flush=True)
        if logs["val_accuracy"] >= META:
            self.segundos, self.model.stop_training = self.gastado, True


def tiempo_hasta_la_meta(nombre, modelo, datos, epocas, lote, optimizador, perdida):
    """Entrena hasta pasar META. Devuelve los segundos, o todos los gastados si no la pasa."""
    print(f"  {nombre}: {p.decimal(modelo.count_params(), 0)} parámetros", flush=True)
    pasos = epocas * math.ceil(len(datos.train.x) / lote)
    modelo.compile(optimizador(pasos), perdida, metrics=["accuracy"])
    meta = HastaLaMeta()
    modelo.fit(
        datos.train.x,
        datos.train.y,
        batch_size=lote,
        epochs=epocas,
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
    receta = p.RECETA_FINAL
    keras.utils.set_random_seed(p.SEMILLA)
    nuestros = tiempo_hasta_la_meta(
        "Red final, ciclo corto",
        p.construir_mejorada(receta, datos),
        datos,
        EPOCAS_NUESTRAS,
        p.LOTE,
        receta.optimizador,
        keras.losses.CategoricalCrossentropy(label_smoothing=receta.suavizado),
    )
    keras.utils.set_random_seed(p.SEMILLA)
    suyos = tiempo_hasta_la_meta(
        "Receta pública",
        construir_publica(datos),
        datos,
        EPOCAS_PUBLICAS,
        LOTE_PUBLICO,
        sgd_publico,
        "categorical_crossentropy",
    )
    print(f"  Cociente: {p.decimal(nuestros / suyos, 3)}")


def imagenes_por_segundo(receta, datos, vueltas=3, imagenes=30 * p.LOTE):
    """Mediana de las imágenes por segundo de una época de entrenamiento de la red de una receta."""
    x, y = datos.train.x[:imagenes], datos.train.y[:imagenes]
    modelo = p.construir_mejorada(receta, datos)
    modelo.compile(receta.optimizador(1000), "categorical_crossentropy")
    modelo.fit(x[: p.LOTE], y[: p.LOTE], batch_size=p.LOTE, verbose=0)
    segundos = []
    for _ in range(vueltas):
        inicio = time.perf_counter()
        modelo.fit(x, y, batch_size=p.LOTE, verbose=0)
        segundos.append(time.perf_counter() - inicio)
    return len(x) / np.median(segundos)


def medir_velocidad(datos):
    """Imágenes y GFLOP por segundo de la red final con aumento y sin él; de cada imagen son 6
    operaciones por MAC."""
    print("\nVelocidad de entrenamiento de la red final")
    receta = p.RECETA_FINAL
    macs = sum(p.macs(capa) for capa in p.construir_mejorada(receta, datos).layers)
    for nombre, variante in (
        ("con aumento", receta),
        ("sin aumento", replace(receta, aumento=False, borrado=False)),
    ):
        por_segundo = imagenes_por_segundo(variante, datos)
        print(
            f"  {nombre}: {por_segundo:.0f} imágenes/s, {macs / 1e6:.1f} millones de MACs por"
            f" imagen, {6 * macs * por_segundo / 1e9:.0f} GFLOP/s",
            flush=True,
        )


def construir_habitual(preentrenada, pooling=None):
    """La red como la usan las soluciones públicas: con su preprocesado y sin plegar, congelada su
    batch normalization."""
    entrada = keras.Input((p.LADO_AVES, p.LADO_AVES, 3))
    base = preentrenada.constructor(
        include_top=False,
        weights=preentrenada.fichero,
        pooling=pooling,
    )
    for capa in base.layers:
        capa.trainable = not isinstance(capa, layers.BatchNormalization)
    return keras.Model(entrada, base(preentrenada.preprocesar(entrada)))


def ritmo(imagenes, hacer):
    """Imágenes por segundo de la segunda vez que se llama a hacer(): en la primera se compila."""
    hacer()
    inicio = time.perf_counter()
    hacer()
    return imagenes / (time.perf_counter() - inicio)


def medir_extraccion(preentrenada, x):
    """Una pasada por lotes frente a dos de predict con lote 1, con pooling y sin él."""
    nuestra = p.construir_base(preentrenada, p.LADO_AVES)
    habituales = construir_habitual(preentrenada, "avg"), construir_habitual(preentrenada)
    pocas = x[:24]

    def de_una_en_una():
        for modelo in habituales:
            modelo.predict(pocas, batch_size=1, verbose=0)

    por_lotes = ritmo(len(x), lambda: p.predecir(nuestra, x, p.LOTE_EXTRACCION, "float16"))
    habitual = ritmo(len(pocas), de_una_en_una)
    print(
        f"  extracción: {por_lotes:.1f} imágenes/s; la habitual, {habitual:.1f};"
        f" cociente {por_lotes / habitual:.1f}",
        flush=True,
    )


def ritmo_de_ajuste(base, x, y, lote):
    """Imágenes por segundo de entrenar la red entera con Adam."""
    salida = layers.Dense(y.shape[1], activation="softmax", dtype="float32")
    modelo = keras.Model(base.input, salida(layers.GlobalAveragePooling2D()(base.output)))
    modelo.compile("adam", "categorical_crossentropy")
    return ritmo(len(x), lambda: modelo.fit(x, y, batch_size=lote, verbose=0))


def medir_ajuste(preentrenada, x):
    """El ajuste fino de la práctica frente a fit en float32, lote 32, sin plegar."""
    y = np.eye(100, dtype="float32")[np.arange(len(x)) % 100]
    recortes = p.recortar_y_reflejar(x, np.random.default_rng(0))
    habitual = ritmo_de_ajuste(construir_habitual(preentrenada), x, y, 32)
    for nombre, imagenes, lote in (
        ("mismos píxeles y lote", x, 32),
        (f"recortes de {p.LADO_AJUSTE} px, lote {p.LOTE_AJUSTE}", recortes, p.LOTE_AJUSTE),
    ):
        nuestro = ritmo_de_ajuste(p.construir_base(preentrenada), imagenes, y, lote)
        print(
            f"  ajuste fino, {nombre}: {nuestro:.1f} imágenes/s; el habitual, {habitual:.1f};"
            f" cociente {nuestro / habitual:.1f}",
            flush=True,
        )


def medir_apartado3():
    """Extracción y ajuste fino de ResNet50 con imágenes inventadas."""
    preentrenada = p.buscar_pesos(p.RESNET50)
    precision, motivo = p.precision_preentrenada()
    print(f"\nApartado 3, {preentrenada.etiqueta}; {precision}, porque {motivo}", flush=True)
    x = np.random.default_rng(0).integers(0, 256, (96, p.LADO_AVES, p.LADO_AVES, 3), np.uint8)
    medir_extraccion(preentrenada, x)
    medir_ajuste(preentrenada, x)


def red_barata(include_top, weights, input_tensor):
    """Los mismos mapas de 7 x 7 x 2048 que ResNet50, casi sin cuentas."""
    x = layers.Conv2D(2048, 1, activation="relu")(layers.AveragePooling2D(32)(input_tensor))
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x)


def decir_memoria(fase):
    """Imprime el máximo de memoria residente del proceso hasta ahora."""
    maximo = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  máximo hasta {fase}: {maximo:.2f} GiB", flush=True)


def aves_inventadas(clases, train, test):
    """Datos de ruido del tamaño que se diga; la validación sale de train."""
    azar, partes = np.random.default_rng(0), []
    for cuantas in (train, test):
        partes.append(azar.integers(0, 256, (cuantas, p.LADO_AVES, p.LADO_AVES, 3), np.uint8))
        partes.append(np.eye(clases, dtype="float32")[np.arange(cuantas) % clases])
    return p.partir(*partes, range(clases), ("aves inventadas",), p.SEMILLA)


def medir_memoria():
    """RAM del Apartado 3 con imágenes inventadas, tantas como en CUB-200-2011: todas pasan por una
    red barata que da mapas del mismo tamaño, y unas pocas por ResNet50, para extraer y para
    ajustarla con todo lo demás en la RAM."""
    p.PLIEGUES, p.C_SVM, p.CONTRACCIONES = 2, (10.0,), (0.1,)
    alcance = replace(p.RAPIDO, epocas_cabezas=1, epocas_sin_pooling=1)
    barata = replace(p.RESNET50, constructor=red_barata)
    sesion = p.Sesion(p.SEMILLA, alcance, barata)
    datos = aves_inventadas(clases=200, train=5994, test=5794)
    decir_memoria("leer")
    mapas, vectores = p.extraer(p.construir_base(barata, p.LADO_AVES), datos)
    de_verdad = p.construir_base(p.RESNET50, p.LADO_AVES)
    p.predecir(de_verdad, datos.val.x[:64], p.LOTE_EXTRACCION)
    decir_memoria("extraer")
    cabeza = p.probar_cabezas(mapas, vectores, sesion)[p.SALIDA]
    del mapas
    decir_memoria("las cabezas")
    pocas = p.Conjunto(datos.train.x[:64], datos.train.y[:64])
    p.entrenar(
        lambda: p.construir_ajuste(p.construir_base(p.RESNET50), cabeza.modelo),
        replace(datos, train=pocas, val=pocas),
        p.SEMILLA,
        epocas=1,
        lote=p.LOTE_AJUSTE,
        optimizador=p.adam,
        transformar=p.recortar_y_reflejar,
    )
    decir_memoria("el ajuste fino")


def medir_apartado2():
    """Velocidad y tiempo hasta la meta, que sin los datos de verdad no dicen nada."""
    datos = p.datos_cifar(p.leer_cifar(), p.CLASES, p.SEMILLA)
    if "CIFAR-100 real" not in datos.origen:
        sys.exit("Hace falta CIFAR-100 real: indique su carpeta en PRACTICA2_IMAGENES.")
    medir_velocidad(datos)
    comparar_tiempos(datos)


MEDIDAS = {"": medir_apartado2, "ajuste": medir_apartado3, "memoria": medir_memoria}


if __name__ == "__main__":
    medida = MEDIDAS["".join(sys.argv[1:])]
    print(p.preparar_entorno(p.SEMILLA), flush=True)
    medida()
