"""When to try again what could not be done: after two seconds, then twice as long, at most five minutes."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

_LONGEST_PAUSE_SECONDS = 300.0


@dataclass
class _Trouble:
    tries: int = 0
    again_at: float = 0.0


class Patience:
    """With jobs or datasets whose destination makes trouble, each by its id."""

    def __init__(self) -> None:
        self._troubled: dict[UUID, _Trouble] = {}

    def is_due(self, who: UUID) -> bool:
        trouble = self._troubled.get(who)
        return trouble is None or time.monotonic() >= trouble.again_at

    def put_off(self, who: UUID) -> int:
        """How often it was tried in vain by now."""
        trouble = self._troubled.setdefault(who, _Trouble())
        trouble.tries += 1
        trouble.again_at = time.monotonic() + min(2.0**trouble.tries, _LONGEST_PAUSE_SECONDS)
        return trouble.tries

    def forget(self, who: UUID) -> None:
        self._troubled.pop(who, None)

    def keep(self, known: Iterable[UUID]) -> None:
        """Forgets all others."""
        self._troubled = {who: self._troubled[who] for who in known if who in self._troubled}

    @property
    def put_off_now(self) -> list[UUID]:
        return [who for who in self._troubled if not self.is_due(who)]
