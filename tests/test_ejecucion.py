"""El script entero: lo que imprime, devuelve, escribe y cómo termina."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from conftest import RAIZ, Escenario, instantanea

import practica2 as p

FILAS = [
    ("1", "BaseNet"),
    ("2", "Que aprenda: de partida"),
    ("2", "Que aprenda: normalización"),
    ("2", "Que no memorice: de partida"),
    ("2", "Que no memorice: aumento de datos"),
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
    ("Bonus", "Generalista, 100 clases, con espejo"),
    ("Bonus", "Generalista, 25 clases, con espejo"),
    ("Bonus", "Comité, 25 clases, con espejo"),
    ("Bonus", "Especialista destilada, con espejo"),
]
CAPITULOS = {"Que aprenda": "normalización", "Que no memorice": "aumento de datos"}


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


def test_no_se_cuela_ninguna_linea_de_las_bibliotecas(pasada):
    assert pasada.errores == ""
    for biblioteca in ("tensorflow", "oneDNN", "sklearn", "Warning", "WARNING"):
        assert biblioteca not in re.sub("Keras .* sobre tensorflow", "", pasada.salida)


def test_main_devuelve_lo_que_imprime_el_resumen(pasada, capsys):
    filas = []
    for fila in pasada.filas:
        filas.append(p.Resultado(**fila | {"origen": tuple(fila["origen"])}))
    p.imprimir_resultados(filas)
    tabla = capsys.readouterr().out
    assert len(tabla.splitlines()) == len(FILAS) + 2
    assert resumen(pasada.salida).endswith("\n" + tabla)


CURVAS = {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
DETALLES = {  # lo que acompaña a cada fila
    "BaseNet": {"curvas", "pares", "por_clase", "confusion"},
    "Que aprenda: de partida": {"curvas"},
    "Que aprenda: normalización": {"curvas", "diferencia", "decide", "se_queda"},
    "Que no memorice: de partida": {"curvas"},
    "Que no memorice: aumento de datos": {"curvas", "diferencia", "decide", "se_queda"},
    "BaseNet mejorada": {"curvas", "capas", "macs"},
    "BaseNet mejorada, con espejo": {"pares", "por_clase", "confusion"},
    "ResNet50, solo la salida": {"curvas", "vecinos"},
    "ResNet50, nueva FC y salida": {"curvas", "frente a ResNet50, solo la salida"},
    "ResNet50, SVM lineal": {"elegido"},
    "ResNet50, discriminante lineal": {"elegido"},
    "ResNet50, random forest": {"elegido"},
    "ResNet50, sin average pooling": {
        "curvas",
        "frente a ResNet50, solo la salida",
        "frente a ResNet50, nueva FC y salida",
    },
    "ResNet50, ajuste fino": {
        "curvas",
        "mezclas",
        "pares",
        "proyeccion",
        "frente a ResNet50, discriminante lineal",
    },
    "ResNet50, ajuste fino, con espejo": set(),
    "Generalista, 100 clases, con espejo": {"curvas", "superclases"},
    "Generalista, 25 clases, con espejo": {"curvas"},
    "Comité, 25 clases, con espejo": {"frente a BaseNet mejorada, con espejo"},
    "Especialista destilada, con espejo": {
        "curvas",
        "frente a Generalista, 25 clases, con espejo",
        "frente a BaseNet mejorada, con espejo",
        "frente a Comité, 25 clases, con espejo",
    },
}


def por_experimento(pasada):
    """{experimento: su fila}."""
    return {fila["experimento"]: fila for fila in pasada.filas}


def test_cada_fila_tiene_sus_detalles(pasada):
    assert {nombre: set(suyos) for nombre, suyos in pasada.detalles.items()} == DETALLES


def test_cada_fila_se_mide_en_la_mejor_epoca_de_sus_curvas(pasada):
    for nombre, fila in por_experimento(pasada).items():
        curvas = pasada.detalles[nombre].get("curvas")
        if curvas:
            assert set(curvas) == CURVAS
            assert {len(curva) for curva in curvas.values()} == {fila["epocas"]} == {1}, nombre
            # Estas se miden de otra manera: con mezcla de pesos y con espejo.
            if nombre != "ResNet50, ajuste fino" and "con espejo" not in nombre:
                assert fila["val"] == pytest.approx(max(curvas["val_accuracy"])), nombre


def test_los_detalles_cuadran_con_su_fila(pasada):
    filas, detalles = por_experimento(pasada), pasada.detalles
    for nombre in ("BaseNet", "BaseNet mejorada, con espejo"):
        por_clase = detalles[nombre]["por_clase"]
        assert len(por_clase) == p.CLASES  # y tantas imágenes de una clase como de otra
        assert sum(por_clase.values()) / p.CLASES == pytest.approx(filas[nombre]["test"])
    for nombre in ("BaseNet", "BaseNet mejorada, con espejo", "ResNet50, ajuste fino"):
        pares = detalles[nombre]["pares"]
        veces = [cuantas for _, _, cuantas in pares]
        assert len(pares) == 5 and veces == sorted(veces, reverse=True)
        assert all(real != predicha for real, predicha, _ in pares)
    for capitulo, paso in CAPITULOS.items():
        val = [filas[f"{capitulo}: {nombre}"]["val"] for nombre in ("de partida", paso)]
        assert detalles[f"{capitulo}: {paso}"]["diferencia"] == pytest.approx(val[1] - val[0])
    mejorada = detalles["BaseNet mejorada"]
    for columna, total in (
        (-2, filas["BaseNet mejorada"]["parametros"]),
        (-1, mejorada["macs"]),
    ):
        assert sum(int(capa[columna].replace(".", "")) for capa in mejorada["capas"]) == total
    for nombre, parametro, valores in (
        ("SVM lineal", "C", p.C_SVM),
        ("discriminante lineal", "shrinkage", p.CONTRACCIONES),
    ):
        ((cual, valor, aciertos),) = detalles[f"ResNet50, {nombre}"]["elegido"]
        assert cual == parametro and valor in valores and 0 < aciertos <= 1
        con_coma = f"{valor:g}".replace(".", ",")
        assert f"{parametro} = {con_coma}: {p.porcentaje(aciertos)}" in pasada.salida
    mezclas = detalles["ResNet50, ajuste fino"]["mezclas"]
    aciertos_de = dict(mezclas)
    assert list(aciertos_de) == list(p.FRACCIONES_AJUSTE)
    elegida = int(re.search(r"Se queda el (\d+) %", pasada.salida)[1])
    assert filas["ResNet50, ajuste fino"]["val"] == pytest.approx(aciertos_de[elegida / 100])
    discriminante = filas["ResNet50, discriminante lineal"]["val"]
    assert aciertos_de[0] == pytest.approx(discriminante, abs=0.05)  # de ahí parte
    superclases = detalles["Generalista, 100 clases, con espejo"]["superclases"]
    assert f"superclase en test (20): {p.porcentaje(superclases)}" in pasada.salida


def test_las_probabilidades_que_se_comparan_son_las_de_su_fila(pasada):
    nombres = {nombre for _, nombre in FILAS}
    comparadas = {n for n in nombres if n.startswith("ResNet50, ") or n.endswith("con espejo")}
    comparadas.remove("ResNet50, ajuste fino, con espejo")
    assert set(pasada.probabilidades) == comparadas
    for nombre, (val, test) in pasada.probabilidades.items():
        if nombre.startswith("ResNet50"):  # las aves van de otro modo; las mira la prueba siguiente
            continue
        fila, clases = por_experimento(pasada)[nombre], 100 if ", 100" in nombre else p.CLASES
        # Las sintéticas van por clases: una imagen de cada una en validación y cuatro en test.
        assert fila["val"] == pytest.approx(p.calcularAccuracy(np.eye(clases), val))
        de_la_cierta = np.array(test)[np.arange(4 * clases), np.repeat(np.arange(clases), 4)]
        assert fila["perdida_test"] == pytest.approx(-np.log(de_la_cierta).mean(), rel=1e-4)


def test_las_comparaciones_son_las_de_sus_filas(pasada):
    filas, comparadas = por_experimento(pasada), 0
    for nombre, detalles in pasada.detalles.items():
        for clave, comparacion in detalles.items():
            if clave.startswith("frente a "):
                otra = clave.removeprefix("frente a ")
                diferencia = filas[nombre]["test"] - filas[otra]["test"]
                assert comparacion["diferencia"] == pytest.approx(diferencia)
                puntos = p.decimal(100 * diferencia, signo="+")
                assert f"«{nombre}» frente a «{otra}»: {puntos} puntos" in pasada.salida
                comparadas += 1
    assert comparadas == 4 + 4  # las del Apartado 3 y las del Bonus


def test_los_pasos_la_red_final_y_las_cabezas_dicen_lo_que_aciertan_en_train(pasada):
    cabezas = ("ResNet50, solo", "ResNet50, nueva", "ResNet50, sin")
    for fila in pasada.filas:
        con_train = fila["experimento"].startswith(("Que ", "BaseNet mejorada", *cabezas))
        con_train = con_train and "espejo" not in fila["experimento"]
        assert (fila["train"] is not None) == con_train, fila


def test_el_ajuste_fino_entrena_la_red_de_solo_la_salida_y_la_preentrenada(pasada):
    filas = por_experimento(pasada)
    de_la_base = filas["ResNet50, ajuste fino"]["parametros"]
    de_la_base -= filas["ResNet50, solo la salida"]["parametros"]
    assert de_la_base == 8 * 32 * 32 * 3 + 8  # la convolución de arranque.py


def test_cada_fila_dice_de_que_datos_y_pesos_sale(pasada):
    for fila in pasada.filas:
        origen = ["CIFAR-100 SINTÉTICO"]
        if fila["apartado"].startswith("3"):
            origen = ["aves SINTÉTICAS", "4 especies", "pesos ALEATORIOS"]
        assert fila["origen"] == origen, fila


def test_delante_de_cada_parte_dice_cuanto_queda_de_la_ejecucion_entera(pasada):
    cabeceras = re.findall(
        r"^(Tiempo hasta el final: .*)\n\n=+\n(APARTADO \d|BONUS)", pasada.salida, re.MULTILINE
    )
    assert [parte for _, parte in cabeceras] == ["APARTADO 1", "APARTADO 2", "APARTADO 3", "BONUS"]
    faltan = ("1, 2, 3, bonus", "2, 3, bonus", "3, bonus", "bonus")
    for (linea, _), partes in zip(cabeceras, faltan, strict=True):
        assert f"(partes: {partes})" in linea and re.search(r"minutos?\b", linea)


def test_no_escribe_nada(pasada):
    assert pasada.escrituras == []
    assert pasada.nuevos == set()


def test_los_pasos_no_se_miden_en_test_y_los_demas_si(pasada):
    for fila in pasada.filas:
        assert (fila["test"] is None) == fila["experimento"].startswith("Que "), fila


def test_lo_sintetico_y_lo_aleatorio_se_dicen_en_cada_parte_y_en_el_resumen(pasada):
    for parte in ("APARTADO 1", "APARTADO 2", "BONUS"):
        assert re.search(rf"\n{parte} .*CIFAR-100 SINTÉTICO", pasada.salida), parte
    assert re.search(r"\nAPARTADO 3 .*aves SINTÉTICAS.*pesos ALEATORIOS", pasada.salida)
    for rotulo in ("CIFAR-100 SINTÉTICO", "aves SINTÉTICAS", "pesos ALEATORIOS"):
        assert rotulo in resumen(pasada.salida)


def test_cada_parte_termina_en_una_pausa_que_dice_que_figuras_ensenaria(pasada):
    sin_lo_que_queda = re.sub("\nTiempo hasta el final: .*\n", "", pasada.salida)
    partes = re.split(r"\n=+\n(?=APARTADO|BONUS|RESUMEN)", sin_lo_que_queda)[1:-1]
    assert len(partes) == len(p.PARTES)
    for parte in partes:
        *_, pausa, figuras = parte.rstrip().splitlines()
        assert pausa.startswith("Pausa · ") and "figuras: " in figuras


def test_dice_cuantas_imagenes_lleva_por_la_red_preentrenada(pasada):
    for cuantas in (88, 8, 48):  # train, validación y test
        assert re.search(rf"^  {cuantas} de {cuantas} imágenes", pasada.salida, re.MULTILINE)


def test_otra_pasada_igual_da_lo_mismo_y_figuras_es_lo_unico_que_escribe(pasada, tmp_path):
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
        ("2", "  Que aprenda: nor", "Que aprenda: de partida", "Que aprenda: normalización"),
        ("2", "2.2 Que no", "Que aprenda: normalización", "Que no memorice"),
        ("2", "2.3 La red final", "Que no memorice: aumento de datos", "BaseNet mejorada"),
        ("3", "3.1 ResNet50", None, "ResNet50, solo"),
        ("3", "3.2 Ajuste fino", "ResNet50, sin average pooling", "ResNet50, ajuste"),
        ("bonus", "→ Generalista, 100", "Generalista, 100 clases, con espejo", "destilada"),
    ],
)
def test_ctrl_c_en_cada_etapa_imprime_lo_medido_y_termina_con_130(
    apartado, senal, medido, sin_medir, tmp_path
):
    escenario = Escenario(tmp_path / "corte")
    antes = instantanea(escenario.mundo)
    orden = escenario.orden("--apartados", apartado, "--semilla", "8", epocas=2)
    codigo, salida = escenario.interrumpir(orden, senal)
    assert codigo == 130
    assert "semilla 8" in salida
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
    (linea,) = proceso.stderr.splitlines()  # ni siquiera las que TensorFlow escribe al arrancar
    assert linea.startswith("Error: ")


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


ORIGEN = ("datos", "pesos")
CIFRAS_DE_LA_MEMORIA = {
    "medida": (0.5, 0.01, ORIGEN),
    "otra": (0.5, 0.002, ORIGEN),
    "sin dispersión": (0.5, None, ORIGEN),
}


@pytest.fixture
def memoria(monkeypatch):
    """Una memoria de tres filas, con la dispersión medida en dos."""
    monkeypatch.setattr(p, "MEMORIA", CIFRAS_DE_LA_MEMORIA)


def test_el_resumen_dice_cuantas_filas_se_esperan_fuera_por_azar(memoria, capsys):
    filas = []
    for experimento in [*CIFRAS_DE_LA_MEMORIA, "desconocida"]:
        filas.append(p.Resultado("1", experimento, val=0.5, test=0.52, origen=ORIGEN))
    filas.append(p.Resultado("1", "medida", test=0.5, origen=("otros datos", "pesos")))
    p.imprimir_resultados(filas)
    _, _, *tabla = capsys.readouterr().out.splitlines()
    esperados = ("dentro", "fuera", "+2,00", "", "datos")
    for linea, termina in zip(tabla, esperados):
        assert linea.endswith(termina), linea
    # Solo cuentan las filas de los mismos datos con la dispersión medida: una de cada veinte.
    explicacion = " ".join(tabla[len(esperados) :])
    assert re.search(r"veredicto: 2;.* fuera: 0,1\b", explicacion)


def test_sin_filas_comparables_no_se_habla_de_azar(memoria, capsys):
    p.imprimir_resultados([p.Resultado("1", "sin dispersión", test=0.52, origen=ORIGEN)])
    assert "azar" not in capsys.readouterr().out


def test_el_resumen_avisa_de_una_pasada_rapida_y_de_una_a_medias(capsys):
    for alcance, completo in ((p.COMPLETO, True), (p.RAPIDO, True), (p.RAPIDO, False)):
        p.imprimir_resumen(p.Sesion(7, alcance, p.RESNET50, segundos=70), completo)
        salida = capsys.readouterr().out
        assert ("Pasada RÁPIDA" in salida) == (alcance is p.RAPIDO)
        assert ("RESUMEN PARCIAL" in salida) != completo
        assert "semilla 7 · 1:10 en total" in salida


@pytest.mark.parametrize(
    "hechas, pendientes, segundos, dice",
    [
        (["1"], ["2", "3"], 120, "unos 30 minutos (partes: 2, 3)"),  # dice poco del ritmo
        (["1", "2"], ["3"], 1320, "unos 40 minutos (partes: 3)"),  # dos veces lo previsto
        ([], ["1", "2", "3"], 0, "unos 31 minutos (partes: 1, 2, 3)"),
        (["1", "2"], ["3"], 30, "un minuto o menos (partes: 3)"),
    ],
)
def test_lo_que_falta_son_los_minutos_previstos_al_ritmo_que_se_lleva(
    hechas, pendientes, segundos, dice, capsys
):
    p.imprimir_lo_que_falta({"1": 1, "2": 10, "3": 20}, hechas, pendientes, segundos)
    assert capsys.readouterr().out.strip().endswith(dice)


def test_los_minutos_previstos_del_apartado_3_dependen_de_cuantas_aves_haya():
    sesion = p.Sesion(7, p.COMPLETO, p.RESNET50)
    assert p.minutos_previstos(sesion) == p.MINUTOS
    mitad = p.Conjunto(np.zeros(p.AVES_DE_LOS_MINUTOS // 2), None)
    vacio = p.Conjunto(np.zeros(0), None)
    sesion.aves = p.Datos(mitad, vacio, vacio, (), ())
    assert p.minutos_previstos(sesion) == p.MINUTOS | {"3": p.MINUTOS["3"] / 2}
    rapida = p.Sesion(7, p.RAPIDO, p.RESNET50)
    assert sum(p.minutos_previstos(rapida).values()) < 5


def test_las_pausas_no_esperan_si_nadie_puede_pulsar_una_tecla(monkeypatch, capsys):
    monkeypatch.setattr(p.PRESENTACION, "esperar_tecla", True)
    monkeypatch.setattr(sys, "stdin", None)
    p.nueva_figura("Lámina")
    p.pausa("fin")
    assert "Lámina" in capsys.readouterr().out
    assert not p.plt.get_fignums()
