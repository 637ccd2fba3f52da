"""What an answer's headers say about use for training: X-Robots-Tag and TDM reservations."""

import re
from collections.abc import Iterable

from downloader.transfer import Head
from shared.guard import Refusal
from shared.reasons import Reason

#: How sites address us, in X-Robots-Tag and robots.txt.
PRODUCT = "PixCrawlerBot"

#: Directives that refuse the use; as img2dataset's, and `none`, which means noindex and nofollow.
REFUSING = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})
#: Directives with a value: a colon after these names no agent.
_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
#: What may stand before a colon as an agent: a product, perhaps with its version, or none at all. The rest of
#: a date such as `Fri, 25 Jun 2030 15:00:00 GMT` is none.
_AGENT = re.compile(r"\S*")


def opt_out_of(head: Head) -> str | None:
    """The directive by which these headers opt out, as sent; None when they do not."""
    directive = refusing_directive(head.all("x-robots-tag"))
    if directive is not None:
        return directive
    if any(value.strip() == "1" for line in head.all("tdm-reservation") for value in line.split(",")):
        return "tdm-reservation: 1"
    return None


def refusing_directive(values: Iterable[str]) -> str | None:
    """The first directive that refuses us among all X-Robots-Tag lines.

    `name:` addresses what follows in its line to that agent, until the next such name.
    """
    for value in values:
        agent = ""
        for token in value.split(","):
            name, directive = _parse(token)
            if name is not None:
                agent = name
            if directive.lower() in REFUSING and agent in ("", "*", PRODUCT.lower()):
                return directive
    return None


def refusal_of(head: Head) -> Refusal | None:
    """The same as a verdict; its detail is the directive."""
    directive = opt_out_of(head)
    return None if directive is None else Refusal(Reason.OPTED_OUT, directive)


def _parse(token: str) -> tuple[str | None, str]:
    """The agent a token names, if any, and its directive."""
    before, colon, after = token.partition(":")
    name = before.strip().lower()
    if not colon or not _AGENT.fullmatch(name):
        return None, token.strip()
    if name in _VALUED or name in REFUSING:
        return None, name
    return name.partition("/")[0], after.strip()
