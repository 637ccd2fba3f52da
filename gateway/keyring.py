"""Keys that were good a moment ago, so that a client who asks often costs the database little.

A key that is revoked, ends or whose account is suspended works on for `MEMORY_SECONDS` at most, on each copy.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from shared.db.api_keys import Key

MEMORY_SECONDS = 5.0
_MOST = 10_000


class Keyring:
    """Good keys by id, with when they were looked up."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._kept: OrderedDict[str, tuple[float, Key]] = OrderedDict()

    def recent(self, key_id: str) -> Key | None:
        """The key as it was a moment ago; None when it must be looked up."""
        seen_at, key = self._kept.get(key_id, (0.0, None))
        if key is None or self._now() - seen_at > MEMORY_SECONDS:
            return None
        return key

    def keep(self, key: Key) -> None:
        """Remembers a key that was just found good."""
        self._kept.pop(key.id, None)
        self._kept[key.id] = (self._now(), key)
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)
