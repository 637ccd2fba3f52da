"""The schema: models and migrations say the same, up and down, and from two copies at once."""

import asyncio
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from shared.db import migrate
from shared.db.models import Base
from shared.db.schema import HEAD, version
from shared.db.session import open_engine, transaction
from shared.pipeline import SLOT_STATES, ChunkState, JobState, Outcome
from tests.core import board_at


def _differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, Base.metadata))


async def _described(database_url: str) -> list[tuple[Any, ...]]:
    async with board_at(database_url) as board:
        columns = await board.run("""
            SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
            WHERE table_schema = 'public' ORDER BY 1, 2""")
        constraints = await board.run("""
            SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2""")
        indexes = await board.run("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1")
    return [tuple(row) for row in (*columns, *constraints, *indexes)]


async def test_the_models_are_what_the_migrations_build(database_url: str) -> None:
    engine = open_engine(SecretStr(database_url))
    async with engine.connect() as connection:
        differences = await connection.run_sync(_differences)
    await engine.dispose()

    assert differences == []


async def test_building_from_the_models_gives_the_same_schema(database_url: str, postgres_url: str) -> None:
    engine = open_engine(SecretStr(postgres_url))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()

    migrated = [row for row in await _described(database_url) if "alembic_version" not in str(row)]
    assert await _described(postgres_url) == migrated


async def test_down_and_up_again_gives_the_same_schema(database_url: str) -> None:
    before = await _described(database_url)
    engine = open_engine(SecretStr(database_url))

    await migrate.migrate(engine, lambda config: command.downgrade(config, "base"))
    left = [row for row in await _described(database_url) if "alembic_version" not in str(row)]
    await migrate.migrate(engine, lambda config: command.upgrade(config, "head"))
    await engine.dispose()

    assert left == []
    assert await _described(database_url) == before


async def test_two_copies_that_migrate_at_once_do_it_once(postgres_url: str) -> None:
    await asyncio.gather(*(migrate.upgrade(SecretStr(postgres_url)) for _ in range(3)))

    engine = open_engine(SecretStr(postgres_url))
    assert await version(engine) == HEAD
    await engine.dispose()


async def test_an_empty_database_has_no_version(postgres_url: str) -> None:
    engine = open_engine(SecretStr(postgres_url))
    assert await version(engine) is None
    await engine.dispose()


@pytest.mark.parametrize(
    ("table", "column", "values"),
    [("chunks", "state", ChunkState), ("chunks", "outcome", Outcome), ("jobs", "state", JobState)],
)
async def test_the_database_knows_exactly_the_declared_values(
    database_url: str, table: str, column: str, values: type[ChunkState | Outcome | JobState]
) -> None:
    async with board_at(database_url) as board:
        await board.job()

        for value in values:
            await board.run(f"UPDATE {table} SET {column} = :value", value=value)
        with pytest.raises(IntegrityError):
            async with transaction(board.engine) as connection:
                await connection.execute(text(f"UPDATE {table} SET {column} = 'elsewhere'"))


async def test_the_index_of_chunks_in_flight_covers_exactly_the_declared_states(database_url: str) -> None:
    async with board_at(database_url) as board:
        made = await board.one("SELECT indexdef FROM pg_indexes WHERE indexname = 'chunks_in_flight'")

    assert {state for state in ChunkState if f"'{state}'" in made} == SLOT_STATES


async def test_a_migration_that_a_service_stands_in_the_way_of_is_run_anew(database_url: str) -> None:
    runs = 0

    def lose_to_a_service_once(config: Config) -> None:
        nonlocal runs
        runs += 1
        config.attributes["connection"].execute(text("CREATE TABLE made_once (id int)"))
        if runs == 1:
            config.attributes["connection"].execute(text("DO $$ BEGIN RAISE deadlock_detected; END $$"))

    engine = open_engine(SecretStr(database_url))
    await migrate.migrate(engine, lose_to_a_service_once)
    await engine.dispose()

    assert runs == 2
