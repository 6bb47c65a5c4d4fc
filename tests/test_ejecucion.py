"""El script entero, como lo ejecuta una persona: lo que imprime, lo que escribe y cómo termina."""

import io
import json
import os
import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import Mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from arranque import achicar, red_diminuta
from conftest import MIXTAS, RAIZ, Escenario, escribir_cifar, instantanea
from jupyter_client.manager import start_new_kernel
from matplotlib.backends import backend_agg
from scipy.stats import binomtest

import practica2 as p

APARTADOS = {
    "1": "BaseNet",
    "2": "Que aprenda: de partida · Que aprenda: normalización · Que no memorice: de partida · "
    "Que no memorice: aumento de datos · BaseNet mejorada · BaseNet mejorada, con espejo",
    "3.1.A": "ResNet50, solo la salida · ResNet50, nueva FC y salida · ResNet50, SVM lineal · "
    "ResNet50, discriminante lineal · ResNet50, random forest",
    "3.1.B": "ResNet50, sin average pooling",
    "3.2": "ResNet50, ajuste fino · ResNet50, ajuste fino, con espejo",
    "Bonus": "Generalista, 100 clases, con espejo · Generalista, 25 clases, con espejo · "
    "Comité, 25 clases, con espejo · Alumna de las dos, con espejo",
}
FILAS = [(parte, e) for parte, suyos in APARTADOS.items() for e in suyos.split(" · ")]
EXPERIMENTOS = [nombre for _, nombre in FILAS]
PARTES = "APARTADO 1", "APARTADO 2", "APARTADO 3", "BONUS"
PAUSAS = [
    "1.1: la red y los datos",
    "1.2: resultados de BaseNet",
    "2.1: que aprenda",
    "2.2: que no memorice",
    "2.3: resultados de la red mejorada",
    "3: los datos",
    "3.1: cabezas sobre la red congelada",
    "3.2: ajuste fino",
    "Bonus: la generalista",
    "Bonus: la alumna",
]
CIFAR_SINTETICO = "CIFAR-100 SINTÉTICO · figuras dibujadas"
AVES_SINTETICAS = "aves SINTÉTICAS · 4 especies de figuras dibujadas · pesos ALEATORIOS"


def resumen(salida):
    """Lo que la salida dice desde RESUMEN hasta el final."""
    return salida.split("\nRESUMEN")[-1]


def experimentos_de(salida):
    """Los experimentos de la tabla de RESUMEN, en orden."""
    _, *tabla = re.split(r"^-+\n", resumen(salida), flags=re.MULTILINE)
    return [re.split(r" {2,}", linea)[1] for linea in "".join(tabla).splitlines()]


@pytest.fixture
def filas(pasada):
    return {fila["experimento"]: fila for fila in pasada.filas}


def aciertos(fila, particion):
    """De las imágenes de una partición, su clase, lo que da de ellas el experimento y si acierta:
    las sintéticas van por clases, y hay tantas de una como de otra."""
    prob = np.array(fila[f"prob_{particion}"])
    assert "SVM" in fila["experimento"] or np.allclose(prob.sum(1), 1, atol=1e-3)
    y = np.repeat(np.arange(prob.shape[1]), len(prob) // prob.shape[1])
    return y, prob, prob.argmax(1) == y


@pytest.fixture
def escenario(tmp_path):
    return Escenario(tmp_path / "escenario")


# --- La pasada entera: entrada cerrada, sin pantalla, sin red y desde otra carpeta ---------------


def test_termina_bien_pasa_por_todos_los_experimentos_y_no_escribe_nada(pasada, filas):
    assert pasada.codigo == 0, pasada.errores
    assert [(filas[nombre]["apartado"], nombre) for nombre in filas] == FILAS
    assert pasada.escrituras == [] and pasada.nuevos == set()


def test_no_se_cuela_ninguna_linea_de_las_bibliotecas(pasada):
    assert pasada.errores == ""
    # De Keras son solo las líneas con las que sigue un entrenamiento y model.summary.
    de_keras = r" ?(Epoch \d|\d+/\d+ - |Model: |[┏┃┡│├└]|.*params: |Downloading data from )"
    propias = [linea for linea in pasada.salida.splitlines() if not re.match(de_keras, linea)]
    ajenas = r"(?i)warning|onednn|sklearn|0000 00|/site-packages|\b(the|is|of|to)\b"
    assert len(propias) > 100 and not re.search(ajenas, "\n".join(propias))


def test_el_resumen_dice_la_maquina_la_semilla_los_datos_y_lo_que_devuelve_main(pasada, capsys):
    p.imprimir_tabla([p.Resultado(**f | {"origen": tuple(f["origen"])}) for f in pasada.filas])
    tabla, final = capsys.readouterr().out, resumen(pasada.salida)
    assert experimentos_de(pasada.salida) == EXPERIMENTOS and final.endswith(f"\n{tabla}")
    cpuinfo = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    precision = p.elegir_precision(bool(tf.config.list_physical_devices("GPU")), cpuinfo)
    versiones = f"TensorFlow {tf.__version__} · Keras {keras.__version__} · NumPy {np.__version__}"
    maquina = rf"^Python {sys.version.split()[0]} · {versiones} · .*\d núcleos.* · {precision}"
    assert re.search(rf"{maquina} · semilla 7 · 0:\d\d:\d\d en total$", final, re.MULTILINE)
    assert f"Apartados 1, 2 y Bonus: {CIFAR_SINTETICO}\nApartado 3: {AVES_SINTETICAS}\n" in final
    assert "Pasada RÁPIDA" not in final and " ± " not in final  # otros datos que en la memoria


@pytest.mark.parametrize("experimento", EXPERIMENTOS)
def test_las_cifras_de_cada_fila_son_las_de_sus_probabilidades(experimento, filas):
    fila = filas[experimento]
    assert fila["val"] == pytest.approx(aciertos(fila, "val")[2].mean())
    if experimento.startswith("Que "):  # los pasos no se miden en test
        assert fila["test"] is fila["prob_test"] is fila["perdida"] is None
        assert fila["train"] is not None
        return
    y, prob, acierta = aciertos(fila, "test")
    de_la_cierta = prob[np.arange(len(y)), y]
    assert fila["test"] == pytest.approx(acierta.mean())
    perdida = None if "SVM" in experimento else -np.log(de_la_cierta.clip(2.2e-16)).mean()
    assert fila["perdida"] == (perdida and pytest.approx(perdida, rel=1e-3))
    confusion = np.zeros([prob.shape[1]] * 2)
    np.add.at(confusion, (y, prob.argmax(1)), 1)
    assert fila["detalles"]["confusion"] == confusion.tolist()


def test_las_curvas_dicen_la_epoca_en_la_que_queda_la_red_que_se_mide(pasada, filas):
    (dicha,) = re.findall(r"época con más aciertos en validación: la (\d)\.", pasada.salida)
    for nombre, fila in filas.items():
        curvas = fila["detalles"].get("curvas", {})
        assert {len(curva) for curva in curvas.values()} == {fila["epocas"]} - {None}, nombre
        if curvas and "espejo" not in nombre:
            val = curvas["val_accuracy"]
            epoca = int(np.argmax(val)) if nombre == "BaseNet" else -1
            assert fila["val"] == pytest.approx(val[epoca]), nombre
            assert nombre != "BaseNet" or dicha == str(epoca + 1)


def test_las_diferencias_y_las_comparaciones_son_las_de_sus_filas(pasada, filas):
    for antes, despues in (EXPERIMENTOS[1:3], EXPERIMENTOS[3:5]):
        diferencia = filas[despues]["val"] - filas[antes]["val"]
        assert filas[despues]["detalles"]["diferencia"] == pytest.approx(diferencia)
        puntos = re.escape(p.decimal(100 * diferencia, signo="+"))
        assert re.search(rf"→ {despues} .*\n  {puntos} puntos en validación\.", pasada.salida)
    patron = r"  (.*) frente a (.*): (.*) puntos en test; McNemar, p (.*)\."
    dichas = re.findall(patron, pasada.salida)
    assert len(dichas) == pasada.salida.count(" frente a ") == 6
    for una, otra, *dicha in dichas:
        (y, _, acierta), (_, _, rival) = (aciertos(filas[nombre], "test") for nombre in (una, otra))
        sola, sola_la_otra = (acierta & ~rival).sum(), (rival & ~acierta).sum()
        distintas = sola + sola_la_otra
        valor_p = binomtest(sola, distintas).pvalue if distintas else 1.0
        guardada = {"diferencia": (sola - sola_la_otra) / len(y), "p": valor_p}
        assert filas[una]["detalles"][f"{una} frente a {otra}"] == pytest.approx(guardada)
        dicha_p = f"= {p.decimal(valor_p, 4)}" if valor_p >= 0.0001 else "< 0,0001"
        assert dicha == [p.decimal(100 * guardada["diferencia"], signo="+"), dicha_p]


def test_cada_parte_dice_sus_datos_y_termina_en_una_pausa_que_nombra_las_figuras(pasada):
    partes = re.split(r"\n=+\n(?=APARTADO|BONUS|RESUMEN)", pasada.salida)[1:-1]
    for texto, nombre in zip(partes, PARTES, strict=True):
        cabecera, origen, *_, pausa, figuras = texto.rstrip().splitlines()
        assert cabecera.startswith(nombre)
        assert origen == f"[{AVES_SINTETICAS if '3' in nombre else CIFAR_SINTETICO}]"
        assert pausa.startswith("Pausa · ") and "Sin pantalla; figuras: " in figuras
    assert re.findall("^Pausa · (.*)", pasada.salida, re.MULTILINE) == PAUSAS


AJENO = {"backend": "torch", "image_data_format": "channels_first", "floatx": "float16"}


def test_con_otra_configuracion_da_las_mismas_cifras_y_solo_escribe_figuras(pasada, escenario):
    """keras.json y matplotlibrc de otros trabajos, un MPLBACKEND que no existe y la salida de
    errores y la entrada cerradas."""
    (escenario.carpeta / "keras/keras.json").write_text(json.dumps(AJENO))
    (escenario.carpeta / "matplotlib/matplotlibrc").write_text("text.usetex: True\n")
    delante = ["env", "MPLBACKEND=no_existe", "sh", "-c", 'exec "$@" 2>&-', "sh"]
    otra = escenario.ejecutar("--apartados", "1,3", "--figuras", "laminas", delante=delante)
    assert otra.codigo == 0
    # Las mismas, aunque no vaya delante la parte 2.
    suyas = [fila | {"segundos": 0} for fila in pasada.filas if fila["apartado"][0] in "13"]
    assert [fila | {"segundos": 0} for fila in otra.filas] == suyas
    laminas = {fichero.name for fichero in (escenario.trabajo / "laminas").iterdir()}
    anunciadas = re.findall("Sin pantalla; figuras: (.*)", otra.salida)
    assert len(laminas) == len(" · ".join(anunciadas).split(" · ")) == 4
    assert otra.nuevos == {f"trabajo/laminas/{nombre}" for nombre in laminas}
    assert {os.path.basename(ruta) for ruta in otra.escrituras} == {"laminas", *laminas}


# --- main en este proceso ------------------------------------------------------------------------


def fit_de_mentira(modelo, *_, callbacks, epochs, **__):
    """Hace de fit, sin entrenar."""
    for callback in callbacks:
        callback.on_train_begin()
    medidas = ("loss", "accuracy", "val_loss", "val_accuracy")
    callbacks[0].history = dict.fromkeys(medidas, [1.0] * epochs)


@pytest.fixture
def sin_calcular(monkeypatch):
    """Ninguna red calcula: el script da cifras sin sentido, pero al momento."""

    def predict(modelo, x, **_):
        return np.random.default_rng(0).random((len(x), *modelo.output_shape[1:]))

    monkeypatch.setattr(keras.Model, "fit", fit_de_mentira)
    monkeypatch.setattr(keras.Model, "predict", predict)


@pytest.fixture
def correr(monkeypatch, capsys):
    """Función que ejecuta el script achicado, con otros valores en lugar de algunos suyos, y da su
    código y lo que imprime. No compila los entrenamientos: así tardan menos."""

    def ejecutar(orden="", red=red_diminuta, **sustitutos):
        achicar(p, 1, monkeypatch.setattr, red)
        for nombre, valor in sustitutos.items():
            monkeypatch.setattr(p, nombre, valor)
        return p.ejecutar(orden.split()), *capsys.readouterr()

    tf.config.run_functions_eagerly(True)
    yield ejecutar
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize("precision", ["float32", *MIXTAS])
def test_las_cuatro_partes_usan_la_precision_anunciada(precision, correr, sin_calcular):
    """Seguidas, en un mismo main. De paso, ningún entrenamiento recibe los datos de test, y cada
    figura dice de qué datos y pesos es."""
    partes, titulo, pausa, entrenar, predecir = [], p.titulo, p.pausa, p.entrenar, p.predecir

    def apuntar(modelo):
        partes[-1][1].append(modelo)
        return modelo

    def apuntar_y_entrenar(construir, datos, *resto, **opciones):
        sin_test = datos._replace(test=None)
        return entrenar(lambda: apuntar(construir()), sin_test, *resto, **opciones)

    def mirar_figuras(texto):
        figuras = [p.plt.figure(numero) for numero in p.plt.get_fignums()]
        partes[-1][2].extend(figura.get_suptitle() for figura in figuras)
        pausa(texto)

    codigo, salida, errores = correr(
        elegir_precision=lambda *_: precision,
        entrenar=apuntar_y_entrenar,
        predecir=lambda modelo, *resto: predecir(apuntar(modelo), *resto),
        titulo=lambda texto, *resto: (partes.append((texto, [], [])), titulo(texto, *resto)),
        pausa=mirar_figuras,
    )
    assert (codigo, errores) == (0, "") and experimentos_de(salida) == EXPERIMENTOS
    assert f" · {precision} · semilla 7" in resumen(salida) and partes[-1] == ("RESUMEN", [], [])
    for nombre, (texto, modelos, rotulos) in zip(PARTES, partes):
        etiqueta = AVES_SINTETICAS if nombre == "APARTADO 3" else CIFAR_SINTETICO
        assert texto.startswith(nombre) and rotulos
        assert all(rotulo.endswith(f"\n[{etiqueta}]") for rotulo in rotulos), rotulos
        capas = [capa for modelo in modelos for capa in modelo._flatten_layers() if capa.weights]
        en_float32, demas = set(), set()
        for capa in (capa for capa in capas if not isinstance(capa, keras.Model)):
            salida = getattr(capa, "activation", None) is keras.activations.softmax
            (en_float32 if salida else demas).add(capa.compute_dtype)
        assert (en_float32, demas) == ({"float32"}, {precision.removeprefix("mixed_")}), nombre


@pytest.mark.parametrize("numero, medidos", [(1, 0), (3, 2), (6, 5), (11, 15)])
def test_ctrl_c_imprime_lo_medido_y_da_130(numero, medidos, correr, sin_calcular, monkeypatch):
    hechos = []

    def fit_o_cortar(*argumentos, **opciones):
        hechos.append(fit_de_mentira(*argumentos, **opciones))
        if len(hechos) == numero:
            raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "fit", fit_o_cortar)
    codigo, salida, errores = correr("--semilla 8")
    assert (codigo, errores) == (130, "Interrumpido con Ctrl-C.\n")
    assert "RESUMEN PARCIAL" in salida and " · semilla 8 · " in resumen(salida)
    assert experimentos_de(salida) == EXPERIMENTOS[:medidos]


def test_un_ctrl_c_de_verdad_corta_un_entrenamiento(escenario):
    antes = instantanea(escenario.mundo)
    orden = escenario.orden("--apartados", "1", epocas=500)
    codigo, salida = escenario.interrumpir(orden, "Epoch 3/500")
    assert codigo == 130, salida
    assert "Traceback" not in salida and "RESUMEN PARCIAL" in salida
    assert salida.rstrip().endswith("Interrumpido con Ctrl-C.")
    assert instantanea(escenario.mundo) == antes


def desbordada(**opciones):
    """Una red cuyos mapas no caben en float16."""
    modelo = red_diminuta(**opciones)
    modelo.set_weights([1e6 * peso for peso in modelo.get_weights()])
    return modelo


NO_FINITOS = {"1": "en la época 1, la pérdida es ", "3": "lo que da una red .* no cabe en float16"}


@pytest.mark.parametrize("precision", ["float32", *MIXTAS])
@pytest.mark.parametrize("apartado", NO_FINITOS)
def test_lo_que_no_es_un_numero_termina_con_1_y_una_linea(apartado, precision, correr):
    cambios = {"TASA_ADAM": 1e38, "elegir_precision": lambda *_: precision}  # BaseNet diverge
    codigo, salida, errores = correr(f"--apartados {apartado}", desbordada, **cambios)
    assert codigo == 1 and "RESUMEN PARCIAL" in salida and experimentos_de(salida) == []
    assert re.fullmatch(rf"Error de cálculo: {NO_FINITOS[apartado]}.*\.\n", errores)


MALAS = ("--nada", "sobra", "--semilla siete", "--semilla -1", f"--semilla {2**32}", "--rapido=no")
MALAS += ("--apartados 4", "--apartados 1,,2", "--figuras ajena", f"--figuras {__file__}", "")


@pytest.mark.parametrize("orden", MALAS)
def test_una_entrada_incorrecta_termina_con_2_y_una_linea(orden, correr, aislado, monkeypatch):
    (escribir_cifar(aislado) / "train").write_bytes(b"\x80\x04}q\x00(C\x04da")  # cortado
    monkeypatch.chdir(aislado.parent)
    monkeypatch.setattr(os, "access", lambda ruta, _: "ajena" not in str(ruta))  # aun como root
    codigo, _, errores = correr(orden, entrenar=None)  # antes de entrenar nada
    dice = Path(orden).name.split()[-1 if "figuras" in orden else 0] if orden else "train"
    assert codigo == 2 and re.fullmatch(f"Error: .*{dice.split('=')[0]}: .*\n", errores)


@pytest.mark.parametrize(
    "orden, lanza, codigo",
    [("--nada", None, 2), ("", FloatingPointError, 1), ("", KeyboardInterrupt, 130)],
)
def test_python_practica2_sale_con_ese_codigo(orden, lanza, codigo, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["practica2.py", *orden.split()])
    monkeypatch.setattr(keras.utils, "set_random_seed", Mock(side_effect=lanza))
    monkeypatch.setattr(os, "_exit", Mock(side_effect=SystemExit("sin cerrar TensorFlow")))
    with pytest.raises(SystemExit) as fin:
        runpy.run_path(str(RAIZ / "practica2.py"), run_name="__main__")
    assert fin.value.code == (codigo if codigo != 130 else "sin cerrar TensorFlow")
    assert [llamada.args for llamada in os._exit.mock_calls] == [(130,)] * (codigo == 130)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_la_ayuda_termina_con_0_y_nombra_cada_opcion(capsys):
    with pytest.raises(SystemExit, match="0"):
        p.ejecutar(["--help"])
    ayuda = capsys.readouterr().out
    for opcion in ("--help", "--rapido", "--pausas", "--semilla N", "--apartados", "--figuras"):
        assert opcion in ayuda


# --- Cómo lo empieza una persona -----------------------------------------------------------------


def sin_lo_de_keras_3(modulo, **otros):
    de_la_3 = ("config", "ops", "random", "PyDataset")
    return SimpleNamespace(**{k: v for k, v in vars(modulo).items() if k not in de_la_3} | otros)


# Con otro nombre, para que no se encuentre lo que falta en sys.modules, donde está el de la 3.
KERAS_2 = sin_lo_de_keras_3(keras, __name__="keras_2", utils=sin_lo_de_keras_3(keras.utils))


@pytest.mark.parametrize(
    "modulo, otro", [("keras", KERAS_2), ("tensorflow", None), ("sklearn.svm", None)]
)
def test_sin_lo_que_importa_dice_como_instalarlo(modulo, otro, monkeypatch):
    monkeypatch.setitem(sys.modules, modulo, otro)
    with pytest.raises(SystemExit) as fin:
        runpy.run_path(str(RAIZ / "practica2.py"), run_name="__main__")
    assert re.fullmatch("Error: .*(keras|tensorflow|sklearn).*; pip install.*", fin.value.code)


PEGADO = """
import os, sys
os.environ["PRACTICA2_IMAGENES"] = "no_existe"
try:
    exec(open("practica2.py").read())
except SystemExit as fin:
    print(sys.argv[1:2], "sale con", fin.code)
"""


def test_en_un_cuaderno_se_ven_las_figuras_y_se_puede_pegar_en_una_celda(escenario, monkeypatch):
    """%run en un núcleo de verdad, recién empezado; y después, el texto ejecutado en una celda."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(escenario.carpeta / "salida"))
    escribir_cifar(escenario.proyecto / "imagenes")
    nucleo, cliente = start_new_kernel(env=escenario.entorno(), cwd=str(escenario.proyecto))
    imagenes, textos = [], []
    try:
        for celda in ("%run practica2.py --rapido --apartados 1", PEGADO):
            textos.append({"stdout": "", "stderr": ""})

            def recibir(mensaje):
                contenido = mensaje["content"]
                if mensaje["msg_type"] == "stream":
                    textos[-1][contenido["name"]] += contenido["text"]
                imagenes.extend(tipo for tipo in contenido.get("data", ()) if "image" in tipo)

            cliente.execute_interactive(celda, timeout=300, output_hook=recibir)
    finally:
        cliente.stop_channels()
        nucleo.shutdown_kernel(now=True)
    con_run, pegado = textos
    assert imagenes == ["image/png"] * 2
    assert con_run["stderr"] == "" and "Sin pantalla" not in con_run["stdout"]
    assert experimentos_de(con_run["stdout"]) == ["BaseNet"]
    assert "Pasada RÁPIDA" in con_run["stdout"] and "Epoch 3/3" in con_run["stdout"]
    # Las opciones del núcleo, que están en sys.argv, no son del script.
    assert re.fullmatch("Error: PRACTICA2_IMAGENES=no_existe: .*\n", pegado["stderr"])
    assert pegado["stdout"].endswith("['-f'] sale con 2\n")


PANTALLA = ModuleType("pantalla_de_prueba")  # como la de un cuaderno o un entorno de desarrollo
PANTALLA.FigureCanvas = type("FigureCanvas", (backend_agg.FigureCanvasAgg,), {})


@pytest.mark.parametrize("en_cuaderno", [True, False])
def test_con_python_en_una_celda_no_se_dibuja_en_el_cuaderno(en_cuaderno, monkeypatch):
    modo = "module://matplotlib_inline.backend_inline"
    monkeypatch.setenv("MPLBACKEND", modo)  # lo hereda quien se ejecuta con !python
    if en_cuaderno:
        monkeypatch.setattr(sys, "ps1", "In: ", raising=False)
    script = runpy.run_path(str(RAIZ / "practica2.py"))
    assert script["MODO_FIGURAS"] == (modo if en_cuaderno else "agg")


@pytest.mark.parametrize(
    "modo, ventana, dice",
    [
        ("module://no_instalado.backend", None, "Sin figuras en pantalla.*MPLBACKEND"),
        ("no_existe", None, "Sin figuras en pantalla.*MPLBACKEND"),
        ("svg", None, "Sin pantalla; figuras: Lámina"),
        ("module://pantalla_de_prueba", None, "se enseña\n$"),
        ("module://pantalla_de_prueba", "qt", "se ve 3.0 s\n$"),
    ],
)
def test_las_figuras_se_ensenan_y_se_guardan(modo, ventana, dice, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pantalla_de_prueba", PANTALLA)
    monkeypatch.setattr(p.plt, "show", lambda: print("se enseña"))
    monkeypatch.setattr(p.plt, "pause", lambda segundos: print(f"se ve {segundos} s"))
    monkeypatch.setitem(p.PRESENTACION, "carpeta", tmp_path)
    monkeypatch.setattr(p, "MODO_FIGURAS", modo)
    try:
        p.preparar_entorno(7)
        monkeypatch.setattr(PANTALLA.FigureCanvas, "required_interactive_framework", ventana)
        p.mostrar_rejilla("Lámina", np.zeros((2, 4, 4, 3)), [r"ave $\nada$", "a_b^c {"])
        p.pausa("fin")
    finally:
        p.plt.switch_backend("agg")
    assert re.search(dice, capsys.readouterr().out)
    assert (tmp_path / "lámina.png").read_bytes().startswith(b"\x89PNG")


ALGUIEN = SimpleNamespace(isatty=lambda: True)
CON_CADA = [("", ALGUIEN, 0), ("--pausas", ALGUIEN, 2), ("--pausas", io.StringIO(), 0)]


@pytest.mark.parametrize("pausas, entrada, esperas", [*CON_CADA, ("--pausas", None, 0)])
def test_solo_con_pausas_se_espera(pausas, entrada, esperas, correr, sin_calcular, monkeypatch):
    tecla = Mock(side_effect=EOFError)  # Ctrl-D también continúa
    monkeypatch.setattr(sys, "stdin", entrada)
    monkeypatch.setattr("builtins.input", tecla)
    assert correr(f"--apartados 1 {pausas}")[0] == 0
    assert tecla.call_count == esperas


def test_la_precision_la_decide_lo_que_la_maquina_sabe_hacer(monkeypatch):
    for onednn, con_gpu, banderas, precision in (
        ("1", True, "fpu avx2", "mixed_float16"),
        ("1", False, "fpu avx512_bf16 fma", "mixed_bfloat16"),
        ("1", False, "fpu amx_bf16", "mixed_bfloat16"),
        ("1", False, "fpu avx512f", "float32"),
        ("0", False, "fpu avx512_bf16 amx_bf16", "float32"),  # sin lo que los aprovecha
    ):
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", onednn)
        assert p.elegir_precision(con_gpu, f"flags : {banderas}\n") == precision


def test_los_numeros_se_escriben_en_espanol():
    decimales = p.decimal(24197, 0), p.decimal(1234.567), p.decimal(2, signo="+")
    assert decimales == ("24.197", "1.234,57", "+2,00")
    otros = p.porcentaje(0.45678), p.duracion(59.6), p.duracion(3725)
    assert otros == ("45,68 %", "0:01:00", "1:02:05")


CIFAR, AVES = "CIFAR-100, 60.000 imágenes de 100 clases", "aves, 5.902 imágenes de 100 especies"


def test_la_tabla_queda_alineada_y_la_memoria_solo_va_con_sus_datos_y_pesos(monkeypatch, capsys):
    monkeypatch.setattr(p, "MEMORIA", {"BaseNet": (0.4518, 0.0104), "ajuste": (0.8412, 0.0019)})
    basenet = p.Resultado("1", "BaseNet", 24197, 30, 61.0, None, 0.5, 1.0, 2.3456)
    ajuste = p.Resultado("3.2", "ajuste", 7, test=0.0512)
    filas = [
        replace(basenet, origen=(CIFAR, "de cifar-100-python")),
        replace(basenet, origen=(CIFAR.replace("60", "4"), "de cifar-100-python")),
        replace(basenet, origen=(CIFAR, "de cifar-100-python"), experimento="otro"),
        replace(ajuste, origen=(AVES, "de otra carpeta", p.AVES_MEMORIA[1])),
        replace(ajuste, origen=(AVES, "de otra carpeta", "pesos de ImageNet")),
        replace(ajuste, origen=(AVES.replace("100", "200"), "de otra carpeta", p.AVES_MEMORIA[1])),
    ]
    p.imprimir_tabla(filas)
    titulos, raya, *escritas = capsys.readouterr().out.splitlines()
    assert re.search(" Test +Memoria +Pérdida$", titulos) and set(raya) == {"-"}
    de_basenet = "1|{}|24.197|30|0:01:01|—|50,00 %|100,00 %|{}|2,346".format
    del_ajuste = "3.2|ajuste|7|—|—|—|—|5,12 %|{}|—".format
    assert [re.sub(" {2,}", "|", escrita) for escrita in escritas] == [
        de_basenet("BaseNet", "45,2 ± 1,0"),
        de_basenet("BaseNet", "—"),
        de_basenet("otro", "—"),
        del_ajuste("84,1 ± 0,2"),
        del_ajuste("—"),
        del_ajuste("—"),
    ]
    celdas = [[*re.finditer(r"\S( ?\S)*", linea)] for linea in (titulos, *escritas)]
    principios = {tuple(celda.start() for celda in suyas[:2]) for suyas in celdas}
    finales = {tuple(celda.end() for celda in suyas[2:]) for suyas in celdas}
    assert len(principios) == len(finales) == 1 and {len(raya)} == {max(*fin) for fin in finales}
