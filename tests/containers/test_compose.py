"""The whole system from docker-compose.yml: a job, a stage scaled, a container killed, and the dataset in Azurite."""

import io
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from azure.storage.blob import ContainerClient

from pixcrawler import Client, Destination, Job, JobRequest, Recipe, Source
from pixcrawler.sample import SAMPLE_RECIPE, Origin
from tests.architecture.tree import SERVICES
from tests.containers.deployment import Deployment, docker, inspect, wait_until

pytestmark = pytest.mark.timeout(900)

JOB_LIMIT_SECONDS = 180.0


def test_a_job_outlives_a_scaled_stage_and_a_killed_container(
    system: Deployment, client: Client, origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> None:
    job = submitted(client, origin, "cats", tmp_path_factory.mktemp("list"))

    wait_until("a chunk is being downloaded", lambda: bool(holders(system)))
    (first,) = system.containers("downloader")
    system.up("--scale", "downloader=2")
    wait_until("both downloaders have a chunk", lambda: len(holders(system)) == 2, limit_seconds=60)
    docker("kill", first)
    ended = client.wait(job.id, timeout_seconds=JOB_LIMIT_SECONDS)

    assert first not in system.containers("downloader")
    assert_complete(ended, origin)
    assert_stored(system, "cats", origin)


def submitted(client: Client, origin: Origin, prefix: str, folder: Path, *, root: str = "az://datasets") -> Job:
    """A job for all that the origin has."""
    urls = folder / "urls.csv"
    origin.write_list(urls)
    source = Source(manifest_id=client.upload(urls).id)
    destination = Destination(url=f"{root}/{prefix}")
    recipe = Recipe.model_validate(SAMPLE_RECIPE)
    return client.submit(JobRequest(source=source, destination=destination, recipe=recipe)).job


def holders(system: Deployment) -> set[str]:
    """The downloaders' host names, which are their containers', that hold a chunk now."""
    owners = system.query("SELECT owner FROM chunks WHERE state = 'downloading'")
    return {owner.split("-")[1] for owner in owners}


def assert_complete(job: Job, origin: Origin) -> None:
    assert job.state == "completed", job
    assert {"accepted": job.accepted, **job.rejected} == origin.corpus.expected_counts()


def assert_stored(system: Deployment, prefix: str, origin: Origin) -> None:
    """Every row in the index, every accepted image beside it, and the marker that says so."""
    stored = objects(system, prefix)
    rows = [
        row
        for name, body in stored.items()
        if name.startswith("index/")
        for row in pq.read_table(pa.BufferReader(body)).to_pylist()
    ]
    assert Counter(row["reason"] or "accepted" for row in rows) == origin.corpus.expected_counts()
    assert {row["path"] for row in rows if row["path"]} <= stored.keys()
    assert "_SUCCESS" in stored
    assert json.load(io.BytesIO(stored["dataset.json"]))


def objects(system: Deployment, prefix: str) -> dict[str, bytes]:
    """What lies below the prefix, by name."""
    inside = system.setting("PIXCRAWLER_AZURE_CONNECTION_STRING")
    outside = inside.replace("azurite:10000", f"127.0.0.1:{system.azurite_port}")
    with ContainerClient.from_connection_string(outside, "datasets") as container:
        names = [blob.name for blob in container.list_blobs(name_starts_with=f"{prefix}/")]
        return {name.removeprefix(f"{prefix}/"): container.download_blob(name).readall() for name in names}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_runs_without_privileges(system: Deployment, service: str) -> None:
    container = system.containers(service)[0]

    held_to = inspect(container)["HostConfig"]
    users = docker("top", container, "-eo", "pid,uid").split()[3::2]

    assert set(users) == {"10001"}
    assert held_to["ReadonlyRootfs"]
    assert held_to["CapDrop"] == ["ALL"]
    assert not held_to["CapAdd"]
    assert "no-new-privileges:true" in held_to["SecurityOpt"]
    assert held_to["Memory"] > 0


def test_a_service_ends_cleanly_when_it_is_told_to(system: Deployment) -> None:
    """SIGTERM reaches the service, not a shell before it, and nothing has to be killed."""
    containers = {service: system.containers(service) for service in SERVICES}

    system.compose("stop", *containers, limit_seconds=150)

    codes = {
        service: inspect(container)["State"]["ExitCode"] for service, ids in containers.items() for container in ids
    }
    assert codes == dict.fromkeys(containers, 0)
