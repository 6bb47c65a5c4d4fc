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
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import practica2 as p  # antes que Keras: el script calla las líneas con las que arranca

import keras  # isort: skip
import numpy as np  # isort: skip
from keras import layers  # isort: skip

META = 0.726  # test de la mejor solución pública; aquí, en validación
EPOCAS_PUBLICAS, LOTE_PUBLICO = 84, 64  # las que entrena esa solución, y sus lotes
EPOCAS_NUESTRAS = 12  # un ciclo corto: basta para pasar la meta
NUESTRA_CORTA = replace(p.RECETA_FINAL, recortes=False)  # la que antes aprende
PASOS, VUELTAS = 12, 5  # de entrenamiento de cada rival y veces que se alternan


def construir_publica(datos):
    """La red de la mejor solución pública (antcc/practicas-vc): 1,38 millones de parámetros."""
    media, varianza = p.media_y_varianza(datos.train.x)

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


def hasta_la_meta(nombre, modelo, datos, epocas, lote, optimizador, perdida, transformar=None):
    """Entrena hasta pasar META. Devuelve (segundos, operaciones), las gastadas si no la pasa."""
    total_macs = sum(p.macs(capa) for capa in modelo.layers)
    print(
        f"  {nombre}: {p.decimal(modelo.count_params(), 0)} parámetros,"
        f" {total_macs / 1e6:.1f} millones de MACs por imagen",
        flush=True,
    )
    pasos = epocas * math.ceil(len(datos.train.x) / lote)
    modelo.compile(optimizador(pasos), perdida, metrics=["accuracy"])
    meta = HastaLaMeta()
    x, y, batch_size = datos.train.x, datos.train.y, lote
    if transformar:
        x, y, batch_size = p.Lotes(datos.train, lote, transformar, p.SEMILLA), None, None
    hist = modelo.fit(
        x,
        y,
        batch_size=batch_size,
        epochs=epocas,
        validation_data=(datos.val.x, datos.val.y),
        callbacks=[meta],
        verbose=0,
    )
    operaciones = 6 * total_macs * len(datos.train.x) * len(hist.epoch)
    resultado = "la pasa" if meta.segundos else f"no la pasa (mejor, {p.porcentaje(meta.mejor)})"
    print(
        f"  {nombre}: {resultado}; {meta.gastado:.0f} s, {operaciones:.2g} operaciones", flush=True
    )
    return meta.gastado, operaciones


def comparar_hasta_la_meta(datos):
    """Segundos y operaciones de nuestra red y de la pública hasta META, y sus cocientes."""
    print(f"\nHasta el {p.porcentaje(META)} de validación")
    keras.utils.set_random_seed(p.SEMILLA)
    nuestros = hasta_la_meta(
        "Red final, ciclo corto",
        p.construir_mejorada(NUESTRA_CORTA, datos),
        datos,
        EPOCAS_NUESTRAS,
        p.LOTE,
        NUESTRA_CORTA.optimizador,
        keras.losses.CategoricalCrossentropy(label_smoothing=NUESTRA_CORTA.suavizado),
        partial(p.aumentar, 32, NUESTRA_CORTA),
    )
    keras.utils.set_random_seed(p.SEMILLA)
    suyos = hasta_la_meta(
        "Receta pública",
        construir_publica(datos),
        datos,
        EPOCAS_PUBLICAS,
        LOTE_PUBLICO,
        sgd_publico,
        "categorical_crossentropy",
    )
    print(f"  Cocientes: {nuestros[0] / suyos[0]:.3f} en segundos, {nuestros[1] / suyos[1]:.3f} en"
          " operaciones")  # fmt: skip


# --- Velocidad de la red final, frente a PyTorch -------------------------------------------------


def pasos_de_keras(datos, precision):
    """Función que da PASOS pasos de entrenamiento de la red final en esa precisión."""
    antes = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    modelo = p.construir_mejorada(p.RECETA_FINAL, datos)
    modelo.compile(p.RECETA_FINAL.optimizador(10**6), "categorical_crossentropy")
    keras.config.set_dtype_policy(antes)
    cuantas = PASOS * p.LOTE
    pocas = p.Conjunto(datos.train.x[:cuantas], datos.train.y[:cuantas])
    lotes = p.Lotes(pocas, p.LOTE, partial(p.aumentar, 32, p.RECETA_FINAL), p.SEMILLA)
    return lambda: modelo.fit(lotes, verbose=0)


def pasos_de_pytorch(torch, datos, con_bfloat16):
    """Lo mismo, sin aumento de datos, con una red igual escrita en PyTorch."""
    nn, relu = torch.nn, torch.nn.functional.relu

    def convolucion(entran, salen, *reducir):
        capa = nn.Conv2d(entran, salen, 3, padding=1, bias=False)
        return nn.Sequential(capa, *reducir, nn.BatchNorm2d(salen))

    class Etapa(nn.Module):
        def __init__(self, entran, salen):
            super().__init__()
            self.entrada = convolucion(entran, salen, nn.MaxPool2d(2))
            self.rama = nn.Sequential(
                convolucion(salen, salen), nn.ReLU(), convolucion(salen, salen)
            )

        def forward(self, x):
            x = relu(self.entrada(x))
            return relu(x + self.rama(x))

    filtros = p.RECETA_FINAL.filtros
    etapas = [Etapa(a, b) for a, b in zip((24, *filtros), filtros)]
    red = nn.Sequential(
        nn.Conv2d(3, 24, 2, bias=False),
        nn.ReLU(),
        *etapas,
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(filtros[-1], len(datos.clases)),
    ).to(memory_format=torch.channels_last)
    sgd = torch.optim.SGD(red.parameters(), 0.01, momentum=0.9, nesterov=True)
    x = torch.from_numpy(datos.train.x[: p.LOTE]).permute(0, 3, 1, 2)
    y = torch.from_numpy(datos.train.y[: p.LOTE].argmax(1))

    def entrenar():
        for _ in range(PASOS):
            sgd.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=con_bfloat16):
                perdida = nn.functional.cross_entropy(red(x), y)
            perdida.backward()
            sgd.step()

    return entrenar


def ritmo_de_los_nucleos():
    """GFLOP/s de un producto de matrices grandes en float32: lo que dan los núcleos de sí."""
    a = np.ones((3000, 3000), "float32")
    inicio = time.perf_counter()
    for _ in range(3):
        a @ a
    return 3 * 2 * len(a) ** 3 / (time.perf_counter() - inicio) / 1e9


def comparar_velocidad(datos):
    """Imágenes por segundo de entrenar la red final, aquí y en PyTorch, en float32 y, si el
    procesador lo tiene, en bfloat16; se alternan, porque a ratos la máquina va a la mitad."""
    print("\nVelocidad de entrenamiento de la red final, con imágenes de 32 px")
    precisiones = list(dict.fromkeys(["float32", p.elegir_precision(con_gpu=False)]))
    rivales = {f"Keras, {precision}": pasos_de_keras(datos, precision) for precision in precisiones}
    try:
        import torch
    except ImportError:
        print("  (sin PyTorch, porque no está instalado)")
    else:
        for precision in precisiones:
            entrenar = pasos_de_pytorch(torch, datos, con_bfloat16=precision != "float32")
            rivales[f"PyTorch, {precision}"] = entrenar
    for entrenar in rivales.values():
        entrenar()  # la primera vez se compila
    ritmos, pico = {nombre: [] for nombre in rivales}, []
    for _ in range(VUELTAS):
        pico.append(ritmo_de_los_nucleos())
        for nombre, entrenar in rivales.items():
            inicio = time.perf_counter()
            entrenar()
            ritmos[nombre].append(PASOS * p.LOTE / (time.perf_counter() - inicio))
    macs = sum(p.macs(capa) for capa in p.construir_mejorada(p.RECETA_FINAL, datos).layers)
    de_referencia = np.median(ritmos["Keras, float32"])
    print(f"  Producto de matrices en float32: {np.median(pico):.0f} GFLOP/s")
    for nombre, medidos in ritmos.items():
        por_segundo = np.median(medidos)
        gflops = 6 * macs * por_segundo / 1e9
        print(
            f"  {nombre}: {por_segundo:.0f} imágenes/s, {por_segundo / de_referencia:.2f} veces"
            f" Keras en float32; {gflops:.0f} GFLOP/s, el {100 * gflops / np.median(pico):.0f} %"
            " de ese producto",
            flush=True,
        )


# --- El Apartado 3 -------------------------------------------------------------------------------


def construir_habitual(preentrenada, pooling=None):
    """La red como la usan las soluciones públicas: en float32, con su preprocesado y sin plegar,
    congelada su batch normalization."""
    precision = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    entrada = keras.Input((p.LADO_AVES, p.LADO_AVES, 3))
    base = preentrenada.constructor(
        include_top=False,
        weights=preentrenada.fichero,
        pooling=pooling,
    )
    for capa in base.layers:
        capa.trainable = not isinstance(capa, layers.BatchNormalization)
    habitual = keras.Model(entrada, base(preentrenada.preprocesar(entrada)))
    keras.config.set_dtype_policy(precision)
    return habitual


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
    habitual = ritmo_de_ajuste(construir_habitual(preentrenada), x, y, 32)
    for lote in (32, p.LOTE_AJUSTE):
        nuestro = ritmo_de_ajuste(p.construir_base(preentrenada), x, y, lote)
        print(
            f"  ajuste fino, lote {lote}: {nuestro:.1f} imágenes/s; el habitual, {habitual:.1f};"
            f" cociente {nuestro / habitual:.1f}",
            flush=True,
        )


def medir_apartado3():
    """Extracción y ajuste fino de ResNet50 con imágenes inventadas."""
    preentrenada = p.buscar_pesos(p.RESNET50)
    print(f"\nApartado 3, {preentrenada.etiqueta}", flush=True)
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
    alcance = replace(p.RAPIDO, epocas_cabezas=1)
    barata = replace(p.RESNET50, constructor=red_barata)
    sesion = p.Sesion(p.SEMILLA, alcance, barata)
    datos = aves_inventadas(clases=200, train=5994, test=5794)
    decir_memoria("leer")
    mapas, vectores = p.extraer(p.construir_base(barata, p.LADO_AVES), datos)
    de_verdad = p.construir_base(p.RESNET50, p.LADO_AVES)
    p.predecir(de_verdad, datos.val.x[:64], p.LOTE_EXTRACCION)
    decir_memoria("extraer")
    discriminante = p.probar_cabezas(mapas, vectores, sesion)
    del mapas
    decir_memoria("las cabezas")
    cabeza = p.cabeza_discriminante(vectores, discriminante)
    pocas = p.Conjunto(datos.train.x[:64], datos.train.y[:64])
    p.entrenar(
        lambda: p.construir_ajuste(p.construir_base(p.RESNET50), cabeza),
        replace(datos, train=pocas, val=pocas),
        p.SEMILLA,
        fases=[(1, p.recortar_y_reflejar)],
        lote=p.LOTE_AJUSTE,
        optimizador=p.adam,
    )
    decir_memoria("el ajuste fino")


def medir_apartado2():
    """Velocidad y tiempo hasta la meta, que sin los datos de verdad no dicen nada."""
    datos = p.datos_cifar(p.leer_cifar(), p.CLASES, p.SEMILLA)
    if "CIFAR-100 real" not in datos.origen:
        sys.exit("Hace falta CIFAR-100 real: indique su carpeta en PRACTICA2_IMAGENES.")
    comparar_velocidad(datos)
    comparar_hasta_la_meta(datos)


MEDIDAS = {"": medir_apartado2, "ajuste": medir_apartado3, "memoria": medir_memoria}


if __name__ == "__main__":
    medida = MEDIDAS["".join(sys.argv[1:])]
    print(p.preparar_entorno(p.SEMILLA), flush=True)
    medida()
