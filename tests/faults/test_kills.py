"""A worker is killed at each step of its chunk: another one does it again, with the same result."""

import pytest

from shared.pipeline import PIPELINE, Stage
from tests.faults.world import World

pytestmark = pytest.mark.timeout(300)

STEPS = ("claimed", "progress", "result", "committed")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("stage", PIPELINE, ids=lambda stage: stage.name)
async def test_a_worker_killed_at_any_step_costs_nothing(ours: World, stage: Stage, step: str) -> None:
    ours.arm(stage.service, f"{stage.name}.{step}:kill")
    job = await ours.submit()
    await ours.is_reached(f"{stage.name}.{step}")

    ours.mend()

    await ours.has_kept_its_promises(job)
