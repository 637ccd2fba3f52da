"""The stage's door: a message in, a chunk carried; the rest is `shared/stage.py` and `download.py`."""

from typing import Any

from celery import shared_task

from shared.pipeline import DOWNLOAD
from shared.worker import answer


@shared_task(name=DOWNLOAD.task)  # type: ignore[untyped-decorator]
def download_chunk(message: dict[str, Any]) -> None:
    """Carries the chunk that the message names."""
    answer(message)
