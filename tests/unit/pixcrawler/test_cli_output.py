"""What the command shows, and what it ends with."""

import json
import signal
from typing import Any

import pytest

from pixcrawler import errors
from pixcrawler.commands.ending import guarded
from pixcrawler.commands.exits import Exit, Failure, exit_of_error, exit_of_state
from pixcrawler.commands.following import Followed, Pace, conclude
from pixcrawler.commands.interrupts import Interrupted, Interrupts
from pixcrawler.commands.report import JsonReporter, PlainReporter, progress_line
from pixcrawler.commands.summary import Summary, rendered, size
from pixcrawler.local.errors import LocalStackError
from pixcrawler.models import Job
from pixcrawler.words import JobState


def job(state: str = "completed", **more: Any) -> Job:
    progress = {name: {"done": more.pop(name, 0), "total": 10} for name in ("download", "validate", "upload")}
    shown = {
        "id": "6d0dd1a5-3d0b-4b2e-9f1c-0d6f3c8f7a11",
        "dataset_id": "8a2c7f0e-54a1-4b7c-9a0e-5b1e2f3d4c5b",
        "revision": 0,
        "kind": "build",
        "name": "cats",
        "state": state,
        "destination": {"url": "/data/my cats", "endpoint": None},
        "recipe": {},
        "created_at": "2026-11-21T12:00:00Z",
        "started_at": None,
        "finished_at": None,
        "rows": 1000,
        "planned": True,
        "accepted": 0,
        "rejected": {},
        "stored_bytes": 0,
        "progress": progress,
        "images_per_second": None,
        "seconds_left": None,
        "chunks_ahead": None,
        "waiting_for": "",
        "error": None,
    }
    return Job.model_validate(shown | more)


def test_the_table_shows_reasons_by_number_with_advice_and_how_to_load() -> None:
    ended = job(accepted=900, rejected={"bad_url": 30, "http_not_found": 70}, stored_bytes=12_345_678)

    text = rendered(Summary(ended, 250.0, Exit.OK), width=100)

    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines == [
        "rows 1,000",
        "accepted 900",
        "rejected 100",
        "http_not_found 70 The image is gone (404, 410).",
        "bad_url 30 The row holds no usable URL; correct it in the list.",
        "speed 250.0 images/s",
        "size 12.3 MB",
        "dataset /data/my cats",
        "load it from datasets import load_dataset; load_dataset('/data/my cats', split='train')",
    ]


def test_a_reason_of_a_newer_gateway_is_shown_without_advice() -> None:
    assert "new_reason" in rendered(Summary(job(rejected={"new_reason": 1}), None, Exit.OK), width=80)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (25_500_000, "25.5 MB"), (10**16, "10000.0 TB")],
)
def test_sizes_for_people(count: int, text: str) -> None:
    assert size(count) == text.replace("10000.0 TB", "10.0 PB")


def test_progress_says_what_a_job_waits_for() -> None:
    waiting = job("running", planned=False, download=5, waiting_for="disk space")

    assert progress_line(waiting) == (
        "download 5/?, validate 0/?, upload 0/?; running: 0 accepted, 0 rejected; waiting: disk space"
    )


def test_the_pace_counts_from_the_first_fetch_to_the_last_row() -> None:
    times = iter([0.0, 5.0, 6.0, 10.0, 30.0])
    pace = Pace(job("queued"), clock=lambda: next(times))

    pace.note(job("planning"))  # still planning at 5 s
    pace.note(job("running", download=4))
    pace.note(job("running", download=10, accepted=10))  # the last row ends at 10 s
    pace.note(job("completed", download=10, accepted=10))  # papers take until 30 s

    assert pace.images_per_second == 10 / 5


def test_the_pace_of_a_run_that_goes_on_leaves_out_what_was_done_before() -> None:
    times = iter([0.0, 2.0])
    pace = Pace(job("running", download=100, accepted=50), clock=lambda: next(times))

    pace.note(job("running", download=100, validate=100, accepted=100))

    assert pace.images_per_second == 25


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Failure("x", Exit.CONFLICT), 6),
        (LocalStackError("x", 73), 73),
        (errors.InvalidRequestError(422, "bad_source", "x"), 2),
        (errors.AuthenticationError(401, "unauthorized", "x"), 4),
        (errors.NotFoundError(404, "not_found", "x"), 5),
        (errors.ConflictError(409, "destination_taken", "x"), 6),
        (errors.UnavailableError(503, "unavailable", "x"), 7),
        (errors.ConnectionFailed("x"), 7),
        (errors.GatewayError(500, "internal", "x"), 70),
        (errors.PixCrawlerError("x"), 2),
    ],
)
def test_each_error_is_one_sentence_and_a_code(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise error

    assert guarded(fail, False) == code
    assert capsys.readouterr().err in ("pixcrawler: x\n", "pixcrawler: x (request )\n")


def test_errors_are_json_too_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise errors.ConflictError(409, "destination_taken", "taken")

    guarded(fail, True)

    told = json.loads(capsys.readouterr().out)
    assert told == {"event": "error", "code": "destination_taken", "message": "taken", "exit_code": 6}


def test_a_bug_is_a_sentence_and_its_trace_lies_in_a_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "logs").mkdir()
    monkeypatch.setenv("PIXCRAWLER_HOME", str(tmp_path))

    def fail() -> None:
        raise ZeroDivisionError("of ours")

    assert guarded(fail, False) == 70
    log = tmp_path / "logs" / "command-error.log"
    assert capsys.readouterr().err == f"pixcrawler: that is a bug; please report it with {log}\n"
    assert "ZeroDivisionError: of ours" in log.read_text()


def test_every_state_and_error_has_an_exit_code() -> None:
    assert {state: int(exit_of_state(state)) for state in JobState if state.is_final} == {
        JobState.COMPLETED: 0,
        JobState.COMPLETED_WITH_FAILURES: 3,
        JobState.FAILED: 1,
        JobState.CANCELLED: 8,
    }
    assert exit_of_error(errors.WaitTimeout("x")) == Exit.USAGE


@pytest.mark.parametrize(
    ("state", "code", "sentence"),
    [
        ("failed", 1, "delete /data/my cats and run the same command again"),
        ("paused", 1, "mend that, then run the same command again"),
        ("cancelled", 8, "was cancelled"),
    ],
)
def test_a_job_that_came_to_no_good_end_says_what_to_do(state: str, code: int, sentence: str) -> None:
    halted = job(state, error={"code": "store_refused", "detail": "the store refuses"})

    with pytest.raises(Failure, match=sentence) as caught:
        conclude(Followed(halted, None), PlainReporter())

    assert caught.value.code == code


def test_failed_chunks_make_the_code_3_and_still_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    code = conclude(Followed(job("completed_with_failures", accepted=5), 1.0), PlainReporter())

    assert code == 3
    assert "accepted" in capsys.readouterr().out


def test_json_carries_the_whole_job(capsys: pytest.CaptureFixture[str]) -> None:
    conclude(Followed(job(accepted=5), 1.5), JsonReporter(), start_seconds=2.0)

    told = json.loads(capsys.readouterr().out)
    assert (told["event"], told["exit_code"], told["images_per_second"], told["start_seconds"]) == ("end", 0, 1.5, 2.0)
    assert told["job"]["accepted"] == 5


def test_a_signal_while_something_is_held_comes_afterwards_and_the_second_at_once() -> None:
    done: list[str] = []

    def work(interrupts: Interrupts, number: signal.Signals) -> None:
        with interrupts.held():
            signal.raise_signal(number)
            done.append(number.name)

    with Interrupts() as interrupts:
        with pytest.raises(Interrupted):
            work(interrupts, signal.SIGINT)
        with pytest.raises(Interrupted):
            work(interrupts, signal.SIGTERM)

    assert done == ["SIGINT"]  # the second one cuts


def test_a_refresh_is_told_by_what_has_changed() -> None:
    found = {"unchanged": 990, "changed": 8, "gone": 2}
    refresh = job("running", kind="refresh", accepted=8, rejected={"unchanged": 990, "kept": 2}, refreshed=found)

    assert progress_line(refresh).endswith("running: 8 changed, 990 unchanged, 2 gone")
    table = rendered(Summary(refresh, None, 0), width=100)
    assert [line.split()[:2] for line in table.splitlines()[1:4]] == [
        ["unchanged", "990"],
        ["changed", "8"],
        ["gone", "2"],
    ]
