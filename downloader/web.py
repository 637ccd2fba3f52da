"""One GET, redirects included: every hop is checked, resolved, let in by its host's gate and carried out."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from downloader.condition import Condition
from downloader.hosts import HostLeftAlone, Hosts, Permit
from downloader.pack import Body
from downloader.resolver import Resolver
from downloader.retry import retry_after_of
from downloader.transfer import Answer, Head, Judge, Request
from shared.guard import Guard, Refusal, Target
from shared.reasons import Reason

#: Rows that waited for one host do not all come back in the same moment.
_SPREAD_SECONDS = 5.0
MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

#: Answers that count against a host; any other means that it works.
_HOST_TROUBLE = frozenset(
    {
        Reason.CONNECT_FAILED,
        Reason.CONNECT_TIMEOUT,
        Reason.CONNECTION_RESET,
        Reason.DEADLINE,
        Reason.TOO_SLOW,
        Reason.TLS_INVALID,
    }
)

#: May refuse a hop for reasons of its own, such as robots.txt.
Admit = Callable[[Target], Awaitable[Refusal | None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """How a URL is to be fetched."""

    judge: Judge
    make_body: Callable[[], Body]
    #: For all hops together; waiting for a host's gate does not count.
    deadline_seconds: float
    #: From 0: later attempts try the next of a name's addresses.
    attempt: int = 0
    admit: Admit | None = None
    condition: Condition | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How it ended: where, after how long, and with which answer. No head when nothing was sent."""

    target: Target
    seconds: float
    answer: Answer

    @property
    def reason(self) -> Reason | None:
        return self.answer.reason


class Transport(Protocol):
    """Carries out one exchange: `downloader.engine`, or a script in its place. A failure is an answer."""

    async def fetch(self, request: Request) -> Answer: ...


class Web:
    """The way out, shared by images and robots.txt."""

    def __init__(
        self,
        *,
        engine: Transport,
        resolver: Resolver,
        guard: Guard,
        hosts: Hosts,
        transfers: int,
        connect_timeout_seconds: float,
        stall_seconds: int,
    ) -> None:
        self.guard = guard
        self._engine = engine
        self._resolver = resolver
        self._hosts = hosts
        self._free = asyncio.Semaphore(transfers)
        self._connect_timeout_seconds = connect_timeout_seconds
        self._stall_seconds = stall_seconds

    async def get(self, target: Target, wish: Wish) -> Outcome:
        """Follows the target to its end. A failure is an outcome. Raises WorkAreaFull from a body."""
        spent = 0.0
        for _ in range(MAX_REDIRECTS + 1):
            answer, seconds = await self._hop(target, wish, wish.deadline_seconds - spent)
            spent += seconds
            following = self._following(target, answer)
            if following is None:
                return Outcome(target=target, seconds=spent, answer=answer)
            if isinstance(following, Refusal):
                return Outcome(target=target, seconds=spent, answer=_refused(following, answer.head))
            target = following
        return Outcome(
            target=target, seconds=spent, answer=_refused(Refusal(Reason.REDIRECT_LIMIT, "hops"), answer.head)
        )

    def _following(self, target: Target, answer: Answer) -> Target | Refusal | None:
        if answer.reason is not None or answer.head.status not in _REDIRECTS:
            return None
        location = answer.head.get("location")
        return self.guard.check_redirect(target, _as_sent(location)) if location else None

    async def _hop(self, target: Target, wish: Wish, seconds_left: float) -> tuple[Answer, float]:
        addresses = await self._resolver.resolve(target)
        if isinstance(addresses, Refusal):
            return _refused(addresses), 0.0
        refusal = await wish.admit(target) if wish.admit else None
        if refusal is not None:
            return _refused(refusal), 0.0
        if seconds_left <= 0:
            return _refused(Refusal(Reason.DEADLINE, "redirects")), 0.0
        request = self._request(target, addresses[wish.attempt % len(addresses)], wish, seconds_left)
        try:
            return await self._exchange_patiently(request)
        except HostLeftAlone:
            return _refused(Refusal(Reason.HOST_CIRCUIT_OPEN, "breaker")), 0.0

    async def _exchange_patiently(self, request: Request) -> tuple[Answer, float]:
        """Waits once until a host that was left alone may be asked again: it, or our own network, may be back."""
        try:
            return await self._exchange(request)
        except HostLeftAlone as alone:
            await asyncio.sleep(alone.seconds + random.uniform(0, min(alone.seconds, _SPREAD_SECONDS)))
        return await self._exchange(request)

    async def _exchange(self, request: Request) -> tuple[Answer, float]:
        async with self._hosts.permit(request.target.host) as permit, self._free:
            started = time.monotonic()
            answer = await self._engine.fetch(request)
            _tell(permit, answer)
        return answer, time.monotonic() - started

    def _request(self, target: Target, address: str, wish: Wish, seconds: float) -> Request:
        return Request(
            target=target,
            address=address,
            check_address=self.guard.check_address,
            judge=wish.judge,
            make_body=wish.make_body,
            connect_timeout_seconds=self._connect_timeout_seconds,
            stall_seconds=self._stall_seconds,
            deadline_seconds=seconds,
            headers=wish.condition.headers_for(target) if wish.condition else (),
        )


def _as_sent(location: str) -> str:
    """A Location that hosts send in UTF-8, against the rules, as browsers read it; any other stays Latin-1."""
    try:
        return location.encode("latin-1").decode()
    except UnicodeError:
        return location


def _tell(permit: Permit, answer: Answer) -> None:
    status = answer.head.status
    if answer.reason in _HOST_TROUBLE or status >= 500:
        permit.failed()
    else:
        permit.succeeded()
    if status in (429, 503):
        permit.retry_after(retry_after_of(answer.head) or 0.0)


def _refused(refusal: Refusal, head: Head | None = None) -> Answer:
    return Answer(head=head or Head(), reason=refusal.reason, detail=refusal.detail)
