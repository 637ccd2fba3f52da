"""Lists in all formats: every row is there, whatever is wrong with it, and reading can go on from any slice."""

import gzip
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.manifest import ListFormat, ListReader, digest_of, open_list, write_rows
from shared.manifest.cells import MAX_CELL_BYTES

Write = Callable[[Path, Sequence[str], Sequence[str]], None]


def write_txt(path: Path, urls: Sequence[str], captions: Sequence[str]) -> None:
    path.write_text("".join(f"{url}\n" for url in urls))


def write_delimited(path: Path, urls: Sequence[str], captions: Sequence[str]) -> None:
    mark = "\t" if ".tsv" in path.name else ","
    rows = [f'{url}{mark}"{caption}"' for url, caption in zip(urls, captions, strict=True)]
    path.write_text("\n".join([f"url{mark}caption", *rows]) + "\n")


def objects(urls: Sequence[str], captions: Sequence[str]) -> list[dict[str, str]]:
    return [{"url": url, "caption": caption} for url, caption in zip(urls, captions, strict=True)]


def write_json(path: Path, urls: Sequence[str], captions: Sequence[str]) -> None:
    path.write_text(json.dumps(objects(urls, captions), indent=1))


def write_jsonl(path: Path, urls: Sequence[str], captions: Sequence[str]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in objects(urls, captions)))


def write_parquet(path: Path, urls: Sequence[str], captions: Sequence[str]) -> None:
    pq.write_table(pa.table({"caption": captions, "url": urls}), path, row_group_size=70)


WRITERS: dict[str, Write] = {
    "txt": write_txt,
    "csv": write_delimited,
    "tsv": write_delimited,
    "json": write_json,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}
NAMES = [f"list.{name}{packed}" for name in WRITERS for packed in ("", ".gz")]
URLS = [f"https://example.org/{number}.jpg" for number in range(250)]
CAPTIONS = [f"picture, {number} é" for number in range(250)]


@pytest.fixture(params=NAMES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same 250 rows in each format, plain and packed."""
    found = tmp_path / str(request.param)
    WRITERS[found.name.split(".")[1]](found, URLS, CAPTIONS)
    if found.suffix == ".gz":
        found.write_bytes(gzip.compress(found.read_bytes()))
    return found


def opened(path: Path) -> ListReader:
    return open_list(path, caption_col=None if ".txt" in path.name else "caption", scratch=path.parent)


def read(path: Path, **options: object) -> pa.Table:
    with open_list(path, **options) as reader:  # type: ignore[arg-type]
        return pa.concat_tables(reader.slices(100))


def urls_of(path: Path, **options: object) -> list[str | None]:
    found: list[str | None] = read(path, **options).column("url").to_pylist()
    return found


def written(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_every_format_gives_the_same_rows(path: Path) -> None:
    with opened(path) as reader:
        table = pa.concat_tables(reader.slices(100))

    assert table.column("url").to_pylist() == URLS
    assert table.column("caption").to_pylist() == ([None] * 250 if ".txt" in path.name else CAPTIONS)


def test_slices_have_exactly_the_rows_asked_for(path: Path) -> None:
    with opened(path) as reader:
        tables = list(reader.slices(100))
        schema = reader.schema

    assert [table.num_rows for table in tables] == [100, 100, 50]
    assert all(table.schema == schema for table in tables)


def test_reading_goes_on_behind_any_slice_after_a_crash(path: Path) -> None:
    with opened(path) as reader:
        cursors = [json.dumps(dict(reader.cursor)) for _ in reader.slices(90)]

    for place, cursor in enumerate(cursors, start=1):
        with opened(path) as reader:
            rest = [url for table in reader.slices(90, after=json.loads(cursor)) for url in table["url"].to_pylist()]

        assert rest == URLS[place * 90 :]


def test_one_reader_can_go_back_and_forth(path: Path) -> None:
    with opened(path) as reader:
        first = next(reader.slices(60))
        behind_first = dict(reader.cursor)
        next(reader.slices(60, after=behind_first))

        assert next(reader.slices(60)).equals(first)
        assert next(reader.slices(60, after=behind_first))["url"][0].as_py() == URLS[60]


def test_nothing_is_left_behind(path: Path) -> None:
    opened(path).close()

    assert [file.name for file in path.parent.iterdir()] == [path.name]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1, max_size=30))
@pytest.mark.parametrize("name", ["list.csv", "list.tsv", "list.jsonl", "list.json", "list.parquet"])
def test_any_caption_survives_in_any_format(tmp_path: Path, name: str, rows: list[str]) -> None:
    urls, path = [f"https://example.org/{place}" for place in range(len(rows))], tmp_path / name
    # line ends within csv cells are the reader's to keep; bare carriage returns are its to refuse
    captions = [row.replace("\r", "") for row in rows]
    WRITERS[name.split(".")[1]](path, urls, [row.replace('"', '""') if "sv" in name else row for row in captions])

    table = read(path, caption_col="caption")

    assert table["url"].to_pylist() == urls
    assert [caption or "" for caption in table["caption"].to_pylist()] == captions


def test_white_space_around_urls_goes_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    path = written(tmp_path, "list.txt", b"\xef\xbb\xbf  https://a.org/1 \r\n\r\n\t\nnonsense\n https://a.org/2")

    assert urls_of(path) == ["https://a.org/1", "nonsense", "https://a.org/2"]


def test_a_bad_line_costs_one_row(tmp_path: Path) -> None:
    lines = [
        b"https://a.org/1",
        b"\xff\xfe broken",
        b"x" * (MAX_CELL_BYTES + 1),
        b"https://a.org/\0",
        b"https://a.org/2",
    ]

    assert urls_of(written(tmp_path, "list.txt", b"\n".join(lines))) == [
        "https://a.org/1",
        None,
        None,
        None,
        "https://a.org/2",
    ]


def test_a_line_of_many_megabytes_costs_one_row(tmp_path: Path) -> None:
    path = written(
        tmp_path, "list.txt", b"https://a.org/1\n" + b"x" * 5_000_000 + b"\nhttps://a.org/2\n" + b"y" * 3_000_000
    )

    with open_list(path) as reader:
        found = [(table["url"][0].as_py(), reader.cursor["offset"]) for table in reader.slices(1)]

    assert found == [
        ("https://a.org/1", 16),
        (None, 5_000_017),
        ("https://a.org/2", 5_000_033),
        (None, 8_000_033),
    ]


def test_bad_json_lines_cost_one_row_each(tmp_path: Path) -> None:
    lines = [
        '{"url": " https://a.org/1 "}',
        "",
        '"https://a.org/2"',
        '{"url": "https://a.org/cut',
        '{"url": null}',
        '{"url": ["https://a.org/nested"]}',
        '{"url": "https://a.org/\\ud800"}',
        "[" * 50_000,
        '{"url": "https://a.org/3"} trailing',
        '{"url": 5}',
        "{}",
        '{"url": "https://a.org/4"}',
    ]

    assert urls_of(written(tmp_path, "list.jsonl", "\n".join(lines))) == [
        "https://a.org/1",
        "https://a.org/2",
        None,
        None,
        '["https://a.org/nested"]',
        None,
        None,
        None,
        "5",
        None,
        "https://a.org/4",
    ]


def test_saved_json_values_stay_what_was_written(tmp_path: Path) -> None:
    values = ["1.10", "12345678901234567890123", "1e400", "true", "null", '"text"', '{"a":[1.0,"é"]}', "NaN"]
    path = written(tmp_path, "list.jsonl", "\n".join(f'{{"url": "u", "extra": {value}}}' for value in values))

    assert read(path, save_columns=["extra"])["extra"].to_pylist() == [
        None if value == "null" else value.strip('"') for value in values
    ]


def test_bad_elements_of_a_json_array_cost_one_row_each(tmp_path: Path) -> None:
    elements = [
        b'"https://a.org/1"',
        b"5",
        b'{"url": "https://a.org/\xff"}',
        b'{"url": "https://a.org/2", "more": "' + b"x" * 100_000 + b'"}',
        '{"url": "https://a.org/é"}'.encode(),
        b'{"url": "https://a.org/3"}',
    ]

    assert urls_of(written(tmp_path, "list.json", b" [\n" + b" ,\r\n".join(elements) + b"]\n ")) == [
        "https://a.org/1",
        "5",
        None,
        None,
        "https://a.org/é",
        "https://a.org/3",
    ]


def test_json_elements_across_block_borders_are_whole(tmp_path: Path) -> None:
    urls = [f"https://example.org/{number}/" + "é" * (number % 700) for number in range(4000)]

    assert urls_of(written(tmp_path, "list.json", json.dumps(urls, ensure_ascii=False))) == urls


def test_json_lines_under_the_name_json_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, "list.json", '{"url": "https://a.org/1"}\n{"url": "https://a.org/2"}\n')

    assert urls_of(path) == ["https://a.org/1", "https://a.org/2"]


def test_csv_cells_may_hold_quotes_commas_and_line_feeds(tmp_path: Path) -> None:
    path = written(
        tmp_path, "list.csv", 'caption,url\r\n"a ""b"",\nc",https://a.org/1\r\n"5\' 6"" tall",https://a.org/2\r\n'
    )

    table = read(path, caption_col="caption")

    assert table.to_pylist() == [
        {"url": "https://a.org/1", "caption": 'a "b",\nc'},
        {"url": "https://a.org/2", "caption": "5' 6\" tall"},
    ]


def test_a_stray_quote_within_a_csv_cell_is_text(tmp_path: Path) -> None:
    path = written(tmp_path, "list.csv", 'url,caption\nhttps://a.org/1,6" disk\nhttps://a.org/2,x\n')

    assert read(path, caption_col="caption")["caption"].to_pylist() == ['6" disk', "x"]


def test_a_quote_never_closed_costs_one_row(tmp_path: Path) -> None:
    rows = [f"https://a.org/{number}" for number in range(5000)]
    path = written(
        tmp_path, "list.csv", 'caption,url\n"open,https://a.org/lost\n' + "".join(f"c,{row}\n" for row in rows)
    )

    assert urls_of(path) == [None, *rows]


def test_a_quote_never_closed_near_the_end_costs_one_row(tmp_path: Path) -> None:
    path = written(tmp_path, "list.csv", 'caption,url\nc,1\n"open,2\nc,3\nc,4')

    assert urls_of(path) == ["1", None, "3", "4"]


def test_short_csv_rows_lack_cells_and_long_ones_lose_them(tmp_path: Path) -> None:
    path = written(tmp_path, "list.csv", "caption,url\nonly a caption\nc,https://a.org/1,more\n\n,https://a.org/2\n")

    assert read(path, caption_col="caption").to_pylist() == [
        {"url": None, "caption": "only a caption"},
        {"url": "https://a.org/1", "caption": "c"},
        {"url": "https://a.org/2", "caption": None},
    ]


def test_a_broken_csv_line_within_a_quoted_record_costs_no_other_record(tmp_path: Path) -> None:
    path = written(tmp_path, "list.csv", b'caption,url\n"two\n\xff lines",1\nc,2\n')

    assert urls_of(path)[-1] == "2"
    assert urls_of(path).count(None) == 2


def test_parquet_columns_keep_their_types(tmp_path: Path) -> None:
    when = datetime(2026, 1, 2, tzinfo=UTC)
    table = pa.table(
        {
            "URL": pa.array(["https://a.org/1", None], pa.large_string()),
            "wide": pa.array([512, None], pa.int16()),
            "score": pa.array([0.5, 1.5], pa.float32()),
            "seen": pa.array([when, when], pa.timestamp("us", tz="UTC")),
            "kind": pa.array(["a", "b"]).dictionary_encode(),
            "nothing": pa.nulls(2),
            "label": pa.array(["x", "y"], pa.string_view()),
        }
    )
    pq.write_table(table, tmp_path / "list.parquet")

    found = read(tmp_path / "list.parquet", url_col="URL", save_columns=table.column_names[1:])

    assert found.schema.types == [
        pa.string(),
        pa.string(),
        pa.int16(),
        pa.float32(),
        pa.timestamp("us", tz="UTC"),
        pa.string(),
        pa.string(),
        pa.string(),
    ]
    assert found.drop_columns(["url", "caption"]).to_pylist() == table.drop_columns("URL").to_pylist()
    assert found["url"].to_pylist() == ["https://a.org/1", None]


def test_parquet_texts_that_are_none_cost_one_cell_each(tmp_path: Path) -> None:
    urls = pa.array([b" https://a.org/1 ", b"\xff", b"a\0b", b"x" * 9000, b"", b"https://a.org/2"], pa.binary())
    captions = pa.array(["c", "x" * (MAX_CELL_BYTES + 1), "c", "c", "c", "c"])
    pq.write_table(pa.table({"url": urls, "caption": captions}), tmp_path / "list.parquet")

    table = read(tmp_path / "list.parquet", caption_col="caption")

    assert table["url"].to_pylist() == ["https://a.org/1", None, None, None, None, "https://a.org/2"]
    assert table["caption"].to_pylist() == ["c", None, "c", "c", "c", "c"]


def test_parquet_that_repeats_one_huge_text_is_read_in_little_memory(tmp_path: Path) -> None:
    huge = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * 30_000_000]))
    table = pa.table({"url": pa.array(["https://a.org/1"] * 100_000), "caption": huge})
    pq.write_table(table, tmp_path / "list.parquet", dictionary_pagesize_limit=10**9, compression="zstd")
    del table, huge
    before = pa.total_allocated_bytes()

    with open_list(tmp_path / "list.parquet", caption_col="caption") as reader:
        nulls = most = 0
        for part in reader.slices():
            nulls += part["caption"].null_count
            most = max(most, pa.total_allocated_bytes() - before)

    assert nulls == 100_000
    assert most < 300_000_000


def test_a_row_group_of_any_size_is_read_in_little_memory(tmp_path: Path) -> None:
    rows = 200_000
    urls = pa.array([f"https://example.org/{number:0100d}" for number in range(rows)])
    pq.write_table(pa.table({"url": urls}), tmp_path / "list.parquet", row_group_size=rows)
    del urls
    before = pa.total_allocated_bytes()

    with open_list(tmp_path / "list.parquet") as reader:
        most = max(pa.total_allocated_bytes() - before for _ in reader.slices())

    assert most < 12_000_000


def test_inline_rows_are_read_as_any_list(tmp_path: Path) -> None:
    rows: list[str | dict[str, object]] = [{"url": "https://a.org/1", "caption": "é"}, "https://a.org/2", {"url": None}]

    count = write_rows(rows, tmp_path / "inline")

    assert count == 3
    assert read(tmp_path / "inline", list_format=ListFormat.JSONL, caption_col="caption").to_pylist() == [
        {"url": "https://a.org/1", "caption": "é"},
        {"url": "https://a.org/2", "caption": None},
        {"url": None, "caption": None},
    ]


def test_equal_lists_have_equal_digests(tmp_path: Path) -> None:
    one, two = written(tmp_path, "one.txt", "a\n"), written(tmp_path, "two.txt", "a\n")

    assert digest_of(one) == digest_of(two)
    assert digest_of(one) != digest_of(written(tmp_path, "two.txt", "b\n"))
