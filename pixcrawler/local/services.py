"""The five services as processes: which there are, their ports, and the schema and key they need."""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pixcrawler.local.environment import Place, of_fork_server, of_service
from pixcrawler.local.errors import LocalStackError
from pixcrawler.local.home import Home
from pixcrawler.local.ports import free_ports
from pixcrawler.local.process import PYTHON, Command

GATEWAY = "gateway"
#: Started together, stopped together; the database is there before and after.
SERVICES = (GATEWAY, "scheduler", "downloader", "validator", "uploader")
#: What a run needs to begin. The others are started right after, while the first images are fetched, so that
#: the loading of five programs (1 s of computing each) does not stand before the first fetch.
FIRST = (GATEWAY, "scheduler", "downloader")
#: How long a service may take until it is ready.
READY_SECONDS = 60.0
MIGRATE_SECONDS = 120.0
KEY_SECONDS = 60.0
#: The user of a machine of their own may do everything with it.
_KEY = (
    "--tenant", "local", "--tier", "enterprise", "--name", "embedded stack",
    "--scopes", "jobs:read", "jobs:write", "admin",
)  # fmt: skip
#: What the services import of others' libraries and take longest for; none looks at the environment for our settings.
_SHARED_LIBRARIES = (
    "asyncpg", "celery.app", "cffi.cparser",  # which each child of a worker's pool would import
    "fastapi", "kombu.transport.redis", "prometheus_client.multiprocess", "psutil", "pyarrow.parquet",
    "pydantic_settings", "redis.asyncio", "rich", "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.ext.asyncio", "structlog", "uvicorn",
)  # fmt: skip
#: Above the services' own soft stop.
_STOP_SECONDS = 12.0


def places(listen_port: int) -> dict[str, Place]:
    """Where each service listens, and its chunks at once: two for those that wait, one a core that computes."""
    ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
    concurrency = {"downloader": 2, "validator": os.cpu_count() or 1, "uploader": 2}
    return {
        name: Place(ports[name], concurrency.get(name), listen_port if name == GATEWAY else None) for name in SERVICES
    }


@dataclass(frozen=True)
class Programs:
    """The programs of a stack; a test runs small ones of its own under the same supervisor."""

    services: Mapping[str, tuple[str, ...]]
    migrate: tuple[str, ...]
    #: Prints a new key of the local tenant.
    make_key: tuple[str, ...]
    #: Forks the others; empty: each is an interpreter of its own.
    fork_server: tuple[str, ...]
    #: Identifies the schema that `migrate` brings, so that an unchanged one is not migrated again.
    schema_digest: Callable[[], str]


def installed_programs() -> Programs:
    """Those of this installation."""
    return Programs(
        services={name: _python(name) for name in SERVICES},
        migrate=_python("shared.db.migrate"),
        make_key=_python("gateway.keys", "create", *_KEY),
        fork_server=_python("pixcrawler.local.forkserver", *_SHARED_LIBRARIES) if sys.platform == "linux" else (),
        schema_digest=schema_digest,
    )


def service_command(
    name: str, program: tuple[str, ...], place: Place, *, home: Home, base: Mapping[str, str]
) -> Command:
    return Command(
        name=name,
        program=program,
        log=home.logs / f"{name}.log",
        cwd=home.empty,
        environment=of_service(base, place),
        stop_seconds=_STOP_SECONDS,
    )


def fork_server_command(program: tuple[str, ...], *, home: Home) -> Command:
    return Command(
        name="forkserver",
        program=program,
        log=home.logs / "forkserver.log",
        cwd=home.empty,
        environment=of_fork_server(os.environ),
    )


def one_off(name: str, program: tuple[str, ...], *, home: Home, base: Mapping[str, str]) -> Command:
    """A command that does one thing, whose output is wanted."""
    return Command(
        name=name,
        program=program,
        log=home.logs / f"{name}.log",
        cwd=home.empty,
        environment=base,
        is_asked=True,
    )


def schema_digest() -> str:
    """Identifies the migrations of this installation, so that an unchanged schema is not migrated again."""
    spec = importlib.util.find_spec("shared")
    if spec is None or not spec.submodule_search_locations:
        raise LocalStackError("The embedded stack needs: pip install 'pixcrawler[local]' (shared is missing).")
    folder = Path(next(iter(spec.submodule_search_locations))) / "db" / "migrations"
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (*PYTHON, module, *arguments)
