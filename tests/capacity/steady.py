"""A steady run: the embedded stack with more work than it can do, for as long as is asked; what it takes an image."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pixcrawler.client import Client
from pixcrawler.models import Destination, Job, JobRequest, Recipe, Source
from tests.bench.page import Section, Table
from tests.bench.rows import stack
from tests.bench.runs import Ground
from tests.bench.watch import Watch, Watched

#: Jobs open at once, so that there is always a next chunk.
_OPEN = 3
_LOOK_SECONDS = 2.0
#: Starting, the first chunks and what they learn are not steady yet.
_WARM_SECONDS = 45.0
_PROGRAMS = ("downloader", "validator", "uploader", "scheduler", "gateway", "postgres", "valkey-server")


@dataclass(frozen=True, kw_only=True)
class Steady:
    """What a steady run took."""

    images: int
    seconds: float
    watched: Watched
    load: float  #: the machine's load average at the end: what else ran on it

    def cpu_ms(self, program: str) -> float:
        """CPU of all processes of a program, milliseconds an image."""
        spent = sum(seconds for name, seconds in self.watched.cpu_seconds.items() if _is(name, program))
        return 1000 * spent / max(1, self.images)


def steady_run(ground: Ground, seconds: float) -> Steady:
    """Keeps jobs open for so long, and counts the rows that ended."""
    with stack(ground) as local, Client(local.url, local.api_key) as client, _jobs(ground, client) as ended:
        warm_until = time.monotonic() + _WARM_SECONDS
        while time.monotonic() < warm_until:
            ended()
            time.sleep(_LOOK_SECONDS)
        watch, began, before = Watch(os.getpid()), time.monotonic(), ended()
        while time.monotonic() < began + seconds:
            time.sleep(_LOOK_SECONDS)
            after = ended()
        took = time.monotonic() - began
        return Steady(images=after - before, seconds=took, watched=watch.end(), load=os.getloadavg()[1])


class _Open:
    """Jobs of the same list, each with a destination of its own; a new one for each that ends."""

    def __init__(self, ground: Ground, client: Client) -> None:
        self._ground, self._client = ground, client
        self._manifest = client.upload(ground.url_list(is_late=False)).id
        self._jobs: list[Job] = []
        self._done = 0
        self._place, self._made = ground.fresh(), 0

    def __call__(self) -> int:
        """Rows ended until now."""
        self._jobs = [self._client.job(job.id) for job in self._jobs]
        self._done += sum(job.ended_rows for job in self._jobs if job.state.is_final)
        self._jobs = [job for job in self._jobs if not job.state.is_final]
        while len(self._jobs) < _OPEN:
            self._jobs.append(self._submitted())
        return self._done + sum(job.ended_rows for job in self._jobs)

    def close(self) -> None:
        for job in self._jobs:
            self._client.cancel(job.id)

    def _submitted(self) -> Job:
        self._made += 1
        wanted = JobRequest(
            source=Source(manifest_id=self._manifest),
            destination=Destination(url=str(self._place / str(self._made))),
            recipe=Recipe(robots=False, min_image_size=16),
        )
        return self._client.submit(wanted).job


@contextmanager
def _jobs(ground: Ground, client: Client) -> Iterator[_Open]:
    opened = _Open(ground, client)
    try:
        yield opened
    finally:
        opened.close()


def section(found: Steady) -> Section:
    """The page's part about it."""
    rate = found.images / found.seconds
    rows = [(name, f"{found.cpu_ms(name):.2f}", _memory(found.watched, name)) for name in _PROGRAMS]
    each, cores = 1000 * sum(found.watched.cpu_seconds.values()) / max(1, found.images), os.cpu_count() or 1
    return Section(
        title="A steady run",
        text=(
            f"The embedded stack on this machine, three jobs open all the time for {found.seconds / 60:.0f} minutes: "
            f"{found.images:,} rows ended, {rate:.0f} a second, which is **{rate * 86_400 / 1e6:.1f} million a day**. "
            f"Origin and client ran on the same cores, and the load average was {found.load:.0f} on {os.cpu_count()} "
            f"cores, so most of the machine was somebody else's. CPU an image depends on that little: {each:.1f} ms in "
            f"all, the origin's included, so these cores alone would do {cores * 1000 / each:.0f} a second, "
            f"**{cores * 86.4 / each:.0f} million a day**."
        ),
        tables=[Table(("program", "CPU, ms an image", "memory of all, MB"), rows)],
    )


def _memory(watched: Watched, program: str) -> str:
    return f"{sum(mb for name, mb in watched.total_mb.items() if _is(name, program)):.0f}"


def _is(name: str, program: str) -> bool:
    """The validator's children are `validator.decode`, and so on."""
    return name == program or name.startswith(f"{program}.")
