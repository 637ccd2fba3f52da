"""Starts the service: `python -m uploader`."""

from shared.pipeline import UPLOAD
from shared.worker import run_worker
from uploader.app import celery, settings

if __name__ == "__main__":
    raise SystemExit(run_worker(celery, UPLOAD, settings))
