"""Named points at which the fault suite makes a service fail; elsewhere nothing happens at them.

    PIXCRAWLER_FAILPOINTS=download.result:kill           the whole service is killed when it first gets there
    PIXCRAWLER_FAILPOINTS=upload.progress:stop:3         it is stopped (SIGSTOP) at the third time
    PIXCRAWLER_FAILPOINTS=validate.claimed:die:1:always  its child dies, and every later one too
    PIXCRAWLER_FAILPOINTS=upload.claimed@2:die:1:always  but only of the chunk with that place in its job

Several are separated by commas. An action is taken once, by whichever process gets there first, unless `always`:
the file `<PIXCRAWLER_FAILPOINTS_DIR>/<point>` is made by who takes it, and tells the test so.
"""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shared.pipeline import PIPELINE

POINTS = frozenset(
    {
        "gateway.block",  #: a block of an uploaded list was written
        "gateway.committed",  #: a job was committed; its client has no answer yet
        "plan.stored",  #: a part of the plan is in the spool, its chunks are not rows yet
        "plan.inserted",  #: they are; the priority set does not know them yet
        "admit.locked",  #: chunks are admitted in a transaction that is not committed
        "admit.committed",  #: it is; they are still in the priority set
        "ring.taken",  #: bells are taken, none has rung
        "finish.begun",  #: a job's chunks have all ended; its papers are not written
        "finish.half",  #: `dataset.json` is written, `_SUCCESS` is not
        "finish.published",  #: the papers are written; the job's last state is not
        "purge.noted",  #: the rows a purge empties are noted; nothing has changed
        "purge.cut",  #: their shards are stored anew without them; the index names the old ones
        "purge.indexed",  #: the index has tombstones; what they held still lies there
        "purge.dropped",  #: it is deleted; the counts say otherwise
        "renew.cut",  #: shards are stored anew without what a refresh replaced; the index names the old ones
        "renew.indexed",  #: the index has tombstones; what they held still lies there
        "renew.dropped",  #: it is deleted; the counts say otherwise
        "close.indexed",  #: the index of a chunk without a result is stored; its rows are not counted
        "close.removed",  #: an ended chunk's work area is gone; its slot is still held
        "worker.turned",  #: the main loop of a worker has turned; reached every second
        *(
            f"{stage.name}.{moment}"
            for stage in PIPELINE
            for moment in (
                "claiming",  #: the chunk is owned in a transaction that is not committed
                "claimed",  #: it is; nothing is done
                "progress",  #: some of its rows are done; reached again and again
                "result",  #: the stage's files or objects are whole; the result is not committed
                "committed",  #: it is; the next bell has not rung
            )
        ),
    }
)


#: Seconds; longer than any test.
_FOR_EVER = 3600.0


class FailPointReached(RuntimeError):
    """A bug on request."""


def _bug() -> None:
    raise FailPointReached("a fail-point was reached")


_ACTIONS: dict[str, Callable[[], None]] = {
    "kill": lambda: os.killpg(os.getpgrp(), signal.SIGKILL),
    "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.killpg(os.getpgrp(), signal.SIGSTOP),
    "freeze": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "term": lambda: os.kill(os.getpgrp(), signal.SIGTERM),
    "hang": lambda: time.sleep(_FOR_EVER),
    "bug": _bug,
}


@dataclass(frozen=True)
class _Armed:
    act: Callable[[], None]
    #: The time it is reached, in one process, at which something happens.
    nth: int
    is_lasting: bool
    #: Of the chunk that is meant; None: of any.
    ordinal: int | None


def reach(point: str, ordinal: int | None = None) -> None:
    """Does what the test asked for at this point; nothing, and at no cost, when no test asks."""
    if _armed and (armed := _armed.get(point)) and armed.ordinal in (None, ordinal):
        _reached[point] += 1
        if _reached[point] >= armed.nth and (_is_first(point) or armed.is_lasting):
            armed.act()


def armed_points() -> tuple[str, ...]:
    """The points at which this process is going to fail: none, but in the fault suite."""
    return tuple(sorted(_armed))


def _is_first(point: str) -> bool:
    try:
        (_folder / point).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _parsed(text: str) -> dict[str, _Armed]:
    """Raises SystemExit for a point or an action that does not exist: a test that arms nothing proves nothing."""
    armed = {}
    for asked in filter(None, text.split(",")):
        place, action, *more = asked.split(":")
        point, _, ordinal = place.partition("@")
        if point not in POINTS or action not in _ACTIONS:
            sys.exit(f"PIXCRAWLER_FAILPOINTS: there is no {point}:{action}")
        armed[point] = _Armed(
            _ACTIONS[action],
            nth=int(more[0]) if more else 1,
            is_lasting=more[1:] == ["always"],
            ordinal=int(ordinal) if ordinal else None,
        )
    return armed


_armed = _parsed(os.environ.get("PIXCRAWLER_FAILPOINTS", ""))
_folder = Path(os.environ.get("PIXCRAWLER_FAILPOINTS_DIR", "."))
_reached: Counter[str] = Counter()
