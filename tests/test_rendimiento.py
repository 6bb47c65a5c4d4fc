"""El banco de pruebas, que se ejecuta a mano, en diminuto: que todo él funciona."""

import re
from dataclasses import replace

import pytest
import rendimiento
from arranque import red_diminuta
from conftest import escribir_cifar

import practica2 as p


@pytest.mark.parametrize(
    "medida, frases",
    [
        ("", ["Red final.* en 1 épocas y .* s", "Cocientes: .*en segundos, .*en operaciones"]),
        ("memoria", [r"hasta extraer: \d", r"hasta las cabezas: \d", r"hasta el ajuste fino: \d"]),
    ],
)
def test_cada_medida_termina_con_sus_cifras(medida, frases, aislado, monkeypatch, capsys):
    escribir_cifar(aislado)
    corta = replace(rendimiento.NUESTRA_CORTA, filtros=(8,))
    diminuta = p.RESNET50._replace(constructor=red_diminuta)
    de_la_medida = {"EPOCAS_NUESTRAS": 1, "EPOCAS_PUBLICAS": 1, "NUESTRA_CORTA": corta, "META": 1.1}
    de_la_medida |= {"CUB": (4, 40, 8), "red_barata": red_diminuta}
    de_p = {"RESNET50": diminuta, "LADO_AVES": 96, "LADO_AJUSTE": 80}
    de_p["ARBOLES"] = 5
    for nombre in ("PLIEGUES", "C_SVM", "CONTRACCIONES"):  # la medida las cambia; se restauran
        de_p[nombre] = getattr(p, nombre)
    for modulo, cambios in ((rendimiento, de_la_medida), (p, de_p)):
        for nombre, valor in cambios.items():
            monkeypatch.setattr(modulo, nombre, valor)
    p.preparar_entorno(p.SEMILLA)
    rendimiento.MEDIDAS[medida]()
    salida = capsys.readouterr().out
    for frase in frases:
        assert re.search(frase, salida), salida
