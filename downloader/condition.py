"""Conditional requests: a host that still has what was fetched before is asked to say so, and to send nothing.

Validators are of one URL's answer. So they are sent to the URL that gave them, be it behind redirects, and to no other.
"""

from dataclasses import dataclass, field

from downloader.transfer import NOT_MODIFIED, Answer
from shared.guard import Target

#: Longer ones were cut when they were noted, and would match nothing.
_LONGEST = 511


@dataclass(frozen=True, slots=True)
class Condition:
    """What is known of an earlier answer. It comes from a destination, so anybody may have written it."""

    final_url: str | None
    etag: str | None = None
    last_modified: str | None = None
    #: What is sent with it; empty when there is nothing to ask by.
    _headers: tuple[bytes, ...] = field(init=False)

    def __post_init__(self) -> None:
        named = (("If-None-Match", self.etag), ("If-Modified-Since", self.last_modified))
        sent = tuple(f"{name}: {value}".encode("latin-1") for name, value in named if value and _is_fit(value))
        object.__setattr__(self, "_headers", sent)

    def headers_for(self, target: Target) -> tuple[bytes, ...]:
        """The header lines for a request of that URL."""
        return self._headers if target.url == self.final_url else ()

    def is_met(self, target: Target, answer: Answer) -> bool:
        """Whether that answer of that URL says that nothing has changed."""
        return answer.reason is None and answer.head.status == NOT_MODIFIED and bool(self.headers_for(target))


def _is_fit(value: str) -> bool:
    """Whether it can stand in a header line as it is."""
    is_latin = all(" " <= character <= "~" or "\xa0" <= character <= "\xff" for character in value)
    return is_latin and len(value) <= _LONGEST and bool(value.strip())
