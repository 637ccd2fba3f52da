import csv
import hashlib
import http.client
import io
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from pixcrawler.sample import Corpus, Origin, Row, sample_origin
from pixcrawler.sample.corpus import KINDS

ROWS = 400
FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF"}


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with sample_origin(rows=ROWS) as origin:
        yield origin


def get(origin: Origin, path: str, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", origin.port, timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def first(origin: Origin, kind: str) -> Row:
    return next(row for row in origin.corpus.rows if row.kind.name == kind)


def test_the_same_call_gives_the_same_rows_and_bytes() -> None:
    one, two = Corpus(200), Corpus(200)

    assert one.rows == two.rows
    for row in one.rows[:12]:
        assert one.body(row) == two.body(row)
    assert Corpus(200, seed=8).rows != one.rows


def test_a_tenth_of_the_rows_is_bad() -> None:
    counts = Corpus(2000).expected_counts()

    assert sum(counts.values()) == 2000
    assert 0.88 < counts["accepted"] / 2000 < 0.92
    assert counts.keys() >= {kind.reason for kind in KINDS if kind.reason}


def test_good_pictures_are_distinct_and_as_large_as_photos_are(origin: Origin) -> None:
    bodies = [origin.corpus.body(row) for row in origin.corpus.rows if row.kind.name == "good"]

    assert len({hashlib.sha256(body).digest() for body in bodies}) == len(bodies)
    assert 50_000 < sorted(map(len, bodies))[len(bodies) // 2] < 200_000


def test_the_truth_says_what_the_files_are(origin: Origin) -> None:
    for row in origin.corpus.rows[:80]:
        truth = row.truth(origin.base_url)
        if truth["accepted"]:
            with Image.open(io.BytesIO(origin.corpus.body(row))) as image:
                assert (image.format, image.width, image.height) == (
                    FORMATS[str(truth["format"])],
                    truth["width"],
                    truth["height"],
                )


def test_progressive_and_baseline_jpegs_occur() -> None:
    corpus = Corpus(60)
    jpegs = [row for row in corpus.rows if row.kind.name == "good" and row.picture.kind == "jpg"]

    found = set()
    for row in jpegs:
        with Image.open(io.BytesIO(corpus.body(row))) as image:
            found.add("progressive" in image.info)
    assert found == {True, False}


def test_good_rows_are_served(origin: Origin) -> None:
    row = first(origin, "good")

    response, body = get(origin, row.path)

    assert response.status == 200
    assert body == origin.corpus.body(row)


@pytest.mark.parametrize(
    ("kind", "status"), [("missing", 404), ("forbidden", 403), ("server_error", 500), ("redirect", 302)]
)
def test_rows_answer_with_their_status(origin: Origin, kind: str, status: int) -> None:
    response, _ = get(origin, first(origin, kind).path)

    assert response.status == status


def test_a_redirect_leads_to_the_picture(origin: Origin) -> None:
    row = first(origin, "redirect")

    response, _ = get(origin, row.path)
    _, body = get(origin, response.headers["Location"])

    assert body == origin.corpus.body(row)


def test_a_flaky_row_fails_once(origin: Origin) -> None:
    row = first(origin, "flaky")

    assert [get(origin, row.path)[0].status for _ in range(2)] == [500, 200]


def test_a_duplicate_has_the_bytes_of_an_earlier_row(origin: Origin) -> None:
    row = first(origin, "duplicate")
    assert row.duplicate_of is not None
    assert row.duplicate_of < row.number

    _, body = get(origin, row.path)

    assert body == get(origin, origin.corpus.rows[row.duplicate_of].path)[1]


def test_a_truncated_picture_comes_whole_and_cannot_be_decoded(origin: Origin) -> None:
    response, body = get(origin, first(origin, "truncated").path)

    assert int(response.headers["Content-Length"]) == len(body)
    with Image.open(io.BytesIO(body)) as image, pytest.raises(OSError, match="truncated"):
        image.load()


def test_a_cut_off_answer_ends_before_its_length(origin: Origin) -> None:
    with pytest.raises(http.client.IncompleteRead):
        get(origin, first(origin, "cut_off").path)


def test_a_rotated_picture_says_so_in_its_exif(origin: Origin) -> None:
    row = first(origin, "rotated")

    with Image.open(io.BytesIO(get(origin, row.path)[1])) as image:
        assert ImageOps.exif_transpose(image).size == (row.picture.height, row.picture.width)


def test_an_opted_out_picture_carries_the_header(origin: Origin) -> None:
    response, _ = get(origin, first(origin, "opted_out").path)

    assert response.headers["X-Robots-Tag"] == "noai"


def test_robots_may_fetch_everything_and_nothing_else_is_there(origin: Origin) -> None:
    assert b"Allow: /" in get(origin, "/robots.txt")[1]
    assert get(origin, "/../../etc/passwd")[0].status == 404
    assert get(origin, "/moved/nothing")[0].status == 404
    assert get(origin, "/", "POST")[0].status == 405


def test_a_connection_is_kept(origin: Origin) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", origin.port, timeout=10)
    connection.request("GET", "/robots.txt")
    connection.getresponse().read()
    socket = connection.sock

    connection.request("HEAD", first(origin, "good").path)
    response = connection.getresponse()

    assert response.read() == b""
    assert int(response.headers["Content-Length"]) > 0
    assert connection.sock is socket
    connection.close()


def test_the_list_has_urls_captions_and_two_more_columns(origin: Origin, tmp_path: Path) -> None:
    path = tmp_path / "urls.csv"

    origin.write_list(path)

    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == ROWS
    assert list(rows[0]) == ["url", "caption", "id", "licence"]
    assert [int(row["id"]) for row in rows] == list(range(ROWS))
    assert rows[5]["caption"] == origin.corpus.rows[5].caption


def test_the_settings_allow_this_origin_only(origin: Origin) -> None:
    assert json.loads(origin.extra_environment["PIXCRAWLER_ALLOW_CIDRS"]) == ["127.0.0.1/32"]
    assert json.loads(origin.extra_environment["PIXCRAWLER_ALLOW_PORTS"]) == [origin.port]


def test_as_a_program_it_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    files = ["--write-list", str(tmp_path / "urls.csv"), "--truth", str(tmp_path / "truth.json")]
    program = [sys.executable, "-m", "pixcrawler.sample", "serve", "--rows", "20", *files]

    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        line = serving.stdout.readline()
        serving.send_signal(signal.SIGTERM)

    assert line.startswith("serving 20 rows at http://127.0.0.1:")
    assert serving.returncode == 0
    assert len(json.loads((tmp_path / "truth.json").read_text())) == 20


def test_an_origin_for_others_listens_where_it_is_told() -> None:
    with sample_origin(rows=1, host="127.0.0.2") as elsewhere:
        with urllib.request.urlopen(f"{elsewhere.base_url}/robots.txt", timeout=10) as answer:
            assert answer.status == 200

        assert elsewhere.base_url.startswith("http://127.0.0.2:")
        assert elsewhere.extra_environment["PIXCRAWLER_ALLOW_CIDRS"] == '["127.0.0.2/32"]'
