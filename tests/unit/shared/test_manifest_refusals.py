"""What makes a whole list unreadable, and the sentence that the client is told."""

import gzip
import json
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.errors import BadSource
from shared.manifest import ListFormat, open_list, write_rows
from shared.manifest.formats import format_of


def refusal(path: Path, **options: object) -> str:
    """The sentence for a list that is opened and read to its end."""
    with pytest.raises(BadSource) as caught, open_list(path, **options) as reader:  # type: ignore[arg-type]
        for _ in reader.slices():
            pass
    return str(caught.value)


def written(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txt", ListFormat.TXT),
        ("A.CSV.GZ", ListFormat.CSV),
        ("a.b.tsv", ListFormat.TSV),
        ("a.json.gz", ListFormat.JSON),
        # other names for the same
        ("a.ndjson", ListFormat.JSONL),
        ("a.pq", ListFormat.PARQUET),
    ],
)
def test_the_name_tells_the_format(name: str, expected: ListFormat) -> None:
    assert format_of(name) is expected


@pytest.mark.parametrize("name", ["list", "list.gz", "list.xlsx", ".txt", "txt"])
def test_a_name_that_tells_no_format_is_answered_with_those_known(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, "https://a.org/1\n")

    assert refusal(path) == (
        f"the format of '{name}' is unknown; known are txt, csv, tsv, json, jsonl, parquet, each also .gz"
    )


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.txt") == "there is no file 'none.txt'"
    assert refusal(tmp_path) == f"'{tmp_path.name}' is a folder; give one file"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", ""),
        ("a.txt", "\n \n\t\r\n"),
        ("a.csv", ""),
        ("a.csv", "url,caption\n"),
        ("a.tsv", "url\n\n"),
        ("a.jsonl", "\n"),
        ("a.json", " [ ] "),
        ("a.txt.gz", gzip.compress(b"", mtime=0)),
    ],
)
def test_an_empty_list_has_no_rows(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert refusal(written(tmp_path, name, content)) == "the list has no rows"


def test_an_empty_parquet_and_an_empty_request_have_no_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": pa.array([], pa.string())}), tmp_path / "a.parquet")

    assert refusal(tmp_path / "a.parquet") == "the list has no rows"
    with pytest.raises(BadSource, match="the list has no rows"):
        write_rows([], tmp_path / "inline")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.parquet"])
def test_a_missing_column_is_answered_with_those_there_are_and_the_option(tmp_path: Path, name: str) -> None:
    row = {"URL": "https://a.org/1", "TEXT": "c"}
    path = written(tmp_path, name, json.dumps([row]) if name == "a.json" else json.dumps(row))
    if name == "a.csv":
        path.write_text("URL,TEXT\nhttps://a.org/1,c\n")
    if name == "a.parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)

    sentence = refusal(path)
    other = refusal(path, url_col="URL", caption_col="alt")
    saved = refusal(path, url_col="URL", save_columns=["licence"])

    assert sentence.startswith("there is no column 'url': ")
    assert sentence.endswith(" URL, TEXT; try --url-col URL")
    assert other.endswith(" URL, TEXT; choose one with --caption-col")
    assert saved.endswith(" URL, TEXT; choose one with --save-column")


def test_a_txt_list_has_no_columns(tmp_path: Path) -> None:
    sentence = refusal(written(tmp_path, "a.txt", "https://a.org/1\n"), caption_col="caption")

    assert sentence == "a txt list has no columns, only a URL a line; use csv or jsonl for captions and more"


def test_a_list_of_bare_urls_has_no_captions(tmp_path: Path) -> None:
    sentence = refusal(written(tmp_path, "a.json", '["https://a.org/1"]'), caption_col="caption")

    assert sentence.startswith("there is no column 'url': the first 1 rows have no named columns")


def test_a_saved_column_may_not_take_a_name_of_the_dataset(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "url,sha256\nhttps://a.org/1,c\n")

    assert refusal(path, save_columns=["sha256"]) == (
        "the column 'sha256' cannot be saved, the dataset has its own column of that name; rename it in the list"
    )


def test_a_column_there_twice_is_ambiguous(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, "a.csv", "url,url\n1,2\n")) == (
        "the list has more than one column 'url'; rename all but one of them"
    )


@pytest.mark.parametrize(
    ("column", "what"),
    [
        (pa.array([[1], [2]]), "is nested (list<element: int64>)"),
        (pa.array([{"a": 1}, None]), "is nested (struct<a: int64>)"),
        (pa.array([b"1", b"2"], pa.binary(1)), "holds bytes"),
    ],
)
def test_nested_parquet_columns_and_bytes_cannot_be_saved(tmp_path: Path, column: pa.Array, what: str) -> None:
    pq.write_table(pa.table({"url": ["1", "2"], "extra": column}), tmp_path / "a.parquet")

    assert refusal(tmp_path / "a.parquet", save_columns=["extra"]).startswith(f"the column 'extra' {what}")


def test_a_url_column_must_hold_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": [1, 2]}), tmp_path / "a.parquet")

    assert refusal(tmp_path / "a.parquet") == "the column 'url' holds int64, not text"


def test_what_is_named_gz_must_be_gzip(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv.gz", "url\nhttps://a.org/1\n")

    assert refusal(path) == "the list is named .gz but is not gzip; unpack it or correct its name"


@pytest.mark.parametrize("name", ["a.txt.gz", "a.parquet.gz"])
def test_cut_gzip_is_refused_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    packed = gzip.compress(b"".join(b"https://a.org/%d\n" % number for number in range(100_000)))
    path = written(tmp_path, name, packed[: len(packed) // 2])

    assert "gzip data is damaged or cut after" in refusal(path, scratch=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.txt.gz", "a.csv.gz", "a.json.gz", "a.parquet.gz"])
def test_a_gzip_bomb_is_refused_before_it_unpacks(tmp_path: Path, name: str) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = {"a.csv.gz": b"url\n", "a.json.gz": b"["}.get(name, b"")
    parts = [
        packer.compress(start),
        *(packer.compress((b" " * 9_999 + b"\n") * 100) for _ in range(20)),
        packer.flush(),
    ]
    path = written(tmp_path, name, b"".join(parts))

    assert refusal(path, scratch=tmp_path).startswith("the list unpacks too far (")
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"url\nhttps://a.org/1\n", b"PAR1" + b"\xff\xff\xff\x7fPAR1"])
def test_what_is_not_parquet_is_told_so(tmp_path: Path, content: bytes) -> None:
    sentence = refusal(written(tmp_path, "a.parquet", content))

    assert "not parquet" in sentence or "footer is damaged" in sentence


def test_a_parquet_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    table = pa.table({"url": ["https://a.org/1"] * 50, "caption": ["x" * 2_000_000] * 50})
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False, compression="zstd")

    assert refusal(tmp_path / "a.parquet", caption_col="caption") == (
        "the column 'caption' unpacks too far; at most 200 times is accepted"
    )


def test_damaged_parquet_is_told_where(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"url": [f"https://a.org/{number}" for number in range(5000)]}), path, compression="zstd")
    damaged = bytearray(path.read_bytes())
    damaged[100:3000] = bytes(2900)
    path.write_bytes(damaged)

    assert refusal(path).startswith("row group 0 of the parquet list is damaged: ")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("https://a.org/1\n", "a json list is an array of URLs or objects; this one does not begin with [, at byte 0"),
        (
            '{"data": [\n{"url": "https://a.org/1"}]}',
            "a json list is an array of URLs or objects; this one is a single object",
        ),
        ('["a", "b"', "the JSON array is cut: it ends without ] at byte 9"),
        ('["a", "b', "the JSON array is broken at byte 6, or an element is longer than 1 MiB"),
        ('["a" "b"]', "the JSON array is broken, at byte 5"),
        ('["a",]', "the JSON array is broken at byte 5, or an element is longer than 1 MiB"),
        ('["a"] ["b"]', "something follows the end of the JSON array, at byte 6"),
        ('["a", "' + "x" * 2_500_000 + '"]', "the JSON array is broken at byte 6, or an element is longer than 1 MiB"),
    ],
)
def test_broken_json_is_told_where(tmp_path: Path, content: str, expected: str) -> None:
    assert refusal(written(tmp_path, "a.json", content)) == expected


def test_lines_that_are_not_json_at_all_are_refused_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", "url,caption\nhttps://a.org/1,c\n")

    assert refusal(path) == "no row of the list can be read; a row is a JSON object or a URL in quotes"


def test_a_csv_header_must_be_one_line_of_text(tmp_path: Path) -> None:
    expected = "the list's header is no line of UTF-8 text of at most 64 KiB with closed quotes"

    assert refusal(written(tmp_path, "a.csv", "x" * 70_000 + "\n1\n")) == expected
    assert refusal(written(tmp_path, "b.csv", b"url,\xff\n1\n")) == expected
    assert refusal(written(tmp_path, "c.csv", 'url,"caption\n1,2\n')) == expected


def test_utf_16_is_told_by_its_mark(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "url\nhttps://a.org/1\n".encode("utf-16"))

    assert refusal(path) == "the list is UTF-16 text; save it as UTF-8"
