"""Names, asked once, checked, and remembered briefly."""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from downloader.resolver import FAILURE_SECONDS, SUCCESS_SECONDS, Resolver, look_up
from shared.guard import Guard, Refusal, Target
from shared.reasons import Reason

ZONE: dict[str, tuple[str, ...] | Exception] = {
    "good.com": ("93.184.216.34", "2606:4700::1111"),
    "mixed.com": ("93.184.216.34", "127.0.0.1"),
    "empty.com": (),
    "gone.com": socket.gaierror(socket.EAI_NONAME, "no such name"),
    "tired.com": socket.gaierror(socket.EAI_AGAIN, "try again"),
    "broken.com": OSError("no descriptors"),
}


class Names:
    """A name server, a clock, and a resolver between them."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.now = 0.0
        self.is_open = threading.Event()
        self.is_open.set()
        self.resolver = Resolver(Guard(), lookup=self.look_up, clock=lambda: self.now, timeout_seconds=5)

    def look_up(self, host: str) -> tuple[str, ...]:
        self.asked[host] += 1
        self.is_open.wait(10)
        answer = ZONE[host]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def resolve(self, host: str) -> tuple[str, ...] | Refusal:
        return await self.resolver.resolve(target(host))


def target(host: str) -> Target:
    found = Guard().check_url(f"http://{host}/")
    assert isinstance(found, Target)
    return found


@pytest.fixture
async def names() -> AsyncIterator[Names]:
    names = Names()
    yield names
    names.is_open.set()
    await names.resolver.close()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("good.com", ("93.184.216.34", "2606:4700::1111")),
        ("8.8.8.8", ("8.8.8.8",)),
        ("mixed.com", Refusal(Reason.BLOCKED_ADDRESS, "loopback")),
        ("empty.com", Refusal(Reason.DNS_NOT_FOUND, "no_address")),
        ("gone.com", Refusal(Reason.DNS_NOT_FOUND, "no_such_name")),
        ("tired.com", Refusal(Reason.DNS_TEMPORARY, "resolver")),
        ("broken.com", Refusal(Reason.DNS_TEMPORARY, "system")),
    ],
)
async def test_an_answer_is_checked_or_a_reason(names: Names, host: str, expected: tuple[str, ...] | Refusal) -> None:
    assert await names.resolve(host) == expected


async def test_many_who_ask_at_once_cost_one_lookup(names: Names) -> None:
    names.is_open.clear()
    asking = [asyncio.create_task(names.resolve("good.com")) for _ in range(20)]
    await asyncio.sleep(0)
    names.is_open.set()

    answers = await asyncio.gather(*asking)

    assert set(answers) == {("93.184.216.34", "2606:4700::1111")}
    assert names.asked["good.com"] == 1


async def test_who_gives_up_waiting_takes_nobody_along(names: Names) -> None:
    names.is_open.clear()
    impatient = asyncio.create_task(names.resolve("good.com"))
    patient = asyncio.create_task(names.resolve("good.com"))
    await asyncio.sleep(0)

    impatient.cancel()
    names.is_open.set()

    assert isinstance(await patient, tuple)


@pytest.mark.parametrize(("host", "lifetime"), [("good.com", SUCCESS_SECONDS), ("gone.com", FAILURE_SECONDS)])
async def test_an_answer_is_asked_again_after_its_time(names: Names, host: str, lifetime: float) -> None:
    await names.resolve(host)

    names.now = lifetime - 0.1
    await names.resolve(host)
    assert names.asked[host] == 1

    names.now = lifetime + 0.1
    await names.resolve(host)
    assert names.asked[host] == 2


async def test_a_resolver_that_hangs_is_temporary_trouble(names: Names) -> None:
    names.is_open.clear()
    hasty = Resolver(Guard(), lookup=names.look_up, timeout_seconds=0.01)

    answer = await hasty.resolve(target("good.com"))

    names.is_open.set()
    await hasty.close()
    assert answer == Refusal(Reason.DNS_TEMPORARY, "timeout")


def test_the_root_dot_keeps_search_domains_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(name: str, *_: object, **__: object) -> list[object]:
        asked.append(name)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", answer)

    look_up("a.b.com")
    look_up("fixtures")

    assert asked == ["a.b.com.", "fixtures"]
