"""How hosts are connected to: what is kept, sent, dialled and trusted."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.integration.download.conftest import Desk, OpenDownloader
from tests.origin import Origin


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS for `localhost`, and the file with the certificate that vouches for it."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context, folder / "cert.pem"


async def test_connections_are_kept_from_chunk_to_chunk(desk: Desk, origin: Origin) -> None:
    for chunk in range(3):
        await desk.run(origin.url(f"/image/{chunk}"))

    assert origin.connections == 1


async def test_an_error_page_does_not_cost_the_connection(desk: Desk, origin: Origin) -> None:
    for number in range(3):
        await desk.run(origin.url("/status/404"), origin.url(f"/redirect?to=/image/{number}"))

    assert origin.connections <= 2


async def test_a_request_says_who_we_are_and_carries_nothing_else(
    desk: Desk, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    await desk.run(origin.url("/redirect?to=/image/a"))

    for request in origin.requests:
        assert request.headers["user-agent"].startswith("PixCrawler/")
        assert request.headers.keys() == {"host", "user-agent", "accept", "accept-encoding"}
        assert request.headers["accept-encoding"] == "identity"


async def test_the_name_is_kept_where_the_address_is_pinned(desk: Desk, origin: Origin) -> None:
    (row,) = await desk.run(origin.url("/image/a", host="localhost"))

    assert row["reason"] is None
    assert origin.requests[0].headers["host"] == f"localhost:{origin.port}"


async def test_without_allowance_nothing_inside_is_dialled(
    downloader: OpenDownloader, origin: Origin, tmp_path: Path
) -> None:
    nothing = {"allow_cidrs": (), "allow_names": {"localhost"}, "allow_ports": {0}}
    async with downloader(**nothing) as verb:
        rows = await Desk(verb, tmp_path).run(origin.url("/image/a"), origin.url("/image/a", host="localhost"))

    assert [row["reason"] for row in rows] == ["blocked_address", "blocked_address"]
    assert origin.connections == 0


async def test_a_certificate_nobody_vouches_for_is_refused(desk: Desk, tls: tuple[ssl.SSLContext, Path]) -> None:
    async with Origin(tls=tls[0]) as origin:
        (row,) = await desk.run(origin.url("/image/a", host="localhost"))

    assert row["reason"] == "tls_invalid"


async def test_a_trusted_certificate_counts_for_its_name_only(
    downloader: OpenDownloader, tls: tuple[ssl.SSLContext, Path], tmp_path: Path
) -> None:
    async with downloader(ca_file=tls[1]) as verb, Origin(tls=tls[0]) as origin:
        rows = await Desk(verb, tmp_path).run(origin.url("/image/a", host="localhost"), origin.url("/image/b"))

    assert [row["reason"] for row in rows] == [None, "tls_invalid"]
