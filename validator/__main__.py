"""Starts the service: `python -m validator`."""

from shared.pipeline import VALIDATE
from shared.worker import run_worker
from validator.app import celery, settings

if __name__ == "__main__":
    raise SystemExit(run_worker(celery, VALIDATE, settings))
