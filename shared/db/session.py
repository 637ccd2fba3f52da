"""Connections and transactions: where the database's errors become ours.

There is no session state but the statements that a connection keeps prepared: to understand one anew costs the
server more than to run it. Behind a transaction pooler nothing is kept; the address says so (`?pgbouncer=true`).

Messages there and back are what a transaction costs: one to begin it with its limits, one for each statement
(two where it is not kept), one to commit it. A connection that was used lately is not asked whether it still stands:
the driver knows of one that the server has closed.
"""

import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlencode

import asyncpg
from pydantic import SecretStr
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from shared.db import tenancy
from shared.errors import DatabaseUnavailable

#: For those who use them and need not know SQLAlchemy.
Engine = AsyncEngine
Connection = AsyncConnection

#: SQLSTATE classes and codes that may pass: connection, resources, shutdown, locks, read-only fail-over.
#: Anything else is a bug and says so: treating every error as passing makes endless loops.
_TRANSIENT_CLASSES = frozenset({"08", "53", "40"})
_TRANSIENT_CODES = frozenset({"57P01", "57P02", "57P03", "57014", "55P03", "25006", "25P03"})

#: What an address may say of TLS, named as libpq's.
_TLS_OPTIONS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl")
#: What it says when it leads to a transaction pooler, as other clients have it too.
_POOLED = "pgbouncer"
#: A transaction pooler gave the next transaction to another server: a statement is not there, or already there.
_STATEMENT_CODES = frozenset({"26000", "42P05"})

_SILENT = "PostgreSQL does not answer"
_UNTOLD_POOLER = (
    "PostgreSQL lost a prepared statement, as behind a transaction pooler; add pgbouncer=true to the query of"
    " PIXCRAWLER_DATABASE_URL"
)
#: OpenSSL's numbers of what can be wrong with a certificate that an authority we trust has signed.
_DISTRUST = {9: "is not valid yet", 10: "has expired"} | dict.fromkeys((62, 64), "is for another host")

_LIMITS = (
    "SET LOCAL statement_timeout = '15s'; SET LOCAL lock_timeout = '3s'; "
    "SET LOCAL idle_in_transaction_session_timeout = '10s'; "
)
_KEEP_NOTHING = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",
}
#: A connection that was not used for so long is asked whether it still stands before it is used, seconds.
_DOUBTED_AFTER = 30.0


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg carries no types
    """Begins a transaction and sets what holds in it by one message, when told so before."""

    begins_with = ""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        if query == "BEGIN;":
            self.begins_with, query = "", query + self.begins_with
        return str(await super().execute(query, *args, timeout=timeout))


def open_engine(database_url: SecretStr, *, connections: int = 5) -> AsyncEngine:
    """An engine with at most that many connections. It belongs to the event loop that first uses it."""
    url = make_url(database_url.get_secret_value()).set(drivername="postgresql+asyncpg")
    tls = {name: value for name, value in url.query.items() if name in _TLS_OPTIONS}
    is_pooled = url.query.get(_POOLED) == "true"
    engine = create_async_engine(
        url.difference_update_query((*_TLS_OPTIONS, _POOLED)),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=10,
        pool_recycle=1800,
        connect_args={
            # asyncpg reads these from an address only.
            **({"dsn": f"postgresql://?{urlencode(tls)}"} if tls else {}),
            "timeout": 5,
            "command_timeout": 20,
            **(_KEEP_NOTHING if is_pooled else {}),
            "connection_class": _Connection,
        },
    )
    _doubt_idle_connections(engine)
    return engine


def _doubt_idle_connections(engine: AsyncEngine) -> None:
    """Replaces connections that the server has closed before they are used."""
    pool, dialect = engine.sync_engine.pool, engine.sync_engine.dialect

    def note(_: Any, record: Any) -> None:
        record.info["used_at"] = time.monotonic()

    def doubt(connection: Any, record: Any, _: Any) -> None:
        if connection.driver_connection.is_closed():
            raise DisconnectionError
        if time.monotonic() - record.info.get("used_at", time.monotonic()) > _DOUBTED_AFTER:
            try:
                dialect.do_ping(connection)
            except DBAPIError as error:
                raise DisconnectionError from error

    event.listen(pool, "checkin", note)
    event.listen(pool, "checkout", doubt)


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One transaction with time limits, on the rows that the task may see; commits at the end.

    Raises DatabaseUnavailable for trouble that may pass.
    """
    with translated_errors():
        async with engine.begin() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            # A number of a tenant, a word of ours, or nothing: never a client's text.
            driver.begins_with = f"{_LIMITS}SET LOCAL pixcrawler.tenant = '{tenancy.seen()}';"
            try:
                yield connection
            finally:
                driver.begins_with = ""


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raises DatabaseUnavailable instead of the driver's errors that may pass."""
    try:
        yield
    except DBAPIError as error:
        if _code(error.orig) in _STATEMENT_CODES:
            raise DatabaseUnavailable(_UNTOLD_POOLER) from error
        if error.connection_invalidated or may_pass(error.orig):
            raise DatabaseUnavailable(_SILENT) from error
        raise
    except ssl.SSLCertVerificationError as error:
        raise DatabaseUnavailable(
            f"PostgreSQL's certificate {_DISTRUST.get(error.verify_code, 'is signed by nobody who is trusted here')};"
            " check sslrootcert and the host in PIXCRAWLER_DATABASE_URL"
        ) from error
    except (PoolTimeout, OSError, TimeoutError, asyncpg.InterfaceError) as error:
        raise DatabaseUnavailable(_SILENT) from error


def may_pass(error: BaseException | None) -> bool:
    """Whether a driver's error is trouble that may pass."""
    if isinstance(getattr(error, "__cause__", None), asyncpg.InvalidCachedStatementError):
        return True  # a migration changed what a kept statement returns; it is prepared anew
    code = _code(error)
    if code is None:
        return isinstance(error, OSError | TimeoutError)
    return code[:2] in _TRANSIENT_CLASSES or code in _TRANSIENT_CODES


def _code(error: BaseException | None) -> str | None:
    """The SQLSTATE of a driver's error, if it has one."""
    code = getattr(error, "sqlstate", None) or getattr(getattr(error, "__cause__", None), "sqlstate", None)
    return None if code is None else str(code)
