"""Writes dashboards/*.json from pages.py: `make dashboards`. A test refuses stale ones."""

import json
from pathlib import Path

from infra.grafana.pages import DASHBOARDS
from infra.grafana.panels import to_json

FOLDER = Path(__file__).with_name("dashboards")


def files() -> dict[str, str]:
    """The text of each file, by its name."""
    return {
        f"{dashboard.uid}.json": json.dumps(to_json(dashboard, DASHBOARDS), indent=1) + "\n" for dashboard in DASHBOARDS
    }


def main() -> None:
    """Makes the folder hold these files and no other."""
    wanted = files()
    for stale in {path.name for path in FOLDER.glob("*.json")} - wanted.keys():
        (FOLDER / stale).unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
