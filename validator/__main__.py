"""Starts the service: `python -m validator`."""

from validator.app import celery, settings
from shared.pipeline import VALIDATE
from shared.worker import run_worker

if __name__ == "__main__":
    raise SystemExit(run_worker(celery, VALIDATE, settings))
