"""Lo que se mide para la memoria, por partes. Lo llama generar.py, cada parte en un proceso propio.

12bonus, pasos/7 y 3/7 hacen lo mismo que practica2.py: los apartados de CIFAR-100, con los pasos de
2.1 y 2.2 aparte porque no necesitan lo demás, y el 3 con ResNet50; imagenet/7 hace otra vez el 3,
con MobileNetV2 y sus pesos de ImageNet. Con otro número en lugar de 7, lo mismo con otra semilla,
que cambia también la validación; semillas/8 es 12bonus con la 8. Las demás hacen lo que una
ejecución normal no hace: contrastes cae a propósito en las trampas que se evitan, y comites y
controles miden aquello con lo que la memoria compara lo demás.
"""

import sys
import time
from dataclasses import asdict, replace
from functools import partial
from itertools import combinations
from pathlib import Path

AQUI = Path(__file__).resolve().parent
sys.path.insert(0, str(AQUI.parent))
from sklearn.model_selection import cross_validate

import practica2 as p

keras, np = p.keras, p.np  # practica2 calla a TensorFlow mientras se importa
FIGURAS = AQUI / "figuras"
SEMILLAS = (7, 8, 9)  # la primera es la del script
SEMILLAS_PASOS = (7, 8, 11)  # de 2.1 y 2.2
p.PRESENTACION.con_titulo = False

MOBILENETV2 = p.RedPreentrenada(
    nombre="MobileNetV2",
    constructor=keras.applications.MobileNetV2,
    preprocesar=keras.applications.mobilenet_v2.preprocess_input,
    nombre_fichero="mobilenet_v2_imagenet_notop.weights.h5",
    carpeta_url="",  # no se descarga: ha de estar en la carpeta de imágenes
    md5_imagenet="73236f95668c34e6f8c3793e873deb04",
)


def medir_cifar():
    """El Apartado 1, la red final del 2 y el Bonus."""
    return de_la_sesion(ejecutar_cifar(p.SEMILLA))


def medir_semilla(semilla):
    """Las filas de lo mismo con otra semilla."""
    medido = de_la_sesion(ejecutar_cifar(semilla))
    return {"filas": medido["filas"], "maquina": medido["maquina"]}


def ejecutar_cifar(semilla):
    """La Sesion del Apartado 1, de 2.3 y del Bonus."""
    sesion, datos = empezar(semilla)
    p.apartado1(sesion)
    p.entrenar_red_final(datos, sesion)
    p.pausa("2.3: resultados de la red mejorada")
    p.bonus(sesion)
    return sesion


def medir_pasos(semilla):
    """Los pasos de 2.1 y 2.2, y lo que cada uno decide."""
    sesion, datos = empezar(semilla)
    alcance = sesion.alcance
    receta = p.probar_pasos(p.APRENDER, p.Receta(), alcance.epocas_aprender, datos, sesion)
    p.probar_pasos(p.NO_MEMORIZAR, receta, alcance.epocas_no_memorizar, datos, sesion)
    p.pausa("2.2: que no memorice")
    return de_la_sesion(sesion)


def empezar(semilla):
    """Una Sesion de los apartados de CIFAR-100, y los Datos de las 25 clases. Las figuras que
    salgan se guardan si la semilla es la del script."""
    sesion = p.Sesion(semilla, p.COMPLETO, p.RESNET50)
    sesion.maquina = p.preparar_entorno(semilla)
    p.cargar_todo(sesion, ["1", "2", "bonus"])
    datos = p.datos_cifar(sesion.cifar, p.CLASES, semilla)
    p.PRESENTACION.carpeta = FIGURAS if semilla == p.SEMILLA else None
    p.titulo(f"Semilla {semilla}", datos)
    return sesion, datos


def medir_aves(preentrenada, carpeta, semilla):
    """El Apartado 3 con una red. Las figuras se guardan si la semilla es la del script."""
    opciones = ["--apartados", "3", "--semilla", str(semilla)]
    if semilla == p.SEMILLA:
        opciones += ["--figuras", str(carpeta)]
    return de_la_sesion(p.main(opciones, preentrenada))


def medir_contrastes():
    """Qué habría cambiado al caer en las trampas, con BaseNet y, en las aves, con MobileNetV2; y si
    las imágenes de test de CIFAR-100 son más fáciles que las de entrenamiento."""
    maquina = p.preparar_entorno(p.SEMILLA)
    contrastes = (
        trampas_de_cifar() | trampas_de_aves() | {"imágenes de test": test_y_entrenamiento()}
    )
    return {"contrastes": contrastes, "maquina": maquina}


def trampas_de_cifar():
    """Elegir la época de BaseNet con el test y aumentar la validación de BaseNet con aumento de
    datos."""
    datos = p.datos_cifar(p.leer_cifar(), p.CLASES, p.SEMILLA)
    epocas = p.COMPLETO.epocas_basenet
    con_test = p.entrenar(
        p.construir_basenet,
        replace(datos, val=datos.test),
        p.SEMILLA,
        [(epocas, None)],
        p.LOTE_BASENET,
        p.adam,
        paciencia=epocas,
    )
    receta = p.Receta(normalizar=True, aumento=True)
    aumentada = p.entrenar_receta(receta, datos, epocas, p.SEMILLA)
    x, _ = p.aumentar(32, receta, datos.val.x, datos.val.y, np.random.default_rng(p.SEMILLA))
    val = p.calcularAccuracy(datos.val.y, p.predecir(aumentada.modelo, x))
    return {
        "mejor época según test": {"test": max(con_test.hist.history["val_accuracy"])},
        "validación sin aumentar": en_validacion(datos, aumentada),
        "validación aumentada": {"val": val},
    }


def trampas_de_aves():
    """Solo la salida, dividiendo los píxeles por 255 antes de tiempo; y el ajuste fino, desde esa
    cabeza y sin mezclar pesos: tal cual, sin la cabeza entrenada y con la batch normalization
    entrenable."""
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
            [(p.COMPLETO.epocas_ajuste, p.recortar_y_reflejar)],
            p.LOTE_AJUSTE,
            partial(p.adam_ciclo, p.tasa_de_ajuste(p.construir_base(red))),
            keras.losses.CategoricalCrossentropy(label_smoothing=p.SUAVIZADO_AVES),
        )
        medidas[nombre] = en_validacion(datos, ajuste)
    return medidas


def test_y_entrenamiento():
    """Aciertos de un discriminante sobre las características que da MobileNetV2 de las 25 clases de
    CIFAR-100: en validación cruzada sobre las imágenes de entrenamiento, y en test. No depende de
    ninguna red de la práctica ni de su partición: lo que cambia son las imágenes."""
    datos = p.datos_cifar(p.leer_cifar(), p.CLASES, p.SEMILLA)
    a_vectores = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Rescaling(255),
            keras.layers.Resizing(96, 96),
            p.construir_base(p.buscar_pesos(MOBILENETV2), 96),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    train, val, test = (
        p.normalize(p.raiz_cuadrada(p.predecir(a_vectores, parte.x)))
        for parte in (datos.train, datos.val, datos.test)
    )
    medidos = cross_validate(
        p.LinearDiscriminantAnalysis("lsqr", shrinkage=0.1),
        np.concatenate([train, val]),
        np.concatenate([datos.train.y, datos.val.y]).argmax(1),
        cv=p.StratifiedKFold(10, shuffle=True, random_state=p.SEMILLA),
        return_estimator=True,
    )
    y = datos.test.y.argmax(1)
    en_test = [discriminante.score(test, y) for discriminante in medidos["estimator"]]
    return {"val": float(medidos["test_score"].mean()), "test": float(np.mean(en_test))}


def medir_comites():
    """Aciertos en test, con espejo, de la red final con cada semilla y de los comités que forman de
    dos en dos: lo que se gana solo por ser dos, sin las clases de más de la generalista."""
    cifar, probabilidades = p.leer_cifar(), []
    for semilla in SEMILLAS:
        maquina = p.preparar_entorno(semilla)
        datos = p.datos_cifar(cifar, p.CLASES, semilla)
        red = p.entrenar_receta(p.RECETA_FINAL, datos, p.COMPLETO.epocas_mejorada, semilla)
        probabilidades.append(p.predecir_con_espejo(red.modelo, datos.test.x))
    aciertos = partial(p.calcularAccuracy, datos.test.y)  # las de test son siempre las mismas
    comites = {
        "una sola": [aciertos(prob) for prob in probabilidades],
        "de dos": [aciertos((a + b) / 2) for a, b in combinations(probabilidades, 2)],
    }
    return {"comites": comites, "maquina": maquina}


def medir_controles():
    """Con cada semilla: los aciertos de BaseNet en las imágenes de las que aprende, y en test si
    aprende las 100 clases; y en las aves, en test, si no se hace más que cambiar la salida."""
    cifar, controles = p.leer_cifar(), []
    for semilla in SEMILLAS:
        maquina = p.preparar_entorno(semilla)
        de_25, de_100 = (p.datos_cifar(cifar, clases, semilla) for clases in (p.CLASES, 100))
        controles.append(
            {
                "BaseNet, en train": acierta_basenet(de_25, de_25.train, semilla),
                "BaseNet, 100 clases": acierta_basenet(de_100, de_100.test, semilla),
                "ResNet50": acierta_la_salida(p.RESNET50, semilla),
                "MobileNetV2": acierta_la_salida(MOBILENETV2, semilla),
            }
        )
    return {"controles": controles, "maquina": maquina}


def acierta_basenet(datos, conjunto, semilla):
    """Lo que acierta en un conjunto BaseNet entrenada como en el Apartado 1, con las clases de esos
    datos."""
    epocas = p.COMPLETO.epocas_basenet
    basenet = p.entrenar(
        partial(p.construir_mejorada, p.Receta(), datos),
        datos,
        semilla,
        [(epocas, None)],
        p.LOTE_BASENET,
        p.adam,
        paciencia=epocas,
    )
    return p.calcularAccuracy(conjunto.y, p.predecir(basenet.modelo, conjunto.x))


def acierta_la_salida(preentrenada, semilla):
    """Lo que acierta en test una capa de salida, sin nada más, entrenada como las cabezas sobre los
    vectores de la red congelada."""
    red = p.buscar_pesos(preentrenada)
    datos = p.leer_aves(p.COMPLETO, semilla)
    _, vectores = p.extraer(p.construir_base(red, p.LADO_AVES), datos)
    sesion = p.Sesion(semilla, p.COMPLETO, red)
    p.probar_cabeza("3.1.A", "salida", partial(p.construir_cabeza, capas=[]), vectores, sesion)
    return sesion.resultados[0].test


def entrenar_salida(red, datos):
    """Vectores que da una red y la cabeza «solo la salida» entrenada con ellos."""
    vectores = p.extraer(p.construir_base(red, p.LADO_AVES), datos)[1]
    sesion = p.Sesion(p.SEMILLA, p.COMPLETO, red)
    return vectores, p.probar_cabeza("3.1.A", p.SALIDA, p.cabeza_salida, vectores, sesion)


def en_validacion(datos, entrenamiento):
    """Los aciertos en validación de un Entrenamiento."""
    return {"val": p.calcularAccuracy(datos.val.y, entrenamiento.prob_val)}


def de_la_sesion(sesion):
    """Lo que ha medido una Sesion."""
    return {
        "filas": [asdict(resultado) for resultado in sesion.resultados],
        "detalles": dict(sesion.detalles),
        "maquina": sesion.maquina,
    }


def constantes():
    """Los números de practica2.py que cita la memoria."""
    numeros = {n: v for n, v in vars(p).items() if n.isupper() and isinstance(v, (int, float))}
    receta = {n: v for n, v in vars(p.RECETA_FINAL).items() if isinstance(v, (int, float))}
    ruido = {capitulo.nombre: capitulo.ruido for capitulo in (p.APRENDER, p.NO_MEMORIZAR)}
    rejillas = {"C_SVM": p.C_SVM, "CONTRACCIONES": p.CONTRACCIONES}
    return numeros | rejillas | {"RECETA_FINAL": receta, "RUIDO": ruido}


PARTES = {  # en el orden en que se miden: primero lo que más se mira
    "12bonus": medir_cifar,
    "contrastes": medir_contrastes,
    "comites": medir_comites,
    "controles": medir_controles,
}
for semilla in SEMILLAS:
    PARTES[f"3/{semilla}"] = partial(medir_aves, p.RESNET50, FIGURAS, semilla)
    PARTES[f"imagenet/{semilla}"] = partial(medir_aves, MOBILENETV2, FIGURAS / "imagenet", semilla)
PARTES |= {f"pasos/{semilla}": partial(medir_pasos, semilla) for semilla in SEMILLAS_PASOS}
PARTES |= {f"semillas/{semilla}": partial(medir_semilla, semilla) for semilla in SEMILLAS[1:]}


def medir(parte):
    """Mide una parte, con los segundos que ha costado."""
    inicio = time.perf_counter()
    medido = PARTES[parte]()
    return medido | {"segundos": time.perf_counter() - inicio}
