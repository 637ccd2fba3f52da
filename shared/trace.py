"""Where a piece of work comes from: the request that began it, and its place in a trace (W3C Trace Context).

    POST ──▶ jobs.traceparent ──▶ chunks.traceparent ──▶ every line that a stage writes, and the bells' headers

The column holds a traceparent, and behind a space the request's id.
"""

import re
import secrets
from dataclasses import dataclass
from typing import Self

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A request and its trace."""

    request_id: str
    traceparent: str

    @classmethod
    def of_request(cls, request_id: str, given: str | None = None) -> Self:
        """Goes on with the client's trace when it names one; otherwise one begins here."""
        if given is None or not _TRACEPARENT.fullmatch(given):
            given = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
        return cls(request_id=request_id, traceparent=given)

    @classmethod
    def read(cls, stored: str | None) -> Self | None:
        """What `stored` gave; None for a row that is older than this, or made by hand."""
        traceparent, _, request_id = (stored or "").partition(" ")
        return cls(request_id=request_id, traceparent=traceparent) if _TRACEPARENT.fullmatch(traceparent) else None

    @property
    def trace_id(self) -> str:
        return self.traceparent.split("-")[1]

    @property
    def fields(self) -> dict[str, str]:
        """What log lines say of it."""
        return {"request_id": self.request_id, "trace_id": self.trace_id}

    def stored(self) -> str:
        """As the column keeps it."""
        return f"{self.traceparent} {self.request_id}"
