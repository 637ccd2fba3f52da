"""What every suite may ask for: real servers, empty databases, a limit for each test."""

import asyncio
import contextlib
import itertools
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from redis import Redis

from tests import servers

pytest_plugins = ["tests.contract.stores"]

_TESTS = Path(__file__).parent
_TEMPLATE = "pixcrawler_template"
_ROLE = "pixcrawler"
_names = itertools.count(1)
_skipped: list[str] = []


@pytest.fixture(scope="session")
def postgres_admin_url() -> Iterator[str]:
    """A PostgreSQL of this session, as its superuser; tests want `database_url`."""
    with servers.postgres() as url:
        yield url


@pytest.fixture(scope="session")
async def postgres_role_url(postgres_admin_url: str) -> str:
    """The same server as the role that PixCrawler runs as: it owns its databases and nothing else."""
    password = secrets.token_hex(8)
    async with _admin(postgres_admin_url) as admin:
        await admin.execute(f"CREATE ROLE {_ROLE} LOGIN PASSWORD '{password}'")
    return _with(postgres_admin_url, user=_ROLE, password=password)


@pytest.fixture(scope="session")
async def migrated_template(postgres_admin_url: str, postgres_role_url: str) -> str:
    """The name of a database at the newest schema, to copy from; nobody may stay connected to it."""
    async with _admin(postgres_admin_url) as admin:
        await admin.execute(f"CREATE DATABASE {_TEMPLATE} OWNER {_ROLE}")
    await asyncio.to_thread(servers.migrate, _with(postgres_role_url, database=_TEMPLATE))
    return _TEMPLATE


@pytest.fixture
async def postgres_url(postgres_admin_url: str, postgres_role_url: str) -> AsyncIterator[str]:
    """An empty database without a schema, this test's own."""
    async with _database(postgres_admin_url, template="template1") as name:
        yield _with(postgres_role_url, database=name)


@pytest.fixture
async def database_url(postgres_admin_url: str, postgres_role_url: str, migrated_template: str) -> AsyncIterator[str]:
    """An empty database at the newest schema, this test's own."""
    async with _database(postgres_admin_url, template=migrated_template) as name:
        yield _with(postgres_role_url, database=name)


@pytest.fixture(scope="session")
def redis_server_url() -> Iterator[str]:
    """A Redis of this session; tests want `redis_url`."""
    with servers.redis() as url:
        yield url


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    """A Redis that holds nothing when the test begins."""
    with contextlib.closing(Redis.from_url(redis_server_url)) as client:
        client.flushall()
    return redis_server_url


@pytest.fixture
def own_redis() -> Iterator[servers.Valkey]:
    """A Redis server that this test may kill and start again."""
    with servers.Valkey() as server:
        yield server


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Cheap suites first, so that a plain mistake is seen soon; long ones first where several processes share them."""
    order = ["unit", "architecture", "contract", "integration", "e2e", "faults", "brokers", "containers"]
    if hasattr(config, "workerinput"):
        order.reverse()
    places = {folder: place for place, folder in enumerate(order)}
    items.sort(key=lambda item: places.get(item.path.relative_to(_TESTS).parts[0], 0))


def pytest_report_header() -> str:
    return f"test servers: {os.environ.get('PIXCRAWLER_TEST_SERVERS', 'auto')}"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A check that did not run has not passed: where all must run, a skip is a failure."""
    if _skipped and os.environ.get("CI") == "true" and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _skipped and os.environ.get("CI") == "true":
        terminalreporter.write_line(f"{len(_skipped)} skipped, which fails the suite when CI=true", red=True)


@contextlib.asynccontextmanager
async def _admin(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, timeout=30)
    try:
        yield connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def _database(admin_url: str, *, template: str) -> AsyncIterator[str]:
    name = f"test_{next(_names)}"
    async with _admin(admin_url) as admin:
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {_ROLE}")
    try:
        yield name
    finally:
        async with _admin(admin_url) as admin:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _with(url: str, *, user: str | None = None, password: str | None = None, database: str | None = None) -> str:
    parts = urlsplit(url)
    login = f"{user or parts.username}:{password or parts.password}"
    return urlunsplit(
        parts._replace(netloc=f"{login}@{parts.hostname}:{parts.port}", path=f"/{database}" if database else parts.path)
    )
