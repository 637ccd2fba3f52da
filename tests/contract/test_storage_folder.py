"""What a folder promises beyond the contract: its temporaries, its links, its modes."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from shared.errors import StoreRefused, StoreUnavailable
from shared.settings import StorageSettings
from shared.storage import Destination, ObjectStore, open_store
from shared.storage.local import ORPHAN_AGE, STAGING
from shared.storage.parts import FinishedFile


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "lake"


@pytest.fixture
async def store(lake: Path) -> AsyncIterator[ObjectStore]:
    opened = await open_lake(lake)
    yield opened
    await opened.close()


async def open_lake(lake: Path) -> ObjectStore:
    return await open_store(Destination.parse(str(lake)), StorageSettings())


async def put(store: ObjectStore, key: str, body: bytes | Path = b"body") -> bool:
    return await store.create(key, body, content_type="image/jpeg", sha256="0" * 64)


async def test_objects_are_plain_files_that_honour_the_umask(store: ObjectStore, lake: Path) -> None:
    before = os.umask(0o027)
    try:
        await put(store, "images/000/000000001.jpg", b"picture")
    finally:
        os.umask(before)

    file = lake / "images" / "000" / "000000001.jpg"
    assert file.read_bytes() == b"picture"
    assert file.stat().st_mode & 0o777 == 0o640
    assert file.stat().st_nlink == 1


async def test_no_temporary_outlives_its_call(store: ObjectStore, lake: Path) -> None:
    await put(store, "a.jpg")
    await put(store, "a.jpg")
    await store.replace("dataset.json", b"{}", content_type="application/json", sha256="0" * 64)

    assert list((lake / STAGING).iterdir()) == []


async def test_a_write_that_fails_leaves_nothing_and_may_be_tried_again(
    store: ObjectStore, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(StoreUnavailable, match="No space left"):
            await put(store, "a.jpg")

    assert list((lake / STAGING).iterdir()) == []
    assert await store.stat("a.jpg") is None
    assert await put(store, "a.jpg") is True


async def test_what_one_creation_meets_is_not_the_others_trouble(
    store: ObjectStore, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(store, "taken.jpg", b"first")
    (lake / "blocked").write_bytes(b"a file where a folder should be")
    wanted: dict[str, bytes | Path] = {
        "a.jpg": b"a",
        "taken.jpg": b"second",
        "blocked/b.jpg": b"b",
        "absent.tar": tmp_path / "absent",
        "c/c.jpg": b"c",
    }

    ended = await asyncio.gather(*(put(store, key, body) for key, body in wanted.items()), return_exceptions=True)

    assert [ended[0], ended[1], ended[4]] == [True, False, True]
    assert isinstance(ended[2], StoreRefused)
    assert isinstance(ended[3], FileNotFoundError)
    assert {found.key for found in [found async for found in store.list("")]} == {
        "a.jpg",
        "blocked",
        "c/c.jpg",
        "taken.jpg",
    }
    assert list((lake / STAGING).iterdir()) == []


async def test_no_object_gets_its_name_before_it_is_synced(
    store: ObjectStore, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    named: list[bool] = []
    fsync, link = os.fsync, os.link

    def note_sync(file: int) -> None:
        fsync(file)
        synced.add(os.fstat(file).st_ino)

    def note_link(source: str, name: str, *, src_dir_fd: int, **more: Any) -> None:
        named.append(os.stat(source, dir_fd=src_dir_fd).st_ino in synced)
        link(source, name, src_dir_fd=src_dir_fd, **more)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "link", note_link)

    assert all(await asyncio.gather(*(put(store, f"{number:02d}.jpg") for number in range(40))))
    assert named == [True] * 40


async def test_a_creation_given_up_while_it_waits_in_line_does_not_hinder_the_others(
    store: ObjectStore, lake: Path
) -> None:
    waiting = [asyncio.create_task(put(store, f"{number:02d}.jpg")) for number in range(40)]
    await asyncio.sleep(0)
    waiting[39].cancel()

    ended = await asyncio.gather(*waiting, return_exceptions=True)

    assert ended[:39] == [True] * 39
    assert isinstance(ended[39], asyncio.CancelledError)


async def test_a_finished_file_becomes_the_object_without_a_copy(
    store: ObjectStore, lake: Path, tmp_path: Path
) -> None:
    file = tmp_path / "shard"
    file.write_bytes(b"many pictures")

    assert await put(store, "data/shard.tar", FinishedFile(file)) is True
    assert await put(store, "data/shard.tar", FinishedFile(file)) is False

    assert (lake / "data" / "shard.tar").samefile(file)
    assert list((lake / STAGING).iterdir()) == []


async def test_a_finished_file_that_others_could_not_read_is_copied(
    store: ObjectStore, lake: Path, tmp_path: Path
) -> None:
    file = tmp_path / "shard"
    file.write_bytes(b"many pictures")
    file.chmod(0o600)

    assert await put(store, "data/shard.tar", FinishedFile(file)) is True

    stored = lake / "data" / "shard.tar"
    assert stored.read_bytes() == b"many pictures"
    assert not stored.samefile(file)


async def test_a_finished_file_on_another_mount_is_copied(
    store: ObjectStore, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "shard"
    file.write_bytes(b"many pictures")
    link = os.link

    def elsewhere(source: Any, *places: Any, **more: Any) -> None:
        if source == file:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        link(source, *places, **more)

    monkeypatch.setattr(os, "link", elsewhere)

    assert await put(store, "data/shard.tar", FinishedFile(file)) is True
    assert (lake / "data" / "shard.tar").read_bytes() == b"many pictures"


async def test_a_file_system_without_links_is_refused(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, "link", unsupported)

    with pytest.raises(StoreRefused, match="hard links"):
        await put(store, "a.jpg")


async def test_opening_sweeps_old_temporaries_and_spares_young_ones(lake: Path) -> None:
    staging = lake / STAGING
    staging.mkdir(parents=True)
    for name in ("old", "young"):
        (staging / name).write_bytes(b"left by a crash")
    long_ago = (staging / "old").stat().st_mtime - 2 * ORPHAN_AGE.total_seconds()
    os.utime(staging / "old", (long_ago, long_ago))

    store = await open_lake(lake)
    await store.close()

    assert [entry.name for entry in staging.iterdir()] == ["young"]


async def test_a_sweep_removes_what_a_crash_just_left_and_nothing_else(store: ObjectStore, lake: Path) -> None:
    await put(store, "shards/kept", b"kept")
    (lake / STAGING).mkdir(exist_ok=True)
    (lake / STAGING / "left").write_bytes(b"half")

    await store.sweep()
    await store.sweep()

    assert [name for _, _, names in os.walk(lake) for name in names] == ["kept"]
    await put(store, "shards/next", b"next")


async def test_a_sweep_leaves_what_lies_behind_a_link_alone(store: ObjectStore, lake: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").write_bytes(b"theirs")
    (lake / STAGING).symlink_to(tmp_path / "theirs")

    with pytest.raises(StoreRefused):
        await store.sweep()

    assert (tmp_path / "theirs" / "file").exists()


async def test_temporaries_are_not_listed(store: ObjectStore, lake: Path) -> None:
    await put(store, "a.jpg")
    (lake / STAGING / "left").write_bytes(b"by a crash")

    assert [found.key async for found in store.list("")] == ["a.jpg"]


async def test_symbolic_links_are_not_followed(store: ObjectStore, lake: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (lake / "folder").symlink_to(outside)
    (lake / "file").symlink_to(outside / "secret")

    with pytest.raises(StoreRefused):
        await put(store, "folder/new.jpg")
    with pytest.raises(StoreRefused):
        await store.get("folder/secret")
    with pytest.raises(StoreRefused):
        await store.get("file")
    assert await put(store, "file") is False
    assert [found.key async for found in store.list("")] == []
    assert [entry.name for entry in outside.iterdir()] == ["secret"]


async def test_a_pipe_in_the_way_is_refused_and_not_waited_for(store: ObjectStore, lake: Path) -> None:
    os.mkfifo(lake / "a.jpg")

    with pytest.raises(StoreRefused, match="not a file"):
        await store.get("a.jpg")


async def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lake").write_bytes(b"")

    with pytest.raises(StoreRefused, match="cannot be used"):
        await open_lake(tmp_path / "lake")


async def test_a_folder_that_vanished_is_not_made_again(store: ObjectStore, lake: Path) -> None:
    os.rmdir(lake)

    with pytest.raises(StoreUnavailable, match="mounted"):
        await put(store, "a.jpg")
    with pytest.raises(StoreUnavailable, match="mounted"):
        await store.get("a.jpg")
    assert lake.name not in os.listdir(lake.parent)


async def test_a_missing_body_is_not_blamed_on_the_store(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await put(store, "a.tar", tmp_path / "absent")


async def test_a_place_that_takes_no_folder_is_refused() -> None:
    with pytest.raises(StoreRefused, match="no folder can be made"):
        await open_store(Destination.parse("/proc/pixcrawler/cats"), StorageSettings())
