"""Wires the scheduler."""

import asyncio
import signal
from datetime import timedelta

from scheduler.admitter import Admitter
from scheduler.calendar import Calendar
from scheduler.caretaker import Caretaker
from scheduler.checker import Checker
from scheduler.housekeeper import Housekeeper
from scheduler.leadership import Leadership
from scheduler.loop import Loop
from scheduler.notifier import Notifier
from scheduler.planner import Planner
from scheduler.settings import SchedulerSettings
from scheduler.truth import begin_series
from shared.broker import build_app
from shared.egress import NOTICE_PORTS, Egress
from shared.errors import PixCrawlerError
from shared.health import HealthServer
from shared.logs import set_up_logs
from shared.resources import open_resources
from shared.scratch import keep_temporary_files_in, own_folder
from shared.sentry import sentry
from shared.startup import exit_with, leave_pandas_out, wait_for_database
from shared.tracing import tracing
from shared.waiting import WaitingSet
from shared.wakeup import Wakeup

#: Notified when a job was submitted or changed by its client, and when a chunk ended.
CHANNELS = ("pixcrawler_jobs", "pixcrawler_scheduler")


async def serve(settings: SchedulerSettings) -> None:
    """Runs the scheduler until SIGTERM or SIGINT. Raises PixCrawlerError when it cannot start."""
    await wait_for_database(settings)
    async with open_resources(settings, connections=4) as resources:
        waiting = WaitingSet(resources.redis)
        planner = Planner(resources, waiting, settings.quotas)
        wakeup = Wakeup(settings.database_direct_url or settings.database_url, *CHANNELS)
        leadership = Leadership(resources.engine, lease=timedelta(seconds=settings.leader_lease_seconds))
        app = build_app(settings)
        egress = Egress.of(settings, NOTICE_PORTS)
        loop = Loop(
            resources,
            leadership,
            planner,
            Admitter(settings, resources, waiting),
            Caretaker(settings, resources, app, leadership),
            Calendar(resources, app, Housekeeper(settings, resources).errands()),
            Notifier(resources, egress),
            Checker(resources, settings, egress),
            wakeup,
            app,
            tick=timedelta(seconds=settings.tick_seconds),
        )
        begin_series(loop.works)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, loop.stop)
        health = _serve_health(settings, loop)
        try:
            await loop.run()
        finally:
            if health:
                health.close()
            await wakeup.close()
            planner.close()


def _serve_health(settings: SchedulerSettings, loop: Loop) -> HealthServer | None:
    if not settings.http_port:
        return None
    return HealthServer(settings.http_host, settings.http_port, {"loop": loop.stall_check}, is_live=loop.stall_check)


def main() -> int:
    """The exit code of `python -m scheduler`."""
    leave_pandas_out()
    settings = SchedulerSettings.load()
    set_up_logs(settings, service="scheduler")
    keep_temporary_files_in(own_folder())
    try:
        with tracing(settings, service="scheduler"), sentry(settings, service="scheduler"):
            asyncio.run(serve(settings))
    except PixCrawlerError as error:
        return exit_with(error)
    return 0
