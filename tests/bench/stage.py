"""One stage's work in one process, without queue and database: `python -m tests.bench.stage STAGE …`.

Its arguments: the stage, the list, the bench's folder, the corpus' length, the first and the last of its good
pictures, the depth. Prints `ready` once its first chunk is behind it, waits for a line, works through the others, and
prints what that took as JSON. Used by `stages.py`, which starts several at once.
"""

import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from downloader.download import open_downloader
from downloader.settings import DownloaderSettings
from shared.cache import open_redis
from shared.chunk import Chunk
from shared.recipe import Depth, ImageKind, Recipe
from shared.startup import leave_pandas_out
from shared.storage.destination import Destination
from shared.storage.local import LocalStore
from tests.bench.corpus import Corpus, corpus
from tests.bench.names import NAMES
from tests.bench.runs import path_of
from tests.download_chunk import DownloadChunk
from tests.servers import Valkey
from tests.upload_bench import Bench, ChunkTwin, Row
from validator.settings import ValidatorSettings
from validator.validate import open_validator

ROWS = 500

#: Does a stage's work on the chunk of that number.
Work = Callable[[int], Awaitable[object]]


@asynccontextmanager
async def download(folder: Path, urls: list[str], _: Corpus, depth: Depth) -> AsyncIterator[Work]:
    settings = DownloaderSettings(
        allow_names=frozenset(NAMES),
        allow_cidrs=("127.0.0.1/32",),
        allow_ports=frozenset({urlsplit(urls[0]).port or 80}),
        concurrency=1,
    )
    with Valkey() as server:
        redis = open_redis(SecretStr(server.url))
        async with open_downloader(settings, redis) as verb:

            async def work(number: int) -> None:
                listed = urls[number * ROWS : (number + 1) * ROWS]
                await verb(DownloadChunk(folder, listed, recipe=Recipe(depth=depth), fence=number + 1))

            yield work
        await redis.aclose()


@asynccontextmanager
async def validate(folder: Path, urls: list[str], pictures: Corpus, depth: Depth) -> AsyncIterator[Work]:
    chunks = await _chunks(Bench(folder / "work"), urls, pictures, Recipe(depth=depth))
    async with open_validator(ValidatorSettings()) as verb:

        async def work(number: int) -> None:
            twin = chunks[number]
            # What the downloader left lies one fence below the verdicts that the twin brings along.
            fetched = (twin.claim.work_fence or 0) - 1
            await verb(_as_chunk(ChunkTwin(twin._bench, replace(twin.claim, work_fence=fetched), twin._source)))

        yield work


@asynccontextmanager
async def upload(folder: Path, urls: list[str], pictures: Corpus, depth: Depth) -> AsyncIterator[Work]:
    store = await LocalStore.open(Destination.parse(str(folder / "out")))
    chunks = await _chunks(Bench(folder / "work", store), urls, pictures, Recipe(depth=depth))
    yield lambda number: chunks[number].upload(puts=32)
    await store.close()


def _as_chunk(twin: ChunkTwin) -> Chunk:
    return twin


async def _chunks(bench: Bench, urls: list[str], pictures: Corpus, recipe: Recipe) -> list[ChunkTwin]:
    rows = [_row(pictures.root, path_of(url)) for url in urls]
    return [
        await bench.chunk(rows[at : at + ROWS], recipe=recipe, first_row=at, ordinal=at // ROWS)
        for at in range(0, len(rows), ROWS)
    ]


def _row(root: Path, path: str) -> Row:
    return Row(body=(root / path).read_bytes(), kind=ImageKind(path.rpartition(".")[2]))


async def _measure(name: str, urls: list[str], pictures: Corpus, depth: Depth) -> None:
    stages = {"download": download, "validate": validate, "upload": upload}
    with tempfile.TemporaryDirectory(prefix="pixcrawler-stage-") as folder:
        async with stages[name](Path(folder), urls, pictures, depth) as work:
            await work(0)
            print("ready", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            began, before = time.monotonic(), _cpu()
            for number in range(1, len(urls) // ROWS):
                await work(number)
            seconds, own = time.monotonic() - began, _cpu() - before
    # Of children only the whole is known, and only now that they are gone.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = {"seconds": seconds, "own_cpu": own, "children_cpu": used.ru_utime + used.ru_stime}
    print(json.dumps(told | {"images": len(urls) - ROWS, "all_images": len(urls)}), flush=True)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    leave_pandas_out()
    name, listed, folder, count, first, last, depth = sys.argv[1:]
    pictures = corpus(Path(folder), int(count))
    good = {entry.path for entry in pictures.entries if entry.is_good}
    urls = [url for url in Path(listed).read_text().split() if path_of(url) in good]
    asyncio.run(_measure(name, urls[int(first) : int(last)], pictures, Depth(depth)))


if __name__ == "__main__":
    main()
