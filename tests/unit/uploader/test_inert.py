"""Whatever a list says, it reaches neither a key nor a member's name nor a header: it stays text in a column."""

import io
import json
import tarfile

import pyarrow as pa
import pytest

from shared.recipe import OutputFormat, Recipe
from tests.upload_bench import Bench, jpeg, missing

HOSTILE = [
    "../../x",
    "/etc/passwd",
    '=HYPERLINK("http://x.example","y")',
    "a\r\nSet-Cookie: b=c",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202egpj.exe",
    "a/b.tar\x00.jpg",
    "con.jpg",
    "<script>alert(1)</script>",
]


async def upload(bench: Bench, texts: list[str], output: OutputFormat) -> None:
    saved = [pa.field("licence", pa.string())]
    rows = [jpeg(11 + place, caption=text, saved={"licence": text}) for place, text in enumerate(texts)]
    chunk = await bench.chunk([*rows, missing(caption=texts[0])], recipe=Recipe(output_format=output), saved=saved)
    await chunk.upload()


@pytest.mark.parametrize("output", OutputFormat)
async def test_keys_and_headers_are_those_of_harmless_texts(
    bench: Bench, tmp_path_factory: pytest.TempPathFactory, output: OutputFormat
) -> None:
    harmless = Bench(tmp_path_factory.mktemp("harmless"))

    await upload(bench, HOSTILE, output)
    await upload(harmless, ["a cat"] * len(HOSTILE), output)

    def heads(of: Bench) -> dict[str, str]:
        return {key: held.content_type for key, held in of.memory.objects.items()}

    assert heads(bench) == heads(harmless)


@pytest.mark.parametrize("output", OutputFormat)
async def test_the_index_keeps_every_text_as_it_was(bench: Bench, output: OutputFormat) -> None:
    await upload(bench, HOSTILE, output)

    rows = (await bench.index())[: len(HOSTILE)]
    assert [row["caption"] for row in rows] == [row["licence"] for row in rows] == HOSTILE


async def test_a_shards_members_are_named_by_number_and_hold_the_texts(bench: Bench) -> None:
    await upload(bench, HOSTILE, OutputFormat.WEBDATASET)

    with tarfile.open(fileobj=io.BytesIO(bench.memory.objects["data/r000-000000.tar"].body)) as tar:
        bodies = {member.name: _body(tar, member) for member in tar}

    numbers = range(len(HOSTILE))
    assert set(bodies) == {f"{row:09d}.{suffix}" for row in numbers for suffix in ("jpg", "json", "txt")}
    assert [bodies[f"{row:09d}.txt"].decode() for row in numbers] == HOSTILE
    assert [json.loads(bodies[f"{row:09d}.json"])["licence"] for row in numbers] == HOSTILE


def _body(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = tar.extractfile(member)
    assert opened is not None, "every member is a file"
    return opened.read()
