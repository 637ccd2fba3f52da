"""Names become addresses here, and only here: looked up by us, checked by the guard, remembered briefly."""

import asyncio
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from shared.guard import Guard, Refusal, Target
from shared.reasons import Reason

#: A checked answer is used for at most this long, whatever its record says.
SUCCESS_SECONDS = 60.0
#: A failure is asked again soon.
FAILURE_SECONDS = 5.0
#: Hosts remembered: fifty chunks' worth of a web-scale list.
MAX_HOSTS = 20_000

#: Looks a name up and returns its addresses. Raises socket.gaierror.
Lookup = Callable[[str], tuple[str, ...]]
Answer = tuple[str, ...] | Refusal

_NOT_FOUND = frozenset(
    code for code in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None), socket.EAI_FAIL) if code is not None
)


@dataclass(frozen=True, slots=True)
class _Known:
    answer: Answer
    expires: float


class Resolver:
    """Resolves each name once at a time. Belongs to one event loop; close it."""

    def __init__(
        self,
        guard: Guard,
        *,
        timeout_seconds: float = 5.0,
        threads: int = 32,
        lookup: Lookup | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._guard = guard
        self._timeout_seconds = timeout_seconds
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="resolver")
        self._free = asyncio.Semaphore(threads)
        self._lookup = lookup or look_up
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asked: dict[str, asyncio.Task[Answer]] = {}

    async def resolve(self, target: Target) -> Answer:
        """The target's addresses, at least one and each of them allowed; or why there are none."""
        if target.literal is not None:
            return (str(target.literal),)
        known = self._known.get(target.host)
        if known is not None and known.expires > self._clock():
            return known.answer
        return await asyncio.shield(self._ask(target.host))

    async def close(self) -> None:
        """Stops asking. Threads inside the system's resolver end by its own limits; nobody waits for them."""
        for task in self._asked.values():
            task.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, host: str) -> "asyncio.Task[Answer]":
        task = self._asked.get(host)
        if task is None:
            task = self._asked[host] = asyncio.create_task(self._find(host))
            task.add_done_callback(lambda _: self._asked.pop(host, None))
        return task

    async def _find(self, host: str) -> Answer:
        answer = await self._checked(host)
        lifetime = FAILURE_SECONDS if isinstance(answer, Refusal) else SUCCESS_SECONDS
        self._known[host] = _Known(answer, self._clock() + lifetime)
        self._known.move_to_end(host)
        if len(self._known) > MAX_HOSTS:
            self._known.popitem(last=False)
        return answer

    async def _checked(self, host: str) -> Answer:
        try:
            addresses = await self._look_up(host)
        except TimeoutError:
            return Refusal(Reason.DNS_TEMPORARY, "timeout")
        except socket.gaierror as error:
            if error.errno in _NOT_FOUND:
                return Refusal(Reason.DNS_NOT_FOUND, "no_such_name")
            return Refusal(Reason.DNS_TEMPORARY, "resolver")
        except OSError:
            return Refusal(Reason.DNS_TEMPORARY, "system")
        if not addresses:
            return Refusal(Reason.DNS_NOT_FOUND, "no_address")
        return self._guard.check_answer(host, addresses) or addresses

    async def _look_up(self, host: str) -> tuple[str, ...]:
        # A thread that hangs keeps its place, so names in line never outnumber threads. The limit is on the lookup.
        await self._free.acquire()
        work = asyncio.get_running_loop().run_in_executor(self._pool, self._lookup, host)
        work.add_done_callback(self._give_back)
        async with asyncio.timeout(self._timeout_seconds):
            return await asyncio.shield(work)

    def _give_back(self, work: "asyncio.Future[tuple[str, ...]]") -> None:
        self._free.release()
        if not work.cancelled():
            work.exception()  # a late failure is nobody's business


def look_up(host: str) -> tuple[str, ...]:
    """Asks the system. The root dot keeps search domains out of it: `a.b` must not become `a.b.svc.cluster.local`."""
    name = host if "." not in host else host + "."
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return tuple(dict.fromkeys(str(place[0]) for *_, place in found))
