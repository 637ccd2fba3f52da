"""What every object store promises, asked of every store: memory, a folder, Azurite and an S3 server."""

import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from shared.errors import StoreUnavailable
from shared.storage import Destination, ObjectStore, check_writable
from shared.storage.memory import MemoryStore
from shared.storage.parts import SINGLE_BYTES
from tests.contract.conftest import ALL, MEBIBYTE, REMOTE, Place, keys, opened, put

# aiohttp would rather have files; Azure's client hands it bytes, and copying 16 MiB takes a few milliseconds.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")


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


async def exchanged(store: ObjectStore, key: str, body: bytes, *, version: str) -> bool:
    sha256 = hashlib.sha256(body).hexdigest()
    return await store.exchange(key, body, version=version, content_type="text/plain", sha256=sha256)


async def version_of(store: ObjectStore, key: str) -> str:
    found = await store.stat(key)
    assert found is not None
    assert found.version
    return found.version


async def test_an_exchange_puts_an_object_in_place_of_the_version_it_names(store: ObjectStore) -> None:
    await put(store, "index/a.parquet")
    first = await version_of(store, "index/a.parquet")

    assert await exchanged(store, "index/a.parquet", b"second", version=first)
    second = await version_of(store, "index/a.parquet")
    assert not await exchanged(store, "index/a.parquet", b"late", version=first)

    assert second != first
    assert await store.get("index/a.parquet") == b"second"
    assert await version_of(store, "index/a.parquet") == second


async def test_an_exchange_brings_nothing_back_that_was_removed(store: ObjectStore) -> None:
    await put(store, "index/a.parquet")
    version = await version_of(store, "index/a.parquet")
    await store.delete("index/a.parquet")

    assert not await exchanged(store, "index/a.parquet", b"late", version=version)

    assert await store.stat("index/a.parquet") is None


async def test_of_many_exchanges_of_one_version_exactly_one_wins(store: ObjectStore) -> None:
    await put(store, "index/a.parquet")
    version = await version_of(store, "index/a.parquet")

    async def tried(number: int) -> bool:
        try:
            return await exchanged(store, "index/a.parquet", b"%d" % number, version=version)
        except StoreUnavailable:  # somebody else is at it
            return False

    won = await asyncio.gather(*map(tried, range(8)))

    assert won.count(True) == 1
    assert await store.get("index/a.parquet") == b"%d" % won.index(True)


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
