"""Shows the dashboards' figures as text, where there is no Grafana: `python -m infra.grafana.show http://127.0.0.1:9090`.

Each query is asked as of now; a curve is shown by its last point.
"""

import argparse
import json
import re
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping

from infra.grafana.pages import DASHBOARDS
from infra.grafana.panels import Dashboard, Panel, Query

#: In place of Grafana's variable, which fits it to the width of the picture.
RATE_INTERVAL = "2m"
_PATIENCE_SECONDS = 20
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def text(prometheus: str, dashboard: Dashboard) -> str:
    """A dashboard's figures. Raises OSError when Prometheus does not answer."""
    return "\n".join(_lines(prometheus, dashboard)) + "\n"


def figures(prometheus: str, query: Query) -> dict[str, float]:
    """The last value of each series of a query, by its legend; what has none yet is left out."""
    asked = urllib.parse.urlencode({"query": query.expr.replace("$__rate_interval", RATE_INTERVAL)})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query?{asked}", timeout=_PATIENCE_SECONDS) as answer:
        series = json.load(answer)["data"]["result"]
    told = {_called(query.legend, each["metric"]): float(each["value"][1]) for each in series}
    return {name: value for name, value in sorted(told.items()) if value == value}


def _called(legend: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda label: labels.get(label[1], ""), legend)


def _lines(prometheus: str, dashboard: Dashboard) -> Iterator[str]:
    yield dashboard.title
    for row in dashboard.rows:
        yield f"\n  {row.title}"
        for panel in row.panels:
            shown = list(_values(prometheus, panel))
            yield f"    {panel.title:<44} {shown[0] if len(shown) == 1 else ''}".rstrip()
            if len(shown) > 1:
                yield from (f"      {each}" for each in shown)


def _values(prometheus: str, panel: Panel) -> Iterator[str]:
    for query in panel.queries:
        for name, value in figures(prometheus, query).items():
            shown = readable(value, panel.unit)
            yield f"{name:<42} {shown}" if name else shown


def readable(value: float, unit: str) -> str:
    """A value for people."""
    match unit:
        case "percentunit":
            return f"{value:.1%}"
        case "bytes":
            return _bytes(value)
        case "Bps":
            return _bytes(value) + "/s"
        case "s":
            return f"{value:.3g} s"
        case "cps" | "reqps" | "ops":
            return f"{value:.3g}/s"
        case _:
            return f"{value:g}"


def _bytes(value: float) -> str:
    place = 0
    while value >= 1024 and place < len(_BINARY) - 1:
        value, place = value / 1024, place + 1
    return f"{value:.3g} {_BINARY[place]}"


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description="Shows the dashboards' figures as text")
    parser.add_argument("prometheus", help="its address, http://127.0.0.1:9090")
    names = [dashboard.uid.removeprefix("pixcrawler-") for dashboard in DASHBOARDS]
    parser.add_argument("dashboard", nargs="*", help="all, unless named: " + ", ".join(names))
    asked = parser.parse_args(arguments)
    if unknown := set(asked.dashboard) - set(names):
        parser.error(f"there is no dashboard {', '.join(sorted(unknown))}")
    for name, dashboard in zip(names, DASHBOARDS, strict=True):
        if name in (asked.dashboard or names):
            sys.stdout.write(text(asked.prometheus, dashboard) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
