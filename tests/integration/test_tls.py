"""TLS to Redis and PostgreSQL: a throw-away authority is trusted for its server's name, and nobody else is."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit, urlunsplit
from uuid import uuid4

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy import text

from shared.broker import BrokerUnavailable, build_app, ring
from shared.cache import open_redis
from shared.db.bells import Bell
from shared.db.session import open_engine, transaction
from shared.errors import DatabaseUnavailable, PermanentError
from shared.messages import Why
from shared.pipeline import DOWNLOAD
from shared.settings import Settings
from shared.startup import wait_for_database
from shared.wakeup import Wakeup
from tests.tls import Authority, make_authority, tls_before


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path / "ours")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    return make_authority(tmp_path / "a stranger's")


def _moved(url: str, *, scheme: str, host: str, port: int, **query: object) -> str:
    parts = urlsplit(url)
    login, _, _ = parts.netloc.rpartition("@")
    netloc = f"{login}@{host}:{port}" if login else f"{host}:{port}"
    return urlunsplit(parts._replace(scheme=scheme, netloc=netloc, query=urlencode(query)))


@pytest.fixture
async def redis_port(redis_url: str, authority: Authority) -> AsyncIterator[int]:
    parts = urlsplit(redis_url)
    async with tls_before(str(parts.hostname), parts.port or 6379, authority) as port:
        yield port


@pytest.fixture
async def postgres_port(database_url: str, authority: Authority) -> AsyncIterator[int]:
    parts = urlsplit(database_url)
    async with tls_before(str(parts.hostname), parts.port or 5432, authority, is_postgres=True) as port:
        yield port


def _bell() -> Bell:
    job = uuid4()
    return Bell(chunk_id=1, job_id=job, stage=DOWNLOAD, cell="main", attempt=0, why=Why.DISPATCHED, traceparent=None)


async def test_redis_and_broker_are_reached_by_tls(redis_url: str, redis_port: int, authority: Authority) -> None:
    address = _moved(redis_url, scheme="rediss", host="localhost", port=redis_port, ssl_ca_certs=authority.certificate)
    settings = Settings.model_validate({"redis_url": address})
    app = build_app(settings)

    await asyncio.to_thread(ring, app, _bell())

    redis = open_redis(settings.redis_url)
    assert await redis.llen("download") == 1
    await redis.aclose()
    app.close()


@pytest.mark.parametrize(("host", "is_ours"), [("127.0.0.1", True), ("localhost", False)])
async def test_a_redis_of_another_name_or_authority_is_not_spoken_to(
    redis_url: str, redis_port: int, authority: Authority, stranger: Authority, host: str, is_ours: bool
) -> None:
    trusted = (authority if is_ours else stranger).certificate
    address = _moved(redis_url, scheme="rediss", host=host, port=redis_port, ssl_ca_certs=trusted)
    settings = Settings.model_validate({"redis_url": address})
    app, redis = build_app(settings), open_redis(settings.redis_url)

    with pytest.raises(RedisConnectionError, match=r"(?i)certificate"):
        await redis.ping()
    with pytest.raises(BrokerUnavailable):
        await asyncio.to_thread(ring, app, _bell())

    await redis.aclose()
    app.close()


async def test_postgresql_is_reached_by_tls(database_url: str, postgres_port: int, authority: Authority) -> None:
    address = _moved(
        database_url,
        scheme="postgresql",
        host="localhost",
        port=postgres_port,
        sslmode="verify-full",
        sslrootcert=authority.certificate,
    )
    url = Settings.model_validate({"database_url": address}).database_url
    engine = open_engine(url, connections=1)
    wakeup = Wakeup(url, "pixcrawler_jobs")

    async with asyncio.timeout(10):
        while not wakeup.event.is_set():
            async with transaction(engine) as connection:
                await connection.execute(text("SELECT pg_notify('pixcrawler_jobs', '')"))

    await wakeup.close()
    await engine.dispose()


@pytest.mark.parametrize(
    ("host", "is_ours", "told"),
    [("127.0.0.1", True, "is for another host"), ("localhost", False, "is signed by nobody who is trusted here")],
)
async def test_a_postgresql_of_another_name_or_authority_is_not_spoken_to(
    database_url: str,
    postgres_port: int,
    authority: Authority,
    stranger: Authority,
    host: str,
    is_ours: bool,
    told: str,
) -> None:
    address = _moved(
        database_url,
        scheme="postgresql",
        host=host,
        port=postgres_port,
        sslmode="verify-full",
        sslrootcert=(authority if is_ours else stranger).certificate,
    )
    settings = Settings.model_validate({"database_url": address, "startup_timeout_seconds": 0.1})
    engine = open_engine(settings.database_url, connections=1)

    with pytest.raises(DatabaseUnavailable, match=told) as refused:
        async with transaction(engine):
            pass
    with pytest.raises(PermanentError, match=f"PostgreSQL's certificate {told}"):
        await wait_for_database(settings)

    assert isinstance(refused.value.__cause__, ssl.SSLCertVerificationError)
    await engine.dispose()
