"""Lists and destinations in an object store."""

import json
from pathlib import Path

import httpx2
import pytest

from gateway.settings import GatewaySettings
from tests.contract.stores import S3_KEY_ID, S3_SECRET, s3_client
from tests.integration.gateway.conftest import Effects, request_for
from tests.servers import free_port

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:moto.*"),
]


@pytest.fixture
def settings(settings: GatewaySettings, s3_server: str) -> GatewaySettings:
    return GatewaySettings.model_validate(
        settings.model_dump()
        | {
            "s3_endpoint": s3_server,
            "s3_endpoints": ["*"],
            "s3_access_key_id": S3_KEY_ID,
            "s3_secret_access_key": S3_SECRET,
            "store_timeout_seconds": 5,
        }
    )


async def test_a_referenced_list_is_copied_and_its_job_stores_in_a_bucket(
    api: httpx2.AsyncClient, s3_server: str, s3_bucket: str, tmp_path: Path
) -> None:
    client = s3_client(s3_server)
    client.put_object(Bucket=s3_bucket, Key="lists/Cats.csv", Body=b"url\nhttps://example.com/a.jpg\n")

    answer = await api.post(
        "/v1/jobs",
        json={
            "source": {"reference": f"s3://{s3_bucket}/lists/Cats.csv"},
            "destination": {"url": f"s3://{s3_bucket}/cats/", "endpoint": s3_server},
        },
    )

    assert answer.status_code == 202, answer.text
    assert answer.json()["destination"] == {"url": f"s3://{s3_bucket}/cats", "endpoint": s3_server}
    papers = client.get_object(Bucket=s3_bucket, Key="cats/dataset.json")["Body"].read()
    assert json.loads(papers)["job"] == answer.json()["id"]
    spooled = [path for path in (tmp_path / "spool" / "lists").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in spooled] == [b"url\nhttps://example.com/a.jpg\n"]
    client.close()


@pytest.mark.parametrize(
    ("name", "word"), [("lists/none.csv", "no such object"), ("lists/a b.csv", "rename it"), ("lists/x", "format")]
)
async def test_a_reference_that_leads_nowhere_is_refused(
    api: httpx2.AsyncClient, s3_server: str, s3_bucket: str, effects: Effects, name: str, word: str
) -> None:
    client = s3_client(s3_server)
    client.put_object(Bucket=s3_bucket, Key="lists/x", Body=b"https://example.com/a.jpg\n")
    client.close()
    before = await effects.seen()

    answer = await api.post(
        "/v1/jobs",
        json={
            "source": {"reference": f"s3://{s3_bucket}/{name}"},
            "destination": {"url": f"s3://{s3_bucket}/cats"},
        },
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_source"), answer.text
    assert word in answer.json()["detail"]
    assert await effects.seen() == before


async def test_a_reference_into_a_missing_bucket_is_refused(api: httpx2.AsyncClient, place: Path) -> None:
    asked = request_for(place) | {"source": {"reference": "s3://no-such-bucket-here/urls.csv"}}

    answer = await api.post("/v1/jobs", json=asked)

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_source"), answer.text


async def test_a_bucket_that_is_missing_is_refused_with_the_stores_sentence(
    api: httpx2.AsyncClient, effects: Effects
) -> None:
    before = await effects.seen()

    answer = await api.post("/v1/jobs", json=request_for("s3://no-such-bucket-here/cats"))

    assert (answer.status_code, answer.json()["code"]) == (422, "destination_refused"), answer.text
    assert "no-such-bucket-here" in answer.json()["detail"]
    assert S3_SECRET not in answer.text
    assert await effects.seen() == before


async def test_a_store_that_is_away_is_worth_a_retry(api: httpx2.AsyncClient, effects: Effects) -> None:
    before = await effects.seen()
    destination = {"url": "s3://datasets/cats", "endpoint": f"http://127.0.0.1:{free_port()}"}

    answer = await api.post("/v1/jobs", json=request_for("x") | {"destination": destination})

    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable"), answer.text
    assert answer.headers["retry-after"]
    assert await effects.seen() == before
