"""Ten faults at random upon a job of 40 chunks. `PIXCRAWLER_STORM_SEED` repeats one."""

import os
import random
from pathlib import Path

import pytest

from tests.faults.storm import storm
from tests.faults.world import world


@pytest.mark.faults
@pytest.mark.timeout(1200)
async def test_ten_faults_at_random_cost_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("PIXCRAWLER_STORM_SEED", random.randrange(10_000)))
    print(f"PIXCRAWLER_STORM_SEED={seed}")
    async with world(tmp_path) as ours:
        await ours.reference(20_000)

        job = await storm(ours, seed=seed)

        await ours.has_kept_its_promises(job)
