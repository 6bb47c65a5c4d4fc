"""Ejecuta practica2 en pequeño y vigila lo que escribe; lo usa conftest.Escenario.

arranque.py PROYECTO INFORME EPOCAS [argumentos del script]: importa el practica2.py de PROYECTO,
lo achica, lo ejecuta y deja en INFORME lo que devolvió main y lo que se escribió.
"""

import json
import os
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

ESCRIBIR = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CAMBIAN_EL_DISCO = ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.truncate")


def red_diminuta(include_top, weights, input_tensor):
    """Hace de ResNet50, que tarda un minuto: los mismos mapas 7x7, con ocho canales."""
    import keras  # y no arriba: el script calla las líneas con las que arranca

    x = keras.layers.Conv2D(8, 32, strides=32)(input_tensor)
    x = keras.layers.Activation("relu")(keras.layers.BatchNormalization()(x))
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x)


def achicar(p, epocas, poner=setattr, red=red_diminuta):
    """El script p sin red, con tantas épocas, cuatro imágenes por clase y redes diminutas."""
    main, (aprender, no_memorizar) = p.main, p.PASOS.items()
    poner(p, "main", lambda argumentos: main(argumentos, p.RESNET50._replace(constructor=red)))
    poner(p, "hay_red", lambda: False)
    poner(p.keras.src.utils.file_utils, "urlretrieve", None)  # ni aunque la haya
    for alcance in ("COMPLETO", "SINTETICO"):
        poner(p, alcance, p.Alcance(*[epocas] * 8, imagenes_por_clase=4))
    poner(p, "PASOS", {aprender[0]: aprender[1][:1], no_memorizar[0]: no_memorizar[1][1:2]})
    for receta in ("RECETA_FINAL", "RECETA_GENERALISTA", "RECETA_ALUMNA"):
        poner(p, receta, replace(getattr(p, receta), filtros=(8,)))
    poner(p, "ARBOLES", 5)
    poner(p, "ESPECIES_SINTETICAS", 4)


def vigilar(escrituras):
    """Anota las rutas que se abren para escribir y las que se crean, cambian o borran."""
    exentas = (os.environ["KERAS_HOME"], os.environ["MPLCONFIGDIR"], "/dev/null")

    def anotar(suceso, datos):
        escribe = suceso == "open" and (datos[2] or 0) & ESCRIBIR and not isinstance(datos[0], int)
        if escribe or suceso in CAMBIAN_EL_DISCO:
            ruta = os.fsdecode(datos[0])
            escrituras.extend([] if ruta.startswith(exentas) else [ruta])

    tempfile.gettempdir()  # ya elegida, no vuelve a probar si puede escribir en ella
    sys.addaudithook(anotar)


if __name__ == "__main__":
    proyecto, informe, epocas, *argumentos = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # aunque se herede sin Ctrl-C
    sys.path.insert(0, proyecto)
    escrituras, sesiones = [], []
    vigilar(escrituras)
    import practica2 as p

    achicar(p, int(epocas))
    p.main = lambda argumentos, main=p.main: sesiones.append(main(argumentos))
    codigo = p.ejecutar(argumentos)
    filas = [vars(r) | {"modelo": None} for s in sesiones for r in s.resultados.values()]
    contenido = {"filas": filas, "escrituras": [*escrituras]}
    Path(informe).write_text(json.dumps(contenido, default=lambda matriz: matriz.tolist()))
    if codigo == 130:
        os._exit(codigo)  # como el script
    sys.exit(codigo)
