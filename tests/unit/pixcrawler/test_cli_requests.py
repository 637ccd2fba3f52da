"""Options become a request: what is said is sent, what is not said is left to the gateway."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pixcrawler.cli import main
from pixcrawler.commands.exits import Exit, Failure
from pixcrawler.commands.gateway import open_client
from pixcrawler.commands.lists import check_name, check_place, checked_list, whole_destination
from pixcrawler.commands.options import Choices, split
from pixcrawler.commands.remote import check_reason
from pixcrawler.commands.sample import port_for
from pixcrawler.words import Depth, ImageKind, ListFormat


def test_nothing_chosen_sends_nothing() -> None:
    assert Choices().recipe().body() == {}
    assert Choices().list_options().body() == {}


@pytest.mark.parametrize(
    ("chosen", "sent"),
    [
        ({"min_image_size": 0}, {"min_image_size": 0}),  # zero is a choice
        ({"depth": Depth.FULL}, {"depth": "full"}),
        ({"formats": ["jpg,png", "GIF"]}, {"formats": ["jpg", "png", "gif"]}),
        ({"no_deduplicate": True}, {"deduplicate": False}),
        ({"no_robots": True, "no_opt_out": True}, {"robots": False, "opt_out": False}),
        (
            {"resize_only_if_bigger": True, "keep_metadata": True},
            {"resize_only_if_bigger": True, "keep_metadata": True},
        ),
        ({"attempts": 5, "url_deadline_seconds": 2.5}, {"attempts": 5, "url_deadline_seconds": 2.5}),
    ],
)
def test_a_choice_is_sent_under_its_field(chosen: dict[str, Any], sent: dict[str, Any]) -> None:
    assert Choices(**chosen).recipe().body() == sent


def test_an_unknown_format_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"'bmp' is not known; choose of jpg, png, webp, gif"):
        Choices(formats=["bmp"]).recipe()


def test_columns_come_by_commas_or_repeated() -> None:
    assert split(["a,b", " c ", "d,"]) == ["a", "b", "c", "d"]
    assert Choices(save_columns=["id,licence"]).list_options().body() == {"save_columns": ["id", "licence"]}


@pytest.mark.parametrize(
    ("path", "chosen", "name"),
    [
        ("urls.csv", None, "urls.csv"),
        ("dump.dat", ListFormat.CSV, "dump.csv"),
        ("dump.dat.gz", ListFormat.JSONL, "dump.dat.jsonl.gz"),
    ],
)
def test_the_upload_is_named_so_that_the_format_is_told(path: str, chosen: ListFormat | None, name: str) -> None:
    assert Choices(input_format=chosen).upload_name(Path(path)) == name


def test_a_folder_is_sent_by_its_whole_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")

    assert whole_destination("./my cats/") == f"{tmp_path}/my cats"
    assert whole_destination("~/cats") == "/home/somebody/cats"


@pytest.mark.parametrize("url", ["az://container/cats", "s3://bucket/cats", "https://host/cats", "file:///cats"])
def test_a_url_is_sent_as_it_is(url: str) -> None:
    assert whole_destination(url) == url


def test_an_empty_destination_is_refused() -> None:
    with pytest.raises(Failure, match="destination is empty"):
        whole_destination(" ")


def test_a_list_that_cannot_be_one_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()

    for path, sentence in ((tmp_path / "no.csv", "no file"), (tmp_path, "folder"), (tmp_path / "empty.csv", "empty")):
        with pytest.raises(Failure, match=sentence) as caught:
            checked_list(path)
        assert caught.value.code == 2


@pytest.mark.parametrize("name", ["urls.csv", "urls.PARQUET", "urls.ndjson.gz", "a.b.txt", "old.pq", "x.text"])
def test_a_name_that_tells_the_format_is_enough(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["urls", "urls.xyz", "urls.csv.zip", "urls.gz"])
def test_a_name_that_tells_no_format_is_refused_before_anything_starts(name: str) -> None:
    with pytest.raises(Failure, match=f"format of {name} is unknown; known are txt, csv"):
        check_name(name)


@pytest.mark.parametrize("place", ["az://container/cats", "S3://bucket/cats"])
def test_a_store_is_the_gateways_to_judge(place: str) -> None:
    check_place(place)


def test_a_destination_that_cannot_be_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "taken" / "data" / "00000").mkdir(parents=True)
    check_place(f"{tmp_path}/taken")  # nothing in it yet
    (tmp_path / "taken" / "data" / "00000" / "a.jpg").touch()

    ends = []
    for place in ("ftp://host/cats", f"{tmp_path}/file/cats", f"{tmp_path}/taken"):
        with pytest.raises(Failure) as refused:
            check_place(place)
        ends.append(refused.value)

    assert [end.code for end in ends] == [Exit.USAGE, Exit.USAGE, Exit.CONFLICT]
    assert "already holds data/" in str(ends[2])


def test_a_folder_that_holds_a_dataset_is_the_gateways_to_judge(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").touch()
    (tmp_path / "README.md").touch()

    check_place(str(tmp_path))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("to_small", "did you mean too_small"),
        ("http-not-found", "did you mean http_not_found"),
        ("xyz", "'xyz' is no reason; the job's table shows those it has"),
    ],
)
def test_a_reason_that_is_none_is_answered_by_its_neighbours(asked: str, told: str) -> None:
    with pytest.raises(Failure) as refused:
        check_reason(asked)

    assert told in str(refused.value)
    assert len(str(refused.value)) < 120


def test_a_sample_has_the_same_port_for_the_same_destination() -> None:
    # The port stands in the URLs, and by the list a run is found again.
    assert port_for("/data/cats") == port_for("/data/cats")
    assert 20_000 <= port_for("/data/dogs") < 32_000


def test_every_kind_of_image_can_be_chosen() -> None:
    assert Choices(formats=[",".join(ImageKind)]).recipe().formats == tuple(ImageKind)


def test_help_comes_without_the_server_the_stack_or_http() -> None:
    heavy = ("pydantic", "httpx2", "fastapi", "celery", "sqlalchemy", "pyarrow", "numpy", "PIL", "rich.live", "shared")
    program = f"import pixcrawler.cli, sys; print([name for name in {heavy} if name in sys.modules])"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)

    assert loaded.stdout.strip() == "[]"


def test_help_lists_every_command() -> None:
    began = time.monotonic()
    shown = subprocess.run(
        [sys.executable, "-m", "pixcrawler.cli", "--help"], capture_output=True, text=True, check=True, timeout=30
    )

    for name in ("run", "up", "submit", "job", "list", "webhook", "config", "admin", "completion", "version"):
        assert f" {name} " in shown.stdout
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "a.csv"], "Missing option '--to'; see pixcrawler --help"),
        (["run", "a.csv", "--to", "x", "--bogus"], "No such option: --bogus; see pixcrawler --help"),
        # pydantic's own head of a validator's sentence is not shown
        (["run", "a.csv", "--to", "x", "--depth", "no"], "Invalid value for '--depth': 'no' is not one of"),
    ],
)
def test_a_mistyped_command_is_answered_in_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == Exit.USAGE
    assert capsys.readouterr().err.startswith(f"pixcrawler: {sentence}")


def test_a_gateway_without_a_key_is_not_asked() -> None:
    with pytest.raises(Failure, match="set PIXCRAWLER_API_KEY") as refused:
        open_client("http://127.0.0.1:9", None)

    assert refused.value.code == Exit.AUTHENTICATION
