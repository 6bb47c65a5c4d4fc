"""Apartado 3 con unos pesos reales de ImageNet: los de MobileNetV2, por las mismas funciones.

Se ejecuta a mano; necesita las aves y mobilenet_v2_imagenet_notop.weights.h5 en la misma carpeta:

    PRACTICA2_IMAGENES=carpeta python tests/comprobar_imagenet.py [--figuras CARPETA]
"""

import sys
from pathlib import Path

import keras

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import practica2 as p

MOBILENETV2 = p.RedPreentrenada(
    "MobileNetV2",
    keras.applications.MobileNetV2,
    keras.applications.mobilenet_v2.preprocess_input,
    "mobilenet_v2_imagenet_notop.weights.h5",
    "",  # no se descarga: ha de estar en la carpeta
    "73236f95668c34e6f8c3793e873deb04",
)

if __name__ == "__main__":
    if not (p.carpeta_imagenes() / MOBILENETV2.fichero).exists():
        sys.exit(f"Falta {MOBILENETV2.fichero} en la carpeta que nombra PRACTICA2_IMAGENES.")
    p.RESNET50 = MOBILENETV2
    sys.exit(p.ejecutar(["--apartados", "3", *sys.argv[1:]]))
