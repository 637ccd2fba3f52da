"""What dashboards are made of, and how a declaration becomes Grafana's JSON.

Only what we say is written down; Grafana fills in its own defaults. Places follow from the order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["timeseries", "stat"]
Json = dict[str, Any]

_COLUMNS = 24
_SIZES: dict[Kind, tuple[int, int]] = {"timeseries": (8, 8), "stat": (4, 4)}
#: Of Grafana's dashboard model; what we write is read by 10 and later.
_SCHEMA_VERSION = 39
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, kw_only=True)
class Query:
    """A PromQL expression, and how its series are called: `{{label}}` is replaced."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: Kind = "timeseries"
    #: What a person should read out of it.
    description: str = ""
    is_stacked: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """One page. `uid` names its file and its address."""

    uid: str
    title: str
    rows: tuple[Row, ...]

    @property
    def queries(self) -> Iterator[tuple[str, Query]]:
        """Every query, with the title of its panel."""
        for row in self.rows:
            for panel in row.panels:
                for query in panel.queries:
                    yield panel.title, query


def to_json(dashboard: Dashboard, others: Sequence[Dashboard]) -> Json:
    """Grafana's model of the dashboard, with links to the others."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["pixcrawler"],
        "timezone": "browser",
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "schemaVersion": _SCHEMA_VERSION,
        "time": {"from": "now-1h", "to": "now"},
        "links": [_link(other) for other in others if other is not dashboard],
        "templating": {
            "list": [{"name": "datasource", "label": "Source", "type": "datasource", "query": "prometheus"}]
        },
        "panels": list(_placed(dashboard)),
    }


def _link(dashboard: Dashboard) -> Json:
    return {"title": dashboard.title, "type": "link", "url": f"/d/{dashboard.uid}", "keepTime": True}


def _placed(dashboard: Dashboard) -> Iterator[Json]:
    number, top = 0, 0
    for row in dashboard.rows:
        number += 1
        yield {"id": number, "type": "row", "title": row.title, "gridPos": _place(0, top, _COLUMNS, 1)}
        top, left, tallest = top + 1, 0, 0
        for panel in row.panels:
            width, height = _SIZES[panel.kind]
            if left + width > _COLUMNS:
                top, left, tallest = top + tallest, 0, 0
            number += 1
            yield _panel(panel) | {"id": number, "gridPos": _place(left, top, width, height)}
            left, tallest = left + width, max(tallest, height)
        top += tallest


def _place(left: int, top: int, width: int, height: int) -> Json:
    return {"x": left, "y": top, "w": width, "h": height}


def _panel(panel: Panel) -> Json:
    custom = {"fillOpacity": 10, "showPoints": "never"}
    if panel.is_stacked:
        custom |= {"stacking": {"mode": "normal"}}
    defaults: Json = {"unit": panel.unit, "min": 0}
    if panel.kind == "timeseries":
        defaults["custom"] = custom
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "expr": query.expr, "legendFormat": query.legend, "datasource": _SOURCE}
            for place, query in enumerate(panel.queries)
        ],
    }
