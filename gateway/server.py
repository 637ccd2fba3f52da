"""uvicorn, told to end its streams first: it waits for open responses, and a stream would never end by itself."""

import signal
import socket
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI

from gateway.settings import GatewaySettings
from shared.errors import PermanentError

log = structlog.get_logger("gateway")


class GatewayServer(uvicorn.Server):
    """Serves one gateway."""

    def __init__(self, app: FastAPI, settings: GatewaySettings) -> None:
        self._app = app
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.listen_host,
                port=settings.listen_port,
                log_config=None,
                access_log=False,  # the middleware writes its own line, without the query
                server_header=False,
                timeout_graceful_shutdown=max(1, round(settings.shutdown_seconds)),
                h11_max_incomplete_event_size=32 * 1024,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            log.info("gateway_started", host=host, port=port)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal asks to stop: streams tell their clients to come back, then everything ends, with exit code 0.

        uvicorn's own way would raise the signal again in the end, which looks like a crash to a supervisor.
        """
        services = getattr(self._app.state, "services", None)
        if services is not None:
            services.closing.set()
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def listen(settings: GatewaySettings) -> socket.socket:
    """The bound socket. Raises PermanentError with a sentence when the port is taken."""
    family = socket.AF_INET6 if ":" in settings.listen_host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.listen_host, settings.listen_port))
    except OSError as error:
        listener.close()
        where = f"{settings.listen_host}:{settings.listen_port}"
        raise PermanentError(
            f"cannot listen on {where} ({error.strerror}); choose another PIXCRAWLER_LISTEN_PORT"
        ) from error
    return listener
