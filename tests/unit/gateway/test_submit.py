"""What makes two requests the same run, and what a client's file may be called."""

from typing import Any

import pytest

from gateway.schemas import ListOptions
from gateway.sources import plain_name
from gateway.submit import run_digest
from shared.recipe import Depth, Recipe
from shared.storage import Destination

SAME: dict[str, Any] = {
    "place": Destination.parse("s3://datasets/cats"),
    "list_sha256": "0" * 64,
    "options": ListOptions(format="csv"),
    "recipe": Recipe(),
}


def test_equal_choices_are_the_same_run_however_they_are_spelt() -> None:
    spelt_otherwise = SAME | {"place": Destination.parse("S3://datasets/cats/"), "recipe": Recipe(depth=Depth.STANDARD)}

    assert run_digest(**SAME) == run_digest(**spelt_otherwise)


@pytest.mark.parametrize(
    "change",
    [
        {"place": Destination.parse("s3://datasets/dogs")},
        {"place": Destination.parse("s3://datasets/cats", endpoint="http://other:9000")},
        {"list_sha256": "1" * 64},
        {"options": ListOptions(format="csv", url_col="link")},
        {"options": ListOptions(format="csv", caption_col="text")},
        {"options": ListOptions(format="csv", save_columns=["id"])},
        {"recipe": Recipe(depth=Depth.FULL)},
    ],
)
def test_each_choice_makes_another_run(change: dict[str, Any]) -> None:
    assert run_digest(**SAME) != run_digest(**(SAME | change))


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("urls.csv", "urls.csv"),
        ("C:\\lists\\my urls.csv.gz", "my_urls.csv.gz"),
        ("../../etc/passwd", "passwd"),
        ("..", "list"),
        ("", "list"),
        (".hidden.txt", "hidden.txt"),
        ("x" * 300 + ".parquet", "x" * 112 + ".parquet"),
        ("猫.txt", "猫.txt"),
        ("a\nb.txt", "a_b.txt"),
    ],
)
def test_a_clients_file_name_becomes_a_plain_one(filename: str, expected: str) -> None:
    assert plain_name(filename) == expected
