"""Lo que se mide para la memoria, por partes. Lo llama generar.py, cada parte en un proceso propio.

12bonus, 3 e imagenet ejecutan apartados de practica2.py: los de CIFAR-100 juntos, porque comparan
sus redes y forman un comité; el 3 con ResNet50, y otra vez con MobileNetV2 y sus pesos de ImageNet;
estos dos repiten después las cabezas con tres semillas. Lo demás no lo hace una ejecución normal:
contrastes cae a propósito en las trampas que se evitan, semillas repite BaseNet y la red final con
otras semillas, e ingredientes cambia las piezas del Bonus de una en una.
"""

import sys
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

AQUI = Path(__file__).resolve().parent
sys.path.insert(0, str(AQUI.parent))
import practica2 as p

keras, np = p.keras, p.np  # practica2 calla a TensorFlow mientras se importa
FIGURAS = AQUI / "figuras"
SEMILLAS_CABEZAS = (7, 8, 9)
OTRAS_SEMILLAS = (8, 9)  # además de la del script: tres en total
EPOCAS_INGREDIENTES = 3

MOBILENETV2 = p.RedPreentrenada(
    nombre="MobileNetV2",
    constructor=keras.applications.MobileNetV2,
    preprocesar=keras.applications.mobilenet_v2.preprocess_input,
    nombre_fichero="mobilenet_v2_imagenet_notop.weights.h5",
    carpeta_url="",  # no se descarga: ha de estar en la carpeta de imágenes
    md5_imagenet="73236f95668c34e6f8c3793e873deb04",
)


def medir_cifar():
    """Los Apartados 1 y 2 y el Bonus."""
    sesion = p.main(["--apartados", "1,2,bonus", "--figuras", str(FIGURAS)])
    return de_la_sesion(sesion) | {"constantes": constantes()}


def medir_aves(preentrenada, carpeta):
    """El Apartado 3 con una red, y sus cabezas con otras semillas sobre las mismas imágenes."""
    sesion = p.main(["--apartados", "3", "--figuras", str(carpeta)], preentrenada)
    p.cargar_todo(sesion, ["3"])  # el Apartado 3 suelta las aves cuando termina
    mapas, vectores = p.extraer(p.construir_base(sesion.preentrenada, p.LADO_AVES), sesion.aves)
    cabezas = {}
    for semilla in SEMILLAS_CABEZAS:
        otra = p.Sesion(semilla, p.COMPLETO, sesion.preentrenada)
        p.probar_cabezas(partir_otra_vez(mapas, semilla), partir_otra_vez(vectores, semilla), otra)
        cabezas[str(semilla)] = [asdict(resultado) for resultado in otra.resultados]
    return de_la_sesion(sesion) | {"cabezas": cabezas}


def medir_semillas():
    """BaseNet y la red final con otras semillas, que cambian la partición y los pesos iniciales."""
    cifar, filas = p.leer_cifar(), {}
    for semilla in OTRAS_SEMILLAS:
        sesion = p.Sesion(semilla, p.COMPLETO, p.RESNET50, cifar)
        maquina = p.preparar_entorno(semilla)
        p.apartado1(sesion)
        p.entrenar_red_final(p.datos_cifar(cifar, p.CLASES, semilla), sesion)
        filas[str(semilla)] = [asdict(resultado) for resultado in sesion.resultados]
    return {"semillas": filas, "maquina": maquina}


def medir_ingredientes():
    """La generalista del Bonus, tal cual y con una pieza cambiada: aciertos de validación."""
    maquina = p.preparar_entorno(p.SEMILLA)
    cifar, receta = p.leer_cifar(), p.RECETA_FINAL
    datos = p.datos_cifar(cifar, 100, p.SEMILLA)
    jerarquica = p.perdida_jerarquica(cifar.superclases, receta.suavizado)
    ingredientes = {}
    for nombre, variante, perdida in (
        ("tal cual", receta, jerarquica),
        ("sin pérdida jerárquica", receta, None),
        ("sin entrada de blanqueo", replace(receta, blanqueo=False), jerarquica),
        ("sin aumento de datos", replace(receta, aumento=False), jerarquica),
    ):
        print(f"\nIngredientes: {nombre}")
        red = p.entrenar_receta(variante, datos, EPOCAS_INGREDIENTES, p.SEMILLA, perdida)
        con_espejo = p.predecir_con_espejo(red.modelo, datos.val.x)
        ingredientes[nombre] = {
            "val": p.calcularAccuracy(datos.val.y, red.prob_val),
            "val_espejo": p.calcularAccuracy(datos.val.y, con_espejo),
            "segundos": red.segundos,
        }
    return {
        "ingredientes": ingredientes,
        "maquina": maquina,
        "epocas_ingredientes": EPOCAS_INGREDIENTES,
    }


def medir_contrastes():
    """Qué habría cambiado al caer en las trampas; las de las aves, con MobileNetV2."""
    maquina = p.preparar_entorno(p.SEMILLA)
    return {"contrastes": trampas_de_cifar() | trampas_de_aves(), "maquina": maquina}


def trampas_de_cifar():
    """Elegir la época de BaseNet con el test y aumentar la validación de BaseNet con aumento de
    datos. Y, sin ser una trampa, la red final con los filtros de la escalera, que en pocas épocas
    no puede compararlas."""
    datos = p.datos_cifar(p.leer_cifar(), p.CLASES, p.SEMILLA)
    epocas = p.COMPLETO.epocas_basenet
    con_test = p.entrenar(
        p.construir_basenet,
        replace(datos, val=datos.test),
        p.SEMILLA,
        epocas,
        p.LOTE_BASENET,
        p.adam,
    )
    receta = p.Receta(normalizar=True, aumento=True)
    aumentada = p.entrenar_receta(receta, datos, epocas, p.SEMILLA)
    entrada = keras.Input((32, 32, 3))
    aumento = keras.Model(entrada, p.aumentar(entrada, receta))
    val = p.predecir(aumentada.modelo, np.array(aumento(datos.val.x, training=True)))
    con_la_mitad = replace(p.RECETA_FINAL, filtros=dict(p.PELDANOS)["Más profundidad"]["filtros"])
    estrecha = p.entrenar_receta(con_la_mitad, datos, p.COMPLETO.epocas_mejorada, p.SEMILLA)
    return {
        "la mitad de los filtros": en_validacion(datos, estrecha) | {"segundos": estrecha.segundos},
        "mejor época según test": {"test": max(con_test.hist.history["val_accuracy"])},
        "validación sin aumentar": en_validacion(datos, aumentada),
        "validación aumentada": {"val": p.calcularAccuracy(datos.val.y, val)},
    }


def trampas_de_aves():
    """Solo la salida, dividiendo los píxeles por 255 antes de tiempo; y el ajuste fino, sin mezclar
    pesos: tal cual, sin la cabeza entrenada y con la batch normalization entrenable."""
    red = p.buscar_pesos(MOBILENETV2)
    datos = p.leer_aves(p.COMPLETO, p.SEMILLA)
    dividiendo = replace(red, preprocesar=lambda x: red.preprocesar(x / 255))
    _, dividida = entrenar_salida(dividiendo, datos)
    vectores, salida = entrenar_salida(red, datos)
    medidas = {
        "dividir por 255 antes": en_validacion(datos, dividida),
        "solo la salida": en_validacion(datos, salida),
    }
    pixeles = keras.Input((None, None, 3))
    sin_plegar = keras.Model(pixeles, p.cargar_preentrenada(red)(red.preprocesar(pixeles)))
    for nombre, base, entrenada in (
        ("ajuste fino", p.construir_base(red), True),
        ("batch normalization entrenable", sin_plegar, True),
        ("sin la cabeza entrenada", p.construir_base(red), False),
    ):
        print(f"\nContrastes: {nombre}")
        cabeza = p.cabeza_salida(vectores)
        if entrenada:
            cabeza.set_weights(salida.modelo.get_weights())
        ajuste = p.entrenar(
            partial(p.construir_ajuste, base, cabeza),
            datos,
            p.SEMILLA,
            p.COMPLETO.epocas_ajuste,
            p.LOTE_AJUSTE,
            partial(p.adam_ciclo, p.tasa_de_ajuste(p.construir_base(red))),
            keras.losses.CategoricalCrossentropy(label_smoothing=p.SUAVIZADO_AVES),
            transformar=p.recortar_y_reflejar,
        )
        medidas[nombre] = en_validacion(datos, ajuste)
    return medidas


def entrenar_salida(red, datos):
    """Vectores que da una red y la cabeza «solo la salida» entrenada con ellos."""
    vectores = p.extraer(p.construir_base(red, p.LADO_AVES), datos)[1]
    sesion = p.Sesion(p.SEMILLA, p.COMPLETO, red)
    epocas = p.COMPLETO.epocas_cabezas
    return vectores, p.probar_cabeza("3.1.A", p.SALIDA, p.cabeza_salida, vectores, epocas, sesion)


def en_validacion(datos, entrenamiento):
    """Los aciertos en validación de un Entrenamiento."""
    return {"val": p.calcularAccuracy(datos.val.y, entrenamiento.prob_val)}


def partir_otra_vez(datos, semilla):
    """Los mismos datos con la validación que aparta otra semilla."""
    x = np.concatenate([datos.train.x, datos.val.x])
    y = np.concatenate([datos.train.y, datos.val.y])
    return p.partir(x, y, datos.test.x, datos.test.y, datos.clases, datos.origen, semilla)


def de_la_sesion(sesion):
    """Lo que ha medido una Sesion."""
    return {
        "filas": [asdict(resultado) for resultado in sesion.resultados],
        "detalles": dict(sesion.detalles),
        "maquina": sesion.maquina,
    }


def constantes():
    """Los números de practica2.py que cita la memoria, y los de la receta final."""
    numeros = {n: v for n, v in vars(p).items() if n.isupper() and isinstance(v, (int, float))}
    receta = {n: v for n, v in vars(p.RECETA_FINAL).items() if isinstance(v, (int, float))}
    return numeros | {"RECETA_FINAL": receta}


PARTES = {  # en el orden en que se miden: primero lo que cuesta menos y más se mira
    "12bonus": medir_cifar,
    "3": partial(medir_aves, p.RESNET50, FIGURAS),
    "imagenet": partial(medir_aves, MOBILENETV2, FIGURAS / "imagenet"),
    "contrastes": medir_contrastes,
    "semillas": medir_semillas,
    "ingredientes": medir_ingredientes,
}


def medir(parte):
    """Mide una parte, con los segundos que ha costado."""
    inicio = time.perf_counter()
    medido = PARTES[parte]()
    return medido | {"segundos": time.perf_counter() - inicio}
