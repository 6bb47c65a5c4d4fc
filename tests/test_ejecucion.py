"""El script entero: lo que imprime, devuelve, escribe y cómo termina."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import RAIZ, Escenario, instantanea

import practica2 as p

FILAS = [
    ("1", "BaseNet"),
    ("2", "Escalera: BaseNet"),
    ("2", "Escalera: Normalización"),
    ("2", "BaseNet mejorada"),
    ("2", "BaseNet mejorada, con espejo"),
    ("3.1.A", "ResNet50, solo la salida"),
    ("3.1.A", "ResNet50, nueva FC y salida"),
    ("3.1.A", "ResNet50, SVM lineal"),
    ("3.1.A", "ResNet50, discriminante lineal"),
    ("3.1.A", "ResNet50, random forest"),
    ("3.1.B", "ResNet50, sin average pooling"),
    ("3.2", "ResNet50, ajuste fino"),
    ("3.2", "ResNet50, ajuste fino, con espejo"),
    ("Bonus", "Generalista, 100 clases"),
    ("Bonus", "Generalista, 25 clases"),
    ("Bonus", "Comité, 25 clases"),
]


def resumen(salida):
    """Lo que la salida dice desde RESUMEN hasta el final."""
    return salida.split("\nRESUMEN")[-1]


def sin_segundos(filas):
    """Las filas sin lo único que cambia de una vez a otra."""
    return [{k: v for k, v in fila.items() if k != "segundos"} for fila in filas]


# --- La pasada entera: entrada cerrada, sin pantalla, sin red y desde otra carpeta ---------------


def test_termina_bien_y_pasa_por_todos_los_experimentos(pasada):
    assert pasada.codigo == 0, pasada.errores
    assert [(f["apartado"], f["experimento"]) for f in pasada.filas] == FILAS


def test_main_devuelve_lo_que_imprime_el_resumen(pasada, capsys):
    origenes = dict.fromkeys(p.MEMORIA_ORIGEN, "SINTÉTICO")
    p.imprimir_resultados([p.Resultado(**fila) for fila in pasada.filas], origenes)
    tabla = capsys.readouterr().out
    assert len(tabla.splitlines()) == len(FILAS) + 2
    assert resumen(pasada.salida).endswith("\n" + tabla)


def test_no_escribe_nada(pasada):
    assert pasada.escrituras == []
    assert pasada.nuevos == set()


def test_la_escalera_no_mide_en_test_y_los_demas_si(pasada):
    for fila in pasada.filas:
        assert (fila["test"] is None) == fila["experimento"].startswith("Escalera"), fila


def test_lo_sintetico_y_lo_aleatorio_se_dicen_en_cada_parte_y_en_el_resumen(pasada):
    for parte in ("APARTADO 1", "APARTADO 2", "BONUS"):
        assert re.search(rf"\n{parte} .*CIFAR-100 SINTÉTICO", pasada.salida), parte
    assert re.search(r"\nAPARTADO 3 .*aves SINTÉTICAS.*pesos ALEATORIOS", pasada.salida)
    for rotulo in ("CIFAR-100 SINTÉTICO", "aves SINTÉTICAS", "pesos ALEATORIOS"):
        assert rotulo in resumen(pasada.salida)


def test_cada_parte_termina_en_una_pausa_que_dice_que_figuras_ensenaria(pasada):
    partes = re.split(r"\n=+\n(?=APARTADO|BONUS|RESUMEN)", pasada.salida)[1:-1]
    assert len(partes) == len(p.PARTES)
    for parte in partes:
        *_, pausa, figuras = parte.rstrip().splitlines()
        assert pausa.startswith("Pausa · ") and "figuras: " in figuras


def test_otra_pasada_con_la_misma_semilla_da_lo_mismo_y_figuras_es_lo_unico_que_escribe(pasada, tmp_path):
    escenario = Escenario(tmp_path / "otra")
    otra = escenario.ejecutar("--figuras", "laminas")
    assert sin_segundos(otra.filas) == sin_segundos(pasada.filas)
    laminas = sorted(f.name for f in (escenario.trabajo / "laminas").iterdir())
    anunciadas = sum(li.count(" · ") + 1 for li in otra.salida.splitlines() if "figuras: " in li)
    assert len(laminas) == anunciadas > 0
    assert otra.nuevos == {f"trabajo/laminas/{nombre}" for nombre in laminas}
    assert {os.path.basename(ruta) for ruta in otra.escrituras} == {"laminas", *laminas}


@pytest.fixture
def tmp_path_de_todos():
    """Carpeta temporal en la que puede entrar cualquiera; en las de pytest, solo su dueño."""
    with tempfile.TemporaryDirectory() as carpeta:
        os.chmod(carpeta, 0o755)
        yield Path(carpeta)


def test_como_nobody_en_carpetas_de_solo_lectura(tmp_path_de_todos):
    if os.name != "posix" or os.getuid() != 0:
        pytest.skip("hay que ser root para ejecutarlo como nobody")
    escenario = Escenario(tmp_path_de_todos)
    for nombre in ("salida", "keras", "matplotlib"):
        (escenario.carpeta / nombre).chmod(0o777)
    for carpeta in (escenario.proyecto, escenario.trabajo, escenario.mundo / "hogar"):
        carpeta.chmod(0o555)
    # Conserva el permiso de leer, porque el Python de root puede estar en su carpeta; no escribe.
    leer = "-all,+dac_read_search"
    como_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    como_nobody += [f"--inh-caps={leer}", "--ambient-caps=+dac_read_search"]
    como_nobody += [f"--bounding-set={leer}"]
    prueba = subprocess.run([*como_nobody, sys.executable, "-c", ""], capture_output=True)
    if prueba.returncode:
        pytest.skip("setpriv no puede ejecutar este Python como nobody")
    ejecutada = escenario.ejecutar("--apartados", "3", delante=como_nobody)
    assert ejecutada.codigo == 0, ejecutada.errores
    assert {f["apartado"] for f in ejecutada.filas} == {"3.1.A", "3.1.B", "3.2"}
    assert ejecutada.escrituras == []
    assert ejecutada.nuevos == set()


@pytest.mark.parametrize(
    "apartado, senal, medido, sin_medir",
    [
        ("1", "→ BaseNet", "BaseNet", "BaseNet mejorada"),
        ("2", "Peldaño", "Escalera: BaseNet", "Escalera: Normalización"),
        ("2", "2.2 Red final", "Escalera: Normalización", "BaseNet mejorada"),
        ("3", "3.1 ResNet50", None, "ResNet50, solo"),
        ("3", "3.2 Ajuste fino", "ResNet50, sin average pooling", "ResNet50, ajuste"),
        ("bonus", "→ Generalista, 100", "Generalista, 100 clases", "Comité"),
    ],
)
def test_ctrl_c_en_cada_etapa_imprime_lo_medido_y_termina_con_130(
    apartado, senal, medido, sin_medir, tmp_path
):
    escenario = Escenario(tmp_path / "corte")
    antes = instantanea(escenario.mundo)
    codigo, salida = escenario.interrumpir(escenario.orden("--apartados", apartado, epocas=2), senal)
    assert codigo == 130
    assert "Traceback" not in salida and salida.rstrip().endswith("Interrumpido con Ctrl-C.")
    tabla = salida.split("\nRESUMEN PARCIAL")[-1]
    assert sin_medir not in tabla
    if medido:
        assert re.search(rf"^{apartado}.* {medido} .*%", tabla, re.MULTILINE | re.IGNORECASE)
    assert instantanea(escenario.mundo) == antes


# --- Entradas incorrectas ------------------------------------------------------------------------


def rechazo(capsys, *argumentos):
    """La única línea de error con la que el script rechaza unos argumentos, con código 2."""
    assert p.ejecutar(list(argumentos)) == 2
    (linea,) = capsys.readouterr().err.splitlines()
    assert linea.startswith("Error: ")
    return linea


@pytest.mark.parametrize(
    "argumentos, dice",
    [
        (["--nada"], "--help"),
        (["sobra"], "--help"),
        (["--semilla", "siete"], "--help"),
        (["--semilla", "-1"], "--semilla"),
        (["--apartados", "4"], "--apartados"),
        (["--apartados", "1,,2"], "--apartados"),
    ],
)
def test_una_opcion_incorrecta_termina_con_2(argumentos, dice, capsys):
    assert dice in rechazo(capsys, *argumentos)


def test_una_carpeta_de_imagenes_que_no_existe_termina_con_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PRACTICA2_IMAGENES", str(tmp_path / "no_existe"))
    assert "no_existe" in rechazo(capsys, "--apartados", "1")


def test_una_carpeta_de_figuras_que_es_un_fichero_termina_con_2(tmp_path, capsys):
    (tmp_path / "laminas").write_text("")
    assert "laminas" in rechazo(capsys, "--figuras", str(tmp_path / "laminas"))


def test_los_datos_danados_terminan_con_2_antes_de_entrenar(aislado, capsys):
    carpeta = aislado / "cifar-100-python"
    carpeta.mkdir()
    for nombre in p.PICKLES_CIFAR:
        (carpeta / nombre).write_bytes(b"\x80\x04}q\x00(C\x04da")
    assert str(carpeta) in rechazo(capsys)


def test_el_script_ejecutado_de_verdad_termina_con_2_sin_traza():
    proceso = subprocess.run(
        [sys.executable, RAIZ / "practica2.py", "--nada"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert proceso.returncode == 2
    assert "Traceback" not in proceso.stderr
    assert proceso.stderr.splitlines()[-1].startswith("Error: ")


def test_la_ayuda_termina_con_0_y_nombra_cada_opcion(capsys):
    with pytest.raises(SystemExit, match="0"):
        p.ejecutar(["--help"])
    ayuda = capsys.readouterr().out
    for opcion in ("--rapido", "--pausas", "--semilla", "--apartados", "--figuras"):
        assert opcion in ayuda


# --- Presentación --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "texto, esperado",
    [
        (p.decimal(24197, 0), "24.197"),
        (p.decimal(None), "—"),
        (p.porcentaje(0.45678), "45,68 %"),
        (p.porcentaje(None), "—"),
        (p.duracion(59.6), "1:00"),
        (p.duracion(3725), "1:02:05"),
    ],
)
def test_los_numeros_se_escriben_en_espanol(texto, esperado):
    assert texto == esperado


def test_la_tabla_queda_alineada(capsys):
    p.imprimir_tabla(("Parte", "Qué", "Cuánto"), [("1", "BaseNet", "3"), ("Bonus", "x", "12.345")])
    assert capsys.readouterr().out.splitlines() == [
        "Parte  Qué      Cuánto",
        "----------------------",
        "1      BaseNet       3",
        "Bonus  x        12.345",
    ]


def test_las_pausas_no_esperan_si_nadie_puede_pulsar_una_tecla(monkeypatch, capsys):
    monkeypatch.setattr(p.PRESENTACION, "esperar_tecla", True)
    monkeypatch.setattr(sys, "stdin", None)
    p.nueva_figura("Lámina")
    p.pausa("fin")
    assert "Lámina" in capsys.readouterr().out
    assert not p.plt.get_fignums() and not p.PRESENTACION.pendientes
