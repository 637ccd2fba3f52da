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
        (["googlebot: unavailable_after: 25 Jun 2030 15:00:00 PST, noai"], None),
        # a date may hold a comma, and what follows it is no agent
        (["unavailable_after: Fri, 25 Jun 2030 15:00:00 GMT, noai"], "noai"),
        (["unavailable_after: Friday, 25-Jun-30 15:00:00 GMT, otherbot: noai"], None),
        # agents with a version, directives with a value they should not have
        (["PixCrawlerBot/1.0: noai"], "noai"),
        (["otherbot/2.1: noai"], None),
        (["noai: 1"], "noai"),
        (["otherbot: nofollow, noai: 1"], None),
        ([": noai"], "noai"),
        (["otherbot: nofollow, *: noimageai"], "noimageai"),
        # nonsense hides nothing
        ([",,, ,noai,,"], "noai"),
        ([":::, , noai"], "noai"),
        # what only looks like one
        (["noaisle"], None),
        (["no ai"], None),
    ],
)
def test_a_directive_refuses_when_it_is_meant_for_us(lines: list[str], expected: str | None) -> None:
    assert refusing_directive(lines) == expected


@pytest.mark.parametrize(
    ("values", "is_reserved"),
    [
        (["1"], True),
        ([" 1 "], True),
        (["0"], False),
        (["0", "1"], True),
        (["0, 1"], True),
        (["10"], False),
        ([""], False),
    ],
)
def test_a_reservation_is_an_opt_out(values: list[str], is_reserved: bool) -> None:
    directive = opt_out_of(Head(200, {"tdm-reservation": values}))

    assert directive == ("tdm-reservation: 1" if is_reserved else None)
