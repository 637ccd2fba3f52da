"""A downloader at work against a misbehaving origin and a real Redis."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import SecretStr

from downloader.download import open_downloader
from downloader.settings import DownloaderSettings
from shared.blocklist import Blocklist, Kind, LiveBlocklist, Version
from shared.cache import open_redis
from shared.chunk import Verb
from shared.recipe import Recipe
from tests.download_chunk import DownloadChunk
from tests.origin import Origin

ALLOWANCES = {"allow_cidrs": ("127.0.0.0/8",), "allow_names": {"localhost"}, "allow_ports": {0}}
OpenDownloader = Callable[..., AbstractAsyncContextManager[Verb]]


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin(listens_on="0.0.0.0") as origin:
        yield origin


@dataclass
class Takedowns:
    """The list as the downloader reads it."""

    entries: list[tuple[Kind, str]] = field(default_factory=list)

    async def read(self, _known: Version | None) -> tuple[Version, Blocklist]:
        return (len(self.entries),), Blocklist(self.entries)


@pytest.fixture
def takedowns() -> Takedowns:
    return Takedowns()


@pytest.fixture
def downloader(redis_url: str, takedowns: Takedowns) -> OpenDownloader:
    @asynccontextmanager
    async def opened(**settings: object) -> AsyncIterator[Verb]:
        redis = open_redis(SecretStr(redis_url))
        chosen = DownloaderSettings.model_validate({"concurrency": 1, "transfers": 32} | ALLOWANCES | settings)
        async with open_downloader(chosen, redis, LiveBlocklist(takedowns.read)) as verb:
            yield verb
        await redis.aclose()

    return opened


@dataclass
class Desk:
    """Downloads lists of URLs and returns the rows."""

    verb: Verb
    root: Path

    async def run(self, *urls: str | None, **recipe: object) -> list[dict[str, object]]:
        chunk = self.chunk(*urls, **recipe)
        await self.verb(chunk)
        return await chunk.fetched()

    def chunk(self, *urls: str | None, **recipe: object) -> DownloadChunk:
        return DownloadChunk(self.root, urls, Recipe.model_validate({"robots": False, "attempts": 1} | recipe))


@pytest.fixture
async def desk(downloader: OpenDownloader, tmp_path: Path) -> AsyncIterator[Desk]:
    async with downloader() as verb:
        yield Desk(verb, tmp_path)
