"""The guard stands at four places; each is taken away in turn, on real sockets, and the others still refuse.

    url       the text of a row, and of a redirect's first hop
    redirect  the text of every further hop
    answer    what a resolver says of a name
    socket    the address about to be dialled

The victim listens on 127.0.0.1, which is not allowed; 127.0.0.2 is, and sends us there.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from downloader.engine import Engine
from downloader.hosts import Hosts, Limit
from downloader.pack import Body
from downloader.resolver import Resolver
from downloader.transfer import Request
from downloader.web import Outcome, Web, Wish
from shared.guard import ANY_PORT, Guard, Policy, Refusal, Target, networks, parsed
from tests.origin import Origin

_LIMIT = Limit(connections=8, spacing_seconds=0.0)
INSIDE = "inside.pixcrawler-tests.com"
SEAMS = ("url", "redirect", "answer", "socket")


class LeakyGuard(Guard):
    """A guard that stands at some of its places only."""

    def __init__(self, policy: Policy, without: Sequence[str]) -> None:
        super().__init__(policy)
        self._without = without

    def check_url(self, url: str | None) -> Target | Refusal:
        return parsed(url) if "url" in self._without else super().check_url(url)

    def check_redirect(self, source: Target, location: str | None) -> Target | Refusal:
        return parsed(location) if "redirect" in self._without else super().check_redirect(source, location)

    def check_answer(self, host: str, addresses: Sequence[str]) -> Refusal | None:
        return None if "answer" in self._without else super().check_answer(host, addresses)


class LeakyWeb(Web):
    """The way out, whose sockets may open without a look at the address."""

    def __init__(self, *, dials_anything: bool, **parts: Any) -> None:
        super().__init__(**parts)
        self._dials_anything = dials_anything

    def _request(self, target: Target, address: str, wish: Wish, seconds: float) -> Request:
        request = super()._request(target, address, wish, seconds)
        if self._dials_anything:
            object.__setattr__(request, "check_address", lambda *_: None)
        return request


@pytest.fixture
async def victim() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        yield origin


@pytest.fixture
async def accomplice() -> AsyncIterator[Origin]:
    """A page of the allowed web that sends its visitors inside."""
    async with Origin(host="127.0.0.2") as origin:
        yield origin


@asynccontextmanager
async def open_web(redis_url: str, victim: Origin, without: Sequence[str]) -> AsyncIterator[Web]:
    policy = Policy(
        ports=frozenset({victim.port}),
        allow_cidrs=networks(["127.0.0.2/32"]),
        allow_ports=frozenset({ANY_PORT}),
    )
    guard = LeakyGuard(policy, without)
    resolver = Resolver(guard, threads=1, lookup=lambda _: ("127.0.0.1",))
    redis = Redis.from_url(redis_url)
    try:
        async with (
            Engine(slots=2, agent="tests") as engine,
            Hosts(redis, limit_of=lambda _: _LIMIT, default=_LIMIT) as hosts,
        ):
            yield LeakyWeb(
                dials_anything="socket" in without,
                engine=engine,
                resolver=resolver,
                guard=guard,
                hosts=hosts,
                transfers=2,
                connect_timeout_seconds=5,
                stall_seconds=5,
            )
    finally:
        await resolver.close()
        await redis.aclose()


async def visit(web: Web, url: str) -> Outcome | Refusal:
    target = web.guard.check_url(url)
    if isinstance(target, Refusal):
        return target
    return await web.get(target, Wish(judge=lambda _: None, make_body=lambda: Body(10_000), deadline_seconds=10))


WAYS: dict[str, Callable[[Origin, Origin], str]] = {
    "a literal address": lambda victim, _: victim.url("/image/a"),
    "a name": lambda victim, _: victim.url("/image/a", host=INSIDE),
    "a redirect to a literal address": lambda victim, ally: ally.redirect_to(victim.url("/image/a")),
    "a redirect to a name": lambda victim, ally: ally.redirect_to(victim.url("/image/a", host=INSIDE)),
}


@pytest.mark.parametrize("without", SEAMS)
@pytest.mark.parametrize("way", WAYS)
async def test_without_any_one_seam_the_others_still_refuse(
    redis_url: str, victim: Origin, accomplice: Origin, way: str, without: str
) -> None:
    async with open_web(redis_url, victim, [without]) as web:
        outcome = await visit(web, WAYS[way](victim, accomplice))

    assert isinstance(outcome, Refusal) or outcome.reason is not None
    assert victim.connections == 0


@pytest.mark.parametrize("way", WAYS)
async def test_without_all_seams_the_victim_is_reached(
    redis_url: str, victim: Origin, accomplice: Origin, way: str
) -> None:
    async with open_web(redis_url, victim, SEAMS) as web:
        outcome = await visit(web, WAYS[way](victim, accomplice))

    assert isinstance(outcome, Outcome)
    assert victim.connections == 1, "or the tests above would prove nothing"
