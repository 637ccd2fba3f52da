"""How much room there is where this process runs: bytes and inodes of the work volume, and memory.

In a container psutil tells the host's memory, and the limit that kills is the cgroup's: the tighter of both counts.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

#: What a file system without a fixed number of inodes reports here.
UNLIMITED_INODES = 2**62


@dataclass(frozen=True, kw_only=True)
class CellReport:
    """What a worker measured of its cell."""

    free_bytes: int
    total_bytes: int
    free_inodes: int
    memory_available_bytes: int
    memory_total_bytes: int
    #: Whether a cgroup gives this memory to the worker alone, instead of the host to all its workers.
    memory_is_own: bool = False


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory that may be used before something is killed."""

    available_bytes: int
    total_bytes: int


@dataclass(frozen=True, kw_only=True)
class ProcessSums:
    """Processes of one kind."""

    processes: int
    resident_bytes: int


def process_sums(kinds: Sequence[str]) -> dict[str, ProcessSums]:
    """This process, its children, and what those started, by one name for each generation; the last takes the rest."""
    own = psutil.Process()
    generation = {own.pid: 0}
    found: dict[str, list[int]] = {kind: [] for kind in kinds}
    for process in (own, *own.children(recursive=True)):  # parents before children
        with suppress(psutil.NoSuchProcess):
            place = generation.setdefault(process.pid, generation.get(process.ppid(), 0) + 1)
            found[kinds[min(place, len(kinds) - 1)]].append(process.memory_info().rss)
    return {kind: ProcessSums(processes=len(sizes), resident_bytes=sum(sizes)) for kind, sizes in found.items()}


def measure(work_dir: Path) -> CellReport:
    """What there is now. Raises OSError when the folder is away."""
    volume = os.statvfs(work_dir)
    host = psutil.virtual_memory()
    memory = Memory(available_bytes=host.available, total_bytes=host.total)
    limit = cgroup_memory()
    is_own = limit is not None and limit.total_bytes < host.total
    if limit is not None:
        memory = Memory(
            available_bytes=min(host.available, limit.available_bytes), total_bytes=min(host.total, limit.total_bytes)
        )
    return CellReport(
        free_bytes=volume.f_bavail * volume.f_frsize,
        total_bytes=volume.f_blocks * volume.f_frsize,
        free_inodes=volume.f_favail if volume.f_files else UNLIMITED_INODES,
        memory_available_bytes=memory.available_bytes,
        memory_total_bytes=memory.total_bytes,
        memory_is_own=is_own,
    )


def cgroup_memory(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> Memory | None:
    """What this process's cgroup and those above it allow, version 2 or 1; None without a limit."""
    limits = [limit for folder in _folders(root, membership) if (limit := _limit_of(folder))]
    if not limits:
        return None
    return Memory(
        available_bytes=min(limit.available_bytes for limit in limits),
        total_bytes=min(limit.total_bytes for limit in limits),
    )


def _folders(root: Path, membership: Path) -> Iterator[Path]:
    """The process's own folder and all above it, in each hierarchy that knows of memory.

    A container sees the host's path in `membership` while its own files lie at the root; folders that are not there
    give no limit, and the root is always among those looked at.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "memory" if controllers else root
        own = top / path.lstrip("/")
        yield own
        yield from (above for above in own.parents if above == top or top in above.parents)


def _limit_of(folder: Path) -> Memory | None:
    for limit_file, usage_file, cache_field in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, usage = _number(folder / limit_file), _number(folder / usage_file)
        if limit is not None and usage is not None:
            # The kernel gives file cache back before it kills; the work area fills much of it.
            used = max(0, usage - _field(folder / "memory.stat", cache_field))
            return Memory(available_bytes=max(0, limit - used), total_bytes=limit)
    return None


def _number(file: Path) -> int | None:
    """The number in a file; None when there is none, as "max" and version 1's 2**63 say."""
    try:
        number = int(file.read_text())
    except (OSError, ValueError):
        return None
    return number if number < 2**60 else None


def _field(file: Path, name: str) -> int:
    try:
        fields = dict(line.split(" ", 1) for line in file.read_text().splitlines())
        return int(fields.get(name, "0"))
    except (OSError, ValueError):
        return 0
