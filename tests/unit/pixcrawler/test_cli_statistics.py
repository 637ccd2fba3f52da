"""`job stats` for people: every figure is there, and hosts are shown as they are written."""

from uuid import UUID

from pixcrawler.commands.statistics import rendered
from pixcrawler.models import HostFigures, Hosts, Spread, StageTime, Statistics

WIDTHS = Spread(count=2, smallest=64, p5=65, p25=80, median=1024, p75=2000, p95=3000.0, largest=4000, mean=1100.25)
TOLD = Statistics(
    dataset=UUID(int=1),
    revision=2,
    rows=2000,
    rows_without_index=500,
    accepted=1732,
    rejected=268,
    rejected_by_reason={"http_not_found": 200, "duplicate": 68},
    by_status={"success": 1732},
    http_status={"200": 1800},
    formats={"jpg": 1700, "png": 32},
    fetched_formats={"jpg": 1800},
    width=WIDTHS,
    height=None,
    aspect_ratio=None,
    original_width=None,
    original_height=None,
    image_bytes=None,
    fetch_ms=None,
    stored_bytes=12_300_000,
    fetched_bytes=25_500_000,
    with_caption=9,
    caption_characters=None,
    duplicates={"duplicate": 68},
    hosts=Hosts(
        distinct=7,
        is_exact=False,
        accepted=[HostFigures(host="[::1]", rows=1700)],
        rejected=[HostFigures(host="example.com", rows=200)],
    ),
    stages={"download": StageTime(working_seconds=1234.5, waiting_seconds=6)},
)


def test_figures_are_shown_for_people() -> None:
    lines = [" ".join(line.split()) for line in rendered(TOLD, width=110).splitlines()]

    assert lines == [
        "rows 2,000, up to revision 2",
        "not counted 500 rows whose index could not be read",
        "accepted 1,732 (jpg 1,700, png 32)",
        "rejected 268 (http_not_found 200, duplicate 68)",
        "captions 9",
        "stored 12.3 MB of images",
        "fetched 25.5 MB",
        "download chunks took 1,234 s, and waited 6 s",
        "least 5 % 25 % median 75 % 95 % most mean",
        "width 64 65 80 1,024 2,000 3,000 4,000 1,100.25",
        "hosts 7 at least",
        "1,700 accepted [::1]",
        "200 rejected example.com",
    ]
