"""The line of work that there is once: what the leading scheduler and PostgreSQL compute for a chunk."""

import os
import time
from collections.abc import Iterator

from pixcrawler.client import Client
from pixcrawler.models import Destination, JobRequest, Recipe, Source
from shared.pipeline import CHUNK_ROWS
from tests.bench.page import Section, Table
from tests.bench.rows import stack
from tests.bench.runs import Ground
from tests.bench.watch import Watch, Watched

_CHUNKS = 400
_LIMIT_SECONDS = 900.0
_LOOK_SECONDS = 0.5


def cpu_by_program(ground: Ground) -> tuple[Watched, float]:
    """Carries chunks through stages that do nothing; who computed, and how long it took."""
    listed = ground.folder / "line.txt"
    with listed.open("w") as file:
        file.writelines(_urls(ground))
    with stack(ground, does_nothing=True) as local, Client(local.url, local.api_key) as client:
        manifest, place = client.upload(listed).id, str(ground.fresh())
        watch, began = Watch(os.getpid()), time.monotonic()
        wanted = JobRequest(
            source=Source(manifest_id=manifest), destination=Destination(url=place), recipe=Recipe(robots=False)
        )
        job = client.submit(wanted).job
        while client.job(job.id).ended_rows < _CHUNKS * CHUNK_ROWS and time.monotonic() < began + _LIMIT_SECONDS:
            time.sleep(_LOOK_SECONDS)
        seconds, seen = time.monotonic() - began, watch.end()
        client.cancel(job.id)
    listed.unlink()
    return seen, seconds


def chunk_ms(seen: Watched) -> float:
    """Milliseconds of CPU a chunk that cannot be spread over more copies: the scheduler's and PostgreSQL's."""
    return sum(_ms(seen, program) for program in ("scheduler", "postgres"))


def section(seen: Watched, seconds: float) -> Section:
    rows = [(program, f"{_ms(seen, program):.1f}") for program in ("scheduler", "postgres", "valkey-server")]
    return Section(
        title="Bookkeeping of a chunk",
        text=(
            f"{_CHUNKS} chunks of {CHUNK_ROWS} rows, planned, admitted, rung and carried through three stages that do "
            f"nothing, in {seconds:.0f} s with a load average of {os.getloadavg()[1]:.0f} on {os.cpu_count()} cores. "
            f"The scheduler and PostgreSQL are there once: {chunk_ms(seen):.0f} ms a chunk are at most "
            f"{1000 / chunk_ms(seen):.0f} chunks a second, were both on one core."
        ),
        tables=[Table(("program", "CPU, ms a chunk"), rows)],
    )


def _ms(seen: Watched, program: str) -> float:
    return 1000 * seen.cpu_seconds.get(program, 0.0) / _CHUNKS


def _urls(ground: Ground) -> Iterator[str]:
    for number in range(_CHUNKS * CHUNK_ROWS):
        yield f"http://host00.origin.test:{ground.port}/none/{number:09d}.jpg\n"
