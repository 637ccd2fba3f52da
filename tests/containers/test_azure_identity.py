"""Azure without an account key: a token of the machine's metadata service opens Azurite, which takes them by TLS."""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from azure.storage.blob import BlobServiceClient

from tests.contract.stores import AZURITE_ACCOUNT, AZURITE_KEY
from tests.servers import AZURITE_IMAGE, forbid_reaper
from tests.tls import Authority, make_authority

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

_IDENTITY = "11111111-2222-3333-4444-555555555555"
#: Stores one object and reads it, as a service would.
_PROGRAM = """
import asyncio
from shared.settings import StorageSettings
from shared.storage import open_store
from shared.storage.destination import Destination

async def main():
    store = await open_store(Destination.parse("az://datasets/by-identity"), StorageSettings())
    try:
        digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        print(await store.create("hello.txt", b"hello", content_type="text/plain", sha256=digest))
        print((await store.get("hello.txt")).decode())
    finally:
        await store.close()

asyncio.run(main())
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = make_authority(tmp_path / "authority")
    for file in made.folder.iterdir():
        file.chmod(0o644)
    return made


@pytest.fixture
def account_url(authority: Authority) -> Iterator[str]:
    """An Azurite that takes tokens, and by TLS only; with an empty container `datasets`."""
    forbid_reaper()
    from testcontainers.core.container import DockerContainer

    command = ["azurite-blob", "--blobHost", "0.0.0.0", "--skipApiVersionCheck", "--disableTelemetry"]
    command += ["--inMemoryPersistence", "--oauth", "basic", "--cert", "/tls/server.pem", "--key", "/tls/server.key"]
    container = DockerContainer(AZURITE_IMAGE).with_exposed_ports(10_000).with_command(command)
    with container.with_volume_mapping(str(authority.folder), "/tls", "ro") as running:
        url = f"https://localhost:{running.get_exposed_port(10_000)}/{AZURITE_ACCOUNT}"
        with BlobServiceClient(url, AZURITE_KEY, connection_verify=str(authority.certificate)) as client:
            client.create_container("datasets")
        yield url


@pytest.fixture
def metadata() -> Iterator[tuple[str, list[str]]]:
    """Stands in for the metadata service of a machine in Azure: its address, and what it was asked."""
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            until = int(time.time()) + 3600
            body = json.dumps(
                {"access_token": _token(until), "expires_on": str(until), "resource": "", "token_type": ""}
            )
            self.send_response(200 if self.headers.get("Metadata") == "true" else 400)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()
    thread.join(10)


def _token(until: int) -> str:
    """As Azurite reads it: it looks at the claims and not at the signature."""
    claims = {
        "aud": "https://storage.azure.com",
        "iss": "https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/",
        "iat": until - 7200,
        "nbf": until - 7200,
        "exp": until,
        "scp": "user_impersonation",
    }
    parts = ({"alg": "none", "typ": "JWT"}, claims, {"signed": "by nobody"})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


def test_a_store_is_opened_by_the_machines_identity(
    account_url: str, authority: Authority, metadata: tuple[str, list[str]]
) -> None:
    address, asked = metadata
    environment = {
        "PATH": os.environ["PATH"],
        "SSL_CERT_FILE": str(authority.certificate),
        "PIXCRAWLER_AZURE_ACCOUNT_URL": account_url,
        "AZURE_POD_IDENTITY_AUTHORITY_HOST": address,
        "AZURE_CLIENT_ID": _IDENTITY,
        "AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential",
    }

    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["True", "hello"]
    assert any(_IDENTITY in path and "storage.azure.com" in path for path in asked)
