"""Brings the schema to this version: `python -m shared.db.migrate`.

Two copies started at once wait for each other. Services check the version at start and change nothing.
"""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.db.session import open_engine
from shared.errors import DatabaseUnavailable
from shared.settings import Settings

_FOLDER = Path(__file__).parent / "migrations"
#: Any number that no other program uses for an advisory lock in this database.
_LOCK = 7_135_022_001


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """The newest version this code knows."""
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    assert newest is not None, "the project has migrations"
    return newest


def _version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


async def version(engine: AsyncEngine) -> str | None:
    """The version the database is at; None when it is empty."""
    async with engine.connect() as connection:
        return await connection.run_sync(_version)


async def migrate(engine: AsyncEngine, step: Callable[[Config], None]) -> None:
    """Runs an Alembic command in one transaction, alone."""

    def run(connection: Connection) -> None:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        step(_config(connection))

    async with engine.begin() as connection:
        await connection.run_sync(run)


async def upgrade(database_url: SecretStr) -> None:
    """Brings the schema to `head()`; nothing to do when it is there."""
    engine = open_engine(database_url, connections=1)
    try:
        if await version(engine) != head():
            await migrate(engine, lambda config: command.upgrade(config, "head"))
    finally:
        await engine.dispose()


def main() -> int:
    settings = Settings.load()
    try:
        asyncio.run(upgrade(settings.database_url))
    except (DatabaseUnavailable, OSError) as error:
        sys.stderr.write(f"cannot migrate: {error}; is PIXCRAWLER_DATABASE_URL right?\n")
        return 1
    sys.stdout.write(f"schema is at {head()}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
