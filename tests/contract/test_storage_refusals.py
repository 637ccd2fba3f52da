"""What a store says when it cannot be had: which sentence, and how soon."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from shared.errors import StoreRefused, StoreUnavailable
from shared.storage import Destination, ObjectStore, check_writable, open_store
from shared.storage.memory import MemoryStore
from tests import servers
from tests.contract.conftest import REMOTE, Place, keys, opened, put, s3_settings, settings
from tests.contract.stores import AZURITE_KEY
from tests.tls import make_authority

# aiohttp would rather have files; Azure's client hands it bytes, and copying 16 MiB takes a few milliseconds.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")

OPERATIONS: dict[str, Callable[[ObjectStore], Awaitable[object]]] = {
    "create": lambda store: put(store, "a"),
    "replace": lambda store: store.replace("a", b"", content_type="text/plain", sha256="0" * 64),
    "exchange": lambda store: store.exchange("a", b"", version="v", content_type="text/plain", sha256="0" * 64),
    "get": lambda store: store.get("a"),
    "stat": lambda store: store.stat("a"),
    "list": keys,
    "delete": lambda store: store.delete("a"),
    "probe": check_writable,
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", REMOTE)
async def test_a_missing_container_is_refused_by_name(place: Place, operation: str) -> None:
    elsewhere = Destination.parse(f"{place.destination.scheme}://not-here/cats", endpoint=place.destination.endpoint)
    async with opened(elsewhere, place.settings) as store:
        with pytest.raises(StoreRefused, match=r"not-here does not exist"):
            await OPERATIONS[operation](store)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", REMOTE)
async def test_a_server_that_is_away_is_unavailable_soon(kind: str, operation: str) -> None:
    nobody = f"http://127.0.0.1:{servers.free_port()}"
    account = f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;BlobEndpoint={nobody}/a;"
    away = {
        "azure": (Destination.parse("az://cats"), settings(azure_connection_string=SecretStr(account))),
        "s3": (Destination.parse("s3://cats", endpoint=nobody), s3_settings()),
    }
    began = time.monotonic()

    async with opened(*away[kind]) as store:
        with pytest.raises(StoreUnavailable, match="cannot be reached: nobody listens there; check") as refusal:
            await OPERATIONS[operation](store)

    assert time.monotonic() - began < 15
    assert "Error" not in str(refusal.value)


@pytest.mark.parametrize("kind", REMOTE)
async def test_a_server_that_never_answers_is_unavailable_after_the_time_limit(kind: str) -> None:
    silent = socket.create_server(("127.0.0.1", 0))  # the kernel takes connections, and nobody answers
    address = f"http://127.0.0.1:{silent.getsockname()[1]}"
    account = f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;BlobEndpoint={address}/a;"
    limit = {"store_timeout_seconds": 0.3}
    silence = {
        "azure": (Destination.parse("az://cats"), settings(azure_connection_string=SecretStr(account), **limit)),
        "s3": (Destination.parse("s3://cats", endpoint=address), s3_settings(**limit)),
    }
    began = time.monotonic()

    async with opened(*silence[kind]) as store:
        with silent, pytest.raises(StoreUnavailable, match="cannot be reached: it did not answer in time; check"):
            await put(store, "a")

    assert time.monotonic() - began < 15


@pytest.mark.parametrize("kind", REMOTE)
async def test_a_server_nobody_vouches_for_is_told_by_its_certificate(kind: str, tmp_path: Path) -> None:
    server = await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=make_authority(tmp_path / "stranger").server_context()
    )
    address = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    account = f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey=a2V5;BlobEndpoint={address}/a;"
    distrusted = {
        "azure": (Destination.parse("az://cats"), settings(azure_connection_string=SecretStr(account))),
        "s3": (Destination.parse("s3://cats", endpoint=address), s3_settings()),
    }

    async with server, opened(*distrusted[kind]) as store:
        with pytest.raises(StoreUnavailable, match=r"cannot be reached: no safe connection.*certificate"):
            await put(store, "a")


async def test_az_without_credentials_is_refused_with_the_names_of_the_settings() -> None:
    with pytest.raises(StoreRefused, match=r"PIXCRAWLER_AZURE_CONNECTION_STRING.*PIXCRAWLER_AZURE_ACCOUNT_URL"):
        await open_store(Destination.parse("az://cats"), settings())


async def test_a_broken_connection_string_is_refused_and_not_quoted() -> None:
    broken = settings(azure_connection_string=SecretStr("AccountKey=c2VjcmV0"))

    with pytest.raises(StoreRefused, match="is not a connection string") as refusal:
        await open_store(Destination.parse("az://cats"), broken)

    assert "c2VjcmV0" not in str(refusal.value)


async def test_a_wrong_account_key_is_refused(azure_container: str, azurite: str) -> None:
    wrong = azurite.replace(AZURITE_KEY, "d3Jvbmc=")
    async with opened(Destination.parse(f"az://{azure_container}"), settings(azure_connection_string=wrong)) as store:
        with pytest.raises(StoreRefused, match="check their Azure credentials"):
            await check_writable(store)


class Overwriting(MemoryStore):
    """A store that ignores If-None-Match, as some that speak S3 do."""

    async def create(self, key: str, body: bytes | memoryview | Path, *, content_type: str, sha256: str) -> bool:
        await super().delete(key)
        return await super().create(key, body, content_type=content_type, sha256=sha256)


async def test_a_store_that_overwrites_is_refused_by_the_probe() -> None:
    store = Overwriting()

    with pytest.raises(StoreRefused, match="If-None-Match"):
        await check_writable(store)

    assert store.objects == {}
