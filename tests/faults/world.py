"""The whole system as processes, over servers that can be killed, behind proxies that can be cut.

    async with world() as ours:
        job = await ours.submit(rows=1_200)
        ours.arm("uploader", "upload.progress:kill:2")
        await ours.is_reached("upload.progress")
        ours.mend()
        await ours.has_kept_its_promises(job)

The list is always the same for the same number of rows, so a job without a fault tells what every other must end with.
"""

import asyncio
import io
import os
import random
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
from PIL import Image
from redis import Redis

from shared.db import cells
from shared.db.session import Connection, transaction
from shared.errors import DatabaseUnavailable
from shared.pipeline import DEFAULT_CELL, JobState
from tests.contract.stores import s3_client
from tests.core import ROOMY, Board, board_at
from tests.faults import recovery
from tests.invariants import broken_promises, result_of
from tests.origin import Origin, Request, Wire
from tests.proxy import Proxy
from tests.servers import Postgres, Valkey, migrate
from tests.system import Service, System, until

WORKERS = ("downloader", "validator", "uploader")
SERVICES = ("gateway", "scheduler", *WORKERS)
#: Two chunks and a little one: enough for two to be in flight while one waits.
ROWS = 1_100
#: Everything recovers in seconds here, not in minutes: leases, bells and the grace after an outage.
PACE = {
    "PIXCRAWLER_LEASE_SECONDS": "6",
    "PIXCRAWLER_LEADER_LEASE_SECONDS": "4",
    "PIXCRAWLER_RING_AGAIN_SECONDS": "3",
    "PIXCRAWLER_GRACE_SECONDS": "4",  # a statement may wait 3 s for a lock, and then succeed
    "PIXCRAWLER_STALL_SECONDS": "120",
}
END_LIMIT_SECONDS = 150.0
DEAF = "downloader-deaf"
#: In the second chunk.
HELD_ROW = 600
#: What jobs ask for: whatever dies, thumbnails are under the same promises as images.
SMALL_TOO = '{"thumbnails": 32}'
#: Added to the number of a picture that has changed.
OTHERS = 1_000_000
#: A held picture is waited for.
PATIENT = '{"thumbnails": 32, "url_deadline_seconds": 300}'


class PictureOrigin(Origin):
    """Small pictures, every one another, and a few of the usual mishaps; the same for the same number."""

    #: Pictures that are others by now.
    changed: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        #: Pictures that are not answered before `release`.
        self.held: frozenset[int] = frozenset()
        self._is_silent = False

    def hold(self, *numbers: int) -> None:
        self.held = frozenset(numbers)
        self.is_holding.clear()
        self.released.clear()

    def release(self) -> None:
        """Whatever it was told to do, it answers again."""
        self.held = frozenset()
        self._is_silent = False
        self.released.set()

    def fall_silent(self) -> None:
        """Connections are taken, requests are read, nothing is answered."""
        self._is_silent = True
        self.released.clear()

    async def go_away(self) -> None:
        """Its port refuses connections until `come_back`; those it had are cut."""
        await self.__aexit__()

    async def come_back(self) -> None:
        await self.__aenter__()

    async def _serve_p(self, request: Request, wire: Wire) -> None:
        number = int(request.path.rsplit("/", 1)[1])
        if self._is_silent:
            await self.released.wait()
            wire.reset()
        if number in self.held:
            self.is_holding.set()
            await self.released.wait()
        match number % 50:
            case 3:
                await wire.reply(b"no such page", status=404)
            case 7:
                await wire.reply(jpeg_of(number)[:-200])
            case 11:
                await wire.reply(b"<html>not here</html>", headers={"Content-Type": "text/html"})
            case 19:
                await wire.reply(jpeg_of(number - 2))  # a copy of another picture
            case 23 if request.visit == 1:
                await wire.reply(b"sorry", status=503)
            case _:
                await wire.reply(jpeg_of(number + OTHERS * (number in self.changed)))


@cache
def jpeg_of(number: int) -> bytes:
    """A picture of a kilobyte or two, another for each number."""
    noise = random.Random(number).randbytes(48 * 40 * 3)
    body = io.BytesIO()
    Image.frombytes("RGB", (48, 40), noise).save(body, "JPEG", quality=30)
    return body.getvalue()


def differences(rows: Sequence[Mapping[str, object]], wanted: Sequence[Mapping[str, object]]) -> list[str]:
    """The first rows that are not as they should be, and in what: (found, wanted)."""
    pairs = [(row, right) for row, right in zip(rows, wanted, strict=True) if row != right]
    return [
        str({"row": row["row"]} | {name: (row[name], right[name]) for name in row if row[name] != right[name]})
        for row, right in pairs[:5]
    ]


@dataclass
class Reference:
    """What a job without a fault ended with."""

    rows: list[dict[str, object]]
    seconds: float


class World:
    """The system under test. `mend` brings back whatever a test broke."""

    def __init__(self, system: System, board: Board, origin: PictureOrigin, servers: "Servers") -> None:
        self.system = system
        self.board = board
        self.origin = origin
        self.postgres = servers.postgres
        self.redis = servers.redis
        self.to_postgres = servers.to_postgres
        self.to_redis = servers.to_redis
        self.running: dict[str, Service] = {}
        self._others: list[Service] = []
        self._references: dict[int, Reference] = {}
        self._jobs = 0
        self._rows: dict[UUID, int] = {}
        self._doomed: dict[str, Service] = {}
        #: When the fault that is being recovered from ended, or began.
        self.mended_at = monotonic()
        self._marks = system.folder / "failpoints"
        self._marks.mkdir(exist_ok=True)

    def mend(self) -> None:
        """Everything runs: the servers, the way to them, and one copy of each service that does not fail on purpose."""
        self.heal()
        for service in filter(_is_alive, self.running.values()):
            _continue(service)
        missing = [name for name in SERVICES if not _is_alive(self.running.get(name))]
        for name in missing:
            self.running[name] = self.system.start(name)
        for name in missing:
            self.running[name].wait_until_ready()
        self.mended_at = monotonic()

    def heal(self) -> None:
        """The servers run and the way to them is free; the services are left as they are."""
        for server in (self.postgres, self.redis):
            server.mend()
        for proxy in (self.to_postgres, self.to_redis):
            proxy.heal()
        self.origin.release()
        self.mended_at = monotonic()

    def arm(self, name: str, failpoints: str, **plain: str) -> Service:
        """Replaces a service by one that fails as asked; the fail-point's mark is taken away first."""
        asked = dict(one.split(":")[:2] for one in failpoints.split(","))
        asked = {place.partition("@")[0]: action for place, action in asked.items()}
        for point in asked:
            (self._marks / point).unlink(missing_ok=True)
        armed = {"PIXCRAWLER_FAILPOINTS": failpoints, "PIXCRAWLER_FAILPOINTS_DIR": str(self._marks)}
        service = self.start(name, **armed, **plain)
        self._doomed = {point: service for point, action in asked.items() if action in ("kill", "term")}
        return service

    def start(self, name: str, **plain: str) -> Service:
        """Replaces a service by one with these variables."""
        self.remove(name)
        self.running[name] = service = self.system.start(name, plain=plain)
        service.wait_until_ready()
        return service

    def add(self, name: str, *, plain: dict[str, str] | None = None) -> Service:
        """One more copy of a service; `mend` does not look after it, the world's end does."""
        service = self.system.start(name, plain=plain)
        self._others.append(service)
        service.wait_until_ready()
        return service

    @contextmanager
    def instead(self, name: str, plain: dict[str, str]) -> Iterator[Service]:
        """Another copy in place of a service, with more in its environment; at the end it is gone."""
        self.remove(name)
        service = self.add(name, plain=plain)
        try:
            yield service
        finally:
            if _is_alive(service):
                service.kill()

    def dead(self) -> list[str]:
        """Services that ended although nobody asked them to, with the last they said."""
        return [f"{name}: {service.said()[-300:]}" for name, service in self.running.items() if not _is_alive(service)]

    async def has_said(self, name: str, event: str, *, times: int = 1, limit_seconds: float = 60) -> None:
        """Returns when a service logged an event that many times more than by now."""
        service = self.running[name]
        before = len(service.events(event))

        async def has_event() -> bool:
            return len(service.events(event)) >= before + times

        await until(f"{name} said {event} {times} times", has_event, limit_seconds=limit_seconds)

    async def is_away(self, server: str) -> None:
        """Returns when the scheduler shows that a server cannot be reached."""

        async def is_told() -> bool:
            line = f'pixcrawler_dependency_up{{server="{server}"}}'
            page = (await asyncio.to_thread(self.running["scheduler"].get, "/metrics"))[1]
            return f"{line} 0.0" in page

        await until(f"the scheduler says that the {server} is away", is_told, limit_seconds=120)

    def remove(self, name: str) -> None:
        """Takes a service out as an operator would; one that does not obey is killed."""
        service = self.running.pop(name, None)
        if service and _is_alive(service):
            _continue(service)
            service.stop()

    @asynccontextmanager
    async def with_deaf_downloader(self) -> AsyncIterator[None]:
        """A downloader reports, so that chunks are let in, and hears no bell."""
        self.remove("downloader")
        async with transaction(self.board.engine) as connection:
            await cells.report(connection, DEFAULT_CELL, DEAF, "nowhere", ROOMY)
        await self.board.run(
            "UPDATE cells SET seen_at = seen_at + interval '1 hour' WHERE worker = :worker", worker=DEAF
        )
        try:
            yield
        finally:
            async with transaction(self.board.engine) as connection:
                await cells.withdraw(connection, DEFAULT_CELL, DEAF)

    def wake(self, name: str) -> None:
        """A service that a fail-point stopped goes on, as if nothing had happened."""
        _continue(self.running[name])
        self.mended_at = monotonic()

    async def is_reached(self, point: str) -> None:
        """Returns when a service got to a fail-point, and is dead if that was asked for."""

        async def has_mark() -> bool:
            return (self._marks / point).exists()

        await until(f"{point} is reached", has_mark, limit_seconds=60)
        self.mended_at = monotonic()
        if service := self._doomed.pop(point, None):
            await asyncio.to_thread(service.process.wait, 30)

    async def submit(self, rows: int = ROWS, *, recipe: str = SMALL_TOO, destination: Path | str | None = None) -> UUID:
        """A new job over that many rows."""
        self._jobs += 1
        self.mended_at = monotonic()
        urls = [self.origin.url(f"/p/{number}") for number in range(rows)]
        place = destination or self.system.folder / f"out-{self._jobs}"
        job = await self.board.submit(self.system.spool, urls, place, recipe=recipe)
        self.expect(job, rows)
        return job

    def expect(self, job: UUID, rows: int) -> None:
        """A job of so many of the list's rows that was not submitted by us."""
        self._rows[job] = rows

    async def ask(self, job: UUID, move: Callable[[Connection, UUID, UUID], Awaitable[bool]]) -> bool:
        """What its client asks for: `jobs.pause`, `jobs.resume` or `jobs.cancel`. Whether the job moved."""
        tenant = await self.board.one("SELECT tenant_id FROM jobs WHERE id = :job", job=job)
        async with transaction(self.board.engine) as connection:
            return await move(connection, tenant, job)

    async def is_state(self, job: UUID, *states: JobState) -> None:
        """Waits until the job is in one of the states."""

        async def is_there() -> bool:
            return await self.board.job_state(job) in states

        await until(f"the job is {' or '.join(states)}", is_there, limit_seconds=60)

    async def crashes(self, job: UUID) -> int:
        """How often a worker was taken for dead over this job."""
        lost = "SELECT count(*) FROM chunk_events JOIN chunks ON chunks.id = chunk_id WHERE job_id = :job"
        return int(await self.board.one(f"{lost} AND chunk_events.error_code = 'worker_lost'", job=job))

    async def under_way(self) -> UUID:
        """A new job: one chunk goes on through its stages, one is held in its download, one waits for its bell.

        `heal` lets the held one go.
        """
        self.origin.hold(HELD_ROW)
        job = await self.submit(recipe=PATIENT)
        await asyncio.wait_for(self.origin.is_holding.wait(), timeout=60)
        return job

    async def has_ended(self, job: UUID, *, limit_seconds: float = END_LIMIT_SECONDS) -> float:
        """Waits for the job's end; how long that took from now, seconds."""
        began = monotonic()
        try:
            await until("the job has ended", lambda: self._has_ended(job), limit_seconds=limit_seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{await self.standing(job)}") from None
        return monotonic() - began

    def database_through(self, cable: Proxy) -> str:
        """The database's address by another way than everybody's."""
        return _through(self.system.database_url, cable.port)

    async def _has_ended(self, job: UUID) -> bool:
        """False also while PostgreSQL cannot be asked."""
        with suppress(DatabaseUnavailable):
            return await self.board.has_ended(job)
        return False

    async def standing(self, job: UUID) -> str:
        """Where a job's chunks stand, and what each service does and said last: for a test that waits in vain."""
        chunks = await self.board.run(
            "SELECT id, state, owner, rings, attempt, crashes, error FROM chunks WHERE job_id = :job ORDER BY id",
            job=job,
        )
        living = {name: service for name, service in self.running.items() if _is_alive(service)}
        doing = [
            f"{name} stands\n{service.hangs_where()}\nand said {service.said()[-1500:]}"
            for name, service in living.items()
        ]
        return "\n".join([*doing, await self.board.job_state(job), *map(str, chunks), *self.dead()])

    async def destination(self, job: UUID) -> Path:
        place = "SELECT destination FROM datasets JOIN jobs ON jobs.dataset_id = datasets.id WHERE jobs.id = :job"
        url = str(await self.board.one(place, job=job))
        if not url.startswith("s3://"):
            return Path(url)
        return await asyncio.to_thread(self._copy_of_bucket, url, self.system.folder / f"copy-{job}")

    def _copy_of_bucket(self, url: str, copy: Path) -> Path:
        """The objects below a prefix, as a folder."""
        shutil.rmtree(copy, ignore_errors=True)
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        with closing(s3_client(self.system.extra["PIXCRAWLER_S3_ENDPOINT"])) as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            for key in [found["Key"] for page in pages for found in page.get("Contents", ())]:
                file = copy / key.removeprefix(prefix).lstrip("/")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(client.get_object(Bucket=bucket, Key=key)["Body"].read())
        return copy

    async def reference(self, rows: int) -> Reference:
        """What a job over that many rows ends with when nothing happens to it."""
        if rows not in self._references:
            self.mend()
            job = await self.submit(rows)
            seconds = await self.has_ended(job)
            self._references[rows] = Reference(result_of(await self.destination(job)), seconds)
        return self._references[rows]

    async def has_kept_its_promises(self, job: UUID, *, state: JobState = JobState.COMPLETED) -> None:
        """Waits until the job has ended and the system rests; fails with whatever does not hold then.

        A completed job must have the index rows of one that nothing happened to.
        """
        await self.has_ended(job)
        recovery.note(monotonic() - self.mended_at)
        destination, wrong = await self.destination(job), ["never looked"]

        async def is_well() -> bool:
            nonlocal wrong
            with Redis.from_url(self.redis.url) as redis:
                wrong = await broken_promises(
                    self.board,
                    job,
                    destination=destination,
                    rows=self._rows[job],
                    work=self.system.work,
                    redis=redis,
                )
            return not wrong

        try:
            # A bell nobody answered comes back after 30 s, and some time may pass until somebody looks.
            await until("all promises are kept", is_well, limit_seconds=75)
        except AssertionError:
            raise AssertionError("\n".join(wrong)) from None
        assert await self.board.job_state(job) is state
        if state is JobState.COMPLETED:
            wrong = differences(result_of(destination), (await self.reference(self._rows[job])).rows)
            assert not wrong, "\n".join(wrong)

    def dismiss_others(self) -> None:
        """Ends the copies that were added; they may be stopped, cut off or half dead."""
        for service in self._others:
            if _is_alive(service):
                service.kill()
        self._others.clear()

    def close(self) -> None:
        self.dismiss_others()
        for service in self.running.values():
            if _is_alive(service):
                service.kill()


@dataclass
class Servers:
    """The servers, and the proxies before them."""

    postgres: Postgres
    redis: Valkey
    to_postgres: Proxy
    to_redis: Proxy


@asynccontextmanager
async def world(folder: Path, extra: Mapping[str, str] | None = None) -> AsyncIterator[World]:
    """A world of its own, with more in its environment: servers and origin; services are started when first mended."""
    with ExitStack() as stack:
        postgres, redis = stack.enter_context(Postgres()), stack.enter_context(Valkey())
        servers = Servers(
            postgres, redis, stack.enter_context(Proxy(postgres.port)), stack.enter_context(Proxy(redis.port))
        )
        direct = await _database(postgres)
        system = System(
            _through(direct, servers.to_postgres.port),
            f"redis://127.0.0.1:{servers.to_redis.port}/0",
            folder,
            extra={
                "PIXCRAWLER_ALLOW_CIDRS": '["127.0.0.0/8"]',
                "PIXCRAWLER_ALLOW_PORTS": "[0]",
                **PACE,
                **(extra or {}),
            },
        )
        async with PictureOrigin() as origin, board_at(direct) as board:
            ours = World(system, board, origin, servers)
            try:
                yield ours
            finally:
                ours.close()


async def _database(server: Postgres) -> str:
    """A migrated database; its address as its owner."""
    admin = await asyncpg.connect(server.url, timeout=30)
    try:
        await admin.execute("CREATE ROLE pixcrawler LOGIN PASSWORD 'faults'")
        await admin.execute("CREATE DATABASE faults OWNER pixcrawler")
    finally:
        await admin.close()
    url = f"postgresql://pixcrawler:faults@127.0.0.1:{server.port}/faults"
    await asyncio.to_thread(migrate, url)
    return url


def _through(url: str, port: int) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}"))


def _is_alive(service: Service | None) -> bool:
    return service is not None and service.process.poll() is None


def _continue(service: Service) -> None:
    """Lets it go on if it was stopped, children and all."""
    os.killpg(service.process.pid, signal.SIGCONT)
