"""The stage's door: a message in, a chunk carried; the rest is `shared/stage.py` and `validate.py`."""

from typing import Any

from celery import shared_task

from shared.pipeline import VALIDATE
from shared.worker import answer


@shared_task(name=VALIDATE.task)  # type: ignore[untyped-decorator]
def validate_chunk(message: dict[str, Any]) -> None:
    """Carries the chunk that the message names."""
    answer(message)
