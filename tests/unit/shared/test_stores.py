"""Opened destinations: each once, and none in the way of another."""

import asyncio

import pytest

from shared.errors import StoreRefused
from shared.resources import Stores
from shared.settings import Settings, StorageSettings
from shared.storage import Destination
from shared.storage.memory import MemoryStore


class Opening:
    """Opens stores in memory; one in `/slow/…` only when told to, one in `/refused` never."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.has_begun = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __call__(self, destination: Destination, settings: StorageSettings) -> MemoryStore:
        self.asked.append(str(destination))
        if str(destination) == "/refused":
            raise StoreRefused("not here")
        if str(destination).startswith("/slow"):
            self.has_begun.set()
            await self.may_end.wait()
        return MemoryStore()


@pytest.fixture
def opening() -> Opening:
    return Opening()


@pytest.fixture
def stores(opening: Opening) -> Stores:
    return Stores(Settings(), opener=opening)


async def test_one_that_opens_slowly_keeps_no_other_waiting(stores: Stores, opening: Opening) -> None:
    slow = asyncio.create_task(stores.at("/slow", None))
    await opening.has_begun.wait()

    async with asyncio.timeout(5):
        await stores.at("/quick", None)

    assert not slow.done()
    opening.may_end.set()
    await slow


async def test_one_that_several_ask_for_is_opened_once(stores: Stores, opening: Opening) -> None:
    opening.may_end.set()

    first, second = await asyncio.gather(stores.at("/slow", None), stores.at("/slow", None))
    third = await stores.at("/slow", None)

    assert first is second is third
    assert opening.asked == ["/slow"]


async def test_who_stops_waiting_stops_nobody_else(stores: Stores, opening: Opening) -> None:
    first = asyncio.create_task(stores.at("/slow", None))
    second = asyncio.create_task(stores.at("/slow", None))
    await opening.has_begun.wait()

    first.cancel()
    opening.may_end.set()

    assert await second is await stores.at("/slow", None)
    assert opening.asked == ["/slow"]


async def test_one_that_was_refused_is_asked_for_again(stores: Stores, opening: Opening) -> None:
    for _ in range(2):
        with pytest.raises(StoreRefused):
            await stores.at("/refused", None)

    assert opening.asked == ["/refused", "/refused"]


async def test_closing_ends_what_is_still_being_opened(stores: Stores, opening: Opening) -> None:
    slow = asyncio.create_task(stores.at("/slow", None))
    await opening.has_begun.wait()

    await stores.close()

    with pytest.raises(asyncio.CancelledError):
        await slow
