"""Stands in for a service under the real supervisor: answers /livez and /readyz, and dies when told so."""

import http.server
import os
import sys
import time
from pathlib import Path


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/die":
            os._exit(3)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{os.getpid()} {os.getcwd()}".encode())

    def log_message(self, format: str, *arguments: object) -> None:
        del format, arguments


def main() -> None:
    name = sys.argv[1]
    if name == os.environ.get("PIXCRAWLER_TEST_DEAD"):
        sys.exit(f"{name} has no wish to live")
    if mark := os.environ.get("PIXCRAWLER_TEST_PIDS"):
        with (Path(mark) / name).open("a") as file:
            file.write(f"{os.getpid()} {time.time()}\n")
    port = int(os.environ["PIXCRAWLER_HTTP_PORT"])
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
