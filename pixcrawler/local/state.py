"""What the runs of a user share on disk: two locks, the state of the running stack, its failure.

    run/stack.lock   held by the supervisor alone, for as long as it lives
    run/users.lock   held shared by every run; the supervisor takes it alone when it wants to stop

The kernel releases both however their holders end, so neither can be stale.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pixcrawler.local.home import Home, write_private


@dataclass(frozen=True)
class State:
    """A stack that is ready."""

    version: str
    pid: int
    url: str
    health_port: int
    #: By variable, a keyed digest of the settings and credentials it was started with.
    settings: dict[str, str]
    #: By variable, the same of the extra environment that the starting run asked for.
    extra: dict[str, str]


@dataclass(frozen=True)
class Failure:
    """Why a stack ended by itself."""

    message: str
    exit_code: int


class Lock:
    """An advisory lock on a file, given back by `release` or by the kernel."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def take(self, *, alone: bool) -> bool:
        """Takes it if it can be had now."""
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def could_take(self, *, alone: bool) -> bool:
        """Whether it can be had now; gives it back at once."""
        try:
            return self.take(alone=alone)
        finally:
            self.release()


def stack_lock(home: Home) -> Lock:
    return Lock(home.run / "stack.lock")


def users_lock(home: Home) -> Lock:
    return Lock(home.run / "users.lock")


def write_state(home: Home, state: State) -> None:
    write_private(home.run / "state.json", json.dumps(asdict(state)))


def read_state(home: Home) -> State | None:
    """None when no stack is ready, or another version wrote it in another form."""
    try:
        return State(**json.loads((home.run / "state.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def write_failure(home: Home, failure: Failure) -> None:
    write_private(home.run / "failure.json", json.dumps(asdict(failure)))


def read_failure(home: Home) -> Failure | None:
    try:
        return Failure(**json.loads((home.run / "failure.json").read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def forget(home: Home, *names: str) -> None:
    """Deletes `state.json` or `failure.json`."""
    for name in names:
        (home.run / name).unlink(missing_ok=True)


def digests(home: Home, variables: Mapping[str, str]) -> dict[str, str]:
    """By variable, a digest that tells equal from different and, being keyed, nothing else."""
    key = home.secret("digest-key").encode()[:64]
    return {
        name: hashlib.blake2b(value.encode(), key=key, digest_size=16).hexdigest()
        for name, value in sorted(variables.items())
    }
