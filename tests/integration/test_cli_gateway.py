"""The client library against the real gateway, over a socket."""

import asyncio
import hashlib
import json
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import uvicorn
from pydantic import SecretStr

from gateway.app import create_app
from gateway.credentials import Scope
from gateway.keys import create
from gateway.settings import GatewaySettings
from pixcrawler import (
    AsyncClient,
    Client,
    Destination,
    JobRequest,
    JobState,
    ListOptions,
    Recipe,
    Source,
    connection,
    errors,
)
from pixcrawler.commands.checking import rendered
from pixcrawler.models import CheckRequest, JobFilter, ListReport, Manifest
from pixcrawler.words import Depth, TakedownKind
from scheduler.checker import Checker
from scheduler.leadership import Leadership
from shared.db import calendar, poison
from shared.db.session import open_engine, transaction
from shared.egress import EgressSettings
from shared.papers import STATISTICS_KEY
from shared.pipeline import DOWNLOAD, Tier
from shared.resources import open_resources
from shared.statistics import Tally
from tests.core import NO_WEB, board_at, scheduler_settings

_START_SECONDS = 20.0


class Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()


@pytest.fixture
async def gateway(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[str]:
    """A gateway's URL."""
    settings = GatewaySettings.model_validate(
        {
            "database_url": database_url,
            "redis_url": redis_url,
            "spool_url": str(tmp_path / "spool"),
            "work_dir": tmp_path / "work",
            "folder_roots": [tmp_path],
        }
    )
    server = Server(uvicorn.Config(create_app(settings), port=0, log_config=None, lifespan="on"))
    serving = asyncio.create_task(server.serve())
    await asyncio.wait_for(server.is_up.wait(), _START_SECONDS)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await serving


@pytest.fixture
async def key(database_url: str) -> str:
    engine = open_engine(SecretStr(database_url), connections=1)
    try:
        return await create(
            engine, tenant="ours", tier=Tier.FREE, name="test", scopes=(Scope.JOBS_READ, Scope.JOBS_WRITE)
        )
    finally:
        await engine.dispose()


def request_for(place: Path, source: Source, recipe: Recipe | None = None) -> JobRequest:
    return JobRequest(name="cats", source=source, destination=Destination(url=str(place)), recipe=recipe or Recipe())


def rows(count: int = 2) -> Source:
    return Source(rows=[{"url": f"https://example.com/{number}.jpg"} for number in range(count)])


@asynccontextmanager
async def checking(database_url: str, redis_url: str, folder: Path) -> AsyncIterator[None]:
    """What a scheduler does about lists to be checked, done within."""
    async with open_resources(scheduler_settings(database_url, redis_url, folder)) as resources:
        leadership, work = Leadership(resources.engine), Checker(resources, EgressSettings(), NO_WEB)

        async def check() -> None:
            while True:
                term = await leadership.term()
                assert term
                if not await work.check(term):
                    await asyncio.sleep(0.1)

        working = asyncio.create_task(check())
        yield
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await leadership.resign()


async def test_a_list_is_checked_by_either_client(
    gateway: str, key: str, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "urls.csv"
    path.write_text("link,alt\nhttps://example.com/a.jpg,cat\nnonsense,dog\n")

    def use() -> ListReport | None:
        with Client(gateway, key) as client:
            return client.check(client.upload(path), timeout_seconds=120).report

    async with checking(database_url, redis_url, tmp_path), AsyncClient(gateway, key) as client:
        by_blocking = await asyncio.to_thread(use)
        by_async = await client.check(await client.upload(path), CheckRequest(url_col="alt"), timeout_seconds=120)

    assert by_blocking is not None
    assert by_async.report is not None
    assert (by_blocking.columns.url, by_blocking.bad[0].line) == ("link", 3)
    assert (by_async.report.columns.url, by_async.report.bad_rows) == ("alt", 2)
    assert "line 3: bad_url (malformed)" in rendered(by_blocking)


class Losing(httpx2.BaseTransport):
    """Loses the connection now and then: before a part arrives, or when it is answered."""

    def __init__(self) -> None:
        self._inner = httpx2.HTTPTransport()
        self.parts = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method != "PATCH":
            return self._inner.handle_request(request)
        self.parts += 1
        if self.parts % 3 == 1:
            raise httpx2.ConnectError("lost before it arrived")
        answer = self._inner.handle_request(request)
        if self.parts % 3 == 2:
            answer.read()
            answer.close()
            raise httpx2.ReadError("lost when it was answered")
        return answer

    def close(self) -> None:
        self._inner.close()


async def test_a_large_list_arrives_in_parts_though_connections_break(
    gateway: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_PART_BYTES", 20_000)
    path = tmp_path / "urls.txt"
    path.write_text("".join(f"https://example.com/{number}.jpg\n" for number in range(3_000)))
    losing = Losing()

    def use() -> Manifest:
        with Client(gateway, key, transport=losing, sleep=lambda _: None) as client:
            return client.upload(path)

    sent = await asyncio.to_thread(use)
    async with AsyncClient(gateway, key) as other:
        again = await other.upload(path)

    assert (sent.sha256, sent.size_bytes) == (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
    assert again.sha256 == sent.sha256
    assert losing.parts > sent.size_bytes // 20_000 + 1


async def test_a_job_is_made_shown_moved_and_found_again(gateway: str, key: str, tmp_path: Path) -> None:
    def use() -> None:
        with Client(gateway, key) as client:
            made = client.submit(request_for(tmp_path / "cats", rows(), Recipe(depth=Depth.FULL)))
            again = client.submit(request_for(tmp_path / "cats", rows(), Recipe(depth=Depth.FULL)))

            assert (made.is_new, again.is_new, again.job.id) == (True, False, made.job.id)
            assert made.job.recipe["depth"] == "full"
            assert client.job(made.job.id).destination.url == str(tmp_path / "cats")
            assert client.pause(made.job.id).state is JobState.PAUSED
            assert client.resume(made.job.id).state is JobState.QUEUED
            assert client.cancel(made.job.id).state is JobState.CANCELLING
            assert list(client.images(made.job.id)) == []
            assert client.me().tenant == "ours"

    await asyncio.to_thread(use)


async def test_a_list_is_uploaded_and_read_with_its_options(gateway: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "my list.csv"
    path.write_text("link,text,id\n" + "https://example.com/a.jpg,a cat,7\n" * 60_000)

    def use() -> None:
        with Client(gateway, key) as client:
            manifest = client.upload(path)
            request = request_for(tmp_path / "cats", Source(manifest_id=manifest.id))
            request.list = ListOptions(url_col="link", caption_col="text", save_columns=["id"])

            assert manifest.size_bytes == path.stat().st_size
            assert client.submit(request).is_new

    await asyncio.to_thread(use)


async def test_the_gateways_refusals_come_as_errors(gateway: str, key: str, tmp_path: Path) -> None:
    def use() -> None:
        with Client(gateway, key) as client:
            client.submit(request_for(tmp_path / "cats", rows()))
            with pytest.raises(errors.ConflictError) as taken:
                client.submit(request_for(tmp_path / "cats", rows(3)))
            with pytest.raises(errors.InvalidRequestError) as elsewhere:
                client.submit(request_for(Path("/root-of-nothing"), rows()))
            with pytest.raises(errors.InvalidRequestError) as wrong:
                client.submit(request_for(tmp_path / "dogs", rows(), Recipe(attempts=99)))
            with pytest.raises(errors.NotFoundError):
                client.job("00000000-0000-0000-0000-000000000000")
        with Client(gateway, "pxc_wrong") as stranger, pytest.raises(errors.AuthenticationError):
            stranger.me()

        assert (taken.value.code, elsewhere.value.code) == ("destination_taken", "bad_destination")
        assert wrong.value.code == "invalid_request"
        assert wrong.value.errors[0]["pointer"].startswith("/recipe")
        assert taken.value.request_id

    await asyncio.to_thread(use)


async def test_the_async_client_sees_changes_as_they_come(gateway: str, key: str, tmp_path: Path) -> None:
    async with AsyncClient(gateway, key) as client:
        job = (await client.submit(request_for(tmp_path / "cats", rows()))).job
        stream = client.events(job.id)

        first = await anext(stream)
        await client.pause(job.id)
        async with asyncio.timeout(20):
            second = await anext(stream)

        assert (first.state, second.state) == (JobState.QUEUED, JobState.PAUSED)


async def test_lists_of_jobs_cross_pages(gateway: str, key: str, tmp_path: Path) -> None:
    async with AsyncClient(gateway, key) as client:
        made = [(await client.submit(request_for(tmp_path / f"cats{n}", rows()))).job.id for n in range(52)]

        listed = [job.id async for job in client.jobs()]
        paused = [job.id async for job in client.jobs(JobFilter(state=JobState.PAUSED))]

        assert listed == made[::-1]
        assert paused == []


async def test_the_command_talks_to_a_gateway_of_any_address(gateway: str, key: str, tmp_path: Path) -> None:
    (tmp_path / "urls.dat").write_text("link\nhttps://example.com/a.jpg\n")

    async def pixcrawler(*arguments: str) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pixcrawler.cli", *arguments, "--gateway", gateway),
            cwd=tmp_path,
            env={"PIXCRAWLER_API_KEY": key, "PATH": "/usr/bin:/bin", "HTTP_PROXY": "http://127.0.0.1:9"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode, out.decode(), err.decode()

    asked = ("submit", "urls.dat", "--to", "cats", "--input-format", "csv", "--url-col", "link", "--depth", "full")
    code, job, err = await pixcrawler(*asked)
    again = await pixcrawler(*asked)
    status = await pixcrawler("job", "show", job.strip(), "--json")
    too_early = await pixcrawler("job", "stats", job.strip())
    figures = Tally().statistics(json.loads(status[1])["dataset_id"], 0, rows_without_index=7, stages={})
    (tmp_path / "cats" / STATISTICS_KEY).write_text(figures.model_dump_json())
    told = await pixcrawler("job", "stats", job.strip(), "--json")
    paused = await pixcrawler("job", "pause", job.strip())
    unreadable = await pixcrawler("submit", "urls.dat", "--to", "dogs")

    assert code == 0, err
    assert (again[0], again[1]) == (0, job)
    assert json.loads(status[1])["recipe"]["depth"] == "full"
    assert (too_early[0], "when a job of the dataset ends" in too_early[2]) == (5, True)
    assert json.loads(told[1])["rows_without_index"] == 7
    assert paused[1].split() == [job.strip(), "paused"]
    assert (unreadable[0], "format" in unreadable[2]) == (2, True)


async def test_an_administrator_takes_down_looks_and_lifts(gateway: str, database_url: str) -> None:
    engine = open_engine(SecretStr(database_url), connections=1)
    admin_key = await create(engine, tenant="operator", tier=Tier.FREE, name="test", scopes=(Scope.ADMIN,))
    await engine.dispose()

    def use() -> None:
        with Client(gateway, admin_key) as client:
            made = client.take_down(TakedownKind.URL, "HTTPS://Example.com/cat.jpg", note="ticket 7")
            assert (made.value, made.note) == ("https://example.com/cat.jpg", "ticket 7")
            assert list(client.takedowns(TakedownKind.URL)) == [made]
            assert client.lift_takedown(made.id) == made
            with pytest.raises(errors.NotFoundError):
                client.lift_takedown(made.id)

    await asyncio.to_thread(use)

    async with AsyncClient(gateway, admin_key) as client:
        other = await client.take_down(TakedownKind.HOST, "example.com")
        assert [takedown async for takedown in client.takedowns()] == [other]
        assert await client.lift_takedown(other.id) == other


@pytest.fixture
async def admin(gateway: str, database_url: str) -> Callable[..., Awaitable[tuple[int, str]]]:
    """`pixcrawler admin …` with an administrator's key: its exit code, and what it said."""
    engine = open_engine(SecretStr(database_url), connections=1)
    admin_key = await create(engine, tenant="operator", tier=Tier.FREE, name="test", scopes=(Scope.ADMIN,))
    await engine.dispose()

    async def run(*arguments: str) -> tuple[int, str]:
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pixcrawler.cli", "admin", *arguments),
            *("--gateway", gateway, "--api-key", admin_key),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, complaint = await command.communicate()
        return command.returncode or 0, out.decode() or complaint.decode()

    return run


async def test_the_admin_commands_print_a_line_for_each_takedown(
    admin: Callable[..., Awaitable[tuple[int, str]]],
) -> None:
    made = await admin("takedown", "host", "EXAMPLE.com", "--note", "ticket 7")
    listed = await admin("takedowns")
    purged = await admin("takedown", "host", "example.com", "--purge")
    refused = await admin("takedown", "sha256", "abc")
    takedown_id = made[1].split("\t")[0]
    lifted = await admin("lift", takedown_id)

    assert made == (0, f"{takedown_id}\thost\texample.com\tticket 7\n")
    assert purged == (0, f"{takedown_id}\thost\texample.com\tticket 7\tpurging, 0 removed, 0 chunks left\n")
    assert (listed, lifted) == (made, purged)
    assert refused[0] != 0
    assert "64 hex digits" in refused[1]


@pytest.mark.timeout(300)  # each command is a process, and there are ten
async def test_the_admin_commands_make_tenants_and_keys(
    admin: Callable[..., Awaitable[tuple[int, str]]], gateway: str
) -> None:
    made = await admin("tenant", "create", "cats", "--tier", "enterprise", "--limit", "open_jobs=5")
    key = await admin("key", "create", "--tenant", "cats", "--scope", "jobs:read")
    suspended = await admin("tenant", "suspend", "cats")
    unknown = await admin("tenant", "show", "dogs")
    odd = await admin("tenant", "change", "cats", "--limit", "open_jobs=many")
    replaced = await admin("key", "rotate", key[1][4:12], "--json")
    listed = await admin("key", "list", "--tenant", "cats")

    assert made[1].startswith("cats\tagreed enterprise\tcounts as new\topen_jobs=5\tmay submit\t0 open jobs")
    assert key[1].startswith("pxc_")
    assert "suspended since" in suspended[1]
    assert (unknown[0], odd[0]) == (5, 2)
    assert json.loads(replaced[1])["scopes"] == ["jobs:read"]
    assert [line.split("\t")[1] for line in listed[1].splitlines()] == ["cats", "cats"]


@pytest.mark.timeout(300)  # each command is a process, and there are seven
async def test_the_admin_commands_pause_drain_and_show_stages_slots_and_the_calendar(
    admin: Callable[..., Awaitable[tuple[int, str]]], database_url: str
) -> None:
    async with board_at(database_url) as board:
        (chunk,) = await board.chunks_of(await board.job())
        claim = await board.claimed(DOWNLOAD, chunk, owner="downloader-a-1")
        async with transaction(board.engine) as connection:
            await calendar.provide(connection, {"tidy_spool": {"every_seconds": 3600}})

        slots = await admin("slots")
        too_long = await admin("stage", "drain", "download", "--timeout", "0")
        await board.advance(DOWNLOAD, claim)
        drained = await admin("stage", "drain", "download")
        resumed = await admin("stage", "resume", "download", "--json")
        run = await admin("calendar", "run", "tidy_spool")
        paused = await admin("calendar", "pause", "tidy_spool")
        how_often = await admin("calendar", "add", str(claim.job_id))
        elsewhere = await admin("calendar", "add", str(claim.job_id), "--every-hours", "24", "--reason", "too_slow")
        kept = await admin("calendar", "remove", "tidy_spool")

    assert slots[1].split("\t")[1] == f"chunk {chunk}"
    assert "downloader-a-1" in slots[1]
    assert too_long[0] == 75
    assert "1 chunks are still in hand" in too_long[1]
    assert [line.split("\t")[:2] for line in drained[1].splitlines()[1:]] == [["validate", "open"], ["upload", "open"]]
    assert drained[1].startswith("download\tpaused since ")
    assert json.loads(resumed[1].splitlines()[0])["paused_at"] is None
    assert run == (0, "tidy_spool\tevery 3600 s\tlast -\tnext -\ta run is open\n")
    assert (how_often[0], "--every-hours or --cron" in how_often[1]) == (2, True)
    assert (elsewhere[0], "/nowhere" in elsewhere[1] or "folder" in elsewhere[1]) == (2, True), elsewhere
    assert (kept[0], "for a dataset" in kept[1]) == (5, True)
    assert paused == (0, "tidy_spool\tevery 3600 s\tlast -\tpaused\ta run is open\n")


async def test_the_admin_commands_show_redrive_and_drop_failed_chunks(
    admin: Callable[..., Awaitable[tuple[int, str]]], database_url: str
) -> None:
    async with board_at(database_url) as board:
        job = await board.job(chunks=3)
        first, second, third = await board.chunks_of(job)
        for chunk in (first, second, third):
            await board.claimed(DOWNLOAD, chunk)
        await board.run("UPDATE chunks SET state = 'failed', error_code = 'chunk_error', error = 'row 7 is strange'")
        async with transaction(board.engine) as connection:
            await poison.keep(connection, queue="upload", message=[7], error="no version")
        kept = await board.one("SELECT id FROM poison_messages")

    listed = await admin("failed")
    shown = await admin("failed", str(first))
    redriven = await admin("redrive", str(first))
    again = await admin("redrive", str(first))
    dropped = await admin("drop", str(second))
    rest = json.loads((await admin("redrive", "--job", str(job), "--code", "chunk_error", "--json"))[1])
    thrown = await admin("drop", "--poison", str(kept))
    unsaid = await admin("drop")

    lines = listed[1].splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(third), str(second), str(first), str(kept)]
    assert lines[0].split("\t")[1:4] == [str(job), "rows 8-11", "failed"]
    assert lines[0].endswith("chunk_error: row 7 is strange")
    assert "pending > download_ready" in shown[1]
    assert (redriven, dropped, thrown[0]) == ((0, "redriven\t1\n"), (0, "dropped\t1\n"), 0)
    assert (again[0] != 0, "not failed" in again[1]) == (True, True)
    assert rest == {"chunks": 1, "passed_over": 0}
    assert (unsaid[0], "CHUNK" in unsaid[1]) == (2, True)
    assert await admin("failed") == (0, "")
