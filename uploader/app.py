"""Wires the service; the one module of it that builds when it is imported (`celery -A uploader.app worker`)."""

import shared.worker  # isort: skip  # sets what celery reads when it is imported

from shared.db import blocked
from shared.pipeline import UPLOAD
from uploader import tasks
from uploader.settings import UploaderSettings
from uploader.upload import open_uploader

settings = UploaderSettings.load()
celery = shared.worker.build_worker(
    UPLOAD, settings, lambda resources: open_uploader(settings, blocked.live(resources.engine))
)

__all__ = ["celery", "settings", "tasks"]
