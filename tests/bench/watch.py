"""Looks at a tree of processes ten times a second: the memory they hold together, and who used the CPU."""

import contextlib
import os
import re
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pixcrawler.local.services import SERVICES

_LOOK_SECONDS = 0.1
#: Memory is looked at less often: the kernel counts every page for it.
_MEMORY_EVERY = 5
_FORK_SERVER = "pixcrawler.local.forkserver"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Watched:
    """Memory is PSS, pages that several processes share counted once; the pages of mapped packs are among them."""

    #: The most that all held together.
    peak_mb: float
    #: By program: the most its largest process held, and all of its processes together.
    largest_mb: dict[str, float]
    total_mb: dict[str, float]
    cpu_seconds: dict[str, float]


class Watch:
    """Watches the descendants of a process until it is ended."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._names: dict[int, str] = {}
        self._cpu: dict[int, float] = {}
        self._peak_kb = 0
        self._largest: Counter[str] = Counter()
        self._total: Counter[str] = Counter()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> Watched:
        self._over.set()
        self._thread.join()
        used: Counter[str] = Counter()
        for pid, seconds in self._cpu.items():
            used[self._names[pid]] += seconds
        return Watched(
            peak_mb=self._peak_kb / 1024,
            largest_mb={name: kb / 1024 for name, kb in self._largest.items()},
            total_mb={name: kb / 1024 for name, kb in self._total.items()},
            cpu_seconds=dict(used),
        )

    def pid_of(self, name: str) -> int:
        """A process of that program, of those seen. Raises LookupError."""
        for pid, known in self._names.items():
            if known == name:
                return pid
        raise LookupError(f"no process of {name} was seen")

    def _run(self) -> None:
        looks = 0
        while not self._over.wait(_LOOK_SECONDS):
            family = self._family()
            for pid in family:
                with contextlib.suppress(OSError, IndexError):
                    # A process that has ended, but that nobody waited for yet, has no command line any more.
                    self._names[pid] = _name(pid) or self._names.get(pid, "others")
                    self._cpu[pid] = _cpu(pid)
            if looks % _MEMORY_EVERY == 0:
                self._weigh(family)
            looks += 1

    def _family(self) -> list[int]:
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    parents[int(entry.name)] = int(_stat(int(entry.name))[1])
        found, known = [self._root], {self._root}
        while found:
            pid = found.pop()
            children = {child for child, parent in parents.items() if parent == pid} - known
            known |= children
            found += children
        return sorted(known - {self._root})

    def _weigh(self, family: list[int]) -> None:
        now: Counter[str] = Counter()
        for pid in family:
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                kb = int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1])  # type: ignore[index]
                name = self._names.get(pid, "others")
                now[name] += kb
                self._largest[name] = max(self._largest[name], kb)
        self._peak_kb = max(self._peak_kb, now.total())
        for name, kb in now.items():
            self._total[name] = max(self._total[name], kb)


def _stat(pid: int) -> list[str]:
    """The fields after the name, which may hold anything: state, parent, …"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _cpu(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _name(pid: int) -> str:
    """The module of a Python process, else the program. A fork has its server's command line, but a name of its own."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    if "-m" in words:
        module, own = words[words.index("-m") + 1], Path(f"/proc/{pid}/comm").read_text().strip()
        return own if module == _FORK_SERVER and own in SERVICES else module
    return Path(words[0].split(" ")[0]).name.rstrip(":")
