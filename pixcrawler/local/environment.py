"""The environment of the five services: a short list from the user's, and what the stack decides."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pixcrawler.local.home import HOME_VARIABLE, Home
from pixcrawler.local.ports import LOOPBACK

_PREFIX = "PIXCRAWLER_"
#: Settings and credentials that count: a run that attaches with others is told so.
_COUNTING = (_PREFIX, "AZURE_", "AWS_")
#: Nothing else comes along: Celery, for one, reads variables of its own.
_PASSED = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "HTTP_PROXY", "HTTPS_PROXY",
    "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip
#: The client's own variables; the services do not know them.
_CLIENTS = (HOME_VARIABLE, f"{_PREFIX}GATEWAY", f"{_PREFIX}API_KEY", f"{_PREFIX}BROKER_URL")
#: A chunk waits for the lower ones of its job as long as it takes (a day), so reruns are byte-identical.
_HOLD_SECONDS = 86_400
#: A worker gives its chunks back after this; they go on when the stack is up again.
_SOFT_STOP_SECONDS = 5


@dataclass(frozen=True)
class Place:
    """Where a service listens and what it may do at once."""

    health_port: int
    concurrency: int | None = None
    listen_port: int | None = None


def counting(environment: Mapping[str, str]) -> dict[str, str]:
    """The user's settings and credentials that reach the services."""
    return {name: value for name, value in environment.items() if name.startswith(_COUNTING) and name not in _CLIENTS}


def common(environment: Mapping[str, str], home: Home, *, database_url: str, redis_url: str) -> dict[str, str]:
    """What all services get. The user's settings hold where the stack has only a preference."""
    preferred = {
        f"{_PREFIX}LOG_LEVEL": "info",
        f"{_PREFIX}LOG_FORMAT": "json",
        f"{_PREFIX}HOLD_SECONDS": str(_HOLD_SECONDS),
        f"{_PREFIX}SOFT_STOP_SECONDS": str(_SOFT_STOP_SECONDS),
        f"{_PREFIX}FOLDER_ROOTS": json.dumps(["/"]),
        f"{_PREFIX}S3_ENDPOINTS": json.dumps(["*"]),
    }
    decided = {
        f"{_PREFIX}DATABASE_URL": database_url,
        f"{_PREFIX}REDIS_URL": redis_url,
        f"{_PREFIX}SPOOL_URL": str(home.spool),
        f"{_PREFIX}WORK_DIR": str(home.work),
        f"{_PREFIX}RESERVED_FOLDERS": json.dumps([str(home.folder), str(home.postgres)]),
        f"{_PREFIX}HTTP_HOST": LOOPBACK,
    }
    return preferred | counting(environment) | decided | _of_any_program(environment)


def of_fork_server(environment: Mapping[str, str]) -> dict[str, str]:
    """What the services' libraries are imported in: no setting of ours is read there."""
    # Its threads would not be in the forks, and the services multiply no matrices.
    return _of_any_program(environment) | {"OPENBLAS_NUM_THREADS": "1"}


def of_service(base: Mapping[str, str], place: Place) -> dict[str, str]:
    """One service's environment."""
    own = {f"{_PREFIX}HTTP_PORT": str(place.health_port)}
    if place.concurrency is not None:
        own[f"{_PREFIX}CONCURRENCY"] = str(place.concurrency)
    if place.listen_port is not None:
        own |= {f"{_PREFIX}LISTEN_HOST": LOOPBACK, f"{_PREFIX}LISTEN_PORT": str(place.listen_port)}
    return {**base, **own}


def _of_any_program(environment: Mapping[str, str]) -> dict[str, str]:
    passed = {name: environment[name] for name in _PASSED if name in environment}
    return passed | {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"} | _import_path(environment)


def _import_path(environment: Mapping[str, str]) -> dict[str, str]:
    """Keeps of PYTHONPATH only the entry we were imported from: others may hold a `shared` of their own."""
    root = Path(__file__).resolve().parents[2]
    entries = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
    return {"PYTHONPATH": str(root)} if any(Path(part).resolve() == root for part in entries) else {}
