"""`python -m pixcrawler.sample serve`: writes the list (and the truth) and serves its images until Ctrl-C."""

import argparse
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixcrawler.sample.corpus import DEFAULT_ROWS, DEFAULT_SEED
from pixcrawler.sample.origin import sample_origin

_EXIT_PORT_IN_USE = 69


def main(arguments: list[str] | None = None) -> int:
    """0 after Ctrl-C or SIGTERM; 69 when the port is taken."""
    asked = _parser().parse_args(arguments)
    try:
        with _endings() as endings, sample_origin(rows=asked.rows, seed=asked.seed, port=asked.port) as origin:
            origin.write_list(asked.write_list)
            if asked.truth:
                origin.write_truth(asked.truth)
            sys.stdout.write(f"serving {asked.rows} rows at {origin.base_url}; the list is {asked.write_list}\n")
            sys.stdout.flush()
            endings.recv(1)
    except OSError as error:
        sys.stderr.write(f"cannot serve on port {asked.port}: {error.strerror}\n")
        return _EXIT_PORT_IN_USE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pixcrawler.sample", description=__doc__)
    serve = parser.add_subparsers(dest="command", required=True).add_parser("serve", help="serve the sample")
    serve.add_argument("--rows", type=int, default=DEFAULT_ROWS)
    serve.add_argument("--seed", type=int, default=DEFAULT_SEED)
    serve.add_argument("--port", type=int, default=0, help="0: a free one")
    serve.add_argument("--write-list", type=Path, required=True, metavar="CSV", help="where to write the list")
    serve.add_argument("--truth", type=Path, metavar="JSON", help="where to write what should come out")
    return parser


@contextmanager
def _endings() -> Iterator[socket.socket]:
    """Ctrl-C and SIGTERM as something to wait for: a byte that can be read."""
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        yield reader
        signal.set_wakeup_fd(-1)


if __name__ == "__main__":
    raise SystemExit(main())
