"""Finds and ends the processes of a stack whose supervisor was killed.

Every process is written down with the moment it started, so a process that got the same number later is
never touched.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pixcrawler.local.home import write_private
from pixcrawler.local.process import Process

#: How long leftovers may take for a clean stop, together: they were told once before, when their parent died.
_STOP_SECONDS = 5.0
_PAUSE_SECONDS = 0.02


@dataclass(frozen=True)
class Entry:
    """A process as it was written down."""

    name: str
    pid: int
    started: str
    stop_signal: int


class Register:
    """The list of a stack's processes on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, Entry] = {}

    def add(self, process: Process) -> None:
        """Writes a new process down, in place of an older one of its name."""
        name = process.command.name
        self._entries[name] = Entry(name, process.pid, started(process.pid), int(process.command.stop_signal))
        write_private(self._path, json.dumps([asdict(entry) for entry in self._entries.values()]))

    def clear(self) -> None:
        self._entries.clear()
        self._path.unlink(missing_ok=True)


def end_leftovers(path: Path) -> list[str]:
    """Ends what an earlier supervisor left running; returns the names. Blocks for at most some seconds."""
    entries = _read(path)
    alive = [entry for entry in entries if _is_alive(entry)]
    for entry in reversed(alive):
        with contextlib.suppress(ProcessLookupError):
            os.kill(entry.pid, entry.stop_signal)
    deadline = time.monotonic() + _STOP_SECONDS
    while any(_is_alive(entry) for entry in alive) and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
    for entry in entries:
        _kill_group(entry)
    path.unlink(missing_ok=True)
    return [entry.name for entry in alive]


def end_server_of(pid_file: Path, data: Path) -> None:
    """Makes way for PostgreSQL: its lock file may name a process that is another program by now.

    A server that still runs on these data is stopped. Its file is left alone, because it also guards
    against processes that outlive the server.
    """
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    words = command_line(pid)
    if words is None:
        return
    if str(data) in words:
        _stop(pid, signal.SIGINT)
    elif "postgres" not in words:
        pid_file.unlink(missing_ok=True)


def started(pid: int) -> str:
    """A token of the moment when the process started; empty when there is no such process."""
    if sys.platform == "linux":
        fields = _linux_stat(pid)
        return f"{_boot()}:{fields[19]}" if fields and fields[0] != "Z" else ""
    return _ps("lstart=", pid)


def command_line(pid: int) -> str | None:
    """How the process was called; None when there is none."""
    if sys.platform == "linux":
        try:
            return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" "))
        except OSError:
            return None
    return _ps("command=", pid) or None


def _read(path: Path) -> list[Entry]:
    try:
        return [Entry(**each) for each in json.loads(path.read_text())]
    except (FileNotFoundError, ValueError, TypeError):
        return []


def _is_alive(entry: Entry) -> bool:
    return bool(entry.started) and started(entry.pid) == entry.started


def _stop(pid: int, number: int) -> None:
    token = started(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    deadline = time.monotonic() + _STOP_SECONDS
    while token and started(pid) == token and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)


def _kill_group(entry: Entry) -> None:
    """Kills the process and its children, also when only the children are left."""
    if _is_alive(entry) or _leads_orphans(entry):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(entry.pid, signal.SIGKILL)


def _leads_orphans(entry: Entry) -> bool:
    # A number is not given out again while a group carries it, so a group without its leader is the old one.
    if sys.platform != "linux" or started(entry.pid) or not entry.started.startswith(_boot()):
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(entry.pid, 0)
        return True
    return False


def _linux_stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; the name before may contain anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _ps(what: str, pid: int) -> str:
    done = subprocess.run(["ps", "-o", what, "-p", str(pid)], capture_output=True, text=True, check=False, timeout=10)
    return done.stdout.strip()
