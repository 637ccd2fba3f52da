"""Redis and PostgreSQL go away in the middle of a job, as containers do, and come back."""

import pytest

from pixcrawler import Client
from pixcrawler.sample import Origin
from tests.containers.deployment import Deployment, docker, wait_until
from tests.containers.test_compose import assert_complete, assert_stored, holders, submitted

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

JOB_LIMIT_SECONDS = 400.0


@pytest.mark.parametrize("server", ["redis", "postgres"])
def test_a_job_outlives_a_server_that_is_restarted(
    system: Deployment, client: Client, origin: Origin, server: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    system.up()
    job = submitted(client, origin, f"without-{server}", tmp_path_factory.mktemp("list"))
    wait_until("a chunk is being downloaded", lambda: bool(holders(system)))

    (container,) = system.containers(server)
    docker("restart", "--time", "5", container)
    ended = client.wait(job.id, timeout_seconds=JOB_LIMIT_SECONDS)

    assert_complete(ended, origin)
    assert_stored(system, f"without-{server}", origin)
