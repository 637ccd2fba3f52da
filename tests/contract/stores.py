"""Object stores for tests: Azurite and an S3 server, one of each for a session, and a place of its own in them.

Azurite comes as a container where an engine answers, else from npm into a cache folder. It is never left out:
where neither can be had, its tests fail and say so.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from azure.core.exceptions import AzureError
from azure.storage.blob import BlobServiceClient
from werkzeug.serving import make_server

from tests import servers

AZURITE_VERSION = "3.35.0"
#: Azurite's well-known account; nothing else can be reached with it.
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
#: What the S3 server takes from anybody.
S3_KEY_ID, S3_SECRET = "test", "testing-secret"

_BLOB_PORT = 10_000
# The clients are newer than any Azurite that runs on the Node.js of today's distributions.
_AZURITE_OPTIONS = ("--skipApiVersionCheck", "--silent", "--disableTelemetry", "--inMemoryPersistence")
_INSTALL_LIMIT_SECONDS = 180.0
_Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@pytest.fixture(scope="session")
def azurite() -> Iterator[str]:
    """The connection string of an Azurite of this session."""
    running = _azurite_container() if servers.has_docker_engine() else _azurite_from_npm()
    with running as endpoint:
        connection_string = (
            f"DefaultEndpointsProtocol=http;AccountName={AZURITE_ACCOUNT};AccountKey={AZURITE_KEY};"
            f"BlobEndpoint={endpoint}/{AZURITE_ACCOUNT};"
        )
        _wait_for_azurite(connection_string)
        yield connection_string


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The endpoint of an S3 server of this session; it takes `S3_KEY_ID` and `S3_SECRET`."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    application = _one_at_a_time(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, name="s3-server", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


@pytest.fixture
def azure_container(azurite: str) -> str:
    """The name of an empty container, this test's own."""
    name = f"test-{secrets.token_hex(6)}"
    with BlobServiceClient.from_connection_string(azurite) as client:
        client.create_container(name)
    return name


@pytest.fixture
def s3_bucket(s3_server: str) -> str:
    """The name of an empty bucket, this test's own."""
    name = f"test-{secrets.token_hex(6)}"
    with contextlib.closing(s3_client(s3_server)) as client:
        client.create_bucket(Bucket=name)
    return name


def s3_client(endpoint: str) -> Any:
    """A client of the S3 server, to look behind the store's back."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=S3_KEY_ID,
        aws_secret_access_key=S3_SECRET,
    )


def _one_at_a_time(application: _Application) -> _Application:
    """The server looks whether a key exists and then writes it; S3 does both in one step."""
    turn = threading.Lock()

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with turn:
            return list(application(environ, start_response))

    return answer


@contextlib.contextmanager
def _azurite_container() -> Iterator[str]:
    servers.forbid_reaper()
    from testcontainers.core.container import DockerContainer

    container = DockerContainer(servers.AZURITE_IMAGE).with_exposed_ports(_BLOB_PORT)
    with container.with_command(["azurite-blob", "--blobHost", "0.0.0.0", *_AZURITE_OPTIONS]) as running:
        yield f"http://{running.get_container_host_ip()}:{running.get_exposed_port(_BLOB_PORT)}"


@contextlib.contextmanager
def _azurite_from_npm() -> Iterator[str]:
    port = servers.free_port()
    command: list[str | Path] = ["node", _installed_azurite(), "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    with subprocess.Popen([*command, *_AZURITE_OPTIONS], stdin=subprocess.DEVNULL) as server:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=10)
            server.kill()


def _installed_azurite() -> Path:
    """The script of Azurite's blob service, installed into the user's cache at the first use."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pixcrawler-tests"
    folder = cache / f"azurite-{AZURITE_VERSION}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _install_azurite(folder)
    return folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


def _install_azurite(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.fail("Azurite is needed: start a Docker engine, or install Node.js with npm")
    unfinished = folder.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    install: list[str | Path] = [npm, "install", "--no-audit", "--no-fund", "--prefix", unfinished]
    done = subprocess.run(
        [*install, f"azurite@{AZURITE_VERSION}"],
        capture_output=True,
        text=True,
        timeout=_INSTALL_LIMIT_SECONDS,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"Azurite could not be installed from npm, and no Docker engine answers:\n{done.stderr}")
    unfinished.rename(folder)


def _wait_for_azurite(connection_string: str) -> None:
    latest = time.monotonic() + servers.START_LIMIT_SECONDS
    with BlobServiceClient.from_connection_string(
        connection_string, retry_total=0, connection_timeout=2, read_timeout=5
    ) as client:
        while True:
            try:
                client.get_service_properties()
                return
            except AzureError as error:
                if time.monotonic() > latest:
                    pytest.fail(f"Azurite does not answer: {type(error).__name__}")
            time.sleep(0.1)
