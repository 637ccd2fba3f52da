"""Celery's console, by the app that the workers run: it knows their queues, and how their broker is reached.

It looks and gives no orders: the workers take none, its pages offer none, and its user in Redis may publish no bell.
Flower's other options come from `FLOWER_<NAME>`.
"""

import os
import sys

from shared.broker import build_app
from shared.settings import Settings

_OPTIONS = {
    "FLOWER_ADDRESS": "0.0.0.0",
    "FLOWER_PORT": "5555",
    "FLOWER_READ_ONLY": "true",
    # Asks workers to tell what they do, every five seconds. Whether they do is a setting of theirs.
    "FLOWER_ENABLE_EVENTS": "false",
    # A worker's name holds its host and process, so that each restart makes a new one. Seconds.
    "FLOWER_PURGE_OFFLINE_WORKERS": "3600",
    # By default 100,000, of some kilobytes each.
    "FLOWER_MAX_TASKS": "10000",
}


def main() -> int:
    """Serves until it is told to stop; 78 when it would serve strangers."""
    if not (os.environ.get("FLOWER_BASIC_AUTH") or os.environ.get("FLOWER_AUTH")):
        sys.stderr.write("Flower would be open to strangers: set FLOWER_BASIC_AUTH=user:password\n")
        return 78
    for name, value in _OPTIONS.items():
        os.environ.setdefault(name, value)
    app = build_app(Settings.load())
    sys.argv = ["flower"]
    app.start(["flower"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
