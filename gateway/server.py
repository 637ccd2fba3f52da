"""uvicorn, told to end its streams first: it waits for open responses, and a stream would never end by itself."""

import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from gateway.settings import GatewaySettings
from shared.errors import PermanentError


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

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal asks to stop: streams tell their clients to come back, then everything ends."""
        services = getattr(self._app.state, "services", None)
        if services is not None:
            services.closing.set()
        super().handle_exit(sig, frame)


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
