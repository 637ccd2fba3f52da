"""Manners: how many connections and requests a host sees from all workers together, and when it is left alone.

Each host has a gate. Whoever wants to ask the host takes a permit there; the gate lets in as many as the
current lease allows. One task renews the leases of all gates that need it, in one round trip.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.exceptions import RedisError

from downloader.leases import LEASE_SECONDS, Breaker, Lease, Limit, LoneLeases, RedisLeases, Want
from shared import metrics

#: Gates that come to need a lease at nearly the same time share a round trip.
_GATHER_SECONDS = 0.01
#: A lease in use is renewed this long before it ends.
_RENEW_SECONDS = 2.0
#: After an empty lease a gate asks again.
_ASK_AGAIN_SECONDS = 0.25
#: After an error Redis is left alone this long, and the lone limits hold.
_REDIS_PAUSE_SECONDS = 2.0
#: Gates kept for hosts nobody asks at the moment.
_MAX_GATES = 10_000
#: Asked for where only connections are limited, so that a lease lasts its time.
_UNLIMITED_STARTS = 1_000_000
#: The longest pause a host may ask for.
MAX_RETRY_AFTER_SECONDS = 60.0
_LEASES = {source: metrics.host_leases.labels(source=source) for source in ("redis", "alone")}
_LEFT_ALONE = {why: metrics.hosts_left_alone.labels(why=why) for why in ("breaker", "retry_after")}


class HostLeftAlone(Exception):
    """The host failed too often in a row; it is not asked for the next `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"left alone for {seconds:.0f} s")
        self.seconds = seconds


class Permit:
    """The right to one exchange with a host; tell it how the exchange went."""

    def __init__(self, gate: "_Gate") -> None:
        self._gate = gate

    def succeeded(self) -> None:
        """The host answered, whatever it said."""
        self._gate.succeeded = True
        self._gate.failures = 0

    def failed(self) -> None:
        """The host did not answer, or only with trouble of its own."""
        self._gate.failures += 1

    def retry_after(self, seconds: float) -> None:
        """The host asked to be left alone that long; all workers obey."""
        self._gate.retry_after = max(self._gate.retry_after, min(seconds, MAX_RETRY_AFTER_SECONDS))


class Hosts:
    """The gates of one worker process. Open it in the loop that uses it."""

    def __init__(
        self, client: Any, *, limit_of: Callable[[str], Limit], default: Limit, breaker: Breaker | None = None
    ) -> None:
        breaker = breaker or Breaker()
        self._shared = RedisLeases(client, uuid.uuid4().hex, breaker)
        self._lone = LoneLeases(default, breaker)
        self._limit_of = limit_of
        self._gates: dict[str, _Gate] = {}
        self._needy: set[_Gate] = set()
        self._need = asyncio.Event()
        self._renewing = asyncio.Lock()
        self._is_closing = False
        self._redis_again = 0.0
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Hosts":
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        # The flag as well, because libraries may swallow a cancellation too.
        self._is_closing = True
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        await self.release()
        for gate in self._gates.values():
            gate.close()

    def expect(self, hosts: Mapping[str, int]) -> None:
        """Announces how many exchanges are coming for each host, so that one round trip leases them all."""
        for host, count in hosts.items():
            gate = self._gate(host)
            gate.expected = count
            self._ask(gate)

    def slow_down(self, host: str, delay_seconds: float) -> None:
        """Takes note of a host's own wish for a pause between two requests."""
        self._gate(host).delay_seconds = delay_seconds

    async def release(self) -> None:
        """Gives back what this worker no longer needs, rather than let the others wait for its leases to end."""
        await self._renew([gate for gate in self._gates.values() if gate.is_idle_with_lease])

    async def tell(self) -> None:
        """Returns when all that was seen at the hosts so far is known to the other workers."""
        await self._renew([gate for gate in self._gates.values() if gate.has_news])

    @asynccontextmanager
    async def permit(self, host: str) -> AsyncIterator[Permit]:
        """Waits until the host may be asked. Raises HostLeftAlone."""
        gate = self._gate(host)
        await gate.enter()
        try:
            yield Permit(gate)
        finally:
            gate.leave()
            if gate.has_news:
                self._ask(gate)

    def _gate(self, host: str) -> "_Gate":
        gate = self._gates.get(host)
        if gate is None:
            if len(self._gates) >= _MAX_GATES:
                self._gates = {name: gate for name, gate in self._gates.items() if gate.is_busy}
            gate = self._gates[host] = _Gate(host, self._limit_of(host), self._ask)
        return gate

    def _ask(self, gate: "_Gate") -> None:
        self._needy.add(gate)
        self._need.set()

    async def _keep(self) -> None:
        while not self._is_closing:
            with suppress(TimeoutError):
                # Not `wait_for`: before Python 3.12 it can swallow a cancellation.
                async with asyncio.timeout(_RENEW_SECONDS / 2):
                    await self._need.wait()
                await asyncio.sleep(_GATHER_SECONDS)
            self._need.clear()
            gates = [
                *self._needy,
                *(gate for gate in self._gates.values() if gate.is_ending and gate not in self._needy),
            ]
            self._needy.clear()
            await self._renew(gates)

    async def _renew(self, gates: "list[_Gate]") -> None:
        async with self._renewing:
            if not gates:
                return
            wants = [gate.want() for gate in gates]
            leases = await self._lease(wants)
            for gate, lease in zip(gates, leases, strict=True):
                gate.grant(lease)

    async def _lease(self, wants: list[Want]) -> list[Lease]:
        now = asyncio.get_running_loop().time()
        if now >= self._redis_again:
            try:
                leases = await self._shared.lease(wants)
            except (RedisError, OSError, TimeoutError):
                self._redis_again = now + _REDIS_PAUSE_SECONDS
            else:
                _LEASES["redis"].inc(len(leases))
                return leases
        _LEASES["alone"].inc(len(wants))
        return self._lone.lease(wants)


class _Gate:
    """One host's line. Times are the loop's."""

    def __init__(self, host: str, limit: Limit, ask: "Callable[[_Gate], None]") -> None:
        self.host = host
        self.expected = 0
        self.delay_seconds = 0.0
        self.failures = 0
        self.succeeded = False
        self.retry_after = 0.0
        self._limit = limit
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._line: deque[asyncio.Future[None]] = deque()
        self._in_use = 0
        self._connections = 0
        self._starts = 0
        self._next_start = 0.0
        self._spacing = 0.0
        self._ends = 0.0
        self._closed_until = 0.0
        self._open_until = 0.0
        self._told_failures = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_busy(self) -> bool:
        return bool(self._line or self._in_use)

    @property
    def is_idle_with_lease(self) -> bool:
        return not self.is_busy and self._connections > 1 and self._ends > self._loop.time()

    @property
    def is_ending(self) -> bool:
        """Whether the lease runs out under somebody."""
        return self._in_use > 0 and self._ends - self._loop.time() < _RENEW_SECONDS

    @property
    def has_news(self) -> bool:
        """Whether the other workers should hear what was seen here."""
        return bool(self.failures or self.retry_after or (self.succeeded and self._told_failures))

    async def enter(self) -> None:
        turn: asyncio.Future[None] = self._loop.create_future()
        self._line.append(turn)
        self._advance()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave()
            else:
                with suppress(ValueError):
                    self._line.remove(turn)
            raise

    def leave(self) -> None:
        self._in_use -= 1
        if self.retry_after:
            self._closed_until = max(self._closed_until, self._loop.time() + self.retry_after)
        self._advance()

    def want(self) -> Want:
        """What to ask for; the news is handed over with it."""
        spacing = max(self._limit.spacing_seconds, self.delay_seconds)
        waiting = max(len(self._line), self.expected)
        want = Want(
            host=self.host,
            connections=waiting,
            starts=_UNLIMITED_STARTS if waiting and spacing == 0 else waiting,
            in_use=self._in_use,
            limit=Limit(connections=self._limit.connections, spacing_seconds=spacing),
            retry_after_seconds=self.retry_after,
            failures=self.failures,
            succeeded=self.succeeded,
        )
        self._told_failures = self.failures > 0 or (self._told_failures and not self.succeeded)
        self.retry_after, self.failures, self.succeeded, self.expected = 0.0, 0, False, 0
        return want

    def grant(self, lease: Lease) -> None:
        now = self._loop.time()
        self._connections = lease.connections
        self._starts = lease.starts
        self._next_start = now + lease.first_start_in
        self._spacing = lease.spacing_seconds
        self._ends = now + LEASE_SECONDS
        self._count(lease, now)
        self._open_until = now + lease.open_seconds
        self._closed_until = max(self._closed_until, now + lease.wait_seconds)
        if self._line and lease.starts == 0:
            self._closed_until = max(self._closed_until, now + _ASK_AGAIN_SECONDS)
        self._advance()

    def _count(self, lease: Lease, now: float) -> None:
        if lease.open_seconds > 0 and self._open_until <= now:
            _LEFT_ALONE["breaker"].inc()
        if lease.wait_seconds > 0 and self._closed_until <= now:
            _LEFT_ALONE["retry_after"].inc()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _advance(self) -> None:
        """Lets in whoever may go now; sees to it that it is called again for the others."""
        now = self._loop.time()
        if self._open_until > now:
            self._turn_away(self._open_until - now)
        while self._line and self._may_start(now):
            turn = self._line.popleft()
            if not turn.done():
                self._starts -= 1
                self._next_start += self._spacing
                self._in_use += 1
                turn.set_result(None)
        if self._line:
            self._wait(now)

    def _may_start(self, now: float) -> bool:
        self._skip_missed(now)
        has_room = self._in_use < self._connections and self._starts > 0
        return has_room and now < self._ends and now >= max(self._next_start, self._closed_until)

    def _skip_missed(self, now: float) -> None:
        """Starts that were not used in their time are lost: the host never sees them in a burst."""
        if self._spacing > 0 and now > self._next_start:
            missed = min(self._starts, int((now - self._next_start) / self._spacing))
            self._starts -= missed
            self._next_start += missed * self._spacing

    def _wait(self, now: float) -> None:
        if self._closed_until > now:
            self._call_at(self._closed_until)
        elif self._starts <= 0 or now >= self._ends or self._connections == 0:
            self._ask(self)
        elif self._next_start > now:
            self._call_at(self._next_start)

    def _call_at(self, when: float) -> None:
        if self._timer is not None:
            if self._loop.time() < self._timer.when() <= when and not self._timer.cancelled():
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._advance)

    def _turn_away(self, seconds: float) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_exception(HostLeftAlone(seconds))
