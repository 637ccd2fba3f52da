"""Starts the service: `python -m downloader`."""

from downloader.app import celery, settings
from shared.pipeline import DOWNLOAD
from shared.worker import run_worker

if __name__ == "__main__":
    raise SystemExit(run_worker(celery, DOWNLOAD, settings))
