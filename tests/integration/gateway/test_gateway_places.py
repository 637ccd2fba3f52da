"""Where jobs may store and read lists: never among the services' own files, nor where the operator did not say."""

from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError

from gateway.destinations import holds_own_files
from gateway.settings import GatewaySettings
from shared.storage import Destination
from tests.integration.gateway.conftest import Effects, request_for

#: The address of a place was allowed, and the store itself refused: these gateways have no credentials for Azure.
ALLOWED = "destination_refused"


@pytest.fixture
def more() -> dict[str, Any]:
    """What a test sets differently."""
    return {}


@pytest.fixture
def settings(settings: GatewaySettings, tmp_path: Path, more: dict[str, Any]) -> GatewaySettings:
    own = {"folder_roots": ["/"], "scratch_dir": tmp_path / "scratch", "reserved_folders": [tmp_path / "home"]}
    return GatewaySettings.model_validate(settings.model_dump() | own | more)


async def code_of(api: httpx2.AsyncClient, url: str) -> str:
    """How a job that is to store there is refused; "" when it is not."""
    answer = await api.post("/v1/jobs", json=request_for("x") | {"destination": {"url": url}})
    code: str = answer.json().get("code", "")
    return code


@pytest.mark.parametrize("folder", ["spool", "spool/lists/cats", "work", "work/cats", "scratch/cats", "home/run/cats"])
async def test_no_job_stores_among_the_services_own_files(
    api: httpx2.AsyncClient, effects: Effects, tmp_path: Path, folder: str
) -> None:
    before = await effects.seen()

    assert await code_of(api, f"{tmp_path}/{folder}") == "bad_destination"

    assert await effects.seen() == before


async def test_no_job_stores_in_a_folder_that_holds_the_services_own(api: httpx2.AsyncClient, tmp_path: Path) -> None:
    assert await code_of(api, str(tmp_path)) == "bad_destination"


async def test_no_link_leads_a_job_there(api: httpx2.AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "work")

    assert await code_of(api, f"{tmp_path}/link/cats") == "bad_destination"


async def test_a_folder_beside_them_is_free(api: httpx2.AsyncClient, tmp_path: Path) -> None:
    assert await code_of(api, f"{tmp_path}/workshop") == ""


async def test_the_only_tenant_may_use_what_the_credentials_open(api: httpx2.AsyncClient) -> None:
    assert await code_of(api, "az://anything/cats") == ALLOWED


async def test_with_a_second_tenant_nobody_may_until_the_operator_says_where(
    api: httpx2.AsyncClient, stranger: httpx2.AsyncClient
) -> None:
    assert await code_of(api, "az://anything/cats") == "bad_destination"
    assert await code_of(stranger, "s3://anything/cats") == "bad_destination"


@pytest.mark.parametrize("more", [{"store_roots": ["*"]}])
async def test_an_operator_may_open_everything_to_all(api: httpx2.AsyncClient, stranger: httpx2.AsyncClient) -> None:
    assert await code_of(api, "az://anything/cats") == ALLOWED


@pytest.mark.parametrize("more", [{"store_roots": ["az://open", "az://half/open"]}])
@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("az://open", ALLOWED),
        ("az://open/cats", ALLOWED),
        ("az://half/open/cats", ALLOWED),
        ("az://half/opened", "bad_destination"),  # a path is compared by its parts
        ("az://half", "bad_destination"),
        ("az://other/open", "bad_destination"),
        ("s3://open/cats", "bad_destination"),
    ],
)
async def test_jobs_store_below_what_the_operator_named(api: httpx2.AsyncClient, url: str, code: str) -> None:
    assert await code_of(api, url) == code


async def test_lists_are_read_only_from_there_too(
    api: httpx2.AsyncClient, stranger: httpx2.AsyncClient, place: Path
) -> None:
    asked = request_for(place) | {"source": {"reference": "az://others/lists/theirs.csv"}}

    answer = await api.post("/v1/jobs", json=asked)

    assert answer.json()["code"] == "bad_source"
    assert "may not be read" in answer.json()["detail"]


@pytest.mark.parametrize("root", ["/data", "gs://bucket"])
def test_a_root_that_is_no_store_stops_the_start(settings: GatewaySettings, root: str) -> None:
    with pytest.raises(ValidationError):
        GatewaySettings.model_validate(settings.model_dump() | {"store_roots": [root]})


@pytest.mark.parametrize("url", ["az://lake", "az://lake/spool", "az://lake/spool/lists"])
@pytest.mark.parametrize("setting", ["spool_url", "work_url"])
def test_what_services_keep_in_a_store_is_out_of_bounds(settings: GatewaySettings, setting: str, url: str) -> None:
    theirs = settings.model_copy(update={setting: "az://lake/spool"})

    assert holds_own_files(theirs, Destination.parse(url))
    assert not holds_own_files(theirs, Destination.parse("az://lake/spools"))
