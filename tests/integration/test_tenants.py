"""Tenants and their keys in PostgreSQL: agreements, usage, rotation."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from shared.db import api_keys, tenants
from shared.db.api_keys import Key, NewKey
from shared.db.session import transaction
from shared.pipeline import NEW_TENANT_ROWS, JobState, Tier
from shared.quotas import Quota
from tests.core import Board, board_at


@pytest.fixture
async def board(database_url: str) -> AsyncIterator[Board]:
    async with board_at(database_url) as board:
        yield board


async def tenant_in(board: Board, name: str = "ours", tier: Tier = Tier.FREE) -> UUID:
    async with transaction(board.engine) as connection:
        return await tenants.ensure_tenant(connection, name, tier)


async def key_in(board: Board, tenant: UUID, *, lifetime: timedelta | None = None) -> str:
    expires_at = None if lifetime is None else datetime.now(UTC) + lifetime
    new = NewKey(
        id=uuid4().hex[:8], secret_hash=b"x" * 32, tenant_id=tenant, name="ci", scopes=["admin"], expires_at=expires_at
    )
    async with transaction(board.engine) as connection:
        await api_keys.add(connection, new)
    return new.id


async def found(board: Board, key_id: str) -> Key:
    async with transaction(board.engine) as connection:
        key = await api_keys.get(connection, key_id)
    assert key is not None
    return key


async def test_a_tenant_is_new_until_its_first_rows_and_then_as_agreed(board: Board) -> None:
    tenant = await tenant_in(board)

    async with transaction(board.engine) as connection:
        young = await tenants.get(connection, tenant)
        await tenants.change_plan(connection, tenant, Tier.ENTERPRISE)
    await board.run("UPDATE tenants SET rows_planned = :rows", rows=NEW_TENANT_ROWS)
    async with transaction(board.engine) as connection:
        grown = await tenants.named(connection, "ours")

    assert young is not None
    assert grown is not None
    assert (young.tier, young.plan) == (Tier.NEW, Tier.FREE)
    assert (grown.tier, grown.plan) == (Tier.ENTERPRISE, Tier.ENTERPRISE)


async def test_limits_of_its_own_go_before_those_of_its_tier(board: Board) -> None:
    tenant = await tenant_in(board)
    by_tier = {Tier.NEW: {Quota.OPEN_JOBS: 3, Quota.ROWS_A_DAY: 100}, Tier.FREE: {Quota.OPEN_JOBS: 9}}

    async with transaction(board.engine) as connection:
        assert await tenants.set_quotas(connection, tenant, {Quota.ROWS_A_DAY: None, Quota.BYTES_A_DAY: 7})
        agreed = await tenants.get(connection, tenant)

    assert agreed is not None
    assert agreed.limits(by_tier) == {Quota.OPEN_JOBS: 3, Quota.ROWS_A_DAY: None, Quota.BYTES_A_DAY: 7}


async def test_usage_counts_what_is_open_and_what_was_submitted_today(board: Board) -> None:
    job = await board.job(chunks=2)
    tenant = await board.one("SELECT tenant_id FROM jobs")
    await board.run("UPDATE jobs SET planned_rows = 700, stored_bytes = 9000")

    async with transaction(board.engine) as connection:
        running = await tenants.usage(connection, tenant)
    await board.run("UPDATE jobs SET state = :state WHERE id = :id", state=JobState.COMPLETED, id=job)
    async with transaction(board.engine) as connection:
        ended = await tenants.usage(connection, tenant)
    await board.run("UPDATE jobs SET created_at = created_at - interval '1 day'")
    async with transaction(board.engine) as connection:
        past = await tenants.usage(connection, tenant)

    assert (running.open_jobs, running.rows_a_day, running.bytes_a_day) == (1, 700, 9000)
    assert (ended.open_jobs, ended.rows_a_day, ended.bytes_a_day) == (0, 700, 9000)
    assert (past.open_jobs, past.rows_a_day, past.bytes_a_day) == (0, 0, 0)


async def test_a_suspension_can_be_ended(board: Board) -> None:
    tenant = await tenant_in(board)
    key = await key_in(board, tenant)

    async with transaction(board.engine) as connection:
        assert await tenants.suspend(connection, tenant)
    suspended = await found(board, key)
    async with transaction(board.engine) as connection:
        assert await tenants.let_in(connection, tenant)
        assert not await tenants.suspend(connection, uuid4())

    assert suspended.tenant.suspended_at is not None
    assert (await found(board, key)).tenant.suspended_at is None


async def test_a_rotated_key_works_beside_its_successor_until_the_overlap_is_over(board: Board) -> None:
    old = await key_in(board, await tenant_in(board), lifetime=timedelta(days=30))

    async with transaction(board.engine) as connection:
        made = await api_keys.rotate(
            connection, old, new_id="fresh123", secret_hash=b"y" * 32, overlap=timedelta(hours=2)
        )
        again = await api_keys.rotate(
            connection, old, new_id="fresh456", secret_hash=b"z" * 32, overlap=timedelta(hours=2)
        )
    replaced = await found(board, old)
    await board.run("UPDATE api_keys SET expires_at = now() WHERE id = :id", id=old)

    assert made is not None
    assert (made.name, made.scopes, made.secret_hash) == ("ci", frozenset({"admin"}), b"y" * 32)
    assert made.expires_at is not None
    assert timedelta(days=29) < made.expires_at - made.created_at < timedelta(days=31)
    assert again is None
    assert replaced.is_valid
    assert replaced.replaced_by == "fresh123"
    assert replaced.expires_at is not None
    assert replaced.expires_at - made.created_at < timedelta(hours=3)
    assert not (await found(board, old)).is_valid
    assert (await found(board, "fresh123")).is_valid


async def test_an_overlap_does_not_prolong_a_key_that_ends_before(board: Board) -> None:
    old = await key_in(board, await tenant_in(board), lifetime=timedelta(minutes=5))
    ends_at = (await found(board, old)).expires_at

    async with transaction(board.engine) as connection:
        await api_keys.rotate(connection, old, new_id="fresh123", secret_hash=b"y" * 32, overlap=timedelta(days=9))

    assert (await found(board, old)).expires_at == ends_at


@pytest.mark.parametrize("ending", ["revoked_at = now()", "expires_at = now()"])
async def test_a_key_that_has_ended_is_not_rotated(board: Board, ending: str) -> None:
    old = await key_in(board, await tenant_in(board))
    await board.run(f"UPDATE api_keys SET {ending}")

    async with transaction(board.engine) as connection:
        made = await api_keys.rotate(connection, old, new_id="fresh123", secret_hash=b"y" * 32, overlap=timedelta(0))

    assert made is None
    assert await board.one("SELECT count(*) FROM api_keys") == 1
