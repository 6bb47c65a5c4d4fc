"""Ejecuta practica2 en pequeño y vigila lo que escribe; lo usa conftest.Escenario.

arranque.py PROYECTO INFORME EPOCAS [argumentos del script]: importa el practica2.py de PROYECTO,
achica sus constantes, lo ejecuta y deja en INFORME lo que devolvió main y lo que se escribió.
"""

import dataclasses
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

proyecto, informe, epocas, *argumentos = sys.argv[1:]
EXENTAS = (os.environ["KERAS_HOME"], os.environ["MPLCONFIGDIR"], "/dev/null")
ESCRIBIR = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CAMBIAN_EL_DISCO = ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.truncate")
escrituras, vigilando = [], True


def vigilar(suceso, datos):
    """Anota las rutas que se abren para escribir y las que se crean, cambian o borran."""
    escribe = suceso == "open" and (datos[2] or 0) & ESCRIBIR and not isinstance(datos[0], int)
    if vigilando and (escribe or suceso in CAMBIAN_EL_DISCO):
        ruta = os.fsdecode(datos[0])
        if not ruta.startswith(EXENTAS):
            escrituras.append(ruta)


tempfile.gettempdir()  # ya elegida, no vuelve a probar si puede escribir en ella
sys.addaudithook(vigilar)
signal.signal(signal.SIGINT, signal.default_int_handler)  # aunque se herede sin Ctrl-C
sys.path.insert(0, proyecto)

import practica2 as p  # antes que Keras: el script calla las líneas con las que arranca

import keras  # isort: skip
from keras import layers  # isort: skip


def red_diminuta(include_top, weights, input_tensor):
    """Hace de ResNet50, que tarda un minuto: los mismos mapas 7x7, con ocho canales."""
    x = layers.Conv2D(8, 32, strides=32)(input_tensor)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x)


main, sesiones = p.main, []
diminuta = p.RESNET50._replace(constructor=red_diminuta)
p.main = lambda argumentos: sesiones.append(main(argumentos, diminuta))
p.hay_red = lambda: False
p.COMPLETO = p.Alcance(*[int(epocas)] * 8, imagenes_por_clase=4)
p.PASOS = {
    "Que aprenda": p.PASOS["Que aprenda"][:1],
    "Que no memorice": p.PASOS["Que no memorice"][1:2],
}
p.RECETA_FINAL = dataclasses.replace(p.RECETA_FINAL, filtros=(8, 8, 8))
p.RECETA_GENERALISTA = dataclasses.replace(p.RECETA_GENERALISTA, filtros=(8, 8, 8))
p.ARBOLES = 5
p.ESPECIES_SINTETICAS = 4

codigo = p.ejecutar(argumentos)
vigilando = False
contenido = {"filas": [], "escrituras": escrituras}
for sesion in sesiones:  # ninguna, si no ha terminado
    for resultado in sesion.resultados.values():
        fila = vars(resultado) | {"modelo": None}
        for nombre in ("prob_val", "prob_test"):
            fila[nombre] = None if fila[nombre] is None else fila[nombre].tolist()
        contenido["filas"].append(fila)
Path(informe).write_text(json.dumps(contenido))
sys.exit(codigo)
