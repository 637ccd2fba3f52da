"""Opened destinations: each once, and none in the way of another."""

import asyncio

import pytest

from shared.errors import StoreRefused
from shared.resources import Stores
from shared.settings import Settings, StorageSettings
from shared.storage import Destination
from shared.storage.base import ObjectStore
from shared.storage.memory import MemoryStore


class Opening:
    """Opens stores in memory; one in `/slow/…` only when told to, one in `/refused` never."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.closed: list[ObjectStore] = []
        self.has_begun = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __call__(self, destination: Destination, settings: StorageSettings) -> MemoryStore:
        self.asked.append(str(destination))
        if str(destination) == "/refused":
            raise StoreRefused("not here")
        if str(destination).startswith("/slow"):
            self.has_begun.set()
            await self.may_end.wait()
        return _Noted(self)


class _Noted(MemoryStore):
    """Tells when it is closed."""

    def __init__(self, opening: Opening) -> None:
        super().__init__()
        self._opening = opening

    async def close(self) -> None:
        self._opening.closed.append(self)


@pytest.fixture
def opening() -> Opening:
    return Opening()


@pytest.fixture
def stores(opening: Opening) -> Stores:
    return Stores(Settings(), opener=opening)


async def opened(stores: Stores, url: str) -> ObjectStore:
    """The store, after somebody has used it."""
    async with stores.at(url, None) as store:
        return store


async def test_one_that_opens_slowly_keeps_no_other_waiting(stores: Stores, opening: Opening) -> None:
    slow = asyncio.create_task(opened(stores, "/slow"))
    await opening.has_begun.wait()

    async with asyncio.timeout(5):
        await opened(stores, "/quick")

    assert not slow.done()
    opening.may_end.set()
    await slow


async def test_one_that_several_ask_for_is_opened_once(stores: Stores, opening: Opening) -> None:
    opening.may_end.set()

    first, second = await asyncio.gather(opened(stores, "/slow"), opened(stores, "/slow"))
    third = await opened(stores, "/slow")

    assert first is second is third
    assert opening.asked == ["/slow"]


async def test_who_stops_waiting_stops_nobody_else(stores: Stores, opening: Opening) -> None:
    first = asyncio.create_task(opened(stores, "/slow"))
    second = asyncio.create_task(opened(stores, "/slow"))
    await opening.has_begun.wait()

    first.cancel()
    opening.may_end.set()

    assert await second is await opened(stores, "/slow")
    assert opening.asked == ["/slow"]


async def test_one_that_was_refused_is_asked_for_again(stores: Stores, opening: Opening) -> None:
    for _ in range(2):
        with pytest.raises(StoreRefused):
            await opened(stores, "/refused")

    assert opening.asked == ["/refused", "/refused"]


async def test_one_in_use_is_not_closed_for_a_hundred_others(stores: Stores, opening: Opening) -> None:
    async with stores.at("/used", None) as used:
        for number in range(100):
            await opened(stores, f"/other/{number}")

        assert used not in opening.closed
    assert len(opening.closed) >= 80, "what nobody uses is not kept"
    assert await opened(stores, "/used") is used


async def test_closing_ends_what_is_still_being_opened(stores: Stores, opening: Opening) -> None:
    slow = asyncio.create_task(opened(stores, "/slow"))
    await opening.has_begun.wait()

    await stores.close()

    with pytest.raises(asyncio.CancelledError):
        await slow
