"""Lo que se mide para la memoria, por partes. Lo llama generar.py, cada parte en un proceso propio.

practica/N   la práctica entera con la semilla N, como la ejecuta una persona
imagenet/N   su Apartado 3 con MobileNetV2 y los pesos de ImageNet en lugar de ResNet50
ablacion/N   la receta de la red final sin cada uno de sus ingredientes, con la mitad de sus épocas
larga/N      la que con ellas queda cerca de lo que pide la regla, con todas
controles/N  aquello con lo que se compara el Apartado 3: la salida sola si antes se divide entre
             255, 3.1.B si acaba en una media y el ajuste fino más largo o más lento
bonus/N      aquello con lo que se compara el Bonus: la alumna sin maestras y el comité de dos redes
             finales
"""

import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

AQUI = Path(__file__).resolve().parent
sys.path.insert(0, str(AQUI.parent))
import practica2 as p

keras, np = p.keras, p.np  # practica2 calla a TensorFlow mientras se importa

MOBILENETV2 = p.RedPreentrenada(
    nombre="MobileNetV2",
    constructor=keras.applications.MobileNetV2,
    preprocesar=keras.applications.mobilenet_v2.preprocess_input,
    url="mobilenet_v2_imagenet_notop.weights.h5",  # ha de estar en la carpeta de imágenes
    md5_imagenet="73236f95668c34e6f8c3793e873deb04",
)
EPOCAS_MAS = 6  # del ajuste fino más largo

SIN_INGREDIENTE = {  # qué cambia de RECETA_FINAL
    "completa": {},
    "sin normalizar la entrada": {"normalizar": False},
    "sin cambios de color": {"color": False},
    "sin label smoothing": {"suavizado": 0.0},
    "sin conexiones residuales": {"residual": False},
    "sin recortes pequeños": {"recortes": False},
    "sin regularización L2": {"l2": 0.0},
    "con la mitad de filtros": {"filtros": (32, 64, 128)},
    "con una etapa menos": {"filtros": (64, 128)},
    "sin aumento de datos": {"aumento": False, "recortes": False, "color": False},
    "sin batch normalization": {"batchnorm": False},
    "con dropout de 0,2": {"dropout": 0.2},
    "con la tasa constante": {  # la media de su ciclo
        "optimizador": lambda pasos: keras.optimizers.SGD(p.TASA_SGD / 2, 0.9, nesterov=True)
    },
    "Adam en lugar de SGD": {"optimizador": partial(p.adam_ciclo, p.TASA_ADAM_CICLO)},
}


def medir_bonus(semilla):
    """La alumna, si aprende de las etiquetas con la receta de la red final, y el comité de dos
    especialistas, las redes finales de dos semillas seguidas."""
    sesion, datos = empezar(semilla, p.CLASES)
    receta = replace(p.RECETA_ALUMNA, suavizado=p.RECETA_FINAL.suavizado)
    sola = p.entrenar_receta(receta, datos, p.COMPLETO.epocas_alumna, semilla)
    p.anotar_red("Bonus", "Alumna sin maestras", sola, datos, sesion, espejo=True)
    especialistas = []
    for otra in (semilla, semilla + 1):
        red = p.entrenar_receta(p.RECETA_FINAL, datos, p.COMPLETO.epocas_mejorada, otra)
        nombre = f"Especialista, semilla {otra}"
        especialistas.append(p.anotar_red("Bonus", nombre, red, datos, sesion, espejo=True))
    comite = p.formar_comite("Comité de dos especialistas, con espejo", *especialistas)
    p.anotar(comite, datos, sesion)
    return sesion


def medir_ablacion(semilla, recetas=SIN_INGREDIENTE, fraccion=0.5):
    """La receta de la red final, entera y sin cada ingrediente, con una fracción de sus épocas."""
    sesion, datos = empezar(semilla, p.CLASES)
    epocas = int(fraccion * p.COMPLETO.epocas_mejorada)
    for nombre in recetas:
        print(f"\nAblación, semilla {semilla}: {nombre}")
        receta = replace(p.RECETA_FINAL, **SIN_INGREDIENTE[nombre])
        red = p.entrenar_receta(receta, datos, epocas, semilla)
        p.anotar_red("2", nombre, red, datos, sesion, con_test=False, con_train=True)
    return sesion


def medir_controles(semilla):
    """Aciertos en test de los controles del Apartado 3, con MobileNetV2 y ResNet50; el del ajuste
    fino más lento, a un cuarto de tasa, solo con ResNet50."""
    sesion, _ = empezar(semilla, p.CLASES)
    sesion.aves = p.buscar_aves(p.COMPLETO.especies)
    mobilenet, resnet = p.buscar_pesos(MOBILENETV2), p.buscar_pesos(p.RESNET50)
    entre_255 = {"preprocesar": lambda x: mobilenet.preprocesar(x / 255)}
    otra = mobilenet._replace(nombre="MobileNetV2 entre 255", **entre_255)
    _, vectores = caracteristicas(otra, sesion)
    p.probar_cabeza("3.1.A", "solo la salida", list, vectores, sesion)
    sesion.alcance = replace(p.COMPLETO, epocas_ajuste=EPOCAS_MAS)
    for red in (mobilenet, resnet):
        mapas, vectores = caracteristicas(red, sesion)
        p.probar_cabeza("3.1.B", "con una media al final", capas_con_media, mapas, sesion)
        salida = p.probar_cabeza("3.1.A", "solo la salida", list, vectores, sesion)
        p.ajustar(p.leer_aves(sesion), salida.modelo, sesion)
    sesion.alcance = p.COMPLETO
    sesion.preentrenada = resnet._replace(nombre="ResNet50 a un cuarto de tasa")
    p.TASA_AJUSTE /= 4
    salida = p.probar_cabeza("3.1.A", "solo la salida", list, vectores, sesion)  # aún sin ajustar
    p.ajustar(p.leer_aves(sesion), salida.modelo, sesion)
    return sesion


def caracteristicas(preentrenada, sesion):
    """Los mapas y los vectores que da de las aves una red, que pasa a ser la de la Sesion."""
    sesion.preentrenada = preentrenada
    return p.extraer(p.construir_base(preentrenada, p.LADO_AVES), list(p.leer_aves(sesion)))


def capas_con_media():
    """Las de 3.1.B con una media global en lugar del aplanado."""
    *convoluciones, _, dropout = p.capas_sin_pooling()
    return [*convoluciones, keras.layers.GlobalAveragePooling2D(), dropout]


def empezar(semilla, clases):
    """Una Sesion vacía, con el entorno como lo prepara main, y los Datos de esas clases."""
    maquina = p.preparar_entorno(semilla)
    cifar = p.leer_cifar(p.COMPLETO.imagenes_por_clase)
    sesion = p.Sesion(semilla, p.COMPLETO, MOBILENETV2, cifar, maquina=maquina)
    return sesion, p.datos_cifar(cifar, clases, semilla)


def de_la_sesion(sesion):
    """La máquina y las filas de una Sesion, sin lo que no cabe en un JSON."""
    sin = ("prob_val", "prob_test", "modelo")
    filas = [vars(resultado) for resultado in sesion.resultados.values()]
    filas = [{campo: v for campo, v in fila.items() if campo not in sin} for fila in filas]
    return {"maquina": sesion.maquina, "filas": filas}


PARTES = {
    f"{grupo}/{semilla}": partial(medir_grupo, semilla)
    for grupo, medir_grupo in (
        ("practica", lambda s: p.main(["--semilla", str(s)])),
        ("imagenet", lambda s: p.main(["--apartados", "3", "--semilla", str(s)], MOBILENETV2)),
        ("ablacion", medir_ablacion),
        ("larga", partial(medir_ablacion, recetas=["sin label smoothing"], fraccion=1)),
        ("controles", medir_controles),
        ("bonus", medir_bonus),
    )
    for semilla in (7, 8, 9)  # la primera es la del script
}


def medir(parte):
    """Lo que mide una parte, con los segundos que ha costado."""
    inicio = time.perf_counter()
    sesion = PARTES[parte]()
    return {"segundos": time.perf_counter() - inicio} | de_la_sesion(sesion)


# ===== Lo que la memoria cita del código =========================================================


def constantes():
    """Los números de practica2.py, por su nombre."""
    numeros = {n: v for n, v in vars(p).items() if n.isupper() and isinstance(v, (int, float))}
    receta = {n: v for n, v in vars(p.RECETA_FINAL).items() if isinstance(v, (int, float))}
    rejillas = {"C_SVM": p.C_SVM, "CONTRACCIONES": p.CONTRACCIONES}
    return numeros | rejillas | {"RECETA_FINAL": receta}


def red_final():
    """La red final, sin entrenar y con una entrada cualquiera."""
    datos = p.Datos(p.Conjunto(np.ones((1, 32, 32, 3)), None), None, None, range(p.CLASES), ())
    return p.construir_mejorada(p.RECETA_FINAL, datos)


def capas(modelo):
    """La tabla del guion de un modelo: [(capa, núcleo, dimensión, canales, parámetros, MACs)]."""
    filas = []
    for capa in [c for c in modelo.layers if not isinstance(c, keras.layers.InputLayer)]:
        lados = getattr(capa, "kernel_size", None) or getattr(capa, "pool_size", None)
        entra = capa.input[0] if isinstance(capa.input, list) else capa.input  # Add tiene varias
        desde, hasta = entra.shape, capa.output.shape
        lado = 1 if len(desde) > len(hasta) else hasta[1]  # tras el pooling global
        con_mapas = len(desde) == len(hasta) == 4
        filas.append(
            (
                type(capa).__name__,
                str(lados[0]) if lados else "—",
                f"{desde[1]} → {lado}",
                f"{desde[-1]} → {hasta[-1]}" if con_mapas else "—",
                capa.count_params(),
                macs(capa),
            )
        )
    return filas


def macs(capa):
    """Productos, cada uno con su suma, que hace una capa por imagen: los de su núcleo en cada
    posición de la salida."""
    if not isinstance(capa, (keras.layers.Conv2D, keras.layers.Dense)):
        return 0
    return int(np.prod(capa.kernel.shape) * np.prod(capa.output.shape[1:-1]))
