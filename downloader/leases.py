"""Where the right to ask a host comes from: blocks of connections and starts, for a few seconds at a time.

`RedisLeases` shares each host's limits among all workers. `LoneLeases` is what a worker allows itself while
Redis is away: one connection and an eighth of the rate, never more.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import ceil
from typing import Any

#: A block lasts this long: a crashed worker's share is free again after it.
LEASE_SECONDS = 5.0
#: With Redis away a host sees this part of its rate from each worker.
LONE_PART = 8
_KEY = "pixcrawler:host:"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """What a host may be asked to bear."""

    connections: int
    #: Between two starts; 0: no limit.
    spacing_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Want:
    """What a worker needs of a host, and what it has seen there since it last asked."""

    host: str
    starts: int
    #: Beside those in use.
    connections: int
    in_use: int
    limit: Limit
    retry_after_seconds: float = 0.0
    failures: int = 0  #: at the end, in a row
    succeeded: bool = False  #: before those


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """What a worker may do to a host for `LEASE_SECONDS`."""

    connections: int
    starts: int
    first_start_in: float
    spacing_seconds: float
    wait_seconds: float = 0.0  #: the host asked for a pause
    open_seconds: float = 0.0  #: the breaker is open


@dataclass(frozen=True, kw_only=True, slots=True)
class Breaker:
    """When a host is left alone."""

    failures: int = 10
    seconds: float = 60.0


class RedisLeases:
    """One script call for all hosts that need something. Raises redis.RedisError when Redis is away."""

    def __init__(self, redis: Any, worker: str, breaker: Breaker) -> None:
        self._script = redis.register_script(files("downloader").joinpath("hosts.lua").read_text())
        self._opening = (worker, round(LEASE_SECONDS * 1000), breaker.failures, round(breaker.seconds * 1000))

    async def lease(self, wants: Sequence[Want]) -> list[Lease]:
        arguments = [*self._opening]
        for want in wants:
            arguments += _numbers(want)
        numbers = await self._script(keys=[_KEY + want.host for want in wants], args=arguments)
        return [_lease(want, numbers[place * 5 : place * 5 + 5]) for place, want in enumerate(wants)]


def _numbers(want: Want) -> tuple[int, ...]:
    return (
        want.starts,
        want.connections,
        want.in_use,
        want.limit.connections,
        round(want.limit.spacing_seconds * 1000),
        round(want.retry_after_seconds * 1000),
        want.failures,
        int(want.succeeded),
    )


def _lease(want: Want, numbers: Sequence[int]) -> Lease:
    connections, starts, first, wait, is_open = numbers
    return Lease(
        connections=connections,
        starts=starts,
        first_start_in=first / 1000,
        spacing_seconds=want.limit.spacing_seconds,
        wait_seconds=wait / 1000,
        open_seconds=is_open / 1000,
    )


@dataclass(slots=True)
class _Memory:
    next_start: float = 0.0
    failed: int = 0
    open_until: float = 0.0
    wait_until: float = 0.0


class LoneLeases:
    """The same answers without Redis, for this worker alone and with much tighter limits."""

    def __init__(self, default: Limit, breaker: Breaker, clock: Callable[[], float] = time.monotonic) -> None:
        self._default = default
        self._breaker = breaker
        self._clock = clock
        self._hosts: dict[str, _Memory] = {}

    def lease(self, wants: Sequence[Want]) -> list[Lease]:
        self._forget()
        return [self._lease(want, self._hosts.setdefault(want.host, _Memory())) for want in wants]

    def _lease(self, want: Want, memory: _Memory) -> Lease:
        now = self._clock()
        self._learn(want, memory, now)
        spacing = LONE_PART * (want.limit.spacing_seconds or self._default.spacing_seconds or 0.1)
        first = max(memory.next_start, now)
        may_start = max(memory.open_until, memory.wait_until) <= now
        starts = min(want.starts, max(0, ceil((now + LEASE_SECONDS - first) / spacing))) if may_start else 0
        memory.next_start = first + starts * spacing
        return Lease(
            connections=max(1, want.in_use),
            starts=starts,
            first_start_in=first - now,
            spacing_seconds=spacing,
            wait_seconds=max(0.0, memory.wait_until - now),
            open_seconds=max(0.0, memory.open_until - now),
        )

    def _learn(self, want: Want, memory: _Memory, now: float) -> None:
        memory.failed = want.failures + (0 if want.succeeded else memory.failed)
        if memory.failed >= self._breaker.failures:
            memory.open_until = max(memory.open_until, now + self._breaker.seconds)
            memory.failed = self._breaker.failures - 1
        if want.retry_after_seconds > 0:
            memory.wait_until = max(memory.wait_until, now + want.retry_after_seconds)

    def _forget(self) -> None:
        now = self._clock()
        if len(self._hosts) > 10_000:
            recent = now - self._breaker.seconds
            self._hosts = {host: memory for host, memory in self._hosts.items() if memory.next_start > recent}
