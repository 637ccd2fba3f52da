"""Ctrl-C and SIGTERM: the first asks for a clean end, the second for an end at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal came. A KeyboardInterrupt, so that nothing in between takes it for an error."""


class Interrupts:
    """Within its block, each signal raises Interrupted where the program is; `held` puts the first one off."""

    def __init__(self) -> None:
        self.count = 0
        self._is_held = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._came)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]

    @contextmanager
    def held(self) -> Iterator[None]:
        """What must not be cut in two; a signal meanwhile raises Interrupted at the end. The second one cuts."""
        before, self._is_held = self.count, True
        try:
            yield
        finally:
            self._is_held = False
        if self.count > before:
            raise Interrupted

    def _came(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.count += 1
        if not self._is_held or self.count > 1:
            raise Interrupted
