"""Storm after storm for as long as one likes: `make soak MINUTES=60`.

After each the promises are checked and every process is measured. A process that lived through several storms must
not have grown: memory, open files, connections to PostgreSQL.
"""

import asyncio
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.faults.storm import storm
from tests.faults.world import World, world

_ROWS = 5_000
_FAULTS = 4
#: What a process may have grown since it was first measured, after its caches were filled by a storm.
_MOST_MEGABYTES = 60
_MOST_FILES = 30


@dataclass
class Watch:
    """What was measured of each process when it was first seen, and what is wrong with it since."""

    first: dict[tuple[int, float], tuple[float, int]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def look(self, ours: World) -> str:
        """Measures; a line for the log."""
        megabytes = files = 0.0
        for name, service in ours.running.items():
            for process in _family(service.process.pid):
                try:
                    key = (process.pid, process.create_time())
                    now = (process.memory_full_info().pss / 2**20, process.num_fds())
                except psutil.Error:
                    continue  # it ended meanwhile
                megabytes, files = megabytes + now[0], files + now[1]
                before = self.first.setdefault(key, now)
                if now[0] > before[0] + _MOST_MEGABYTES or now[1] > before[1] + _MOST_FILES:
                    self.wrong.append(f"{name} {process.pid}: {before} became {now} (MB, files)")
        return f"{megabytes:.0f} MB, {files:.0f} files"


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


async def soak(minutes: float, seed: int) -> None:
    """Raises AssertionError with what was not kept."""
    drawn, ends_at, watch = random.Random(seed), time.monotonic() + minutes * 60, Watch()
    with tempfile.TemporaryDirectory(prefix="pixcrawler-soak-") as folder:
        async with world(Path(folder)) as ours:
            await ours.reference(_ROWS)
            rounds = 0
            while time.monotonic() < ends_at:
                rounds += 1
                job = await storm(ours, seed=drawn.randrange(10**6), faults=_FAULTS, rows=_ROWS)
                await ours.has_kept_its_promises(job)
                ours.dismiss_others()
                held = await ours.board.one("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
                print(f"round {rounds}: promises kept; {watch.look(ours)}, {held} connections", flush=True)
                assert not watch.wrong, "\n".join(watch.wrong)


if __name__ == "__main__":
    _minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    _seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10_000)
    print(f"seed {_seed}, {_minutes:g} minutes", flush=True)
    asyncio.run(soak(_minutes, _seed))
