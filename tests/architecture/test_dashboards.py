"""Dashboards and alerts are made of metrics that exist, and no metric is collected that nobody looks at."""

import re
from collections.abc import Iterable, Iterator

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.metrics import MetricWrapperBase

from infra.grafana import build
from infra.grafana.pages import DASHBOARDS
from shared import metrics
from shared.pipeline import PIPELINE
from tests.architecture.tree import ROOT

_ALERTS = [
    rule
    for group in yaml.safe_load((ROOT / "infra" / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
_RUNBOOKS = ROOT / "docs" / "runbooks"


def told() -> Iterator[str]:
    """The names of all series that services tell."""
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            for family in metric.describe():
                name = family.name
                yield from {
                    "counter": (f"{name}_total",),
                    "histogram": (f"{name}_bucket", f"{name}_count", f"{name}_sum"),
                }.get(family.type, (name,))


def named_in(expressions: Iterable[str]) -> set[str]:
    return {name for expression in expressions for name in re.findall(r"\bpixcrawler_[a-z_]+", expression)}


QUERIES = [query.expr for dashboard in DASHBOARDS for _, query in dashboard.queries]
EXPRESSIONS = [rule["expr"] for rule in _ALERTS]


def test_the_files_are_those_that_the_pages_say() -> None:
    assert {path.name: path.read_text() for path in build.FOLDER.iterdir()} == build.files(), "run `make dashboards`"


def test_each_service_has_a_dashboard() -> None:
    services = {"system", "gateway", "scheduler", *(stage.service for stage in PIPELINE)}

    assert {dashboard.uid for dashboard in DASHBOARDS} == {f"pixcrawler-{name}" for name in services}


def test_every_metric_that_is_asked_for_is_told() -> None:
    assert named_in([*QUERIES, *EXPRESSIONS]) - set(told()) == set()


def test_every_metric_that_is_told_is_looked_at() -> None:
    looked_at = {_family(name) for name in named_in([*QUERIES, *EXPRESSIONS])}

    assert set(map(_family, told())) - looked_at == set(), "give it a panel in infra/grafana/pages.py"


def _family(series: str) -> str:
    return re.sub(r"_(bucket|count|sum)$", "", series)


def test_runbooks_name_settings_that_exist() -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text()
    named = {name for path in _RUNBOOKS.glob("*.md") for name in re.findall(r"PIXCRAWLER_[A-Z_]+", path.read_text())}

    assert {name for name in named if f"`{name}`" not in page} == set()


@pytest.mark.parametrize("rule", _ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_how_soon_and_names_its_runbook(rule: dict[str, dict[str, str]]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    runbook = ROOT / rule["annotations"]["runbook"]
    text = runbook.read_text()
    assert runbook.parent == _RUNBOOKS
    assert str(rule["alert"]) in text.splitlines()[0]
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["What it means", "What to look at", "What to do"]


def test_there_is_no_runbook_without_an_alert() -> None:
    named = {rule["annotations"]["runbook"] for rule in _ALERTS}

    assert {f"docs/runbooks/{path.name}" for path in _RUNBOOKS.glob("*.md")} - named == {"docs/runbooks/index.md"}
