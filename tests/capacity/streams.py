"""1,000 open progress streams on one gateway: what they cost, and how soon an event is there."""

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pixcrawler import administration
from pixcrawler.aio import AsyncClient
from pixcrawler.models import Destination, JobRequest, Source
from tests.bench.page import Section, Table
from tests.bench.rows import stack
from tests.bench.runs import Ground
from tests.bench.watch import Watch

_JOBS = 20
_ROUNDS = 4
_REST_SECONDS = 2.0
#: An event that has not come after this is counted as lost.
_LONGEST_SECONDS = 60.0
_OPENED_AT_ONCE = 50
_OPENING_SECONDS = 240.0


@dataclass
class _Stream:
    """One open stream: whether its job was paused by the newest event, and when that began to be so."""

    job: str
    is_paused: bool | None = None
    since: float = 0.0
    has_come: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What the streams cost, and the delays from the answer to a command until its event."""

    streams: int
    delays: list[float]
    lost: int
    memory_before_mb: float
    memory_mb: float
    #: Of one core, while nothing happens and while every job changes every two seconds.
    idle_cpu: float
    busy_cpu: float


def many_streams(ground: Ground, streams: int) -> Heard:
    """Opens the streams on a stack whose stages do nothing, then pauses and resumes their jobs."""
    with stack(ground, does_nothing=True) as local:
        return asyncio.run(_measure(ground, local.url, local.api_key, streams))


async def _measure(ground: Ground, url: str, key: str, streams: int) -> Heard:
    gateway = _gateway()
    async with AsyncClient(url, key) as client:
        await client.ask(administration.pause_stage("download"))  # so that no job ends
        jobs = [await _paused_job(client, ground.fresh() / str(number)) for number in range(_JOBS)]
        before = _memory_mb(gateway)
        opened = [_Stream(jobs[number % _JOBS]) for number in range(streams)]
        gate = asyncio.Semaphore(_OPENED_AT_ONCE)
        listening = [asyncio.create_task(_listen(url, key, stream, gate)) for stream in opened]
        if lost := await _all(opened, is_paused=True, within=_OPENING_SECONDS):
            raise RuntimeError(f"{lost} of {streams} streams did not open")
        idle_cpu = await _idle(gateway)
        busy, began = _cpu(gateway), time.monotonic()
        delays, lost = await _rounds(client, jobs, opened)
        busy_cpu = (_cpu(gateway) - busy) / (time.monotonic() - began)
        memory = _memory_mb(gateway)
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
    return Heard(
        streams=streams,
        delays=delays,
        lost=lost,
        memory_before_mb=before,
        memory_mb=memory,
        idle_cpu=idle_cpu,
        busy_cpu=busy_cpu,
    )


async def _paused_job(client: AsyncClient, place: Path) -> str:
    rows = [{"url": f"http://host00.origin.test/{place.name}/{number}.jpg"} for number in range(2)]
    made = await client.submit(JobRequest(source=Source(rows=rows), destination=Destination(url=str(place))))
    return str((await client.pause(made.job.id)).id)


async def _rounds(client: AsyncClient, jobs: list[str], opened: list[_Stream]) -> tuple[list[float], int]:
    """Moves every job, again and again, and waits until all of its streams have heard."""
    delays: list[float] = []
    lost = 0
    for number in range(_ROUNDS):
        is_paused = bool(number % 2)
        told_at: dict[str, float] = {}
        for job in jobs:
            await (client.pause(job) if is_paused else client.resume(job))
            told_at[job] = time.monotonic()
        await asyncio.sleep(_REST_SECONDS)
        lost += await _all(opened, is_paused=is_paused)
        delays += [max(0.0, stream.since - told_at[stream.job]) for stream in opened if stream.is_paused is is_paused]
    return delays, lost


async def _all(opened: list[_Stream], *, is_paused: bool, within: float = _LONGEST_SECONDS) -> int:
    """Waits until every stream says so; how many did not."""
    until = time.monotonic() + within
    for stream in opened:
        while stream.is_paused is not is_paused and time.monotonic() < until:
            stream.has_come.clear()
            try:
                async with asyncio.timeout(max(0.01, until - time.monotonic())):
                    await stream.has_come.wait()
            except TimeoutError:
                break
    return sum(stream.is_paused is not is_paused for stream in opened)


async def _listen(url: str, key: str, stream: _Stream, gate: asyncio.Semaphore) -> None:
    """Hears what the job does; a plain socket, so that the client costs little."""
    parts = urlsplit(url)
    async with gate:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        head = (
            f"GET /v1/jobs/{stream.job}/events HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {key}\r\n\r\n"
        )
        writer.write(head.encode())
        await _next_event(reader, stream)
    while True:
        await _next_event(reader, stream)


async def _next_event(reader: asyncio.StreamReader, stream: _Stream) -> None:
    while not (line := await reader.readline()).startswith(b"data: "):
        if not line:
            raise ConnectionError("the gateway ended a stream")
    is_paused = b'"state":"paused"' in line
    if is_paused is not stream.is_paused:
        stream.is_paused, stream.since = is_paused, time.monotonic()
        stream.has_come.set()


async def _idle(pid: int) -> float:
    before = _cpu(pid)
    await asyncio.sleep(10.0)
    return (_cpu(pid) - before) / 10.0


def section(found: Heard) -> Section:
    """The page's part about it."""
    each_kb = 1024 * (found.memory_mb - found.memory_before_mb) / found.streams
    row = (
        f"{found.streams:,}",
        f"{found.memory_mb:.0f}",
        f"{each_kb:.0f}",
        f"{100 * found.idle_cpu:.0f}",
        f"{100 * found.busy_cpu:.0f}",
        f"{1000 * _share(found.delays, 0.5):.0f}",
        f"{1000 * _share(found.delays, 0.99):.0f}",
        str(found.lost),
    )
    head = (
        "streams",
        "gateway, MB",
        "kB a stream",
        "CPU idle, % of a core",
        "CPU busy, %",
        "delay median, ms",
        "p99, ms",
        "events lost",
    )
    return Section(
        title="Open clients on one gateway",
        text=(
            f"{found.streams:,} clients hold a progress stream each on one gateway process, of {_JOBS} jobs. Idle: "
            f"nothing happens. Busy: every job changes every two seconds or so, {_ROUNDS} times; the delay is from the "
            "answer to the command until the event, and the gateway looks twice a second. The clients ran on the same "
            f"cores, with a load average of {os.getloadavg()[1]:.0f} on {os.cpu_count()}."
        ),
        tables=[Table(head, [row])],
    )


def _gateway() -> int:
    """The process id of our own stack's gateway."""
    watch = Watch(os.getpid())
    time.sleep(1.0)
    watch.end()
    return watch.pid_of("gateway")


def _memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _share(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")
