"""What every object store promises, asked of every store: memory, a folder, Azurite and an S3 server."""

import asyncio
import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from azure.storage.blob import BlobServiceClient
from pydantic import SecretStr

from shared.errors import StoreRefused, StoreUnavailable
from shared.settings import StorageSettings
from shared.storage import Destination, ObjectStore, check_writable, open_store
from shared.storage.memory import MemoryStore
from shared.storage.parts import SINGLE_BYTES
from tests import servers
from tests.contract.stores import AZURITE_KEY, S3_KEY_ID, S3_SECRET, s3_client
from tests.tls import make_authority

# aiohttp would rather have files; Azure's client hands it bytes, and copying 16 MiB takes a few milliseconds.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")

ALL = ("memory", "folder", "azure", "s3")
REMOTE = ("azure", "s3")
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Place:
    """A destination with the settings that reach it, and a way to look behind the store's back."""

    destination: Destination
    settings: StorageSettings
    content_type_of: Callable[[str], str | None]


def settings(**values: object) -> StorageSettings:
    return StorageSettings.model_validate({"store_timeout_seconds": 20.0, **values})


@pytest.fixture
def folder_place(tmp_path: Path) -> Place:
    return Place(Destination.parse(f"{tmp_path}/lake/cats"), settings(), lambda key: None)


@pytest.fixture
def azure_place(azurite: str, azure_container: str) -> Place:
    def content_type_of(key: str) -> str | None:
        with BlobServiceClient.from_connection_string(azurite) as client:
            blob = client.get_blob_client(azure_container, f"lake/cats/{key}")
            found: str | None = blob.get_blob_properties().content_settings.content_type
            return found

    destination = Destination.parse(f"az://{azure_container}/lake/cats")
    return Place(destination, settings(azure_connection_string=SecretStr(azurite)), content_type_of)


@pytest.fixture
def s3_place(s3_server: str, s3_bucket: str) -> Place:
    def content_type_of(key: str) -> str | None:
        with contextlib.closing(s3_client(s3_server)) as client:
            found: str | None = client.head_object(Bucket=s3_bucket, Key=f"lake/cats/{key}")["ContentType"]
            return found

    destination = Destination.parse(f"s3://{s3_bucket}/lake/cats", endpoint=s3_server)
    return Place(destination, s3_settings(), content_type_of)


def s3_settings(**values: object) -> StorageSettings:
    return settings(s3_access_key_id=SecretStr(S3_KEY_ID), s3_secret_access_key=SecretStr(S3_SECRET), **values)


@contextlib.asynccontextmanager
async def opened(destination: Destination, settings: StorageSettings) -> AsyncIterator[ObjectStore]:
    store = await open_store(destination, settings)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def place(kind: str, request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(f"{kind}_place")
    return found


@pytest.fixture(params=ALL)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def store(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    """An empty store of each kind, below a prefix."""
    if kind == "memory":
        yield MemoryStore()
        return
    place: Place = request.getfixturevalue(f"{kind}_place")
    async with opened(place.destination, place.settings) as store:
        yield store


async def put(store: ObjectStore, key: str, body: bytes | memoryview | Path = b"body") -> bool:
    return await store.create(key, body, content_type="image/jpeg", sha256=sha256_of(body))


def sha256_of(body: bytes | memoryview | Path) -> str:
    return hashlib.sha256(body.read_bytes() if isinstance(body, Path) else body).hexdigest()


async def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [found.key async for found in store.list(prefix)]


async def test_a_new_object_is_read_back_as_it_was_given(store: ObjectStore, tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_bytes(b"from a file")

    given: dict[str, bytes | memoryview | Path] = {
        "bytes.bin": b"some bytes",
        "view.bin": memoryview(b"xx part of a pack xx")[3:-3],
        "file.bin": file,
        "empty.bin": b"",
    }
    created = [await put(store, key, body) for key, body in given.items()]

    assert created == [True] * 4
    assert await store.get("bytes.bin") == b"some bytes"
    assert await store.get("view.bin") == b"part of a pack"
    assert await store.get("file.bin") == b"from a file"
    assert await store.get("empty.bin") == b""


async def test_an_object_that_exists_is_not_written_again(store: ObjectStore) -> None:
    await put(store, "data/r000-000001.tar", b"first")

    again = await put(store, "data/r000-000001.tar", b"second, and longer")

    assert again is False
    assert await store.get("data/r000-000001.tar") == b"first"


async def test_of_many_writers_of_one_key_exactly_one_wins(store: ObjectStore) -> None:
    bodies = [f"writer {number:02d}".encode() * 1000 for number in range(32)]

    won = await asyncio.gather(*(put(store, "data/contested.tar", body) for body in bodies))

    assert won.count(True) == 1
    assert await store.get("data/contested.tar") == bodies[won.index(True)]
    assert await keys(store) == ["data/contested.tar"]


async def test_of_writers_of_a_large_object_one_wins_and_nothing_is_mixed(store: ObjectStore, tmp_path: Path) -> None:
    files = [tmp_path / f"body{number}" for number in range(3)]
    for number, file in enumerate(files):
        file.write_bytes(bytes([number]) * (SINGLE_BYTES + MEBIBYTE))

    won = await asyncio.gather(*(put(store, "data/large.tar", file) for file in files))
    later = await put(store, "data/large.tar", files[0])

    assert won.count(True) == 1
    assert later is False
    assert await store.get("data/large.tar") == files[won.index(True)].read_bytes()


async def test_part_of_an_object_can_be_read(store: ObjectStore) -> None:
    await put(store, "data/pack.tar", b"0123456789")

    assert await store.get("data/pack.tar", offset=3, length=4) == b"3456"
    assert await store.get("data/pack.tar", offset=7) == b"789"
    assert await store.get("data/pack.tar", length=2) == b"01"
    assert await store.get("data/pack.tar", offset=8, length=100) == b"89"
    assert await store.get("data/pack.tar", offset=10) == b""
    assert await store.get("data/pack.tar", offset=5, length=0) == b""


async def test_reading_a_missing_object_raises_key_error(store: ObjectStore) -> None:
    await put(store, "data/present.tar")

    for missing in ("data/absent.tar", "elsewhere/absent.tar"):
        with pytest.raises(KeyError, match="absent"):
            await store.get(missing)
        with pytest.raises(KeyError, match="absent"):
            await store.get(missing, length=0)


async def test_stat_tells_size_and_the_recorded_hash(store: ObjectStore, kind: str) -> None:
    await put(store, "images/000/000000001.jpg", b"picture")

    found = await store.stat("images/000/000000001.jpg")

    assert found is not None
    assert (found.key, found.size_bytes) == ("images/000/000000001.jpg", 7)
    # A folder records nothing; its callers hash what `get` gives.
    assert found.sha256 == (None if kind == "folder" else hashlib.sha256(b"picture").hexdigest())


async def test_stat_of_a_missing_object_is_none(store: ObjectStore) -> None:
    assert await store.stat("images/000/000000001.jpg") is None


async def test_list_gives_keys_below_a_prefix_in_order(store: ObjectStore) -> None:
    given = ["b/1.tar", "a.tar", "a/2/x.tar", "a-1/x.tar", "a/10.tar", "a/2.tar", "_SUCCESS", "ab", "README.md"]
    for key in given:
        await put(store, key, key.encode())

    assert await keys(store) == sorted(given)
    assert await keys(store, "a") == sorted(key for key in given if key.startswith("a"))
    assert await keys(store, "a/") == ["a/10.tar", "a/2.tar", "a/2/x.tar"]
    assert await keys(store, "a/2") == ["a/2.tar", "a/2/x.tar"]
    assert await keys(store, "nothing") == []
    assert [found.size_bytes async for found in store.list("b/")] == [7]


async def test_list_goes_on_after_a_page(store: ObjectStore) -> None:
    given = [f"images/{number:04d}.jpg" for number in range(1050)]
    at_once = 30
    for first in range(0, len(given), at_once):
        await asyncio.gather(*(put(store, key, b"") for key in given[first : first + at_once]))

    assert await keys(store, "images/") == given


@pytest.mark.parametrize("kind", ALL[1:])
async def test_destinations_in_one_container_do_not_see_each_other(place: Place) -> None:
    longer = Destination.parse(f"{place.destination}-too", endpoint=place.destination.endpoint)
    async with opened(place.destination, place.settings) as cats, opened(longer, place.settings) as others:
        await put(cats, "a.tar")
        await put(others, "b.tar")

        assert await keys(cats) == ["a.tar"]
        assert await keys(others) == ["b.tar"]


async def test_replace_makes_and_overwrites(store: ObjectStore) -> None:
    for body in (b'{"revision": 0}', b'{"revision": 1, "longer": true}', b"{}"):
        await store.replace(
            "dataset.json", body, content_type="application/json", sha256=hashlib.sha256(body).hexdigest()
        )

        assert await store.get("dataset.json") == body


async def test_readers_never_see_half_a_replacement(store: ObjectStore) -> None:
    bodies = [bytes([letter]) * 300_000 for letter in b"ab"]
    await store.replace("dataset.json", bodies[0], content_type="application/json", sha256="0" * 64)

    async def write() -> None:
        for turn in range(10):
            await store.replace("dataset.json", bodies[turn % 2], content_type="application/json", sha256="0" * 64)

    writer = asyncio.create_task(write())
    seen = []
    while not writer.done():
        seen.append(await store.get("dataset.json"))
    await writer

    assert seen
    assert all(body in bodies for body in seen)


async def test_delete_removes_and_may_be_repeated(store: ObjectStore) -> None:
    await put(store, "data/a.tar")
    await put(store, "data/b.tar")

    await store.delete("data/a.tar")
    await store.delete("data/a.tar")
    await store.delete("elsewhere/never.tar")

    assert await keys(store) == ["data/b.tar"]
    assert await put(store, "data/a.tar") is True


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/..", "a/./b", "a b", "a\\b", "ä", "a\n", "x" * 500])
async def test_what_is_no_key_is_asked_of_no_store(store: ObjectStore, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        await put(store, key)
    with pytest.raises(ValueError, match="not a key"):
        await store.get(key)


async def test_a_store_that_works_passes_the_probe_and_keeps_nothing_of_it(store: ObjectStore) -> None:
    await check_writable(store)

    assert await keys(store) == []


@pytest.mark.parametrize("kind", REMOTE)
async def test_objects_carry_their_content_type(place: Place, store: ObjectStore, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"\0" * (SINGLE_BYTES + 1))

    await store.create("small.jpg", b"x", content_type="image/jpeg", sha256="0" * 64)
    await store.create("large.tar", large, content_type="application/x-tar", sha256="1" * 64)
    await store.replace("dataset.json", b"{}", content_type="application/json", sha256="2" * 64)

    assert place.content_type_of("small.jpg") == "image/jpeg"
    assert place.content_type_of("large.tar") == "application/x-tar"
    assert place.content_type_of("dataset.json") == "application/json"
    found = await store.stat("large.tar")
    assert found is not None
    assert found.sha256 == "1" * 64


OPERATIONS: dict[str, Callable[[ObjectStore], Awaitable[object]]] = {
    "create": lambda store: put(store, "a"),
    "replace": lambda store: store.replace("a", b"", content_type="text/plain", sha256="0" * 64),
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


async def test_the_memory_twin_fails_when_told_to() -> None:
    def before(operation: str, key: str) -> None:
        if operation == "create" and key.endswith(".tar"):
            raise StoreUnavailable("away")

    store = MemoryStore(before=before)

    assert await put(store, "a.jpg") is True
    with pytest.raises(StoreUnavailable, match="away"):
        await put(store, "a.tar")


_STREAM = """
import asyncio, resource, sys
from pathlib import Path
from shared.settings import StorageSettings
from shared.storage import Destination, open_store

async def main():
    where, endpoint, small, large = sys.argv[1:]
    store = await open_store(Destination.parse(where, endpoint=endpoint or None), StorageSettings())
    for name in (small, large):
        await store.create(Path(name).name, Path(name), content_type="application/x-tar", sha256="0" * 64)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    await store.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ALL[1:])
async def test_a_file_larger_than_the_memory_allowed_is_streamed(place: Place, tmp_path: Path) -> None:
    small, large = tmp_path / "small.tar", tmp_path / "large.tar"
    small.write_bytes(b"\1" * (SINGLE_BYTES + MEBIBYTE))
    with large.open("wb") as file:
        file.truncate(100 * MEBIBYTE)
    secrets_of_the_place = {
        f"PIXCRAWLER_{name.upper()}": value.get_secret_value()
        for name, value in place.settings
        if isinstance(value, SecretStr)
    }

    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _STREAM, str(place.destination), place.destination.endpoint or "", small, large],
        env=os.environ | secrets_of_the_place,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    after_small, after_large = (int(kibibytes) for kibibytes in done.stdout.split())
    # Three parts of 8 MiB are in flight, twice while they are sent; the whole file would be 100 MiB.
    assert after_large - after_small < 40 * 1024
    async with opened(place.destination, place.settings) as store:
        found = await store.stat("large.tar")
        assert found is not None
        assert found.size_bytes == 100 * MEBIBYTE
