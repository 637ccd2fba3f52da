"""`pixcrawler run` as a user has it: a command in an empty home, a list, a dataset."""

import hashlib
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from pixcrawler.local import Home
from pixcrawler.sample import Corpus
from tests.e2e.command import Command, Ended, Running, free_port

pytestmark = pytest.mark.timeout(150)

#: Three chunks, of which the embedded stack fetches two at once.
ROWS = 1100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("a new user")


@pytest.fixture(scope="module")
def pixcrawler(folder: Path) -> Iterator[Command]:
    command = Command(folder / "home", folder)
    yield command
    # As root, PostgreSQL's data lie outside of the test's folder.
    Home(command.home).erase()
    assert command.leftovers() == []


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def built(pixcrawler: Command, port: int) -> Ended:
    """A sample built without a disturbance, in ./built."""
    return pixcrawler("run", "--sample", str(ROWS), "--sample-port", str(port), "--to", "./built")


@pytest.fixture
def stack(pixcrawler: Command) -> Iterator[Running]:
    """The system, up for as long as a test; runs join it."""
    with pixcrawler.started("up", "--json") as up:
        up.until(lambda event: event["event"] == "ready")
        yield up
        up.interrupt()
        assert up.end().code == 0


def test_a_sample_gives_the_truth_row_by_row(built: Ended, folder: Path, port: int) -> None:
    index = _index(folder / "built").to_pylist()

    assert built.code == 0, built.err
    corpus = Corpus(ROWS)
    assert [row["id"] for row in index] == [str(number) for number in range(ROWS)]
    assert [row["url"] for row in index] == [row.url(f"http://127.0.0.1:{port}") for row in corpus.rows]
    assert [row["caption"] for row in index] == [row.caption for row in corpus.rows]
    assert [(row["reason"], row["duplicate_of"]) for row in index] == [
        (row.kind.reason, row.duplicate_of) for row in corpus.rows
    ]
    assert [row["format"] for row in index if row["reason"] is None] == [
        row.picture.kind for row in corpus.rows if row.is_accepted
    ]


def test_the_table_at_the_end_adds_up_and_says_where_the_dataset_lies(built: Ended, folder: Path) -> None:
    counts = Corpus(ROWS).expected_counts()
    shown = _counts(built.out)

    assert shown.pop("rows") == ROWS
    assert shown.pop("rejected") == ROWS - counts["accepted"]
    assert shown == counts
    assert f"dataset   {folder / 'built'}" in built.out
    assert "images/s" in built.out
    assert (folder / "built" / "_SUCCESS").exists()


def test_progress_names_each_stage_and_leaves_stdout_to_the_table(built: Ended) -> None:
    assert f"download {ROWS:,}/{ROWS:,}, validate {ROWS:,}/{ROWS:,}, upload {ROWS:,}/{ROWS:,}" in built.err
    assert "download" not in built.out


def test_nothing_it_started_is_left(built: Ended, pixcrawler: Command) -> None:
    assert built.code == 0

    assert pixcrawler.leftovers() == []


def test_a_run_that_was_interrupted_goes_on_to_the_same_bytes(
    pixcrawler: Command, built: Ended, folder: Path, port: int
) -> None:
    asked = ("run", "--sample", str(ROWS), "--sample-port", str(port), "--to", "./interrupted", "--json")

    with pixcrawler.started(*asked) as running:
        running.until(_is_fetching)
        running.interrupt()
        interrupted = running.end()
    left = pixcrawler.leftovers()
    second = pixcrawler(*asked)

    assert interrupted.code == 130, interrupted.err
    assert "run the same command again to go on" in interrupted.err
    assert left == []
    assert second.code == 0, second.err
    assert "goes on where it stopped" in second.err
    assert _digests(folder / "interrupted") == _digests(folder / "built")


def test_a_second_signal_ends_the_command_and_the_job_is_paused_all_the_same(pixcrawler: Command) -> None:
    port = str(free_port())

    with pixcrawler.started(
        "run", "--sample", str(ROWS), "--sample-port", port, "--to", "./twice", "--json"
    ) as running:
        running.until(_is_fetching)
        running.interrupt(signal.SIGTERM)
        paused = running.until(lambda event: event["event"] == "paused")
        running.interrupt(signal.SIGTERM)
        ended = running.end()
    # The next stack waits for the end of the one that was left.
    with pixcrawler.started("up", "--json") as up:
        up.until(lambda event: event["event"] == "ready")
        shown = pixcrawler("job", "show", paused["job"]["id"], "--json")
        up.interrupt()
        up.end()

    assert ended.code == 130
    assert shown.last["state"] == "paused"


def test_a_second_up_leaves_the_stack_to_the_first(pixcrawler: Command, stack: Running) -> None:
    with pixcrawler.started("up") as second:
        assert second.process.stderr is not None
        told = next(line for line in iter(second.process.stderr.readline, "") if "Ctrl-C" in line)
        second.interrupt()
        ended = second.end()

    assert "leaves it to the others" in told
    assert "stays up: others use it" in ended.err
    assert pixcrawler("job", "list").code == 0


def test_a_finished_run_says_so(pixcrawler: Command, built: Ended, port: int, folder: Path) -> None:
    before = _digests(folder / "built")

    again = pixcrawler("run", "--sample", str(ROWS), "--sample-port", str(port), "--to", "./built")

    assert again.code == 0
    assert "has ended before (completed)" in again.err
    assert _counts(again.out) == _counts(built.out)
    assert _digests(folder / "built") == before


@pytest.fixture(scope="module")
def bad_inputs(folder: Path) -> Path:
    lists = folder / "lists"
    lists.mkdir()
    (lists / "urls.txt").write_text("https://example.com/a.jpg\n")
    (lists / "urls.xyz").write_text("https://example.com/a.jpg\n")
    (lists / "urls.csv").write_text("link\nhttps://example.com/a.jpg\n")
    (lists / "empty.txt").touch()
    (lists / "blank.txt").write_text("\n\n")
    (lists / "broken.parquet").write_bytes(b"PAR1 and no more")
    (folder / "a-file").touch()
    gone = folder / "state-gone"
    gone.mkdir()
    shutil.copy(folder / "built" / "dataset.json", gone)
    return lists


BAD_INPUTS = (
    # arguments, exit code, part of the sentence
    (("run", "lists/none.txt", "--to", "out"), 2, "there is no file"),
    (("run", "lists", "--to", "out"), 2, "is a folder"),
    (("run", "lists/empty.txt", "--to", "out"), 2, "is empty"),
    (("run", "lists/urls.txt"), 2, "--to"),
    (("run", "--to", "out"), 2, "LIST or --sample"),
    (("run", "lists/urls.txt", "--sample", "9", "--to", "out"), 2, "LIST or --sample"),
    (("run", "lists/urls.txt", "--to", "out", "--depth", "deep"), 2, "depth"),
    (("run", "lists/urls.txt", "--to", "out", "--formats", "jpg,bmp"), 2, "bmp"),
    (("run", "lists/blank.txt", "--to", "out"), 2, "no rows"),
    (("run", "lists/urls.xyz", "--to", "out"), 2, "format"),
    (("run", "lists/broken.parquet", "--to", "out"), 2, "parquet"),
    (("run", "lists/urls.csv", "--to", "out"), 2, "url"),
    (("run", "lists/urls.txt", "--to", "ftp://host/out"), 2, "not supported"),
    (("run", "lists/urls.txt", "--to", "a-file/out"), 2, "a-file"),
    (("run", "lists/urls.txt", "--to", "built"), 6, "another"),
    (("run", "lists/urls.txt", "--to", "state-gone"), 6, "state is gone"),
    (("job", "show", "00000000-0000-0000-0000-000000000000"), 5, "nothing of that id"),
    (("job", "list", "--api-key", "pxc_wrong"), 4, "not an API key"),
    (("job", "list", "--gateway", "http://127.0.0.1:9"), 4, "wants a key"),
    (("job", "list", "--gateway", "http://127.0.0.1:9", "--api-key", "k"), 7, "cannot be reached"),
    (("job", "list", "--gateway", "gateway", "--api-key", "k"), 2, "not a gateway's URL"),
)


def test_bad_input_costs_one_sentence_and_leaves_nothing(
    pixcrawler: Command, built: Ended, bad_inputs: Path, stack: Running, folder: Path
) -> None:
    before = sorted(path for path in folder.rglob("*") if pixcrawler.home not in path.parents)

    ends = {arguments: pixcrawler(*arguments) for arguments, _, _ in BAD_INPUTS}

    wrong = {
        arguments: (ends[arguments].code, ends[arguments].err)
        for arguments, code, sentence in BAD_INPUTS
        if ends[arguments].code != code or sentence.lower() not in ends[arguments].err.lower()
    }
    assert wrong == {}
    assert all(end.err.splitlines()[-1].startswith("pixcrawler: ") for end in ends.values())
    assert not any("Traceback" in end.err for end in ends.values())
    assert sorted(path for path in folder.rglob("*") if pixcrawler.home not in path.parents) == before


def test_a_row_that_is_no_url_costs_that_row_only(pixcrawler: Command, stack: Running, folder: Path) -> None:
    (folder / "odd.txt").write_text("not a url\nftp://files.example.org/a.jpg\nhttp://10.0.0.1/a.jpg\n")

    ended = pixcrawler("run", "odd.txt", "--to", "odd", "--json")

    assert ended.code == 0, ended.err
    assert sum(ended.last["job"]["rejected"].values()) == 3
    assert len(ended.last["job"]["rejected"]) >= 2


def test_the_other_commands_find_the_running_stack(pixcrawler: Command, stack: Running, folder: Path) -> None:
    (folder / "private.txt").write_text("http://10.0.0.1/a.jpg\nhttp://10.0.0.1/b.jpg\n")

    job = pixcrawler("submit", "private.txt", "--to", "private").out.strip()
    watched = pixcrawler("job", "watch", job)
    rejected = pixcrawler("job", "rejects", job)
    shown = pixcrawler("job", "list", "--limit", "1", "--json")
    cancelled = pixcrawler("job", "cancel", job)

    assert watched.code == 0, watched.err
    assert rejected.out.splitlines() == [
        "0\tblocked_address\thttp://10.0.0.1/a.jpg",
        "1\tblocked_address\thttp://10.0.0.1/b.jpg",
    ]
    assert shown.last["id"] == job
    assert (cancelled.code, "has ended" in cancelled.err) == (6, True)


def _index(dataset: Path) -> pa.Table:
    return ds.dataset(sorted(str(path) for path in (dataset / "index").iterdir()), format="parquet").to_table()


def _counts(table: str) -> dict[str, int]:
    """Names and numbers of the table at the end."""
    counted = re.split(r"^(?:speed|size) ", table, maxsplit=1, flags=re.MULTILINE)[0]
    words = [line.split() for line in counted.splitlines()]
    return {name: int(number.replace(",", "")) for name, number, *_ in words}


def _digests(dataset: Path) -> dict[str, str]:
    data = dataset / "data"
    return {
        str(path.relative_to(data)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(data.rglob("*"))
        if path.is_file()
    }


def _is_fetching(event: dict[str, Any]) -> bool:
    return event["event"] == "job" and bool(event["job"]["progress"]["download"]["done"] > 100)
