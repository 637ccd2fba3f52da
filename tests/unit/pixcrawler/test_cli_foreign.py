"""img2dataset's options: taken where they mean the same, refused with a sentence where they do not."""

import pytest

from pixcrawler.cli import main
from pixcrawler.commands.exits import Failure
from pixcrawler.commands.foreign import translated


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (["--url_list", "a.csv"], ["a.csv"]),
        (["--url_list=a.csv"], ["a.csv"]),
        (["--output_folder", "out"], ["--to", "out"]),
        (["--output_format=webdataset"], ["--output-format=webdataset"]),
        (
            ["--image_size", "256", "--resize_mode", "center_crop"],
            ["--image-size", "256", "--resize-mode", "center_crop"],
        ),
        (["--encode_format", "jpg"], ["--image-format", "jpeg"]),
        (["--save_additional_columns", '["a", "b"]'], ["--save-columns", "a,b"]),
        (["--save_additional_columns=a,b"], ["--save-columns", "a,b"]),
        (["--retries", "2"], ["--attempts", "3"]),
        (["--retries", "two"], ["--attempts", "two"]),  # refused under our name
        (["--resize_only_if_bigger", "True"], ["--resize-only-if-bigger"]),
        (["--resize_only_if_bigger=False"], []),
        (["--resize_only_if_bigger", "--image_size", "9"], ["--resize-only-if-bigger", "--image-size", "9"]),
        (["--no_such_option", "x"], ["--no_such_option", "x"]),
        (["--", "--url_list"], ["--", "--url_list"]),
    ],
)
def test_their_names_become_ours(theirs: list[str], ours: list[str]) -> None:
    for command in (["run"], ["submit"], ["job", "submit"]):
        assert translated([*command, *theirs]) == [*command, *ours]


def test_other_commands_are_left_alone() -> None:
    assert translated(["job", "list", "--url_list", "x"]) == ["job", "list", "--url_list", "x"]


@pytest.mark.parametrize("name", ["--processes_count", "--timeout=10", "--bbox_col", "--distributor"])
def test_what_has_no_meaning_here_is_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(Failure, match=name.partition("=")[0]):
        translated(["run", name, "1"])


def test_a_sentence_and_no_trace_is_what_the_user_sees(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--url_list", "a.csv", "--output_folder", "x", "--processes_count", "4"])

    assert ended.value.code == 2
    assert "--processes_count: PixCrawler decides that by itself" in capsys.readouterr().err
