"""The engine by itself: what happens when it ends, and what it checks at the last moment."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from downloader.engine import Engine, EngineStopped
from downloader.pack import Body
from downloader.transfer import DialCheck, Request
from shared.guard import ANY_PORT, Guard, Policy, Refusal, Target, networks
from shared.reasons import Reason
from tests.origin import Origin, picture

GUARD = Guard(Policy(allow_cidrs=networks(["127.0.0.0/8"]), allow_ports=frozenset({ANY_PORT})))


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    async with Engine(slots=4, agent="tests") as engine:
        yield engine


def request(url: str, check_address: DialCheck = GUARD.check_address, address: str = "127.0.0.1") -> Request:
    target = GUARD.check_url(url)
    assert isinstance(target, Target)
    return Request(
        target=target,
        address=address,
        check_address=check_address,
        judge=lambda _: None,
        make_body=lambda: Body(10_000_000),
        connect_timeout_seconds=5,
        stall_seconds=10,
        deadline_seconds=10,
    )


async def test_more_requests_than_slots_wait_in_line(engine: Engine, origin: Origin) -> None:
    urls = [origin.url(f"/image/{number}") for number in range(100)]

    answers = await asyncio.gather(*(engine.fetch(request(url)) for url in urls))

    assert [answer.body.read() for answer in answers if answer.body] == [picture(f"/image/{n}") for n in range(100)]
    assert origin.busiest <= 4


async def test_the_address_is_checked_again_when_the_socket_opens(engine: Engine, origin: Origin) -> None:
    asked: list[tuple[str, str]] = []

    def refuse(host: str, address: str) -> Refusal:
        asked.append((host, address))
        return Refusal(Reason.BLOCKED_ADDRESS, "loopback")

    answer = await engine.fetch(request(origin.url("/image/a"), refuse))

    assert (answer.reason, answer.detail) == (Reason.BLOCKED_ADDRESS, "loopback")
    assert asked == [("127.0.0.1", "127.0.0.1")]
    assert origin.connections == 0


async def test_the_pinned_address_is_dialled_whatever_the_url_says(engine: Engine, origin: Origin) -> None:
    elsewhere = f"http://127.99.99.99:{origin.port}/image/a"

    answer = await engine.fetch(request(elsewhere))

    assert answer.head.status == 200
    assert origin.requests[0].headers["host"] == f"127.99.99.99:{origin.port}"


async def test_who_waits_when_it_closes_is_told(origin: Origin) -> None:
    async with Engine(slots=1, agent="tests") as engine:
        under_way = asyncio.ensure_future(engine.fetch(request(origin.url("/held"))))
        in_line = asyncio.ensure_future(engine.fetch(request(origin.url("/image/a"))))
        await asyncio.wait_for(origin.is_holding.wait(), 5)

    for waiting in (under_way, in_line):
        with pytest.raises(EngineStopped):
            await asyncio.wait_for(waiting, 5)
    with pytest.raises(EngineStopped):
        await engine.fetch(request(origin.url("/image/a")))


async def test_a_withdrawn_request_frees_its_slot(origin: Origin) -> None:
    async with Engine(slots=1, agent="tests") as engine:
        waiting = asyncio.ensure_future(engine.fetch(request(origin.url("/held"))))
        await asyncio.wait_for(origin.is_holding.wait(), 5)
        waiting.cancel()

        answer = await asyncio.wait_for(engine.fetch(request(origin.url("/image/a"))), 5)

    assert answer.head.status == 200


async def test_a_body_that_cannot_be_kept_fails_its_own_request_only(engine: Engine, origin: Origin) -> None:
    class Broken(Body):
        def write(self, piece: bytes) -> None:
            raise OSError("no such luck")

    good = request(origin.url("/image/a"))
    bad = replace(request(origin.url("/image/b")), make_body=lambda: Broken(10_000))

    with pytest.raises(OSError, match="no such luck"):
        await engine.fetch(bad)

    assert (await engine.fetch(good)).head.status == 200
