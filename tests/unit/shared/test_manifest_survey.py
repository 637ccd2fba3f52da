"""What a list holds, counted: rows, bad ones with their lines, repeats, hosts, a sample; and guessed columns."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.guard import Guard
from shared.manifest import ListFormat, open_list, repeats
from shared.manifest.formats import format_of
from shared.manifest.guess import column_names, likely_caption, likely_url
from shared.manifest.repeats import Repeats
from shared.manifest.survey import MOST_NAMED, SAMPLE_ROWS, Survey, survey, with_lines

GOOD, ALSO = "https://example.com/a.jpg", "https://other.example.com/b.jpg"


def surveyed(path: Path) -> Survey:
    with open_list(path) as reader:
        found = survey(reader, Guard(), scratch=path.parent)
    found.bad = with_lines(path, found.bad)
    return found


def bad_places(found: Survey) -> list[tuple[int, int | None]]:
    return [(each.row, each.line) for each in found.bad]


@pytest.mark.parametrize(
    ("name", "text", "places"),
    [
        ("a.txt", f"{GOOD}\n\n  \nnonsense\n{ALSO}\nftp://x.org/y", [(1, 4), (3, 6)]),
        # A quoted cell over two lines: the row is named by the line it ends on.
        ("a.csv", f'url,text\n{GOOD},"two\nlines"\n,"none\nat all"\nbad,x\n{GOOD},y\n', [(1, 5), (2, 6)]),
        ("a.jsonl", f'{{"url": "{GOOD}"}}\n\n{{"url": 7}}\n{{"url": "x"}}', [(1, 3), (2, 4)]),
        ("a.json", f'[\n "{GOOD}",\n "x", "{ALSO}",\n "y"\n]', [(1, 3), (3, 4)]),
    ],
)
def test_bad_rows_are_named_with_the_lines_an_editor_shows(
    tmp_path: Path, name: str, text: str, places: list[tuple[int, int]]
) -> None:
    plain, packed = tmp_path / name, tmp_path / f"packed-{name}.gz"
    plain.write_text(text)
    packed.write_bytes(gzip.compress(text.encode()))

    for path in (plain, packed):
        found = surveyed(path)

        assert bad_places(found) == places
        assert found.bad_rows == len(places)


def test_a_parquet_list_has_rows_and_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"url": [GOOD, None, "http://10.0.0.1/x"]}), path)

    found = surveyed(path)

    assert bad_places(found) == [(1, None), (2, None)]
    assert found.rejected == {"bad_url": 1, "blocked_address": 1}


def test_only_the_first_bad_rows_are_named_and_all_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n".join([GOOD, *["bad"] * (MOST_NAMED + 50)]))

    found = surveyed(path)

    assert (len(found.bad), found.bad_rows, found.rows) == (MOST_NAMED, MOST_NAMED + 50, MOST_NAMED + 51)


def test_repeats_and_hosts_are_counted_over_the_whole_list(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    urls = [f"https://h{number % 3}.example.com/{number % 4000}.jpg" for number in range(6000)]
    path.write_text("\n".join([*urls, "bad", "bad"]))

    found = surveyed(path)

    assert found.duplicates == 6000 - len(set(urls))
    assert dict(found.hosts) == {f"h{number}.example.com": 2000 for number in range(3)}
    assert found.duplicates_are_exact
    assert found.hosts_are_exact


def test_the_sample_is_drawn_evenly_and_is_the_same_each_time(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n".join(f"https://example.com/{number}.jpg" for number in range(5000)))

    first, second = surveyed(path).sample, surveyed(path).sample

    assert first == second
    assert len(first) == SAMPLE_ROWS
    assert [each.url for each in first] == [f"https://example.com/{each.row}.jpg" for each in first]
    assert first[-1].row > 2000, "not only from the beginning"


def test_what_is_not_compared_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "MOST_COMPARED", 3)
    with Repeats(tmp_path) as some:
        some.add(["a", "a"])
        exact = some.is_exact
        some.add(["a", "a"])

        assert exact
        assert not some.is_exact
        assert some.count() == 1


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("a.csv", "id,Image_URL,TEXT\n1,x,y\n", ("id", "Image_URL", "TEXT")),
        ("a.jsonl", '{"id": 1, "Image_URL": "x"}\n{"TEXT": "y"}\n', ("id", "Image_URL", "TEXT")),
        ("a.json", '["x", "y"]', ()),
        ("a.txt", "x\n", ()),
    ],
)
def test_columns_are_read_and_guessed(tmp_path: Path, name: str, text: str, names: tuple[str, ...]) -> None:
    (tmp_path / name).write_text(text)

    assert column_names(tmp_path / name, format_of(name)) == names
    assert (likely_url(names), likely_caption(names)) == (("Image_URL", "TEXT") if names else (None, None))


def test_columns_of_parquet_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"link": ["x"], "alt": ["y"]}), tmp_path / "a.parquet")

    assert column_names(tmp_path / "a.parquet", ListFormat.PARQUET) == ("link", "alt")


def test_the_likeliest_name_is_taken_and_the_first_of_two_alike() -> None:
    assert likely_url(["src", "URL", "url"]) == "URL"
    assert likely_url(["width", "height"]) is None
