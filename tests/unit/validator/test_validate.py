"""Validating a chunk: a verdict for each row, in order, and bytes where the verdicts say."""

import asyncio
from pathlib import Path

import pyarrow as pa
import pytest

from shared.errors import WorkAreaGone
from shared.reasons import Reason
from shared.recipe import Recipe
from shared.records import DERIVED_PACK, PACK, VERDICTS, VERDICTS_FILE, from_stream
from tests import images
from tests.unit.validator.conftest import FIRST_ROW, PACK_FENCE, ChunkTwin, Fetched, fetched_chunk
from validator.children import DecodeChildren
from validator.settings import ValidatorSettings
from validator.validate import PACK_FENCE as PACK_FENCE_KEY
from validator.validate import open_validator, validate

WITH_COMMENT = images.with_segment(images.jpeg(), 0xFE, images.SECRET)


async def verdicts_of(chunk: ChunkTwin) -> pa.Table:
    return from_stream((await chunk.published(VERDICTS_FILE)).read_bytes())


async def stored_of(chunk: ChunkTwin, row: dict[str, object]) -> bytes:
    """The bytes that a verdict points at."""
    pack = await (chunk.published(DERIVED_PACK) if row["derived"] else chunk.open(PACK))
    offset, length = int(str(row["offset"])), int(str(row["length"]))
    return pack.read_bytes()[offset : offset + length]


async def test_every_row_has_its_verdict_in_input_order(children: DecodeChildren, tmp_path: Path) -> None:
    bodies: list[Fetched] = [images.jpeg(), Reason.HTTP_NOT_FOUND, b"<html>", images.png(), Reason.DEADLINE, b""]
    chunk = await fetched_chunk(tmp_path, bodies, Recipe())

    result = await validate(chunk, children=children)

    table = await verdicts_of(chunk)
    assert table.schema.equals(VERDICTS)
    assert table["row"].to_pylist() == [FIRST_ROW + place for place in range(len(bodies))]
    assert table["reason"].to_pylist() == [None, "http_not_found", "not_an_image", None, "deadline", "empty_body"]
    assert table["detail"].to_pylist()[1] == "said the downloader"
    assert result.passed == 2
    assert result.rejected == {"http_not_found": 1, "not_an_image": 1, "deadline": 1, "empty_body": 1}
    assert result.size_bytes == len(images.jpeg()) + len(images.png())


async def test_the_verdicts_name_the_pack_they_speak_of(children: DecodeChildren, tmp_path: Path) -> None:
    chunk = await fetched_chunk(tmp_path, [images.jpeg()], Recipe())

    await validate(chunk, children=children)

    table = await verdicts_of(chunk)
    assert table.schema.metadata[PACK_FENCE_KEY] == str(PACK_FENCE).encode()


async def test_stored_bytes_lie_where_the_verdicts_say(children: DecodeChildren, tmp_path: Path) -> None:
    bodies = [images.png() + images.TAIL, WITH_COMMENT, images.gif(), WITH_COMMENT[:-2] + b"\xff" * 9 + b"\xd9"]
    chunk = await fetched_chunk(tmp_path, bodies, Recipe())

    await validate(chunk, children=children)

    rows = (await verdicts_of(chunk)).to_pylist()
    assert [row["derived"] for row in rows] == [False, True, False, True]
    assert [await stored_of(chunk, row) for row in rows[:3]] == [images.png(), images.jpeg(), images.gif()]


async def test_the_lowest_of_equal_rows_stays(children: DecodeChildren, tmp_path: Path) -> None:
    bodies = [b"<html>", images.jpeg(), b"<html>", images.png(), images.jpeg(), images.jpeg()]
    chunk = await fetched_chunk(tmp_path, bodies, Recipe())

    result = await validate(chunk, children=children)

    rows = (await verdicts_of(chunk)).to_pylist()
    assert [row["reason"] for row in rows] == [
        *("not_an_image", None, "not_an_image", None),
        *("duplicate", "duplicate"),
    ]
    assert [row["duplicate_of"] for row in rows[4:]] == [FIRST_ROW + 1, FIRST_ROW + 1]
    assert rows[4]["length"] is None
    assert rows[4]["sha256"] == rows[1]["sha256"]
    assert result.rejected == {"not_an_image": 2, "duplicate": 2}


async def test_equal_rows_all_stay_when_asked_for(children: DecodeChildren, tmp_path: Path) -> None:
    chunk = await fetched_chunk(tmp_path, [WITH_COMMENT, WITH_COMMENT], Recipe(deduplicate=False))

    result = await validate(chunk, children=children)

    rows = (await verdicts_of(chunk)).to_pylist()
    assert result.passed == 2
    assert [await stored_of(chunk, row) for row in rows] == [images.jpeg(), images.jpeg()]


async def test_a_chunk_without_bodies_needs_no_decoder(children: DecodeChildren, tmp_path: Path) -> None:
    chunk = await fetched_chunk(tmp_path, [Reason.DNS_NOT_FOUND] * 3, Recipe())

    result = await validate(chunk, children=children)

    assert result.rejected == {"dns_not_found": 3}
    assert children.pid is None


async def test_the_record_of_a_photo_tells_its_exif_without_the_place(children: DecodeChildren, tmp_path: Path) -> None:
    chunk = await fetched_chunk(tmp_path, [images.jpeg_with_exif(6), images.jpeg()], Recipe())

    await validate(chunk, children=children)

    photo, plain = (await verdicts_of(chunk)).to_pylist()
    assert '"Make": "Pentax"' in photo["exif"]
    assert images.GPS_TEXT.decode() not in photo["exif"]
    assert plain["exif"] == "{}"
    assert (photo["original_width"], photo["original_height"], photo["orientation"]) == (*images.SIZE, 6)
    assert (photo["width"], photo["height"]) == images.SIZE[::-1]


async def test_the_same_chunk_validated_twice_gives_the_same_bytes(children: DecodeChildren, tmp_path: Path) -> None:
    files = []
    for run in ("one", "two"):
        chunk = await fetched_chunk(
            tmp_path / run, [WITH_COMMENT, images.png(), b"<html>"], Recipe(image_format="webp")
        )
        await validate(chunk, children=children)
        files.append([(await chunk.published(name)).read_bytes() for name in (VERDICTS_FILE, DERIVED_PACK)])

    assert files[0] == files[1]


async def test_progress_ends_with_the_whole_chunk(children: DecodeChildren, tmp_path: Path) -> None:
    chunk = await fetched_chunk(tmp_path, [images.jpeg(), Reason.DEADLINE, images.png()], Recipe())

    result = await validate(chunk, children=children)

    assert chunk.reports[-1] == (3, 2, result.size_bytes)
    assert [done for done, _, _ in chunk.reports] == sorted(done for done, _, _ in chunk.reports)


async def test_only_what_the_uploader_needs_is_published(children: DecodeChildren, tmp_path: Path) -> None:
    chunk = await fetched_chunk(tmp_path, [WITH_COMMENT], Recipe())

    await validate(chunk, children=children)

    folder = (await chunk.published(VERDICTS_FILE)).parent
    assert {path.name for path in folder.iterdir()} == {VERDICTS_FILE, DERIVED_PACK}


async def test_a_chunk_whose_pack_is_gone_starts_again(children: DecodeChildren, tmp_path: Path) -> None:
    chunk = await fetched_chunk(tmp_path, [images.jpeg()], Recipe())
    await chunk.area.remove(chunk.claim.job_id, chunk.claim.chunk_id)

    with pytest.raises(WorkAreaGone):
        await validate(chunk, children=children)


async def test_the_service_opens_and_closes_the_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXCRAWLER_IMAGE_DEADLINE_SECONDS", "5")
    chunk = await fetched_chunk(tmp_path, [images.jpeg()], Recipe())

    async with open_validator(ValidatorSettings()) as verb:
        result = await verb(chunk)

    assert result.passed == 1


async def test_the_verb_runs_on_a_loop_outside_the_main_thread(tmp_path: Path) -> None:
    async def run() -> int:
        chunk = await fetched_chunk(tmp_path, [images.jpeg()], Recipe())
        async with open_validator(ValidatorSettings()) as verb:
            return (await verb(chunk)).passed

    passed = await asyncio.to_thread(asyncio.run, run())

    assert passed == 1
