"""Keys come from revision and position alone."""

from uuid import uuid4

import pytest

from shared.chunk import Claim, SourceRef
from shared.index import index_key
from shared.recipe import ImageFormat, ImageKind, OutputFormat, Recipe
from uploader.naming import file_key, metadata_key, parquet_key, row_of, shard_key


def claim(**recipe: object) -> Claim:
    return Claim(
        chunk_id=99,
        job_id=uuid4(),
        dataset_id=uuid4(),
        revision=0,
        ordinal=12,
        first_row=6000,
        rows=500,
        recipe=Recipe.model_validate(recipe),
        destination="/data",
        endpoint=None,
        source=SourceRef(key="plan", offset=0, length=0),
        cell="main",
        fence=7,
        work_fence=6,
        attempt=3,
        crashes=1,
    )


def test_keys_speak_of_revision_and_place_and_of_nothing_else() -> None:
    assert file_key(claim(), 6001, ImageKind.JPEG) == "data/r000-000012/000006001.jpg"
    assert metadata_key(claim()) == "data/r000-000012/metadata.parquet"
    assert parquet_key(claim()) == "data/r000-000012.parquet"
    assert index_key(0, 12, 0) == "index/r000-000012.parquet"
    assert index_key(0, 12, 1) == "index/r000-000012-1.parquet"


def test_shards_of_one_format_lie_together() -> None:
    how = claim(output_format=OutputFormat.WEBDATASET)

    assert {shard_key(how, kind) for kind in ImageKind} == {"data/r000-000012.tar"}


def test_shards_of_kept_formats_lie_apart() -> None:
    how = claim(output_format=OutputFormat.WEBDATASET, image_format=ImageFormat.ORIGINAL)

    assert [shard_key(how, kind) for kind in ImageKind] == [
        f"data/{suffix}/r000-000012.tar" for suffix in ("jpg", "png", "webp", "gif")
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("000006001.jpg", (6001, ImageKind.JPEG)),
        ("000006001.webp", (6001, ImageKind.WEBP)),
        ("10000000000.png", (10_000_000_000, ImageKind.PNG)),  # more rows than nine digits count
        ("metadata.parquet", None),
        ("6001.jpg", None),  # we would have written nine digits
        ("000006001.jpeg", None),
        ("000006001.jpg.tmp", None),
        ("00000600١.jpg", None),  # a digit, but not one of ours
        ("-00006001.jpg", None),
        ("", None),
    ],
)
def test_a_files_name_tells_its_row_only_if_we_named_it(name: str, expected: tuple[int, ImageKind] | None) -> None:
    assert row_of(name) == expected
