"""One world for all faults: what a test broke is mended before the next one."""

from collections.abc import AsyncIterator

import pytest

from tests.faults import recovery
from tests.faults.world import World, world


@pytest.fixture(scope="session")
async def shared_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("faults")) as ours:
        yield ours


@pytest.fixture
def ours(shared_world: World) -> World:
    """The world, whole."""
    shared_world.dismiss_others()
    shared_world.mend()
    return shared_world


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if recovery.recoveries:
        terminalreporter.section("recovery: fault, times, median and worst seconds")
        for line in recovery.table(recovery.recoveries):
            terminalreporter.write_line(line)
