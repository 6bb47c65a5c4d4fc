"""Las cifras de la memoria que RESUMEN pone junto a las suyas."""

import json
import re

import pytest
from conftest import RAIZ

import practica2 as p

RESULTADOS = json.loads((RAIZ / "memoria/resultados.json").read_text(encoding="utf-8"))
CIFAR, AVES = "Apartados 1, 2 y Bonus", "Apartado 3"
ORIGEN = {
    CIFAR: "CIFAR-100 real",
    AVES: "CUB-200-2011 real, 100 de sus 200 especies; ResNet50 con otros pesos",
}


@pytest.fixture
def memoria(monkeypatch):
    """Una memoria de tres filas, con la dispersión medida solo en la primera."""
    cifras = {"BaseNet": (0.44, 0.01), "Comité": (0.86, None), "ResNet50, ajuste fino": (0.85, None)}
    monkeypatch.setattr(p, "MEMORIA", cifras)
    monkeypatch.setattr(p, "MEMORIA_ORIGEN", ORIGEN)


def fila(apartado, experimento, test):
    return p.Resultado(apartado, experimento, 1, 1, 1.0, 0.5, test)


def de_cada_semilla(parte, experimento):
    """Aciertos en test de un experimento con las semillas de una parte de los resultados."""
    filas = [fila for de_una in RESULTADOS.get(parte, {}).values() for fila in de_una]
    return [fila["test"] for fila in filas if fila["experimento"] == experimento]


def test_las_cifras_de_la_memoria_son_las_de_resultados_json():
    con_test = {f["experimento"]: f["test"] for f in RESULTADOS["filas"] if f["test"] is not None}
    assert {nombre: cifra for nombre, (cifra, _) in p.MEMORIA.items()} == pytest.approx(con_test, abs=1e-6)
    for nombre, (cifra, desviacion) in p.MEMORIA.items():
        # Las cabezas del Apartado 3 se repiten con tres semillas; lo demás, con dos además de la del script.
        cabezas, otras = (de_cada_semilla(parte, nombre) for parte in ("cabezas", "semillas"))
        assert (desviacion is not None) == bool(cabezas or otras), nombre
        if desviacion:
            valores = cabezas or [cifra, *otras]
            media = sum(valores) / len(valores)
            varianza = sum((v - media) ** 2 for v in valores) / (len(valores) - 1)
            assert desviacion == pytest.approx(varianza**0.5, abs=1e-4)


def test_el_origen_de_la_memoria_es_el_de_resultados_json():
    cifar, aves = RESULTADOS["partes"]["12bonus"], RESULTADOS["partes"]["3"]
    assert p.MEMORIA_ORIGEN[CIFAR] == cifar["datos"]
    assert p.MEMORIA_ORIGEN[AVES] == f"{aves['datos']}; ResNet50 con {aves['pesos']}"


@pytest.mark.parametrize(
    "test, diferencia",
    [(0.44, "+0,00 dentro"), (0.4601, "+2,01 dentro"), (0.41, "-3,00 fuera"), (0.4399999, "+0,00 dentro")],
)
def test_con_dispersion_medida_hay_veredicto(test, diferencia, memoria):
    assert p.frente_a_memoria(fila("1", "BaseNet", test), ORIGEN) == ["44,00 % ± 1,00", diferencia]


def test_sin_dispersion_medida_no_hay_veredicto(memoria):
    assert p.frente_a_memoria(fila("Bonus", "Comité", 0.87), ORIGEN) == ["86,00 %", "+1,00"]


@pytest.mark.parametrize(
    "experimento, test", [("Escalera: BaseNet", None), ("MobileNetV2, ajuste fino", 0.9)]
)
def test_una_fila_sin_test_o_que_la_memoria_no_tiene_no_lleva_nada(experimento, test, memoria):
    assert p.frente_a_memoria(fila("2", experimento, test), ORIGEN) == ["", ""]


@pytest.mark.parametrize(
    "apartado, experimento, origen, dice",
    [
        ("1", "BaseNet", "CIFAR-100 SINTÉTICO", "memoria: CIFAR-100 real"),
        ("1", "BaseNet", "CIFAR-100 real, subconjunto", "memoria: todas las imágenes"),
        (
            "3.2",
            "ResNet50, ajuste fino",
            "CUB-200-2011 real, 100 de sus 200 especies; ResNet50 con pesos de ImageNet",
            "memoria: otros pesos",
        ),
        (
            "3.2",
            "ResNet50, ajuste fino",
            "CUB-200-2011 real, 200 de sus 200 especies; ResNet50 con otros pesos",
            "memoria: 100 de sus 200 especies",
        ),
    ],
)
def test_con_otros_datos_o_pesos_no_hay_cifra(apartado, experimento, origen, dice, memoria):
    origenes = dict.fromkeys(ORIGEN, origen)
    assert p.frente_a_memoria(fila(apartado, experimento, 0.5), origenes) == [dice, ""]


def test_la_tabla_lleva_las_columnas_de_la_memoria(memoria, capsys):
    p.imprimir_resultados([fila("1", "BaseNet", 0.45), fila("2", "Escalera: BaseNet", None)], ORIGEN)
    cabecera, _, base, peldano = capsys.readouterr().out.splitlines()
    assert re.search(r"Memoria +Diferencia$", cabecera)
    assert base.endswith("44,00 % ± 1,00  +1,00 dentro") and peldano.endswith("—")
