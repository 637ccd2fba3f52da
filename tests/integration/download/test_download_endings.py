"""Chunks that end early: by their deadline, a cancellation, a full disk, or for want of rows."""

import asyncio
from pathlib import Path

import pytest

from shared.errors import WorkAreaFull
from shared.recipe import Recipe
from shared.records import PACK
from shared.workdir import Draft
from tests.download_chunk import DownloadChunk
from tests.integration.download.conftest import Desk, OpenDownloader
from tests.origin import Origin, picture


async def test_the_slowest_host_does_not_hold_the_rest_beyond_the_deadline(
    downloader: OpenDownloader, origin: Origin, tmp_path: Path
) -> None:
    async with downloader(chunk_deadline_seconds=1) as verb:
        chunk = Desk(verb, tmp_path).chunk(origin.url("/image/a"), origin.url("/held"), origin.url("/held_body"))
        result = await verb(chunk)

    assert result.rejected == {"deadline": 2}
    assert await chunk.bodies() == [picture("/image/a"), None, None]
    assert chunk.reports[-1]["done"] == 3


class TestCancelled:
    async def test_it_stops_at_once_and_leaves_nothing(self, desk: Desk, origin: Origin) -> None:
        chunk = desk.chunk(
            *(origin.url(f"/held_body?size=3000000&n={number}") for number in range(5)), origin.url("/image/a")
        )
        work = asyncio.ensure_future(desk.verb(chunk))
        await asyncio.wait_for(origin.is_holding.wait(), 5)
        await asyncio.wait_for(chunk.has_reported.wait(), 5)

        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(work, 5)

        assert chunk.files() == []

    async def test_the_next_chunk_is_none_the_worse(self, desk: Desk, origin: Origin) -> None:
        work = asyncio.ensure_future(desk.verb(desk.chunk(*(origin.url(f"/held?{number}") for number in range(40)))))
        await asyncio.wait_for(origin.is_holding.wait(), 5)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(work, 5)

        rows = await desk.run(*(origin.url(f"/image/{number}") for number in range(40)))

        assert {row["reason"] for row in rows} == {None}

    async def test_a_chunk_that_is_done_again_finds_nothing_of_the_first_try(self, desk: Desk, origin: Origin) -> None:
        first = desk.chunk(origin.url("/image/a"), origin.url("/image/b"))
        leftover = await first.draft()
        leftover.path(PACK).write_bytes(b"garbage of a crashed worker" * 1000)

        await desk.verb(first)

        assert await first.bodies() == [picture("/image/a"), picture("/image/b")]


class FullDraft:
    """A draft on a full volume."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    def path(self, name: str) -> Path:
        path = self._draft.path(name)
        if name == PACK:
            path.symlink_to("/dev/full")
        return path

    async def publish(self) -> None:
        raise AssertionError("nothing to publish")


class FullChunk(DownloadChunk):
    async def draft(self) -> Draft:
        return FullDraft(await super().draft())


async def test_a_full_disk_stops_the_chunk_and_frees_what_it_took(desk: Desk, origin: Origin) -> None:
    urls = [origin.url(f"/image/{number}") for number in range(20)] + [origin.url("/held")]
    chunk = FullChunk(desk.root, urls, Recipe(robots=False))

    with pytest.raises(WorkAreaFull):
        await asyncio.wait_for(desk.verb(chunk), 5)

    assert chunk.files() == []


async def test_an_empty_chunk_is_no_trouble(desk: Desk) -> None:
    assert await desk.run() == []
