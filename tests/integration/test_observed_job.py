"""A job through all services as an operator sees it: panels have data, alerts can be asked, lines have their ids."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import yaml  # type: ignore[import-untyped]

from gateway.credentials import Scope
from gateway.keys import create
from infra.grafana.pages import DASHBOARDS
from infra.grafana.panels import Dashboard, Query
from infra.grafana.show import figures, main
from pixcrawler import Client, Destination, Job, JobRequest, JobState, Source
from pixcrawler.sample import Origin, sample_origin
from shared.pipeline import PIPELINE, Stage, Tier
from tests.architecture.tree import ROOT, SERVICES
from tests.core import board_at
from tests.monitoring import Prometheus, prometheus, read_all
from tests.system import Service, System, until

pytestmark = pytest.mark.timeout(300)

ROWS = 120
_STORED = 'sum(pixcrawler_rows_tried_total{stage="upload",result="passed"})'
CONFIGURATION = ROOT / "infra" / "prometheus"


@dataclass(frozen=True)
class Observed:
    """What ran, and who watched."""

    services: dict[str, Service]
    prometheus: Prometheus
    jobs: list[Job]

    @property
    def accepted(self) -> int:
        return sum(job.accepted for job in self.jobs)


@pytest.fixture(scope="module")
async def own_database_url(
    postgres_admin_url: str, postgres_role_url: str, migrated_template: str
) -> AsyncIterator[str]:
    admin = await asyncpg.connect(postgres_admin_url)
    try:
        await admin.execute(f"CREATE DATABASE observed TEMPLATE {migrated_template} OWNER pixcrawler")
        yield urlunsplit(urlsplit(postgres_role_url)._replace(path="/observed"))
        await admin.execute("DROP DATABASE observed WITH (FORCE)")
    finally:
        await admin.close()


@pytest.fixture(scope="module")
async def observed(
    own_database_url: str, redis_server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Observed]:
    """All services, watched from their start, after two jobs: a counter that appears with a value has no rate yet."""
    folder = tmp_path_factory.mktemp("observed")
    async with board_at(own_database_url) as board:
        key = await create(board.engine, tenant="ours", tier=Tier.FREE, name="", scopes=tuple(Scope))
    with ExitStack() as stack:
        origin = stack.enter_context(sample_origin(rows=ROWS))
        allowances = {**origin.extra_environment, "PIXCRAWLER_ALLOW_PORTS": "[0]"}
        system = System(own_database_url, redis_server_url, folder, extra=allowances)
        running = stack.enter_context(system.running(*SERVICES))
        services = {service.name: service for service in running}
        watcher = stack.enter_context(prometheus(configuration(services)))
        await until("all services are scraped", lambda: _all_up(watcher, len(services)))
        jobs = [
            await asyncio.to_thread(
                _build, f"http://127.0.0.1:{services['gateway'].api_port}", key, origin, folder / f"out-{number}"
            )
            for number in range(2)
        ]
        seen = Observed(services, watcher, jobs)
        await until("Prometheus knows all that was accepted", lambda: _all_known(seen))
        yield seen


def configuration(services: dict[str, Service]) -> dict[str, str]:
    """The files as they are shipped, with these services' addresses in place of names, and no time to lose."""
    files = read_all(CONFIGURATION)
    shipped = yaml.safe_load(files["prometheus.yml"])
    shipped["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    for job in shipped["scrape_configs"]:
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{services[job['job_name']].port}"]}]
    return files | {"prometheus.yml": yaml.safe_dump(shipped)}


async def _all_up(watcher: Prometheus, services: int) -> bool:
    return len(await asyncio.to_thread(watcher.query, "up == 1")) == services


async def _all_known(seen: Observed) -> bool:
    told = await asyncio.to_thread(_figures, seen.prometheus, 'sum(pixcrawler_images{outcome="accepted"})')
    stored = await asyncio.to_thread(_figures, seen.prometheus, _STORED)
    return told == stored == [seen.accepted]


def _build(gateway: str, key: str, origin: Origin, destination: Path) -> Job:
    rows = [{"url": row.url(origin.base_url)} for row in origin.corpus.rows]
    request = JobRequest(source=Source(rows=rows), destination=Destination(url=str(destination)))
    with Client(gateway, key) as client:
        return client.wait(client.submit(request).job.id, timeout_seconds=120)


def _figures(watcher: Prometheus, expression: str) -> list[float]:
    """The numbers of a panel's query; what has none yet gives none."""
    return list(figures(watcher.url, Query(expr=expression)).values())


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
async def test_every_panel_has_data(observed: Observed, dashboard: Dashboard) -> None:
    empty = {(title, query.expr) for title, query in dashboard.queries}

    async def none_is_left() -> bool:
        for title, expression in sorted(empty):
            if await asyncio.to_thread(_figures, observed.prometheus, expression):
                empty.remove((title, expression))
        return not empty

    with suppress(AssertionError):  # what is left says more
        await until("every panel has data", none_is_left, limit_seconds=60)
    assert empty == set()


def test_the_figures_are_those_of_the_jobs(observed: Observed) -> None:
    assert [job.state for job in observed.jobs] == [JobState.COMPLETED] * 2
    assert _figures(observed.prometheus, _STORED) == [observed.accepted]


def test_without_grafana_the_figures_can_be_read_as_text(
    observed: Observed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([observed.prometheus.url, "system", "uploader"]) == 0

    shown = capsys.readouterr().out
    assert re.search(rf"^    Accepted images +{observed.accepted}$", shown, re.MULTILINE)
    assert re.search(r"^      parent +[0-9.]+ [KMG]iB$", shown, re.MULTILINE)
    assert "PixCrawler: gateway" not in shown


async def test_every_alert_can_be_asked_and_none_fires_for_a_job_that_went_well(observed: Observed) -> None:
    async def all_asked() -> bool:
        return all(rule["health"] != "unknown" for rule in observed.prometheus.rules())

    await until("all alerts were evaluated", all_asked)

    rules = observed.prometheus.rules()
    assert {rule["name"]: rule.get("lastError", "") for rule in rules if rule["health"] != "ok"} == {}
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


def _lines(service: Service) -> list[dict[str, Any]]:
    """Its log; every line must be an object."""
    return [json.loads(line) for line in service.log.read_text().splitlines()]


def test_every_line_of_every_service_is_an_object_that_says_who_and_when(observed: Observed) -> None:
    for name, service in observed.services.items():
        for line in _lines(service):
            assert line["service"] == name
            assert line["level"] in ("debug", "info", "warning", "error", "critical")
            assert line["event"]
            assert line["logger"]
            assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None


@pytest.mark.parametrize("stage", PIPELINE, ids=lambda stage: stage.name)
def test_a_stage_writes_one_line_for_each_chunk_and_names_what_it_is_about(observed: Observed, stage: Stage) -> None:
    asked = {
        line["job"]: (line["request_id"], line["trace_id"])
        for line in _lines(observed.services["gateway"])
        if line["event"] == "job_submitted"
    }

    told = [line for line in _lines(observed.services[stage.service]) if "chunk" in line and line["level"] != "debug"]

    assert set(asked) == {str(job.id) for job in observed.jobs}
    assert [line["event"] for line in told] == ["stage_completed"] * len(observed.jobs)  # a chunk each
    assert {line["job"]: (line["request_id"], line["trace_id"]) for line in told} == asked
    assert {(line["stage"], line["attempt"]) for line in told} == {(stage.name, 1)}
    assert len({line["chunk"] for line in told}) == len(told)


def test_a_request_is_told_once_with_its_id(observed: Observed) -> None:
    answered = [line for line in _lines(observed.services["gateway"]) if line["event"] == "request_answered"]

    posted = [line for line in answered if line["method"] == "POST"]
    assert [line["path"] for line in posted] == ["/v1/jobs"] * len(observed.jobs)
    assert len({line["request_id"] for line in answered}) == len(answered)
