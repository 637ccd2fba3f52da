"""Live and ready checks and the metrics, the same for every service, on a port of their own.

`/livez` says that the process turns; `/readyz` asks each check and names those that fail; `/metrics` is for
Prometheus. A server in a thread of its own: it answers while the service is busy, and needs no framework.
"""

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from shared import metrics
from shared.errors import PermanentError

#: Returns None when all is well, otherwise what is wrong, in one sentence. Must end within a few seconds.
Check = Callable[[], str | None]


class HealthServer:
    """Serves the three pages until closed. Port 0 in `listen` asks the system for a free one."""

    def __init__(self, host: str, port: int, checks: Mapping[str, Check], *, is_live: Check = lambda: None) -> None:
        try:
            self._server = _Server((host, port), _Handler)
        except OSError as error:
            raise PermanentError(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another HTTP_PORT"
            ) from error
        self._server.checks = checks
        self._server.is_live = is_live
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 16
    checks: Mapping[str, Check]
    is_live: Check


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10  # seconds for a slow client
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/livez":
            wrong = self.server.is_live()
            self._answer(503 if wrong else 200, {"live": wrong or "ok"})
        elif self.path == "/readyz":
            found = {name: check() for name, check in self.server.checks.items()}
            self._answer(503 if any(found.values()) else 200, {name: wrong or "ok" for name, wrong in found.items()})
        elif self.path == "/metrics":
            self._send(200, metrics.exposition(), metrics.CONTENT_TYPE)
        else:
            self._answer(404, {"error": "there are /livez, /readyz and /metrics"})

    def _answer(self, status: int, body: Mapping[str, str]) -> None:
        self._send(status, json.dumps(body).encode(), "application/json")

    def _send(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Checks are too frequent to be logged."""
