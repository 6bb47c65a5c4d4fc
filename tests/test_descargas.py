"""Las descargas, de un servidor que se cuelga, corta o manda otra cosa, y las máquinas sin red."""

import hashlib
import http.server
import os
import shutil
import socket
import ssl
import struct
import tarfile
import threading
import time
import urllib.error
import urllib.request

import keras
import numpy as np
import pytest
from conftest import escribir_aves, escribir_cifar, rechazo

import practica2 as p

HAY_CONEXION = p.hay_conexion  # la de verdad: conftest la sustituye en cada prueba
CONTENIDO = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(CONTENIDO).hexdigest()
SHA256 = hashlib.sha256(CONTENIDO).hexdigest()
PAGINA = b"<html>Acepte las condiciones de la wifi</html>"


class Servidor(http.server.ThreadingHTTPServer):
    """Sirve CONTENIDO; cada petición hace lo que toca del guion, que acaba por repetirse."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Peticion)
        self.guion = ["entero"]
        self.pedidas = []  # el primer byte que pide cada petición
        self.contenido = CONTENIDO

    def url(self, nombre="a.h5"):
        return f"http://127.0.0.1:{self.server_port}/{nombre}"


class Peticion(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        guion = self.server.guion
        hacer = guion.pop(0) if len(guion) > 1 else guion[0]
        desde = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.server.pedidas.append(desde)
        contenido = self.server.contenido
        if hacer == "cuelga":
            time.sleep(2)
        elif hacer == "404":
            self.send_error(404)
        elif hacer == "503":
            self.send_error(503)
        elif hacer == "página":
            self.cabecera(200, len(PAGINA))
            self.wfile.write(PAGINA)
        elif hacer == "no sabe reanudar":
            self.cabecera(200, len(contenido))
            self.wfile.write(contenido)
        elif hacer == "otra cosa":
            self.cabecera(200, len(contenido))
            self.wfile.write(contenido[::-1])
        elif desde >= len(contenido):
            self.send_error(416)
        else:
            self.cabecera(206, len(contenido) - desde, desde)
            trozo = contenido[desde:]
            if hacer != "entero":
                trozo = trozo[:50_000]
            self.wfile.write(trozo)
            self.wfile.flush()
            if hacer == "50 KB y cuelga":
                time.sleep(2)
            elif hacer == "50 KB y reinicia":
                linger = struct.pack("ii", 1, 0)  # con cero segundos, cerrar manda un RST
                time.sleep(0.1)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True

    def cabecera(self, codigo, largo, desde=None):
        self.send_response(codigo)
        self.send_header("Content-Length", str(largo))
        if desde is not None:
            total = len(self.server.contenido)
            self.send_header("Content-Range", f"bytes {desde}-{total - 1}/{total}")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def servidor(monkeypatch):
    """Un Servidor en marcha, con red y sin esperas largas."""
    monkeypatch.setattr(p, "hay_conexion", lambda url: True)
    monkeypatch.setattr(p, "ESPERA_DESCARGA", 0.4)
    monkeypatch.setattr(p, "PAUSA_INTENTO", 0.001)
    for variable in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    nuevo = Servidor()
    threading.Thread(target=nuevo.serve_forever, args=(0.02,), daemon=True).start()
    yield nuevo
    nuevo.shutdown()
    nuevo.server_close()


def descargar(servidor, huella=MD5):
    return p.descargar([servidor.url()], huella, "models")


@pytest.mark.parametrize("huella", [MD5, SHA256], ids=["MD5", "SHA-256"])
def test_una_descarga_se_hace_una_vez_y_se_comprueba(huella, servidor):
    for _ in range(2):
        fichero = descargar(servidor, huella)
        assert fichero.read_bytes() == CONTENIDO
    assert servidor.pedidas == [0]
    assert [f.name for f in fichero.parent.iterdir()] == ["a.h5"]


@pytest.mark.parametrize("fallo", ["50 KB y corta", "50 KB y cuelga", "50 KB y reinicia"])
def test_una_descarga_que_se_corta_se_reanuda_y_no_empieza_otra_vez(fallo, servidor):
    servidor.guion = [fallo, fallo, "entero"]
    assert descargar(servidor).read_bytes() == CONTENIDO
    assert servidor.pedidas == [0, 50_000, 100_000]


@pytest.mark.parametrize("fallo", ["cuelga", "404", "503", "página", "otra cosa"])
def test_un_servidor_que_falla_un_rato_no_detiene_la_descarga(fallo, servidor):
    servidor.guion = [fallo, fallo, "entero"]
    assert descargar(servidor).read_bytes() == CONTENIDO


def test_mientras_avance_se_insiste_mas_de_lo_que_se_insiste_sin_avanzar(servidor, monkeypatch):
    monkeypatch.setattr(p, "INTENTOS", 2)
    servidor.guion = ["50 KB y corta"]
    assert descargar(servidor).read_bytes() == CONTENIDO
    assert len(servidor.pedidas) == 6


def test_un_servidor_que_no_sabe_reanudar_lo_manda_entero(servidor):
    servidor.guion = ["50 KB y corta", "no sabe reanudar"]
    assert descargar(servidor).read_bytes() == CONTENIDO
    assert servidor.pedidas == [0, 50_000]


@pytest.mark.parametrize("fallo", ["cuelga", "404", "página", "otra cosa"])
def test_si_hay_red_y_no_llega_se_dice_que_bajar_a_mano_y_donde_ponerlo(fallo, servidor, aislado):
    servidor.guion = [fallo]
    mensaje = rechazo(lambda: descargar(servidor))
    assert servidor.url() in mensaje and str(aislado) in mensaje
    assert len(servidor.pedidas) == p.INTENTOS


def test_si_el_servidor_no_contesta_se_dice_igual(servidor, aislado):
    servidor.shutdown()
    servidor.server_close()
    assert str(aislado) in rechazo(lambda: descargar(servidor))


def test_si_una_fuente_falla_se_prueba_la_otra(servidor):
    urls = ["http://127.0.0.1:9/a.h5", servidor.url()]
    assert p.descargar(urls, MD5, "models").read_bytes() == CONTENIDO


def test_lo_que_bajo_una_ejecucion_interrumpida_sirve_a_la_siguiente(servidor, monkeypatch):
    def interrumpir(fichero, trozo):
        fichero.write(trozo)
        raise KeyboardInterrupt

    with monkeypatch.context() as parche, pytest.raises(KeyboardInterrupt):
        parche.setattr(p, "escribir", interrumpir)
        descargar(servidor)
    fichero = descargar(servidor)
    assert fichero.read_bytes() == CONTENIDO and servidor.pedidas[1] > 0


@pytest.mark.parametrize("parte", [CONTENIDO[:700], CONTENIDO + b"sobra", b"otra cosa", CONTENIDO])
def test_lo_que_haya_a_medias_se_completa_o_se_tira(parte, servidor):
    carpeta = p.caches_keras()[0] / "models"
    carpeta.mkdir(parents=True)
    (carpeta / "a.h5.parte").write_bytes(parte)
    assert descargar(servidor).read_bytes() == CONTENIDO


@pytest.mark.parametrize("red", [True, False])
def test_un_fichero_danado_en_la_cache_se_baja_otra_vez_si_hay_red(red, servidor, monkeypatch):
    danado = p.caches_keras()[0] / "models/a.h5"
    danado.parent.mkdir(parents=True)
    danado.write_bytes(CONTENIDO[:700])
    monkeypatch.setattr(p, "hay_conexion", lambda url: red)
    fichero = descargar(servidor)
    assert fichero.read_bytes() == CONTENIDO if red else fichero is None


def test_se_dice_cuanto_lleva_y_cuanto_falta(servidor, monkeypatch, capsys):
    monkeypatch.setattr(p, "AVISO_DESCARGA", 0)
    descargar(servidor)
    salida = capsys.readouterr().out
    assert "Descargando a.h5" in salida and " MB/s · quedan 0:00" in salida


def test_sin_sitio_en_el_disco_se_dice_y_no_se_insiste(servidor):
    if not os.path.exists("/dev/full"):
        pytest.skip("necesita /dev/full")
    carpeta = p.caches_keras()[0] / "models"
    carpeta.mkdir(parents=True)
    (carpeta / "a.h5.parte").symlink_to("/dev/full")
    assert "libere espacio" in rechazo(lambda: descargar(servidor))
    assert len(servidor.pedidas) == 1


def test_un_certificado_que_no_se_puede_comprobar_se_dice_con_su_cura(servidor, monkeypatch):
    def sin_certificados(peticion, timeout):
        raise urllib.error.URLError(
            ssl.SSLCertVerificationError("certificate verify failed: CERTIFICATE_VERIFY_FAILED")
        )

    monkeypatch.setattr(urllib.request, "urlopen", sin_certificados)
    assert "Install Certificates" in rechazo(lambda: descargar(servidor))


# --- Qué es no tener red -------------------------------------------------------------------------


def test_sin_red_no_se_intenta_descargar_y_se_dice(monkeypatch, capsys):
    monkeypatch.setattr(urllib.request, "urlopen", None)
    assert p.descargar([p.AVES_URL], p.AVES_MD5) is None
    assert "Sin red" in capsys.readouterr().out


@pytest.fixture
def sin_proxy(monkeypatch):
    for variable in list(os.environ):
        if variable.lower().endswith("_proxy"):
            monkeypatch.delenv(variable)


def test_que_no_se_resuelva_ningun_nombre_es_no_tener_red(sin_proxy, monkeypatch):
    def fallar(*_):
        raise socket.gaierror(-3, "no hay servidor de nombres")

    monkeypatch.setattr(socket, "getaddrinfo", fallar)
    assert not HAY_CONEXION(p.AVES_URL)


def test_que_no_conteste_ningun_servidor_de_nombres_no_hace_esperar_mas_de_lo_dicho(
    sin_proxy, monkeypatch
):
    monkeypatch.setattr(p, "ESPERA_RED", 0.3)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: time.sleep(3))
    inicio = time.perf_counter()
    assert not HAY_CONEXION(p.AVES_URL)
    assert time.perf_counter() - inicio < 2


def test_un_servidor_de_nombres_lento_no_es_no_tener_red(sin_proxy, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: time.sleep(1))
    assert HAY_CONEXION(p.AVES_URL)


def test_basta_que_se_resuelva_uno_de_los_nombres(sin_proxy, monkeypatch):
    def resolver(servidor, puerto):
        if "toronto" not in servidor:
            raise socket.gaierror(-2, "no existe")

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    assert HAY_CONEXION(p.AVES_URL)


def test_un_servidor_que_no_admite_conexiones_no_es_no_tener_red(sin_proxy, monkeypatch):
    def rechazar(*_, **__):
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", rechazar)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [])
    assert HAY_CONEXION(p.AVES_URL)


def test_un_proxy_del_entorno_es_una_red_y_se_usa(servidor, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert HAY_CONEXION(p.AVES_URL)
    monkeypatch.setenv("http_proxy", servidor.url(""))
    monkeypatch.setattr(urllib.request, "_opener", None)  # lee el entorno la primera vez
    fichero = p.descargar(["http://servidor.invalid/a.h5"], MD5, "models")
    assert fichero.read_bytes() == CONTENIDO


# --- Los datos, enteros, desde su servidor -------------------------------------------------------


def test_cifar_se_descarga_y_se_lee(servidor, monkeypatch, tmp_path):
    archivo = escribir_cifar(tmp_path / "origen", "gz").with_suffix(".tar.gz")
    servidor.contenido = archivo.read_bytes()
    servidor.guion = ["50 KB y corta", "entero"]
    monkeypatch.setattr(p, "CIFAR_URLS", (servidor.url("cifar-100-python.tar.gz"),))
    monkeypatch.setattr(p, "CIFAR_SHA256", hashlib.sha256(servidor.contenido).hexdigest())
    assert p.leer_cifar().origen == ("CIFAR-100 real", "2.300 imágenes")


def test_las_aves_se_descargan_se_descomprimen_y_se_leen(servidor, monkeypatch, tmp_path):
    carpeta = escribir_aves(tmp_path / "origen", "2011").parent
    with tarfile.open(tmp_path / "origen.tgz", "w:gz") as tar:
        tar.add(carpeta, carpeta.name)
    servidor.contenido = (tmp_path / "origen.tgz").read_bytes()
    monkeypatch.setattr(p, "AVES_URL", servidor.url("CUB_200_2011.tgz"))
    monkeypatch.setattr(p, "AVES_MD5", hashlib.md5(servidor.contenido).hexdigest())
    assert p.leer_aves(p.COMPLETO, 7).origen == ("CUB-200-2011 real", "3 de sus 200 especies")
    assert p.leer_aves(p.COMPLETO, 7).origen == ("CUB-200-2011 real", "3 de sus 200 especies")
    assert servidor.pedidas == [0]


def test_los_pesos_se_descargan_y_son_de_imagenet(servidor, monkeypatch):
    red = p.replace(p.RESNET50, carpeta_url=servidor.url(""), md5_imagenet=MD5)
    encontrada = p.buscar_pesos(red)
    assert encontrada.etiqueta == "pesos de ImageNet"
    assert encontrada.fichero.read_bytes() == CONTENIDO


def test_con_red_y_sin_poder_descargar_no_se_sigue_con_datos_sinteticos(servidor, monkeypatch):
    servidor.guion = ["503"]
    monkeypatch.setattr(p, "CIFAR_URLS", (servidor.url("cifar-100-python.tar.gz"),))
    monkeypatch.setattr(p, "AVES_URL", servidor.url("CUB_200_2011.tgz"))
    red = p.replace(p.RESNET50, carpeta_url=servidor.url(""))
    assert "cifar-100-python.tar.gz" in rechazo(p.leer_cifar)
    assert "CUB_200_2011.tgz" in rechazo(lambda: p.leer_aves(p.COMPLETO, 7))
    assert p.RESNET50.nombre_fichero in rechazo(lambda: p.buscar_pesos(red))


# --- La caché ------------------------------------------------------------------------------------


def test_lo_que_guarda_keras_es_lo_que_guarda_el_script(servidor, tmp_path):
    """La misma carpeta y los mismos nombres que keras.utils.get_file."""
    fichero = descargar(servidor)
    assert keras.utils.get_file("a.h5", servidor.url(), file_hash=MD5, cache_subdir="models",
                                cache_dir=tmp_path / "keras") == str(fichero)  # fmt: skip
    assert servidor.pedidas == [0]


def test_en_windows_un_antivirus_puede_tener_abierto_lo_recien_escrito(tmp_path, monkeypatch):
    veces = []
    reemplazar = os.replace

    def ocupado(viejo, nuevo):
        veces.append(viejo)
        if len(veces) < 3:
            raise PermissionError("lo usa otro proceso")
        reemplazar(viejo, nuevo)

    monkeypatch.setattr(os, "replace", ocupado)
    monkeypatch.setattr(time, "sleep", lambda segundos: None)
    (tmp_path / "viejo").write_text("contenido")
    p.renombrar(tmp_path / "viejo", tmp_path / "nuevo")
    assert (tmp_path / "nuevo").read_text() == "contenido"


def test_si_no_se_puede_escribir_en_la_cache_se_escribe_en_otra_y_se_lee_de_las_dos(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "access", lambda carpeta, modo: False)
    monkeypatch.setattr(p.tempfile, "gettempdir", lambda: str(tmp_path / "temporal"))
    assert p.caches_keras() == [tmp_path / "keras", tmp_path / "temporal/.keras"]
    escribir_cifar(tmp_path / "keras/datasets")
    assert p.leer_cifar().origen == ("CIFAR-100 real", "2.300 imágenes")
    shutil.rmtree(tmp_path / "keras")
    escribir_cifar(tmp_path / "temporal/.keras/datasets")
    assert p.leer_cifar().origen == ("CIFAR-100 real", "2.300 imágenes")
