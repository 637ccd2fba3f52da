"""Wires the service; the one module of it that builds when it is imported (`celery -A validator.app worker`)."""

import shared.worker  # isort: skip  # sets what celery reads when it is imported

from shared.pipeline import VALIDATE
from validator import tasks
from validator.settings import ValidatorSettings
from validator.validate import open_validator

settings = ValidatorSettings.load()
celery = shared.worker.build_worker(VALIDATE, settings, lambda resources: open_validator(settings))

__all__ = ["celery", "settings", "tasks"]
