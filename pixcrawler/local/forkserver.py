"""Starts Python programs by forking: `python -P -m pixcrawler.local.forkserver MODULE...`, with a socket as its stdin.

The services import the same libraries: 0.7 s of computing and 40 MB for each of them. This process imports them
once; a service that is forked from it shares their pages and has only its own modules left to import. A fork
copies neither threads nor connections nor what was read from the environment, so there are none here: modules that
look at the environment when they are imported are not among those named. `forks.py` is the other side.

    order    an `Order`, with the descriptors of its two outputs
    answer   {"pid"}, to each order
    news     {"ended", "code"}, whenever one has ended; the code is negative for a signal

Linux only: elsewhere forks of a loaded interpreter are not safe, and nothing is gained by an interpreter of one's own.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pixcrawler.local.launch import death_wish

#: An order holds an environment; the kernel's limit for one message lies far above.
LONGEST_MESSAGE = 128 * 1024
_PR_SET_NAME = 15
_STREAMS = (0, 1, 2)


@dataclass(frozen=True)
class Order:
    """A program, as `python -m MODULE ARGUMENTS...` would start it."""

    name: str
    module: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: str
    #: What it gets when we die.
    stop_signal: int


def preload(modules: Sequence[str]) -> None:
    """Imports what there is of them, and lets the collector's marks never touch it."""
    gc.disable()
    for module in modules:
        with suppress(ImportError):  # who needs it says so better than we could
            importlib.import_module(module)
    gc.collect()
    gc.freeze()


def serve(orders: socket.socket) -> Order | None:
    """Forks as it is ordered to; returns None when nobody orders any more, and in each fork its order."""
    own = os.getpid()
    for message, outputs in _messages(orders):
        order = Order(**json.loads(message))
        pid = os.fork()
        if pid == 0:
            orders.close()
            _become(order, outputs, parent=own)
            return order
        for output in outputs:
            os.close(output)
        orders.send(json.dumps({"pid": pid}).encode())
    return None


def _messages(orders: socket.socket) -> Iterator[tuple[bytes, list[int]]]:
    """Orders as they come; tells of forks that ended meanwhile."""
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    with woken, wake:
        while True:
            ready, _, _ = select.select([orders, woken], [], [])
            if woken in ready:
                with suppress(BlockingIOError):
                    woken.recv(4096)
                _tell_of_the_ended(orders)
            if orders in ready:
                message, outputs, _, _ = socket.recv_fds(orders, LONGEST_MESSAGE, 2)
                if not message:
                    return
                yield message, outputs


def _tell_of_the_ended(orders: socket.socket) -> None:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            news = {"ended": ended[0], "code": os.waitstatus_to_exitcode(ended[1])}
            orders.send(json.dumps(news).encode())


def _become(order: Order, outputs: Sequence[int], *, parent: int) -> None:
    """In the fork: makes everything as a program started anew would find it."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _die_with_parent(order.stop_signal)
    if os.getppid() != parent:
        raise SystemExit(f"the parent {parent} is gone")
    nothing = os.open(os.devnull, os.O_RDONLY)
    for given, own in zip((nothing, *outputs), _STREAMS, strict=True):
        os.dup2(given, own)
        os.close(given)
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.environment)
    sys.argv = [order.module, *order.arguments]
    _name(order.name)
    gc.enable()


_die_with_parent = death_wish()
_prctl = ctypes.CDLL(None).prctl


def _name(name: str) -> None:
    """As `top` shows it: the command line is that of all forks."""
    _prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def main() -> None:
    preload(sys.argv[1:])
    order = serve(socket.socket(fileno=os.dup(sys.stdin.fileno())))
    if order is not None:
        runpy.run_module(order.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
