"""What an answer's headers say about use for training: X-Robots-Tag and TDM reservations."""

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


def opt_out_of(head: Head) -> str | None:
    """The directive by which these headers opt out, as sent; None when they do not."""
    directive = refusing_directive(head.all("x-robots-tag"))
    if directive is not None:
        return directive
    if (head.get("tdm-reservation") or "").strip() == "1":
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
    if not colon:
        return None, token.strip()
    if name in _VALUED:
        return None, name
    return name, after.strip()
