"""TLS in front of a server that speaks plainly, with certificates of a throw-away authority."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

#: What a PostgreSQL client sends before it speaks TLS: length 8, code 80877103.
_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


@dataclass(frozen=True)
class Authority:
    """Who vouches for `localhost`, and for no other name."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.pem"

    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.folder / "server.pem", self.folder / "server.key")
        return context


def make_authority(folder: Path) -> Authority:
    folder.mkdir()
    key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name("a throw-away authority")
    usage = x509.KeyUsage(
        **dict.fromkeys(("digital_signature", "key_cert_sign", "crl_sign"), True),
        **dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False),
        encipher_only=False,
        decipher_only=False,
    )
    ca = _draft(issuer, issuer, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    own = _draft(_name("localhost"), issuer, server_key).add_extension(
        x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False
    )
    signed = ca.add_extension(usage, critical=True).sign(key, hashes.SHA256())
    (folder / "ca.pem").write_bytes(signed.public_bytes(Encoding.PEM))
    (folder / "server.pem").write_bytes(own.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (folder / "server.key").write_bytes(server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Authority(folder)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _draft(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer,
        subject,
        key.public_key(),
        x509.random_serial_number(),
        now - timedelta(hours=1),
        now + timedelta(hours=1),
    )


@asynccontextmanager
async def tls_before(host: str, port: int, authority: Authority, *, is_postgres: bool = False) -> AsyncIterator[int]:
    """The port on loopback where that server is reached by TLS, and only so."""
    context = authority.server_context()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if is_postgres:
                if await reader.readexactly(8) != _SSL_REQUEST:
                    return
                writer.write(b"S")
                await writer.start_tls(context)
            await _connect(reader, writer, host, port)
        except (OSError, asyncio.IncompleteReadError):
            return  # a client that does not trust us goes away
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=None if is_postgres else context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
    behind_reader, behind_writer = await asyncio.open_connection(host, port)
    try:
        ways = [
            asyncio.create_task(_pass_on(reader, behind_writer)),
            asyncio.create_task(_pass_on(behind_reader, writer)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)
    finally:
        behind_writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(65536):
        writer.write(block)
        await writer.drain()
