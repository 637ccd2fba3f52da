"""Starts the gateway: `python -m gateway`."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from fastapi import FastAPI

from gateway.app import create_app
from gateway.ready import PATIENCE_SECONDS, trouble
from gateway.server import GatewayServer, listen
from gateway.settings import GatewaySettings
from shared.errors import PixCrawlerError
from shared.health import HealthServer
from shared.logs import set_up_logs
from shared.scratch import keep_temporary_files_in, own_folder
from shared.sentry import sentry
from shared.startup import exit_with, leave_pandas_out, wait_for_database
from shared.tracing import tracing

log = structlog.get_logger("gateway")


def main() -> int:
    leave_pandas_out()
    settings = GatewaySettings.load()
    set_up_logs(settings, service="gateway")
    keep_temporary_files_in(own_folder(settings.scratch_dir))
    try:
        with tracing(settings, service="gateway"), sentry(settings, service="gateway"):
            asyncio.run(_serve(settings))
    except KeyboardInterrupt:
        return 0
    except PixCrawlerError as error:
        return exit_with(error)
    return 0


async def _serve(settings: GatewaySettings) -> None:
    """The port is taken before anything is waited for: a port in use is known at once."""
    with listen(settings) as listener:
        await wait_for_database(settings)
        app = create_app(settings)
        server = GatewayServer(app, settings)
        with _health(settings, app):
            await server.serve(sockets=[listener])
    log.info("gateway_stopped")


@contextmanager
def _health(settings: GatewaySettings, app: FastAPI) -> Iterator[None]:
    """The checks and metrics that all services have, on a port of their own."""
    if not settings.http_port:
        yield
        return
    loop = asyncio.get_running_loop()

    def database() -> str | None:
        services = getattr(app.state, "services", None)
        if services is None:
            return "the gateway is starting"
        asked = asyncio.run_coroutine_threadsafe(trouble(services.resources), loop)
        try:
            return asked.result(PATIENCE_SECONDS + 1)["database"]
        except TimeoutError:
            asked.cancel()
            return "the gateway does not turn"

    server = HealthServer(settings.http_host, settings.http_port, {"database": database})
    try:
        yield
    finally:
        server.close()


if __name__ == "__main__":
    raise SystemExit(main())
