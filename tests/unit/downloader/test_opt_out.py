"""X-Robots-Tag and TDM reservations, with the lines that other parsers miss."""

import pytest

from downloader.opt_out import opt_out_of, refusing_directive
from downloader.transfer import Head


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # nothing said
        ([], None),
        (["all"], None),
        (["nofollow, noarchive"], None),
        # each directive that refuses, in any spelling
        (["noai"], "noai"),
        (["NoImageAI"], "NoImageAI"),
        (["noindex"], "noindex"),
        (["noimageindex"], "noimageindex"),
        (["none"], "none"),
        (["  nofollow ,  noai  "], "noai"),
        # every line counts
        (["nofollow", "noai"], "noai"),
        # agents
        (["otherbot: noai"], None),
        (["PixCrawlerBot: noai"], "noai"),
        (["pixcrawlerbot : noai"], "noai"),
        (["*: noai"], "noai"),
        (["otherbot: nofollow, noai"], None),
        (["otherbot: noindex, pixcrawlerbot: noai"], "noai"),
        (["noai, otherbot: noindex"], "noai"),
        (["otherbot: noindex", "noai"], "noai"),
        # directives with a value name no agent
        (["unavailable_after: 25 Jun 2030 15:00:00 PST, noai"], "noai"),
        (["max-snippet: 5, noimageai"], "noimageai"),
        (["max-image-preview: large"], None),
        # what only looks like one
        (["noaisle"], None),
        (["no ai"], None),
    ],
)
def test_a_directive_refuses_when_it_is_meant_for_us(lines: list[str], expected: str | None) -> None:
    assert refusing_directive(lines) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [("1", "tdm-reservation: 1"), (" 1 ", "tdm-reservation: 1"), ("0", None)]
)
def test_a_reservation_is_an_opt_out(value: str, expected: str | None) -> None:
    assert opt_out_of(Head(200, {"tdm-reservation": [value]})) == expected
