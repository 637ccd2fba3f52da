"""One libcurl multi in a thread of its own: requests go in, answers come out in batches.

    event loop ── deque + wake-up ──▶ thread: select, socket_action ──▶ call_soon_threadsafe, once a batch

The multi and its handles live as long as the process, so connections and TLS sessions outlast a chunk.
Only pinned, checked addresses are dialled, and each is checked again when its socket opens. Nothing is taken
from the environment: no proxy, no netrc, no cookies, no redirects.
"""

import asyncio
import selectors
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass

import pycurl

from downloader.transfer import Answer, Request, Transfer

#: The thread looks up this often though nothing calls it.
_LONGEST_WAIT_SECONDS = 1.0
_SELECT_OF = {
    pycurl.POLL_IN: selectors.EVENT_READ,
    pycurl.POLL_OUT: selectors.EVENT_WRITE,
    pycurl.POLL_INOUT: selectors.EVENT_READ | selectors.EVENT_WRITE,
}


class EngineStopped(Exception):
    """The engine is closed or broke; whoever waits for an answer gets none."""


@dataclass(frozen=True, slots=True)
class _Order:
    request: Request
    answer: asyncio.Future[Answer]


class Engine:
    """Carries out up to `slots` transfers at once; more wait in line. Belongs to the event loop that opened it."""

    def __init__(self, *, slots: int, agent: str, ca_file: str | None = None) -> None:
        self._slots = slots
        self._agent = agent
        self._ca_file = ca_file
        self._orders: deque[_Order] = deque()
        self._withdrawn: deque[_Order] = deque()
        self._wake_in, self._wake_out = socket.socketpair()
        self._is_woken = threading.Event()
        self._is_closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    async def __aenter__(self) -> "Engine":
        self._loop = asyncio.get_running_loop()
        for end in (self._wake_in, self._wake_out):
            end.setblocking(False)
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_closing = True
        self._wake()
        await asyncio.to_thread(self._thread.join)
        self._wake_in.close()
        self._wake_out.close()

    async def fetch(self, request: Request) -> Answer:
        """One request, one answer; a failure is an answer too. Raises EngineStopped, and WorkAreaFull from a body."""
        if self._loop is None or self._is_closing or not self._thread.is_alive():
            raise EngineStopped
        order = _Order(request, self._loop.create_future())
        self._orders.append(order)
        self._wake()
        try:
            return await order.answer
        except asyncio.CancelledError:
            self._withdrawn.append(order)
            self._wake()
            raise

    def _wake(self) -> None:
        if not self._is_woken.is_set():
            self._is_woken.set()
            self._wake_in.send(b"\0")

    def _run(self) -> None:
        """The thread."""
        work = _Work(self._slots, self._agent, self._ca_file)
        work.selector.register(self._wake_out, selectors.EVENT_READ, None)
        try:
            while not self._is_closing:
                self._turn(work)
        finally:
            self._is_closing = True
            self._hand_over([*work.close(), *((order, EngineStopped()) for order in self._drain())])

    def _turn(self, work: "_Work") -> None:
        if work.poll():
            self._wake_out.recv(64)
            self._is_woken.clear()
        while self._withdrawn:
            work.withdraw(self._withdrawn.popleft())
        finished = work.finished()
        # Only now: what just ended makes room for what waits, and nothing else would wake us for it.
        while self._orders and work.has_room:
            order = self._orders.popleft()
            if not order.answer.cancelled():
                work.start(order)
        self._hand_over(finished)

    def _drain(self) -> list[_Order]:
        left = list(self._orders)
        self._orders.clear()
        return left

    def _hand_over(self, batch: "list[_Done]") -> None:
        if not batch or self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(_settle, batch)
        except RuntimeError:  # the loop is closed: nobody waits
            for _, answer in batch:
                _discard(answer)


_Done = tuple[_Order, Answer | Exception]


def _settle(batch: list[_Done]) -> None:
    for order, answer in batch:
        if order.answer.done():  # withdrawn meanwhile
            _discard(answer)
        elif isinstance(answer, Exception):
            order.answer.set_exception(answer)
        else:
            order.answer.set_result(answer)


def _discard(answer: Answer | Exception) -> None:
    if isinstance(answer, Answer) and answer.body is not None:
        answer.body.close()


class _Work:
    """What the thread owns: the multi, its sockets, its timer and the transfers under way."""

    def __init__(self, slots: int, agent: str, ca_file: str | None) -> None:
        self.selector = selectors.DefaultSelector()
        self._slots = slots
        self._agent = agent
        self._ca_file = ca_file
        self._idle: list[Transfer] = []
        self._busy: dict[pycurl.Curl, tuple[Transfer, _Order]] = {}
        self._due: float | None = None
        self._done: list[_Done] = []
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, slots * 2)

    @property
    def has_room(self) -> bool:
        return len(self._busy) < self._slots

    def poll(self) -> bool:
        """Waits for sockets or the timer and lets libcurl work. True when somebody woke us."""
        is_woken = False
        for key, ready in self.selector.select(self._patience()):
            if key.fileobj.__class__ is socket.socket:
                is_woken = True
                continue
            mask = (pycurl.CSELECT_IN if ready & selectors.EVENT_READ else 0) | (
                pycurl.CSELECT_OUT if ready & selectors.EVENT_WRITE else 0
            )
            self._multi.socket_action(key.fd, mask)
        if self._due is not None and time.monotonic() >= self._due:
            self._due = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        return is_woken

    def start(self, order: _Order) -> None:
        transfer = self._idle.pop() if self._idle else Transfer(self._agent, self._ca_file)
        transfer.begin(order.request)
        self._busy[transfer.curl] = (transfer, order)
        self._multi.add_handle(transfer.curl)

    def withdraw(self, order: _Order) -> None:
        """Drops the order's transfer if it is under way; its connection is closed."""
        for curl, (_, running) in self._busy.items():
            if running is order:
                self._end(curl, pycurl.E_ABORTED_BY_CALLBACK)
                return

    def finished(self) -> list[_Done]:
        """The transfers that ended since the last call."""
        left = 1
        while left:
            left, succeeded, failed = self._multi.info_read()
            for curl in succeeded:
                self._end(curl, pycurl.E_OK)
            for curl, code, _ in failed:
                self._end(curl, code)
        done, self._done = self._done, []
        return done

    def close(self) -> list[_Done]:
        """Ends everything; whoever still waits learns that the engine stopped."""
        for curl, (transfer, order) in self._busy.items():
            self._multi.remove_handle(curl)
            transfer.abandon()
            self._done.append((order, EngineStopped()))
        for transfer in (*self._idle, *(transfer for transfer, _ in self._busy.values())):
            transfer.curl.close()
        self._multi.close()
        self.selector.close()
        return self._done

    def _end(self, curl: pycurl.Curl, code: int) -> None:
        transfer, order = self._busy.pop(curl)
        self._multi.remove_handle(curl)
        try:
            self._done.append((order, transfer.end(code)))
        except Exception as error:  # of the body's file: the chunk's trouble, not the engine's
            self._done.append((order, error))
        self._idle.append(transfer)

    def _patience(self) -> float:
        if self._due is None:
            return _LONGEST_WAIT_SECONDS
        return min(max(0.0, self._due - time.monotonic()), _LONGEST_WAIT_SECONDS)

    def _set_timer(self, milliseconds: int) -> None:
        self._due = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000

    def _watch(self, event: int, fd: int, _multi: object, _data: object) -> None:
        # Forgotten and learned anew, never modified: the number may be that of a socket which went without a word.
        if fd in self.selector.get_map():
            self.selector.unregister(fd)
        if event != pycurl.POLL_REMOVE:
            self.selector.register(fd, _SELECT_OF[event])
