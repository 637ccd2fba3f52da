"""Wires the service; the one module of it that builds when it is imported (`celery -A downloader.app worker`)."""

import shared.worker  # isort: skip  # sets what celery reads when it is imported

import structlog

from downloader import tasks
from downloader.download import open_downloader
from downloader.settings import DownloaderSettings
from shared.db import blocked
from shared.pipeline import DOWNLOAD

settings = DownloaderSettings.load()
celery = shared.worker.build_worker(
    DOWNLOAD,
    settings,
    lambda resources: open_downloader(settings, resources.redis, blocked.live(resources.engine)),
    keeps_house=True,
)
if allowances := settings.allowances():
    # Whoever sees this in production has a hole in the guard.
    structlog.get_logger(__name__).warning("test_allowances_in_force", **allowances)

__all__ = ["celery", "settings", "tasks"]
