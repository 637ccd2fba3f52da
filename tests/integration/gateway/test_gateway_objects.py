"""What a job has stored, page by page, with links where the store signs them."""

from pathlib import Path

import asyncpg
import httpx2
import pytest

from gateway.problems import Code
from gateway.settings import GatewaySettings
from tests.contract.stores import S3_KEY_ID, S3_SECRET
from tests.integration.gateway.conftest import request_for
from tests.integration.gateway.test_gateway_access import assert_problem

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:moto.*"),
]
KEYS = ["data/r000-000000.tar", "data/r000-000001.tar", "index/r000-000000.parquet"]


@pytest.fixture
def settings(settings: GatewaySettings, s3_server: str) -> GatewaySettings:
    own = {"s3_endpoint": s3_server, "s3_access_key_id": S3_KEY_ID, "s3_secret_access_key": S3_SECRET}
    return GatewaySettings.model_validate(settings.model_dump() | own)


async def job_with_objects(api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path | str) -> str:
    made = await api.post("/v1/jobs", json=request_for(place))
    assert made.status_code == 202, made.text
    for revision, keys in ((0, KEYS), (1, ["data/r001-000002.tar"])):
        for key in keys:
            await database.execute(
                "INSERT INTO objects (dataset_id, key, revision, size_bytes, sha256) VALUES ($1, $2, $3, 7, $4)",
                *(made.json()["dataset_id"], key, revision, bytes(32)),
            )
    return str(made.json()["id"])


async def test_objects_come_page_by_page_and_a_folder_has_no_links(
    api: httpx2.AsyncClient, database: asyncpg.Connection, place: Path
) -> None:
    job = await job_with_objects(api, database, place)

    first = await api.get(f"/v1/jobs/{job}/objects", params={"limit": 2})
    second = await api.get(first.links["next"]["url"])
    bad = await api.get(f"/v1/jobs/{job}/objects", params={"cursor": "x"})

    assert [each["key"] for page in (first, second) for each in page.json()["data"]] == KEYS
    assert first.json()["data"][0] == {
        "key": KEYS[0],
        "size_bytes": 7,
        "sha256": "00" * 32,
        "url": None,
        "expires_at": None,
    }
    assert second.json()["next_cursor"] is None
    assert_problem(bad, 422, Code.INVALID_REQUEST)


async def test_a_bucket_has_links_that_name_no_secret(
    api: httpx2.AsyncClient, database: asyncpg.Connection, s3_bucket: str
) -> None:
    job = await job_with_objects(api, database, f"s3://{s3_bucket}/cats")

    answer = await api.get(f"/v1/jobs/{job}/objects", params={"link_seconds": 60})

    (first, *_) = answer.json()["data"]
    assert f"cats/{KEYS[0]}" in first["url"]
    assert first["expires_at"]
    assert S3_SECRET not in answer.text
