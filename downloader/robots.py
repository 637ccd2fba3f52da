"""robots.txt (RFC 9309): read once a day for each scheme, host and port, by all workers together.

    memory of this process ──▶ Redis ──▶ the host, through guard, gate and engine

4xx means everything is allowed; 5xx or silence means nothing is, for a while.
"""

import asyncio
import time
import zlib
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from redis.exceptions import RedisError

from downloader.hosts import Hosts
from downloader.pack import Opening
from downloader.retry import may_pass
from downloader.rules import MAX_ROBOTS_BYTES, Rules, read_rules
from downloader.web import Outcome, Web, Wish
from shared.guard import Refusal, Target
from shared.reasons import Reason

LIFETIME_SECONDS = 24 * 3600
#: A host that could not be asked is asked again after this.
UNREACHABLE_SECONDS = 600
_MAX_PARSED = 4_000
#: Parsed rules take twenty times and more the room of their text, and a list may bring thousands of large ones.
_MAX_PARSED_BYTES = 8 * 1024 * 1024
_DEADLINE_SECONDS = 15.0
#: A chunk brings hundreds of hosts at once; the client's connections are for others too.
_REDIS_AT_ONCE = 4
_KEY = "pixcrawler:robots:"

#: A host that cannot be reached at all is called that, not a robots problem.
_SAID_AS_IS = frozenset({Reason.CONNECT_FAILED, Reason.CONNECT_TIMEOUT, Reason.TLS_INVALID, Reason.HOST_CIRCUIT_OPEN})
#: What is remembered of a host: a mark; after `_RULES` the compressed text, after `_UNREACHABLE` the reason.
_ALLOWED, _UNREACHABLE, _RULES = b"a", b"u", b"r"


@dataclass(frozen=True, slots=True)
class _Known:
    refusal: Refusal | None
    rules: Rules | None
    expires: float

    @property
    def size_bytes(self) -> int:
        return self.rules.size_bytes if self.rules is not None else 0


class Robots:
    """What hosts allow. Belongs to one event loop."""

    def __init__(self, redis: Any, web: Web, hosts: Hosts) -> None:
        self._redis = redis
        self._web = web
        self._hosts = hosts
        self._redis_free = asyncio.Semaphore(_REDIS_AT_ONCE)
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._known_bytes = 0
        self._asked: dict[str, asyncio.Task[_Known]] = {}

    async def admit(self, target: Target) -> Refusal | None:
        """Why the target may not be fetched; None when it may."""
        known = await self._known_of(target)
        if known.refusal is not None:
            return known.refusal
        if known.rules is not None and not await known.rules.allow(target.url):
            return Refusal(Reason.ROBOTS_DISALLOWED, "robots")
        return None

    async def close(self) -> None:
        for task in self._asked.values():
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)

    async def _known_of(self, target: Target) -> _Known:
        known = self._known.get(target.origin)
        if known is not None and known.expires > time.monotonic():
            return known
        task = self._asked.get(target.origin)
        if task is None:
            task = self._asked[target.origin] = asyncio.create_task(self._learn(target))
            task.add_done_callback(lambda _: self._asked.pop(target.origin, None))
        return await asyncio.shield(task)

    async def _learn(self, target: Target) -> _Known:
        record, lifetime = await self._recall(target.origin)
        if record is None:
            record = await self._ask(target)
            lifetime = UNREACHABLE_SECONDS if record.startswith(_UNREACHABLE) else LIFETIME_SECONDS
            await self._remember(target.origin, record, lifetime)
        known = await self._understand(record, lifetime)
        self._take_delay(target, known)
        self._keep(target.origin, known)
        return known

    def _keep(self, origin: str, known: _Known) -> None:
        self._forget(origin)
        self._known[origin] = known
        self._known_bytes += known.size_bytes
        while len(self._known) > _MAX_PARSED or self._known_bytes > _MAX_PARSED_BYTES:
            self._forget(next(iter(self._known)))

    def _forget(self, origin: str) -> None:
        known = self._known.pop(origin, None)
        if known is not None:
            self._known_bytes -= known.size_bytes

    async def _ask(self, target: Target) -> bytes:
        place = Target(
            scheme=target.scheme, host=target.host, port=target.port, path="/robots.txt", literal=target.literal
        )
        wish = Wish(
            judge=lambda _: None, make_body=lambda: Opening(MAX_ROBOTS_BYTES), deadline_seconds=_DEADLINE_SECONDS
        )
        outcome = await self._web.get(place, wish)
        if outcome.reason is not None and may_pass(outcome.reason, 0):
            outcome = await self._web.get(place, replace(wish, attempt=1))  # a whole host hangs on this answer
        return _record_of(outcome)

    async def _recall(self, origin: str) -> tuple[bytes | None, float]:
        with suppress(RedisError, OSError, TimeoutError):
            async with self._redis_free, self._redis.pipeline(transaction=False) as pipeline:
                pipeline.get(_KEY + origin)
                pipeline.ttl(_KEY + origin)
                record, lifetime = await pipeline.execute()
            return record, max(0, lifetime)
        return None, 0

    async def _remember(self, origin: str, record: bytes, lifetime: int) -> None:
        with suppress(RedisError, OSError, TimeoutError):
            async with self._redis_free:
                await self._redis.set(_KEY + origin, record, ex=lifetime)

    async def _understand(self, record: bytes, lifetime: float) -> _Known:
        rules = await read_rules(record[1:]) if record.startswith(_RULES) else None
        return _Known(_refusal_of(record), rules, time.monotonic() + lifetime)

    def _take_delay(self, target: Target, known: _Known) -> None:
        if known.rules is not None and known.rules.crawl_delay_seconds:
            self._hosts.slow_down(target.host, known.rules.crawl_delay_seconds)


def _record_of(outcome: Outcome) -> bytes:
    status, body = outcome.answer.head.status, outcome.answer.body
    if outcome.reason is None and body is not None:
        text = body.read()
        return _RULES + zlib.compress(text) if text.strip() else _ALLOWED
    if outcome.reason in (None, Reason.REDIRECT_LIMIT, Reason.REDIRECT_BLOCKED) and status < 500 and status != 429:
        return _ALLOWED  # the RFC: unavailable, as if there were none
    reason = outcome.reason if outcome.reason in _SAID_AS_IS else Reason.ROBOTS_UNREACHABLE
    return _UNREACHABLE + reason.value.encode()


def _refusal_of(record: bytes) -> Refusal | None:
    if not record.startswith(_UNREACHABLE):
        return None
    return Refusal(Reason(record[1:].decode()), "robots")
