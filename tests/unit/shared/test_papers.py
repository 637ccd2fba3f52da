"""What a dataset says of itself, in JSON, in YAML and in words."""

import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
import yaml  # type: ignore[import-untyped]

from shared.card import card
from shared.chunk import NewObject
from shared.papers import Dataset, PaperState, manifest, plain, success
from shared.reasons import REASONS, Reason
from shared.recipe import ImageFormat, OutputFormat, Recipe

NASTY = "Cats\n---\nconfigs: [] \x1b[31m\u202e\ud800 <script>alert(1)</script> | [x](http://x.test) \"'# {a}: &b"


def dataset(**changes: Any) -> Dataset:
    base = Dataset(
        dataset_id=UUID(int=1),
        job_id=UUID(int=2),
        revision=0,
        name="Cats",
        state=PaperState.COMPLETE,
        recipe=Recipe(),
        list_digest="ab" * 32,
        software_version="0.1.0",
        rows=1500,
        accepted=1200,
        rejected={"http_not_found": 200, "duplicate": 100, "too_small": 0},
        saved=(),
        objects=[_object("index/r000-000000.parquet"), _object("data/r000-000000/metadata.parquet", 7)],
    )
    return replace(base, **changes)


def _object(key: str, size_bytes: int = 5) -> NewObject:
    return NewObject(key=key, size_bytes=size_bytes, sha256="cd" * 32)


def header(value: Dataset) -> dict[str, Any]:
    text = card(value).decode()
    assert text.startswith("---\n")
    loaded: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return loaded


def tar(image: ImageFormat = ImageFormat.JPEG) -> Recipe:
    return Recipe(output_format=OutputFormat.WEBDATASET, image_format=image)


def test_the_manifest_tells_totals_that_add_up() -> None:
    told = json.loads(manifest(dataset()))

    totals = told["totals"]
    assert totals["rows"] == totals["accepted"] + totals["rejected"] == 1500
    assert totals["rejected_by_reason"] == {"duplicate": 100, "http_not_found": 200}
    assert (told["state"], told["revision"], told["format"]) == ("complete", 0, "files")


def test_the_manifest_lists_objects_in_key_order_with_size_and_hash() -> None:
    told = json.loads(manifest(dataset()))

    assert told["objects"] == [
        {"key": "data/r000-000000/metadata.parquet", "bytes": 7, "sha256": "cd" * 32},
        {"key": "index/r000-000000.parquet", "bytes": 5, "sha256": "cd" * 32},
    ]


def test_the_manifests_recipe_can_be_asked_for_again() -> None:
    recipe = Recipe(min_image_size=64, output_format=OutputFormat.PARQUET)

    told = json.loads(manifest(dataset(recipe=recipe)))

    assert Recipe.model_validate(told["recipe"]) == recipe
    assert told["recipe_sha256"] == recipe.digest()


def test_equal_datasets_have_equal_papers() -> None:
    assert manifest(dataset()) == manifest(dataset())
    assert card(dataset()) == card(dataset())


def test_success_holds_the_revision() -> None:
    assert success(dataset(revision=3)) == b"3\n"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Cats", "Cats"), (" a\n b\t", "a b"), ("\x00\x1b", "Images"), ("", "Images"), ("x" * 500, "x" * 120)],
)
def test_a_name_becomes_one_plain_line(name: str, expected: str) -> None:
    assert plain(name) == expected


def test_a_name_cannot_break_out_of_header_or_page() -> None:
    told = header(dataset(name=NASTY))

    text = card(dataset(name=NASTY)).decode()
    assert told["pretty_name"] == plain(NASTY)
    assert [line for line in text.splitlines() if line == "---"] == ["---", "---"]
    body = text.split("---\n", 2)[2]
    assert "<script>" not in body
    assert "](http" not in body
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("recipe", "pattern"),
    [
        (Recipe(), "data/*/*"),
        (tar(), "data/*.tar"),
        (Recipe(output_format=OutputFormat.PARQUET), "data/*.parquet"),
    ],
)
def test_the_card_leads_loaders_to_the_data_and_not_to_the_index(recipe: Recipe, pattern: str) -> None:
    (config,) = header(dataset(recipe=recipe))["configs"]

    assert config["data_files"] == [{"split": "train", "path": pattern}]


def test_a_loader_can_check_that_it_read_every_accepted_image() -> None:
    (info,) = header(dataset())["dataset_info"]

    assert info["splits"] == [{"name": "train", "num_bytes": 7, "num_examples": 1200}]


def test_a_later_revision_promises_no_number() -> None:
    (info,) = header(dataset(revision=1))["dataset_info"]

    assert "splits" not in info


def test_a_dataset_that_is_being_built_promises_no_number() -> None:
    building = dataset(state=PaperState.BUILDING)

    (info,) = header(building)["dataset_info"]

    assert "splits" not in info
    assert b"being built" in card(building)
    assert b"being built" not in card(dataset())


def test_an_empty_dataset_has_nothing_to_load() -> None:
    empty = dataset(accepted=0, objects=())

    assert "configs" not in header(empty)
    assert b"How to load" not in card(empty)


def test_kept_formats_are_configurations_and_the_largest_is_the_default() -> None:
    keys = ["data/jpg/r000-000000.tar", "data/png/r000-000000.tar", "data/png/r000-000001.tar"]

    told = header(dataset(recipe=tar(ImageFormat.ORIGINAL), objects=[_object(key) for key in keys]))

    assert [(config["config_name"], config.get("default", False)) for config in told["configs"]] == [
        ("png", True),
        ("jpg", False),
    ]


@pytest.mark.parametrize("reason", [Reason.CHUNK_FAILED, Reason.CANCELLED])
def test_where_chunks_were_left_half_done_whole_ones_are_named(reason: Reason) -> None:
    (config,) = header(dataset(rejected={reason: 300}))["configs"]

    assert config["data_files"] == [{"split": "train", "path": "data/r000-000000/*"}]


def test_members_of_shards_are_declared_when_the_clients_columns_are_known() -> None:
    known = dataset(recipe=tar(), saved=[pa.field("tags", pa.list_(pa.string()))])

    (info,) = header(known)["dataset_info"]
    (unknown,) = header(replace(known, saved=None))["dataset_info"]

    assert info["features"][1]["struct"][0] == {"name": "tags", "list": "string"}
    assert "features" not in unknown


def test_reasons_are_told_with_advice_most_frequent_first() -> None:
    text = card(dataset()).decode()

    lines = [line for line in text.splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in lines] == ["http_not_found", "duplicate"]
    assert REASONS[Reason.DUPLICATE].advice in lines[1]


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10_000_000, "10M<n<100M"), (10**9, "100M<n<1B")],
)
def test_the_size_category_is_hugging_faces(accepted: int, expected: str) -> None:
    assert header(dataset(accepted=accepted))["size_categories"] == [expected]


def test_the_card_says_whether_opt_outs_were_obeyed() -> None:
    obeyed = card(dataset()).decode()
    ignored = card(dataset(recipe=Recipe(robots=False, opt_out=False))).decode()

    assert "`robots.txt` was obeyed" in obeyed
    assert ignored.count("**not** consulted") == 2
