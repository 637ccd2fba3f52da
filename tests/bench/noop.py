"""A stack whose stages do nothing, to see what the rows, leases and bells around them cost.

`python -m tests.bench.noop` supervises it in place of `pixcrawler.local.supervisor`; `python -m tests.bench.noop STAGE`
is one of its workers.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from celery import shared_task

import shared.worker
from pixcrawler.local import services, supervisor
from pixcrawler.local.process import PYTHON
from shared.chunk import Chunk, StageResult, Verb
from shared.pipeline import PIPELINE, Stage
from shared.resources import Resources
from shared.settings import WorkerSettings


@asynccontextmanager
async def _open_nothing(_: Resources) -> AsyncIterator[Verb]:
    async def pass_on(chunk: Chunk) -> StageResult:
        await (await chunk.draft()).publish()
        return StageResult(passed=chunk.claim.rows, rejected={}, size_bytes=0)

    yield pass_on


def work(stage: Stage) -> int:
    """A worker as the service's, with its own hands tied."""
    settings = WorkerSettings.load()

    @shared_task(name=stage.task)  # type: ignore[untyped-decorator]
    def carry(message: dict[str, Any]) -> None:
        shared.worker.answer(message)

    app = shared.worker.build_worker(stage, settings, _open_nothing, keeps_house=stage is PIPELINE[0])
    return shared.worker.run_worker(app, stage, settings)


def supervise() -> int:
    """The stack with our stages in place of the real ones."""
    real = services.installed_programs()
    ours = {stage.service: (*PYTHON, "tests.bench.noop", stage.name) for stage in PIPELINE}
    return supervisor.main(replace(real, services={**real.services, **ours}))


if __name__ == "__main__":
    chosen = {stage.name: stage for stage in PIPELINE}
    raise SystemExit(work(chosen[sys.argv[1]]) if sys.argv[1:] else supervise())
