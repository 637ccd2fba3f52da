"""Brings the schema to this version: `python -m shared.db.migrate`.

Two copies started at once wait for each other. Services check the version at start and change nothing.
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.db.schema import HEAD, version
from shared.db.session import open_engine
from shared.errors import DatabaseUnavailable
from shared.settings import Settings

if TYPE_CHECKING:  # Alembic is loaded only when there is something to migrate
    from alembic.config import Config

_FOLDER = Path(__file__).parent / "migrations"
#: Any number that no other program uses for an advisory lock in this database.
_LOCK = 7_135_022_001
#: SQLSTATE of a transaction that waited for one which waited for it: services take locks in an order of their own.
_DEADLOCK = "40P01"
_MOST_TRIES = 10


def config(connection: Connection) -> "Config":
    """Alembic's configuration for a connection that is open already."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


async def migrate(engine: AsyncEngine, step: Callable[["Config"], None]) -> None:
    """Runs an Alembic command in one transaction, alone; anew when PostgreSQL ends it for the sake of a service."""

    def run(connection: Connection) -> None:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        step(config(connection))

    for tries_left in reversed(range(_MOST_TRIES)):
        try:
            async with engine.begin() as connection:
                await connection.run_sync(run)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _DEADLOCK or not tries_left:
                raise
        else:
            return


async def upgrade(database_url: SecretStr) -> None:
    """Brings the schema to `HEAD`; nothing to do when it is there."""
    engine = open_engine(database_url, connections=1)
    try:
        if await version(engine) != HEAD:
            await migrate(engine, _to_head)
    finally:
        await engine.dispose()


def _to_head(config: "Config") -> None:
    from alembic import command

    command.upgrade(config, HEAD)


def main() -> int:
    settings = Settings.load()
    try:
        asyncio.run(upgrade(settings.database_url))
    except (DatabaseUnavailable, OSError) as error:
        sys.stderr.write(f"cannot migrate: {error}; is PIXCRAWLER_DATABASE_URL right?\n")
        return 1
    sys.stdout.write(f"schema is at {HEAD}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
