"""Long lists: how soon they are planned, and how fast chunks go through stages that do nothing."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pixcrawler.client import Client
from pixcrawler.errors import ConflictError
from pixcrawler.local import LocalStack
from pixcrawler.local.home import Home
from pixcrawler.models import Destination, Job, JobRequest, Recipe, Source
from tests.bench.names import NAMES
from tests.bench.page import Section, Table, at_least, at_most
from tests.bench.runs import Ground, our_environment
from tests.bench.watch import Watch

_BLOCK = 500_000
_LIMIT_SECONDS = 1800.0
_LOOK_SECONDS = 0.1
_FIRST_FETCH_SECONDS = 120.0
#: Each look is a request that the gateway answers from the database: seldom where it would count.
_SELDOM_SECONDS = 0.5
_BOOKKEEPING_SECONDS = 240.0
_CHUNK_ROWS = 500


@contextmanager
def stack(ground: Ground, *, does_nothing: bool = False) -> Iterator[LocalStack]:
    """A running stack with a home of its own: what a part leaves undone is not the next one's work."""
    environment = our_environment(ground)
    environment.pop("PIXCRAWLER_HOME")
    program = "tests.bench.noop" if does_nothing else "pixcrawler.local.supervisor"
    home = Home(ground.folder / "home-of-part")
    home.erase()
    with LocalStack(home=home, extra_environment=environment, supervisor=(sys.executable, "-m", program)) as local:
        yield local
    home.erase()


def planning(ground: Ground, rows: int) -> Section:
    """From the submission of a list on disk to its last chunk, while its first chunks are being fetched."""
    return Section(
        title="Planning a long list",
        text=(
            f"A list of {rows:,} URLs on the running stack, which fetches its first chunks meanwhile (all 404). "
            "Uploading the list to the gateway comes before and is not counted."
        ),
        tables=[
            Table(
                ("list", "planned, s", "goal", "first fetch, s", "goal", "scheduler, MB", "goal"),
                [_planned(ground, rows, kind) for kind in ("parquet", "jsonl")],
            )
        ],
    )


def bookkeeping(ground: Ground, chunks: int) -> Section:
    """Chunks through three stages that do nothing."""
    listed = _list(ground, chunks * _CHUNK_ROWS, "parquet")
    with stack(ground, does_nothing=True) as local, Client(local.url, local.api_key) as client:
        job = _submitted(client, ground, listed)
        began = time.monotonic()
        ends_at = began + _BOOKKEEPING_SECONDS
        while (seen := client.job(job.id)).accepted < chunks * _CHUNK_ROWS and time.monotonic() < ends_at:
            time.sleep(_SELDOM_SECONDS)
        seconds, ended = time.monotonic() - began, seen.accepted // _CHUNK_ROWS
        _cancel(client, job)
    listed.unlink()
    per_image = 1e6 * seconds / max(1, ended) / _CHUNK_ROWS
    return Section(
        title="Bookkeeping",
        text=(
            f"{chunks:,} chunks of {_CHUNK_ROWS} rows, planned, admitted, rung and carried through three stages that "
            "do nothing, with every row, lease, fence and bell, on the embedded stack. From the submission to the last "
            f"chunk, or for {_BOOKKEEPING_SECONDS:.0f} s."
        ),
        tables=[
            Table(
                ("chunks", "seconds", "chunks/s", "goal", "µs an image, wall"),
                [(f"{ended:,}", f"{seconds:.1f}", *at_least(ended / seconds, 60, "{:.0f}"), f"{per_image:.0f}")],
            )
        ],
    )


def _planned(ground: Ground, rows: int, kind: str) -> tuple[str, ...]:
    listed = _list(ground, rows, kind)
    with stack(ground) as local, Client(local.url, local.api_key) as client:
        watch = Watch(os.getpid())
        ground.ask_origin("/-/begin", "POST")
        job, began = _submitted(client, ground, listed), time.monotonic()
        _until(client, job, lambda seen: seen.planned)
        seconds = time.monotonic() - began
        first = _first_fetch(ground)
        seen = watch.end()
        _cancel(client, job)
    listed.unlink()
    return (
        *(kind, *at_most(seconds, 60, "{:.1f}"), *at_most(first - began, 3, "{:.1f}")),
        *at_most(seen.largest_mb.get("scheduler", 0), 500, "{:.0f}"),
    )


def _submitted(client: Client, ground: Ground, listed: Path) -> Job:
    manifest = client.upload(listed)
    wanted = JobRequest(
        source=Source(manifest_id=manifest.id),
        destination=Destination(url=str(ground.fresh())),
        recipe=Recipe(robots=False, attempts=1),
    )
    return client.submit(wanted).job


def _first_fetch(ground: Ground) -> float:
    """When the first image was asked for; waits until one was."""
    ends_at = time.monotonic() + _FIRST_FETCH_SECONDS
    while (first := ground.ask_origin("/-/seen")["first_at"]) is None:
        if time.monotonic() > ends_at:
            raise RuntimeError("nothing was fetched")
        time.sleep(_LOOK_SECONDS)
    return float(first)


def _cancel(client: Client, job: Job) -> None:
    with suppress(ConflictError):  # it ended by itself meanwhile
        client.cancel(job.id)


def _until(client: Client, job: Job, holds: Callable[[Job], bool]) -> Job:
    ends_at = time.monotonic() + _LIMIT_SECONDS
    while not holds(seen := client.job(job.id)):
        if seen.state.is_final or time.monotonic() > ends_at:
            raise RuntimeError(f"the job is {seen.state}: {seen.error}")
        time.sleep(_LOOK_SECONDS)
    return seen


def _list(ground: Ground, rows: int, kind: str) -> Path:
    """A list of URLs that nothing lies at, written in blocks."""
    path = ground.folder / f"rows.{kind}"
    blocks = (range(at, min(at + _BLOCK, rows)) for at in range(0, rows, _BLOCK))
    if kind == "parquet":
        schema = pa.schema([("url", pa.string())])
        with pq.ParquetWriter(path, schema) as writer:
            for block in blocks:
                writer.write_table(pa.table([pa.array(_urls(ground, block), pa.string())], schema=schema))
        return path
    with path.open("w") as file:
        for block in blocks:
            file.writelines(f'{{"url": "{url}"}}\n' for url in _urls(ground, block))
    return path


def _urls(ground: Ground, block: range) -> list[str]:
    return [f"http://{NAMES[number % len(NAMES)]}:{ground.port}/none/{number:09d}.jpg" for number in block]
