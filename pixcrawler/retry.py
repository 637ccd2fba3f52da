"""When a call is repeated: a few times, for as long as the gateway asks but no longer than we like."""

from collections.abc import Mapping
from dataclasses import dataclass

#: Answers after which the same call may succeed.
PASSING = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class Retries:
    """Bounds on repeats. `attempts` counts the first try; the pauses together stay below `total_seconds`."""

    attempts: int = 4
    first_pause_seconds: float = 0.25
    total_seconds: float = 30.0

    def pause_seconds(
        self, attempt: int, paused_seconds: float, headers: Mapping[str, str] | None = None
    ) -> float | None:
        """Seconds to wait after the given attempt (1 = first); None: give up.

        `headers` are those of the answer, if there was one.
        """
        pause = self.first_pause_seconds * 2.0 ** (attempt - 1)
        asked = (headers or {}).get("Retry-After", "")
        if asked.isdigit():
            pause = max(pause, float(asked))
        return None if attempt >= self.attempts or paused_seconds + pause > self.total_seconds else pause
