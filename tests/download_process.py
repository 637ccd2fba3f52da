"""The downloader's work in a process of its own, for tests of what workers share and of what one costs.

    async with start_worker(redis_url, folder, host_rate=5) as worker:
        rows = await worker.run(urls, attempts=1)
        worker.memory_bytes

As a command, `python -m tests.download_process`: the first line of its input is the start, each further line a
chunk, each line of its output an answer.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from downloader.download import open_downloader
from downloader.settings import DownloaderSettings
from shared.blocklist import LiveBlocklist
from shared.cache import open_redis
from shared.recipe import Recipe
from shared.records import FETCHED_FILE, PACK
from tests.download_chunk import DownloadChunk

#: Lets a worker fetch from loopback.
ALLOWANCES = {"allow_cidrs": ["127.0.0.0/8"], "allow_names": ["localhost"], "allow_ports": [0]}
_ONE_WORKER = {"concurrency": 1, "transfers": 32}
#: A line holds the URLs or the rows of a chunk.
_LINE_BYTES = 16 * 1024 * 1024


class Worker:
    """A running process; one chunk at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        #: Resident memory after the last chunk.
        self.memory_bytes = 0
        #: The most there ever was.
        self.peak_bytes = 0

    async def run(self, urls: Sequence[str], **recipe: object) -> list[dict[str, Any]]:
        """The rows, after the folder was seen to hold what is published and nothing else."""
        await self.say({"urls": list(urls), "recipe": {"robots": False, "attempts": 1} | recipe})
        answer = await self.hear()
        self.memory_bytes, self.peak_bytes = answer["memory_bytes"], answer["peak_bytes"]
        assert answer["files"] == [FETCHED_FILE, PACK], answer["files"]
        rows: list[dict[str, Any]] = answer["rows"]
        return rows

    async def say(self, line: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line).encode() + b"\n")
        await self._process.stdin.drain()

    async def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return line


@asynccontextmanager
async def start_worker(redis_url: str, folder: Path, **settings: object) -> AsyncIterator[Worker]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.download_process",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES,
    )
    worker = Worker(process)
    try:
        start = {"redis_url": redis_url, "folder": str(folder), "settings": _ONE_WORKER | ALLOWANCES | settings}
        await worker.say(start)
        await worker.hear()
        yield worker
    finally:
        process.kill()
        await process.wait()


async def _work() -> None:
    lines = asyncio.StreamReader(limit=_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    start = json.loads(await lines.readline())
    redis = open_redis(SecretStr(start["redis_url"]))
    settings = DownloaderSettings.model_validate(start["settings"])
    async with open_downloader(settings, redis, LiveBlocklist()) as verb:
        _answer({})
        while line := await lines.readline():
            order = json.loads(line)
            chunk = DownloadChunk(Path(start["folder"]), order["urls"], Recipe.model_validate(order["recipe"]))
            await verb(chunk)
            _answer({"rows": await chunk.fetched(), "files": chunk.files(), **_memory()})
            await chunk.area.discard(chunk.key)
    await redis.aclose()


def _memory() -> dict[str, int]:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    kibibytes = {"memory_bytes": fields["VmRSS"], "peak_bytes": fields["VmHWM"]}
    return {name: int(text.split()[0]) * 1024 for name, text in kibibytes.items()}


def _answer(line: dict[str, Any]) -> None:
    print(json.dumps(line, default=str), flush=True)


if __name__ == "__main__":
    asyncio.run(_work())
