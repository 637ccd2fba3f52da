"""The steward of a worker: a thread of its parent process that reports the cell and, in one service, keeps house."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import structlog

from shared import metrics
from shared.capacity import measure, process_sums
from shared.db import cells
from shared.db.session import transaction
from shared.errors import PixCrawlerError
from shared.janitor import close_what_was_left, lone_janitor, remove_ownerless_drafts
from shared.resources import Resources, open_resources
from shared.runtime import LoopThread
from shared.settings import WorkerSettings

_REPORT_EVERY = 5.0
#: A worker that could not report for this long is not ready.
_READY_WITHIN = 20.0
#: A worker's processes by generation: Celery's parent, its pool, and what a pool process starts (decoders).
_PROCESSES = ("parent", "pool", "decoder")

log = structlog.get_logger(__name__)


class Steward:
    """Reports until closed."""

    def __init__(self, settings: WorkerSettings, *, service: str, keeps_house: bool) -> None:
        self._service = service
        self._host = socket.gethostname()
        self._worker = f"{service}-{self._host}-{os.getpid()}"
        self._settings = settings
        self._keeps_house = keeps_house
        self._lease = timedelta(seconds=settings.lease_seconds)
        self._reported_at = float("-inf")
        self._sweep_at = time.monotonic()
        self._thread = LoopThread("steward")
        self._thread.submit(self._live())

    def database_check(self) -> str | None:
        """None while the database takes this worker's reports."""
        silent = time.monotonic() - self._reported_at
        return None if silent < _READY_WITHIN else "no report reached PostgreSQL lately"

    def close(self) -> None:
        self._thread.close()  # cancels it; to cancel it twice would interrupt its good-bye

    async def _live(self) -> None:
        while True:
            try:
                await self._serve()
            except (PixCrawlerError, OSError) as error:
                log.warning("steward_hindered", error=str(error))
            except Exception:  # it is missed by nobody until admission stands still, so it says so and goes on
                log.exception("steward_failed")
            await asyncio.sleep(_REPORT_EVERY)

    async def _serve(self) -> None:
        async with open_resources(self._settings, connections=2) as resources:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._report_for_ever(resources))
                    if self._keeps_house:  # beside the reports: a destination that hangs must not silence the cell
                        tasks.create_task(self._keep_house_for_ever(resources))
            finally:
                await self._withdraw(resources)

    async def _report_for_ever(self, resources: Resources) -> None:
        while True:
            with _hindrances_logged():
                await self._report(resources)
            await asyncio.sleep(_REPORT_EVERY)

    async def _withdraw(self, resources: Resources) -> None:
        with suppress(PixCrawlerError):
            async with transaction(resources.engine) as connection:
                await cells.withdraw(connection, self._settings.cell, self._worker)

    async def _keep_house_for_ever(self, resources: Resources) -> None:
        while True:
            with _hindrances_logged():
                await self._keep_house(resources)
            await asyncio.sleep(_REPORT_EVERY)

    async def _report(self, resources: Resources) -> None:
        measured = await asyncio.to_thread(measure, self._settings.work_dir)
        for kind, sums in (await asyncio.to_thread(process_sums, _PROCESSES)).items():
            metrics.worker_processes.labels(service=self._service, kind=kind).set(sums.processes)
            metrics.worker_memory.labels(service=self._service, kind=kind).set(sums.resident_bytes)
        async with transaction(resources.engine) as connection:
            await cells.report(connection, self._settings.cell, self._worker, self._host, measured)
        self._reported_at = time.monotonic()

    async def _keep_house(self, resources: Resources) -> None:
        with lone_janitor(self._settings.work_dir) as is_lone:
            if not is_lone:
                return
            await close_what_was_left(resources)
            if time.monotonic() >= self._sweep_at:
                self._sweep_at = time.monotonic() + self._lease.total_seconds()
                await remove_ownerless_drafts(resources, age=2 * self._lease)


@contextmanager
def _hindrances_logged() -> Iterator[None]:
    try:
        yield
    except (PixCrawlerError, OSError) as error:
        log.warning("steward_hindered", error=str(error))
