"""The schema is brought to a new version while services of the version before are at work."""

from contextlib import suppress

import asyncpg
import pytest

from shared.db.schema import HEAD
from tests.faults.world import World

pytestmark = pytest.mark.timeout(300)

#: What the next version's migration might do: it only adds, as `docs/how-to/upgrade.md` asks of migrations.
FORTH = """
    ALTER TABLE chunks ADD COLUMN next_version text NOT NULL DEFAULT '';
    ALTER TABLE jobs ADD COLUMN next_version int;
    CREATE INDEX chunks_next_version ON chunks (next_version);
    UPDATE alembic_version SET version_num = 'next'"""
BACK = f"""
    ALTER TABLE chunks DROP COLUMN next_version;
    ALTER TABLE jobs DROP COLUMN next_version;
    UPDATE alembic_version SET version_num = '{HEAD}'"""


async def migrate(ours: World, owner: "asyncpg.Connection[asyncpg.Record]", statements: str) -> None:
    """All of it or nothing, and anew while services stand in its way: as `shared.db.migrate` does."""
    await ours.board.engine.dispose()  # the test's own statements would be outdated
    for _ in range(10):
        with suppress(asyncpg.DeadlockDetectedError):
            async with owner.transaction():
                await owner.execute(statements)
            return
    raise AssertionError("services stood in the way ten times")


async def test_services_work_on_while_the_next_versions_migration_runs(ours: World) -> None:
    job = await ours.under_way()
    owner = await asyncpg.connect(ours.system.database_url, timeout=30)

    try:
        await migrate(ours, owner, FORTH)
        ours.heal()

        await ours.has_kept_its_promises(job)
        assert ours.dead() == []
    finally:
        await migrate(ours, owner, BACK)
        await owner.close()


async def test_a_service_of_the_version_before_does_not_start_after_the_migration(ours: World) -> None:
    """Its next version does; chunks that it left are taken up then."""
    owner = await asyncpg.connect(ours.system.database_url, timeout=30)
    await migrate(ours, owner, FORTH)
    try:
        service = ours.system.start("uploader", STARTUP_TIMEOUT_SECONDS="0.5")

        assert service.process.wait(30) == 1
        assert "the schema is at next" in service.said()
    finally:
        await migrate(ours, owner, BACK)
        await owner.close()
