"""Lists made to hurt: every one is read row by row or refused with a sentence, whatever its bytes."""

import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import BadSource
from shared.manifest import open_list

ROWS = 1000
#: Of all formats a small list; spoiling these finds more than bytes drawn at random.
_PARQUET = io.BytesIO()
pq.write_table(pa.table({"url": [f"https://a.org/{n}" for n in range(ROWS)]}), _PARQUET, row_group_size=400)
GOOD = {
    "txt": b"https://a.org/1\nhttps://a.org/2\n",
    "csv": b'url,caption\nhttps://a.org/1,"one, two"\nhttps://a.org/2,\n',
    "tsv": b"url\tcaption\nhttps://a.org/1\tone\n",
    "json": b'[{"url": "https://a.org/1", "caption": "one"}, "https://a.org/2"]',
    "jsonl": b'{"url": "https://a.org/1"}\n"https://a.org/2"\n',
    "parquet": _PARQUET.getvalue(),
}
NAMES = [f"list.{kind}{packed}" for kind in GOOD for packed in ("", ".gz")]


def read(folder: Path, name: str, content: bytes) -> int | None:
    """How many rows were read; None: refused. Anything else is a defect."""
    path = folder / name
    path.write_bytes(content)
    try:
        with open_list(path, scratch=folder) as reader:
            return sum(len(table) for table in reader.slices(500))
    except BadSource:
        return None


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=4096))
def test_bytes_drawn_at_random_break_nothing(tmp_path: Path, name: str, content: bytes) -> None:
    read(tmp_path, name, content)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 2**16), put=st.binary(max_size=8), taken=st.integers(0, 64), packs_late=st.booleans())
def test_a_list_spoiled_anywhere_breaks_nothing(
    tmp_path: Path, name: str, at: int, put: bytes, taken: int, packs_late: bool
) -> None:
    good, is_packed = GOOD[name.split(".")[1]], name.endswith(".gz")
    whole = gzip.compress(good) if is_packed and not packs_late else good
    place = at % (len(whole) + 1)
    spoiled = whole[:place] + put + whole[place + taken :]

    read(tmp_path, name, gzip.compress(spoiled) if is_packed and packs_late else spoiled)


@pytest.mark.parametrize("claimed", [b"\x80\x7d", b"\xfe\x7f", b"\x02\x00"], ids=["more", "most", "fewer"])
@pytest.mark.parametrize("groups", ["file", "groups"])
def test_a_parquet_that_lies_about_its_rows_gives_none_that_are_not_there(
    tmp_path: Path, claimed: bytes, groups: str
) -> None:
    true = {"file": b"\xd0\x0f", "groups": b"\xa0\x06"}[groups]  # 1000 and 400 in the footer's spelling
    body, footer = GOOD["parquet"][:-3000], GOOD["parquet"][-3000:]
    assert true in footer

    rows = read(tmp_path, "list.parquet", body + footer.replace(true, claimed))

    assert rows is None or rows <= ROWS


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_columns_by_the_ten_thousand_are_refused(tmp_path: Path, kind: str) -> None:
    names = [f"column_{number:070}" for number in range(40_000)]
    match kind:
        case "csv":
            content = (",".join(["url", *names]) + "\nhttps://a.org/1" + ",1" * len(names) + "\n").encode()
        case "parquet":
            body = io.BytesIO()
            pq.write_table(pa.table({"url": ["https://a.org/1"], **{name: [1] for name in names}}), body)
            content = body.getvalue()
        case _:
            content = json.dumps({"url": "https://a.org/1", **dict.fromkeys(names, 1)}).encode() + b"\n"

    assert read(tmp_path, f"list.{kind}", content) is None


def test_a_row_nested_two_million_deep_costs_itself_only(tmp_path: Path) -> None:
    content = b'{"url":' + b"[" * 2_000_000 + b'\n{"url":"https://a.org/2"}\n'

    assert read(tmp_path, "list.jsonl", content) == 2


def test_a_line_of_a_hundred_megabytes_is_read_in_little_memory(tmp_path: Path) -> None:
    before = pa.total_allocated_bytes()

    rows = read(tmp_path, "list.csv", b"url,caption\nhttps://a.org/1,x\n" + b"y" * 100_000_000)

    assert rows == 2
    assert pa.total_allocated_bytes() - before < 1_000_000
