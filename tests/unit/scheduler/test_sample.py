"""What a few rows that were tried say of the rest."""

import pytest

from scheduler.sample import estimate, is_image
from shared.manifest.report import ColumnsOut, Estimate, HostOut, ListReport, Trial, Tried

COLUMNS = ColumnsOut(format="txt", names=[], url="url", caption=None, url_is_guessed=True, caption_is_guessed=False)


def report(*, rows: int, bad: int = 0, duplicates: int = 0, of_host: int = 1) -> ListReport:
    return ListReport(
        rows=rows,
        bad_rows=bad,
        rejected={},
        bad=[],
        duplicates=duplicates,
        duplicates_are_exact=True,
        hosts=1,
        hosts_are_exact=True,
        top_hosts=[HostOut(host="example.com", rows=of_host)],
        columns=COLUMNS,
    )


def tried(trial: Trial, size_bytes: int | None = None) -> Tried:
    return Tried(row=0, trial=trial, detail="", size_bytes=size_bytes)


@pytest.mark.parametrize(
    ("of", "some", "estimated"),
    [
        # Half are images of 200 bytes; bad rows and repeats are not fetched.
        (
            report(rows=1_200, bad=100, duplicates=100),
            [tried(Trial.IMAGE, 100), tried(Trial.IMAGE, 300), tried(Trial.REFUSED), tried(Trial.FAILED)],
            Estimate(images=500, size_bytes=100_000, seconds=10),
        ),
        # One host is asked ten times a second, however many rows others have.
        (
            report(rows=1_000, of_host=900),
            [tried(Trial.IMAGE, 1)],
            Estimate(images=1_000, size_bytes=1_000, seconds=90),
        ),
        # What was not tried says nothing.
        (
            report(rows=100),
            [tried(Trial.NOT_TRIED), tried(Trial.IMAGE, 7)],
            Estimate(images=100, size_bytes=700, seconds=1),
        ),
        (report(rows=100), [tried(Trial.REFUSED)], Estimate(images=0, size_bytes=0, seconds=1)),
        (report(rows=100), [tried(Trial.NOT_TRIED)], None),
        (report(rows=100), [], None),
    ],
)
def test_the_whole_is_estimated_by_what_was_tried(
    of: ListReport, some: list[Tried], estimated: Estimate | None
) -> None:
    assert estimate(of, some) == estimated


@pytest.mark.parametrize(
    ("head", "is_one"),
    [
        (b"\xff\xd8\xff\xe0", True),
        (b"\x89PNG\r\n\x1a\n", True),
        (b"GIF89a", True),
        (b"RIFF\0\0\0\0WEBP", True),
        (b"RIFF\0\0\0\0WAVE", False),
        (b"<html>", False),
        (b"", False),
    ],
)
def test_an_image_is_known_by_how_it_begins(head: bytes, is_one: bool) -> None:
    assert is_image(head) is is_one
