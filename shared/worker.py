"""A stage service: Celery's prefork pool, one event loop in each child, a steward in the parent.

A service's `app.py` calls `build_worker`, its `__main__.py` calls `run_worker`, its `tasks.py` calls
`answer`. `celery -A <service>.app worker` works too and takes only the stage's own queue; set
REMAP_SIGTERM=SIGQUIT for it, which `run_worker` finds set.
"""

import asyncio
import gc
import os
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack
from datetime import timedelta
from typing import Any

from shared.scratch import keep_temporary_files_in, own_folder

# Read when celery and prometheus_client are imported, so they stand before: SIGTERM lets a worker finish or
# hand back its chunk, and children count metrics in files.
os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", str(own_folder()))

import structlog
from billiard.process import current_process
from celery import Celery, signals
from celery.utils.nodenames import nodename
from prometheus_client.multiprocess import mark_process_dead

from shared.broker import build_app
from shared.chunk import Verb
from shared.errors import PixCrawlerError
from shared.health import HealthServer
from shared.liveness import Pulse, watch
from shared.logs import set_up_logs
from shared.notes import begin_series
from shared.pipeline import Stage
from shared.resources import Resources, open_resources
from shared.runtime import LoopThread
from shared.sentry import sentry
from shared.settings import WorkerSettings
from shared.stage import StageWorker
from shared.startup import exit_with, leave_pandas_out, wait_for_database
from shared.steward import Steward
from shared.tracing import tracing

#: What a stage needs beside the resources all stages share; opened once in each child.
OpenVerb = Callable[[Resources], AbstractAsyncContextManager[Verb]]

#: A child that must stop has this long to hand its chunk back, seconds.
_HAND_BACK_SECONDS = 4.0

log = structlog.get_logger(__name__)


class Child:
    """What lives in one pool process: a loop, and on it the stage's hands, opened with the first chunk."""

    def __init__(self, app: Celery, stage: Stage, settings: WorkerSettings, open_verb: OpenVerb) -> None:
        self._app = app
        self._stage = stage
        self._settings = settings
        self._open_verb = open_verb
        self._telling = ExitStack()
        self._telling.enter_context(tracing(settings, service=stage.service))
        self._telling.enter_context(sentry(settings, service=stage.service))
        self._loop = LoopThread("chunk")
        self._opened = AsyncExitStack()
        self._worker: StageWorker | None = None

    def answer(self, message: object) -> None:
        """Carries one chunk; an exception in this thread (a time limit, a shutdown) hands it back."""
        self._loop.run(self._answer(message), grace_seconds=_HAND_BACK_SECONDS)

    def close(self) -> None:
        try:
            self._loop.run(self._opened.aclose(), grace_seconds=1)
        finally:
            self._loop.close()
            self._telling.close()

    async def _answer(self, message: object) -> None:
        if self._worker is None:
            self._worker = await self._open()
        await self._worker.answer(message)

    async def _open(self) -> StageWorker:
        resources = await self._opened.enter_async_context(open_resources(self._settings))
        verb = await self._opened.enter_async_context(self._open_verb(resources))
        return StageWorker(
            self._stage,
            resources,
            self._app,
            verb,
            owner=f"{self._stage.service}-{socket.gethostname()}-{os.getpid()}",
            hold=timedelta(seconds=self._settings.hold_seconds),
            lease=timedelta(seconds=self._settings.lease_seconds),
        )


#: Of the worker's own process; made before the fork.
_parent: "_Parent | None" = None
#: This process's child; made after the fork, used by the service's one task.
_child: Child | None = None


def answer(message: dict[str, Any]) -> None:
    """Carries the chunk of a message through this worker's stage."""
    assert _child is not None, "only a pool process answers messages"
    _child.answer(message)


def build_worker(stage: Stage, settings: WorkerSettings, open_verb: OpenVerb, *, keeps_house: bool = False) -> Celery:
    """The stage's Celery app, with its signals connected. `keeps_house`: this service's parent is a cell's janitor."""
    set_up_logs(settings, service=stage.service)
    begin_series(stage)
    app = build_app(settings, stage)
    soft_stop = settings.soft_stop_seconds
    app.conf.worker_soft_shutdown_timeout = stage.soft_stop.total_seconds() if soft_stop is None else soft_stop
    app.conf.worker_max_tasks_per_child = settings.chunks_per_child
    app.conf.worker_send_task_events = settings.task_events
    global _parent
    pulse = watch(app, longest_silence_seconds=settings.longest_silence_seconds)
    _parent = parent = _Parent(stage, settings, pulse, keeps_house=keeps_house)

    def start_child(**_: Any) -> None:
        global _child
        _child = Child(app, stage, settings, open_verb)

    def stop_child(**_: Any) -> None:
        if _child is not None:
            _child.close()
        mark_process_dead(current_process().index)  # type: ignore[no-untyped-call]

    signals.celeryd_init.connect(_keep_our_scratch, weak=False)
    signals.setup_logging.connect(_keep_our_logs, weak=False)
    signals.worker_process_init.connect(start_child, weak=False)
    signals.worker_process_shutdown.connect(stop_child, weak=False)
    signals.worker_ready.connect(parent.start, weak=False)
    signals.worker_shutdown.connect(parent.stop, weak=False)
    return app


def _keep_our_scratch(**_: Any) -> None:
    """Before the pool is made: its shared counters lie among the temporary files."""
    keep_temporary_files_in(own_folder())


def _keep_our_logs(**_: Any) -> None:
    """Celery leaves logging alone when somebody listens to this signal."""


class _Parent:
    """What runs in the worker's parent process beside Celery, from the moment its pool stands."""

    def __init__(self, stage: Stage, settings: WorkerSettings, pulse: Pulse, *, keeps_house: bool) -> None:
        self._stage = stage
        self._settings = settings
        self._pulse = pulse
        self._keeps_house = keeps_house
        self._steward: Steward | None = None
        self._health: HealthServer | None = None

    def start(self, **_: Any) -> None:
        self._settings.work_dir.mkdir(parents=True, exist_ok=True)
        self._steward = Steward(self._settings, service=self._stage.service, keeps_house=self._keeps_house)
        if self._settings.http_port:
            checks = {"database": self._steward.database_check}
            self._health = HealthServer(
                self._settings.http_host, self._settings.http_port, checks, is_live=self._pulse.trouble
            )
        log.info("worker_ready", stage=self._stage.name, concurrency=self._settings.concurrency)

    def stop(self, **_: Any) -> None:
        """Can be repeated."""
        for part in (self._health, self._steward):
            if part is not None:
                part.close()
        self._health = self._steward = None


async def _check_surroundings(settings: WorkerSettings) -> None:
    await wait_for_database(settings)
    async with open_resources(settings, connections=1):
        pass  # a spool that cannot be opened is told now, not by every chunk


def _autoscale(settings: WorkerSettings) -> tuple[int, int] | None:
    """As Celery's `--autoscale`: most and fewest children; None: always as many."""
    fewest = settings.least_concurrency
    return None if fewest is None else (settings.concurrency, fewest)


def run_worker(app: Celery, stage: Stage, settings: WorkerSettings) -> int:
    """Runs the worker until it is told to stop; the exit code."""
    leave_pandas_out()
    try:
        asyncio.run(_check_surroundings(settings))
    except PixCrawlerError as error:
        return exit_with(error)
    gc.freeze()  # what was imported is shared with the children, and their collector's marks would copy it
    try:
        # What `celery worker` would do; but the command line imports a terminal's tools, 0.2 s of them.
        app.Worker(
            hostname=nodename(f"{stage.service}-{os.getpid()}", socket.gethostname()),
            pool_cls="prefork",
            concurrency=settings.concurrency,
            autoscale=_autoscale(settings),
            loglevel=settings.log_level.upper(),
            quiet=True,  # a banner is no line of a log
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=not settings.task_events,
        ).start()
    finally:
        if _parent is not None:
            _parent.stop()  # Celery tells of no shutdown when it is a cold one, as ours are
    return 0
