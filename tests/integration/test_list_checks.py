"""Dry runs carried out by the scheduler, by a real child over a real spool."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from scheduler import checker
from scheduler.checker import Checker
from scheduler.leadership import Leadership
from shared.db import checks, uploads
from shared.db.checks import Check
from shared.db.leader import Term
from shared.db.session import transaction
from shared.egress import NOTICE_PORTS, Egress, EgressSettings
from shared.errors import StoreUnavailable
from shared.guard import ANY_PORT
from shared.pipeline import CheckState
from shared.resources import Resources, open_resources
from tests.core import NO_WEB, Board, board_at, scheduler_settings
from tests.origin import Origin, Request, Wire
from tests.system import until

GOOD = "https://example.com/a.jpg"
pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as opened:
        yield opened


@pytest.fixture
async def resources(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Resources]:
    async with open_resources(scheduler_settings(database_url, redis_url, tmp_path)) as opened:
        yield opened


@pytest.fixture
async def term(resources: Resources) -> AsyncIterator[Term]:
    leadership = Leadership(resources.engine)
    found = await leadership.term()
    assert found
    yield found
    await leadership.resign()


class Wishes:
    """Lists of one tenant in the spool, and wishes to have them checked."""

    def __init__(self, board: Board, folder: Path) -> None:
        self._board = board
        self._spool = folder / "spool"
        self._tenant: UUID | None = None

    async def wish(self, text: str, *, form: str = "txt", **more: Any) -> Check:
        if self._tenant is None:
            self._tenant = await self._board.one("INSERT INTO tenants (name) VALUES ('ours') RETURNING id")
        (self._spool / "lists").mkdir(parents=True, exist_ok=True)
        (self._spool / "lists/one").write_text(text)
        source = {"key": "lists/one", "format": form, "ending": "", "url_col": None, "caption_col": None, **more}
        async with transaction(self._board.engine) as connection:
            upload = await uploads.add(
                connection, tenant_id=self._tenant, filename="a", key="lists/one", size_bytes=1, sha256=""
            )
            made = await checks.ask(connection, tenant_id=self._tenant, upload_id=upload, source=source, most_open=10)
        assert made is not None
        return made

    async def now(self, wished: Check) -> Check:
        assert self._tenant is not None
        async with transaction(self._board.engine) as connection:
            found = await checks.get(connection, self._tenant, wished.upload_id, wished.id)
        assert found is not None
        return found


@pytest.fixture
def wishes(board: Board, tmp_path: Path) -> Wishes:
    return Wishes(board, tmp_path)


async def test_a_list_is_read_whole_and_told_of(resources: Resources, term: Term, wishes: Wishes) -> None:
    text = f"id,Image_URL,TEXT\n1,{GOOD},cat\n2,{GOOD},cat\n3,http://169.254.169.254/x,y\n"
    wished = await wishes.wish(text, form="csv")

    work = Checker(resources, EgressSettings(), NO_WEB)
    has_worked, has_more = await work.check(term), await work.check(term)
    found = await wishes.now(wished)

    assert (has_worked, has_more) == (True, False)
    assert (found.state, found.error) == (CheckState.DONE, None)
    assert found.finished_at is not None
    report = dict(found.report or {})
    assert (report["rows"], report["duplicates"], report["bad_rows"]) == (3, 1, 1)
    assert report["bad"] == [{"row": 2, "line": 4, "reason": "blocked_address", "detail": "metadata"}]
    assert report["top_hosts"] == [{"host": "example.com", "rows": 2}]
    assert (report["columns"]["url"], report["columns"]["caption"]) == ("Image_URL", "TEXT")
    assert report["columns"]["url_is_guessed"]


async def test_a_few_rows_are_tried_and_the_rest_estimated(resources: Resources, term: Term, wishes: Wishes) -> None:
    allowed = EgressSettings(allow_cidrs=("127.0.0.1/32",), allow_ports=frozenset({ANY_PORT}))
    async with Origin(robots="User-agent: *\nDisallow: /private\n") as origin:

        async def answer(request: Request, wire: Wire) -> None:
            await wire.reply(b"\xff\xd8\xff" + bytes(997) if request.path == "/a" else b"<html>")

        origin.handlers |= {"/a": answer, "/page": answer}
        targets = ["/a", "/page", "/private", "/status/404", "/status/503"]
        urls = [origin.url(target) for target in targets]
        wished = await wishes.wish("\n".join([*urls, "http://unasked.example.org/x"]))
        await Checker(resources, allowed, Egress.of(allowed, NOTICE_PORTS)).check(term)

    report = dict((await wishes.now(wished)).report or {})
    trials = [each["trial"] for each in report["sample"]]
    assert trials == ["image", "refused", "refused", "refused", "failed", "not_tried"]
    assert report["sample"][0]["size_bytes"] == 1000
    assert report["sample"][2]["detail"] == "robots.txt forbids it"
    assert report["sample"][5]["detail"] == "it does not answer by https, as checks ask"
    assert report["estimate"] == {"images": 1, "size_bytes": 1000, "seconds": 1}
    assert origin.busiest == 1, "one at a time of a host"


@pytest.mark.parametrize(
    ("text", "form", "more", "says"),
    [
        ("a,b\n1,2\n", "csv", {}, "there is no column 'url': the list has a, b; choose one with --url-col"),
        ("a,b\n1,2\n", "csv", {"url_col": "c"}, "there is no column 'c'"),
        ("", "txt", {}, "the list has no rows"),
        ("PAR1", "parquet", {}, "does not end with PAR1"),
    ],
)
async def test_a_list_that_cannot_be_read_fails_with_what_to_do(
    resources: Resources, term: Term, wishes: Wishes, text: str, form: str, more: dict[str, Any], says: str
) -> None:
    wished = await wishes.wish(text, form=form, **more)

    await Checker(resources, EgressSettings(), NO_WEB).check(term)
    found = await wishes.now(wished)

    assert (found.state, found.error_code) == (CheckState.FAILED, "bad_source")
    assert says in (found.error or "")


async def test_what_a_former_leader_left_is_taken_up_and_given_up_after_three_tries(
    resources: Resources, term: Term, wishes: Wishes, board: Board
) -> None:
    left, broken = await wishes.wish(f"{GOOD}\n"), await wishes.wish(f"{GOOD}\n")
    await board.run("UPDATE list_checks SET state = 'running', tries = 1 WHERE id = :id", id=left.id)
    await board.run("UPDATE list_checks SET state = 'running', tries = 3 WHERE id = :id", id=broken.id)

    work = Checker(resources, EgressSettings(), NO_WEB)
    while await work.check(term):
        pass

    assert (await wishes.now(left)).state is CheckState.DONE
    given_up = await wishes.now(broken)
    assert given_up.state is CheckState.FAILED
    assert "broke three times" in (given_up.error or "")


async def test_a_spool_that_is_away_costs_no_try(
    resources: Resources, term: Term, wishes: Wishes, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    wished = await wishes.wish(f"{GOOD}\n")

    async def away(_: str) -> None:
        raise StoreUnavailable("the store does not answer")

    monkeypatch.setattr(resources.spool, "stat", away)
    for _ in range(4):
        with pytest.raises(StoreUnavailable):
            await Checker(resources, EgressSettings(), NO_WEB).check(term)
    monkeypatch.undo()
    await Checker(resources, EgressSettings(), NO_WEB).check(term)

    assert (await wishes.now(wished)).state is CheckState.DONE


async def test_a_list_that_takes_too_long_is_given_up_and_its_child_killed(
    resources: Resources, term: Term, wishes: Wishes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checker, "LONGEST_SECONDS", 0.2)  # no interpreter starts so soon
    wished = await wishes.wish(f"{GOOD}\n")

    await Checker(resources, EgressSettings(), NO_WEB).check(term)
    found = await wishes.now(wished)

    assert (found.state, found.error_code) == (CheckState.FAILED, "list_uncheckable")
    assert not children()


async def test_a_child_dies_with_the_work_that_is_cancelled(resources: Resources, term: Term, wishes: Wishes) -> None:
    wished = await wishes.wish(f"{GOOD}\n" * 300_000)
    working = asyncio.create_task(Checker(resources, EgressSettings(), NO_WEB).check(term))

    await until("the child runs", has_children, limit_seconds=90)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)

    assert not children()
    assert (await wishes.now(wished)).state is CheckState.RUNNING, "the next leader takes it up"


async def has_children() -> bool:
    return bool(children())


def children() -> list[str]:
    """Surveyors of this process."""
    found = []
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        try:
            command = Path(f"/proc/{child}/cmdline").read_text()
        except OSError:
            continue
        if "scheduler.surveyor" in command:
            found.append(child)
    return found
