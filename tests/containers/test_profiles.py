"""What the profiles of docker-compose.yml add: an S3 server that jobs store in, Prometheus, and Flower.

Not Grafana, whose image takes a registry: what it is given is checked without it.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import boto3
import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pixcrawler import Client, Job
from pixcrawler.sample import Origin
from shared.pipeline import PIPELINE
from tests.architecture.tree import ROOT, SERVICES
from tests.containers.deployment import (
    BUILD_LIMIT_SECONDS,
    TAG,
    Deployment,
    deployment,
    docker,
    wait_until,
    wait_until_healthy,
)
from tests.containers.test_compose import assert_complete, submitted
from tests.servers import free_port

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

JOB_LIMIT_SECONDS = 400.0
_S3_IMAGE = f"pixcrawler-s3-server:{TAG}"
_PORTS = ("S3_PORT", "PROMETHEUS_PORT", "FLOWER_PORT")
_STAGES = ("downloader", "validator", "uploader")


@pytest.fixture(scope="module")
def watched(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Started with the profile s3, Prometheus and Flower; workers tell what they do."""
    folder = ROOT / "tests" / "containers" / "s3"
    docker("build", "--quiet", "--tag", _S3_IMAGE, str(folder), limit_seconds=BUILD_LIMIT_SECONDS)
    allowed = origin.extra_environment
    settings = {
        "TEST_ALLOW_CIDRS": allowed["PIXCRAWLER_ALLOW_CIDRS"],
        "TEST_ALLOW_PORTS": allowed["PIXCRAWLER_ALLOW_PORTS"],
        "TEST_ROWS_A_SECOND": "200",
        "S3_IMAGE": _S3_IMAGE,
        "PIXCRAWLER_TASK_EVENTS": "true",
        **{name: str(free_port()) for name in _PORTS},
    }
    with deployment(tmp_path_factory.mktemp("profiles"), profiles=("s3",), settings=settings) as made:
        made.up()
        made.compose("up", "--detach", "--build", "prometheus", "flower", limit_seconds=BUILD_LIMIT_SECONDS)
        (flower,) = made.containers("flower")
        wait_until_healthy(flower)
        wait_until("Flower sees the workers", lambda: len(workers(made)) == len(_STAGES), limit_seconds=60)
        yield made


@pytest.fixture(scope="module")
def job(watched: Deployment, origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """It has stored in the S3 server."""
    with Client(f"http://127.0.0.1:{watched.gateway_port}", watched.api_key("cats")) as client:
        made = submitted(client, origin, "cats", tmp_path_factory.mktemp("list"), root="s3://datasets")
        return client.wait(made.id, timeout_seconds=JOB_LIMIT_SECONDS)


def test_a_job_stores_in_the_s3_server(watched: Deployment, job: Job, origin: Origin) -> None:
    assert_complete(job, origin)

    stored = objects(watched, "cats")
    indexes = [body for name, body in stored.items() if name.startswith("cats/index/")]
    rows = [row for body in indexes for row in pq.read_table(pa.BufferReader(body)).to_pylist()]
    assert {f"cats/{row['path']}" for row in rows if row["path"]} <= stored.keys()
    assert len(rows) == len(origin.corpus.rows)
    assert "cats/_SUCCESS" in stored


def test_flower_shows_each_worker_and_each_bell_it_answered(watched: Deployment, job: Job) -> None:
    (chunks,) = watched.query("SELECT count(*) FROM chunks")

    seen = answer(watched, "/api/tasks?limit=1000")

    shown = {name.split("@")[0].split("-")[0] for name in workers(watched)}
    assert shown == set(_STAGES)
    assert all(workers(watched).values())
    answered = Counter(task["name"] for task in seen.values() if task["state"] == "SUCCESS")
    assert {name: min(count, int(chunks)) for name, count in answered.items()} == {
        stage.task: int(chunks) for stage in PIPELINE
    }
    queues = {queue["name"] for queue in answer(watched, "/api/queues/length")["active_queues"]}
    assert queues == {stage.queue for stage in PIPELINE}


@pytest.mark.parametrize("path", ["/", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks"])
def test_flower_is_not_open_to_strangers(watched: Deployment, path: str) -> None:
    nameless = ask(watched, path, password=None).status_code
    wrong = ask(watched, path, password="admin").status_code

    assert (nameless, wrong) == (401, 401)
    assert ask(watched, path).status_code == 200


def test_flower_gives_no_orders(watched: Deployment) -> None:
    (worker, *_) = workers(watched)

    assert ask(watched, f"/api/worker/shutdown/{worker}", method="POST").status_code in (403, 405)


def test_flowers_user_is_refused_nothing_that_it_needs(watched: Deployment, job: Job) -> None:
    said = watched.compose(
        *("exec", "-T", "redis", "sh", "-c"),
        "REDISCLI_AUTH=$REDIS_PASSWORD_ADMIN redis-cli --json --user admin ACL LOG",
    )

    refused = {(entry["username"], entry["object"]) for entry in json.loads(said)}
    assert {what for _, what in refused} <= {"client|setinfo"}, refused


def test_without_a_password_flower_does_not_start() -> None:
    with pytest.raises(AssertionError, match="open to strangers"):
        docker("run", "--rm", "--network=none", f"pixcrawler-flower:{TAG}")


def test_prometheus_reaches_every_service_and_has_the_alerts(watched: Deployment) -> None:
    address = f"http://127.0.0.1:{watched.setting('PROMETHEUS_PORT')}/api/v1"

    def up() -> set[str]:
        found = httpx2.get(f"{address}/query?query=up", trust_env=False).json()["data"]["result"]
        return {series["metric"]["job"] for series in found if series["value"][1] == "1"}

    wait_until("Prometheus has read every service", lambda: up() == set(SERVICES), limit_seconds=120)
    groups = httpx2.get(f"{address}/rules", trust_env=False).json()["data"]["groups"]
    assert sum(len(group["rules"]) for group in groups) > 10


def workers(system: Deployment) -> dict[str, bool]:
    """Those that Flower knows, and whether they are heard of."""
    found: dict[str, bool] = answer(system, "/api/workers?status=true")
    return found


def answer(system: Deployment, path: str) -> dict[str, Any]:
    found: dict[str, Any] = ask(system, path).json()
    return found


def ask(system: Deployment, path: str, *, password: str | None = "", method: str = "GET") -> httpx2.Response:
    """What Flower answers, to its operator unless another password is given; None: to nobody."""
    login = None if password is None else ("admin", password or system.setting("FLOWER_PASSWORD"))
    url = f"http://127.0.0.1:{system.setting('FLOWER_PORT')}{path}"
    return httpx2.request(method, url, auth=login, timeout=20, trust_env=False)


def objects(system: Deployment, prefix: str) -> dict[str, bytes]:
    """What lies below the prefix in the bucket, by key."""
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{system.setting('S3_PORT')}",
        region_name="us-east-1",
        aws_access_key_id=system.setting("PIXCRAWLER_S3_ACCESS_KEY_ID"),
        aws_secret_access_key=system.setting("PIXCRAWLER_S3_SECRET_ACCESS_KEY"),
    )
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="datasets", Prefix=f"{prefix}/")
    keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
    return {key: client.get_object(Bucket="datasets", Key=key)["Body"].read() for key in keys}
