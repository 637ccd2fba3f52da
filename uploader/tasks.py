"""The stage's door: a message in, a chunk carried; the rest is `shared/stage.py` and `upload.py`."""

from typing import Any

from celery import shared_task

from shared.pipeline import UPLOAD
from shared.worker import answer


@shared_task(name=UPLOAD.task)  # type: ignore[untyped-decorator]
def upload_chunk(message: dict[str, Any]) -> None:
    """Carries the chunk that the message names."""
    answer(message)
