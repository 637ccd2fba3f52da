"""Transactions: which trouble may pass, that nothing outlives its limit, and that a pooler may stand between."""

import asyncio
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from shared.db import session
from shared.db.session import open_engine, transaction
from shared.errors import DatabaseUnavailable
from tests.core import board_at
from tests.servers import free_port
from tests.system import until

RAISE = "DO $$ BEGIN RAISE EXCEPTION 'provoked' USING ERRCODE = '{code}'; END $$"


@pytest.mark.parametrize(
    ("code", "may_pass"),
    [
        # connection, resources, rollback by the server
        ("08006", True),
        ("53100", True),
        ("53300", True),
        ("40001", True),
        ("40P01", True),
        # shutdown, a lock or a statement that took too long, a read-only server after fail-over
        ("57P01", True),
        ("57P03", True),
        ("57014", True),
        ("55P03", True),
        ("25006", True),
        ("25P03", True),
        # bugs, which say so: type, syntax, constraint, no such table, no right, division
        ("42804", False),
        ("42601", False),
        ("23505", False),
        ("42P01", False),
        ("42501", False),
        ("22012", False),
        ("XX000", False),
    ],
)
async def test_which_trouble_may_pass(database_url: str, code: str, may_pass: bool) -> None:
    async with board_at(database_url) as board:
        with pytest.raises(DatabaseUnavailable if may_pass else DBAPIError):
            await board.run(RAISE.format(code=code))

        assert await board.one("SELECT 1") == 1, "the next transaction is whole"


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    engine = open_engine(SecretStr(f"postgresql://u:p@127.0.0.1:{free_port()}/d"))

    with pytest.raises(DatabaseUnavailable):
        async with transaction(engine):
            pytest.fail("there is nothing to connect to")
    await engine.dispose()


async def test_a_server_that_takes_no_more_connections_is_unavailable(
    database_url: str, postgres_admin_url: str
) -> None:
    admin = await asyncpg.connect(postgres_admin_url)
    name = database_url.rsplit("/", 1)[1]
    await admin.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0")

    async with board_at(database_url) as board:
        with pytest.raises(DatabaseUnavailable):
            await board.one("SELECT 1")

        await admin.execute(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
        assert await board.one("SELECT 1") == 1
    await admin.close()


async def test_a_connection_that_was_cut_is_unavailable_once(database_url: str, postgres_admin_url: str) -> None:
    admin = await asyncpg.connect(postgres_admin_url)
    async with board_at(database_url, connections=1) as board:

        async def be_cut() -> None:
            async with transaction(board.engine) as connection:
                mine = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
                await admin.execute("SELECT pg_terminate_backend($1)", mine)
                await connection.execute(text("SELECT 1"))

        with pytest.raises(DatabaseUnavailable):
            await be_cut()
        assert await board.one("SELECT 1") == 1
    await admin.close()


async def test_a_connection_that_the_server_closed_meanwhile_is_replaced(
    database_url: str, postgres_admin_url: str
) -> None:
    admin = await asyncpg.connect(postgres_admin_url)
    async with board_at(database_url, connections=1) as board:
        async with transaction(board.engine) as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
        await admin.execute("SELECT pg_terminate_backend($1)", driver.get_server_pid())

        async def is_noticed() -> bool:
            return bool(driver.is_closed())

        await until("the driver sees the connection closed", is_noticed)

        assert await board.one("SELECT 1") == 1
    await admin.close()


async def test_only_a_connection_that_lay_idle_is_asked_whether_it_stands(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with board_at(database_url, connections=1) as board:
        asked: list[object] = []
        monkeypatch.setattr(board.engine.sync_engine.dialect, "do_ping", asked.append)

        await board.one("SELECT 1")
        await board.one("SELECT 1")
        assert not asked

        monkeypatch.setattr(session, "_DOUBTED_AFTER", -1.0)
        await board.one("SELECT 1")
        assert len(asked) == 1


async def test_a_failed_transaction_leaves_nothing(database_url: str) -> None:
    async with board_at(database_url) as board:

        async def fail() -> None:
            async with transaction(board.engine) as connection:
                await connection.execute(text("INSERT INTO tenants (name) VALUES ('half')"))
                raise ValueError("mine")

        with pytest.raises(ValueError, match="mine"):
            await fail()
        assert await board.one("SELECT count(*) FROM tenants") == 0


async def test_limits_hold_in_the_transaction_and_not_beyond(database_url: str) -> None:
    async with board_at(database_url, connections=1) as board:
        inside = await board.one("SELECT current_setting('statement_timeout') || current_setting('lock_timeout')")
        async with board.engine.connect() as connection:
            outside = (await connection.execute(text("SELECT current_setting('statement_timeout')"))).scalar_one()

        assert (inside, outside) == ("15s3s", "0")


async def test_a_lock_that_is_not_to_be_had_is_given_up(database_url: str) -> None:
    async with board_at(database_url) as board:
        await board.run("INSERT INTO tenants (name) VALUES ('held')")

        async def lock() -> None:
            async with asyncio.timeout(10), transaction(board.engine) as other:
                await other.execute(text("SET LOCAL lock_timeout = '50ms'"))
                await other.execute(text("SELECT 1 FROM tenants FOR UPDATE"))

        async with transaction(board.engine) as connection:
            await connection.execute(text("SELECT 1 FROM tenants FOR UPDATE"))
            with pytest.raises(DatabaseUnavailable):
                await lock()


async def test_a_pool_without_a_free_connection_is_unavailable(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with board_at(database_url, connections=1) as board:
        monkeypatch.setattr(board.engine.sync_engine.pool, "_timeout", 0.05)
        async with transaction(board.engine):
            with pytest.raises(DatabaseUnavailable):
                await board.one("SELECT 1")


async def test_statements_are_kept_prepared_but_not_behind_a_pooler(database_url: str) -> None:
    kept = []
    for url in (database_url, f"{database_url}?pgbouncer=true"):
        async with board_at(url, connections=1) as board:
            for _ in range(3):
                await board.job(chunks=2)
            counted = "SELECT count(*) FROM pg_prepared_statements WHERE statement NOT LIKE '%pg_p%'"
            kept.append(await board.one(counted))

    assert kept[0] > 0
    assert kept[1] == 0, "it would stay behind for the pooler's next client"


async def test_a_kept_statement_that_a_migration_outdated_is_prepared_anew(
    database_url: str, postgres_admin_url: str
) -> None:
    admin = await asyncpg.connect(f"{postgres_admin_url.rpartition('/')[0]}/{database_url.rpartition('/')[2]}")
    async with board_at(database_url, connections=1) as board:
        await board.run("SELECT * FROM slots")

        await admin.execute("ALTER TABLE slots ADD COLUMN news text")
        with pytest.raises(DatabaseUnavailable):
            await board.run("SELECT * FROM slots")

        await board.run("SELECT * FROM slots")
    await admin.close()


async def test_a_pooler_that_nobody_told_us_of_is_suspected(database_url: str) -> None:
    async with board_at(database_url, connections=1) as board:
        await board.one("SELECT 1")
        async with board.engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver.execute("DEALLOCATE ALL")  # as if the pooler gave the next transaction to another server

        with pytest.raises(DatabaseUnavailable, match="pgbouncer=true"):
            await board.one("SELECT 1")
