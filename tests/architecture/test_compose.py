"""What docker-compose.yml and the Dockerfile promise, and that they say what the declaration says."""

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.pipeline import PIPELINE, Stage
from tests.architecture.tree import ROOT, SERVICES

_FILE = ROOT / "docker-compose.yml"
_DOCKERFILE = ROOT / "infra" / "docker" / "Dockerfile"
#: Loopback, or the one port that clients reach.
_PUBLISHED = re.compile(r"127\.0\.0\.1:|\$\{PIXCRAWLER_PORT:-8080\}:8080$")
#: Compose 2 knows them and docker-compose 1.29 refuses the file.
_TOO_NEW = ("name:", "develop:", "include:", "start_interval:", "required:", "configs:", "!reset", "!override")


@cache
def _services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(_FILE.read_text())["services"]
    return found


def _seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_composed_of_its_own_image(service: str) -> None:
    found = _services()[service]

    assert found["image"] == f"pixcrawler-{service}:${{PIXCRAWLER_TAG:-latest}}"
    assert found["build"]["target"] == service
    assert "entrypoint" not in found
    assert "command" not in found


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_starts_its_service_directly(service: str) -> None:
    target = _DOCKERFILE.read_text().partition(f"FROM common AS {service}\n")[2].partition("\nFROM ")[0]

    assert f"COPY {service} {service}\n" in target
    assert target.endswith(f'CMD ["python", "-m", "{service}"]\n')
    assert not [other for other in SERVICES if other != service and f"COPY {other} " in target]


@pytest.mark.parametrize("name", sorted(_services()))
def test_every_container_is_hardened(name: str) -> None:
    found = _services()[name]

    assert found["init"]
    assert found["read_only"]
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["mem_limit"]
    assert found["pids_limit"]
    assert found["logging"]["options"]["max-size"]


def test_only_the_gateway_is_reached_from_other_machines() -> None:
    ports = {name: port for name, found in _services().items() for port in found.get("ports", [])}

    assert [name for name, port in ports.items() if not _PUBLISHED.match(port)] == []
    assert [name for name, port in ports.items() if not port.startswith("127.0.0.1:")] == ["gateway"]


@pytest.mark.parametrize("stage", PIPELINE, ids=lambda stage: stage.name)
def test_a_stage_is_given_the_time_to_hand_its_chunks_back(stage: Stage) -> None:
    grace = _seconds(_services()[stage.service]["stop_grace_period"])

    assert grace > stage.soft_stop.total_seconds() + 10


def test_it_stays_in_what_both_versions_of_compose_read() -> None:
    lines = [line.strip() for line in _FILE.read_text().splitlines() if not line.lstrip().startswith("#")]

    assert [line for line in lines if line.startswith(_TOO_NEW)] == []


def test_no_secret_has_a_default_and_make_env_makes_each(tmp_path: Path) -> None:
    text = _FILE.read_text()
    asked = set(re.findall(r"\$\{(\w+):\?run make env\}", text))
    secrets = set(re.findall(r"\$\{(\w*(?:PASSWORD|KEY)\w*)[:}]", text))

    made = _made(tmp_path / ".env")

    assert secrets <= asked
    assert asked <= made.keys()
    assert all(len(made[name]) >= 32 for name in asked)
    assert len({made[name] for name in asked}) == len(asked)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


def test_make_env_adds_what_is_missing_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("POSTGRES_PASSWORD=my-own\nMY_SETTING=1\n")

    first = _made(file)
    second = _made(file)

    assert first == second
    assert (first["POSTGRES_PASSWORD"], first["MY_SETTING"]) == ("my-own", "1")
    assert "REDIS_PASSWORD_ADMIN" in first


def test_grafana_finds_what_it_is_given_where_its_files_say() -> None:
    """Its image is not to be had everywhere; whether what it reads is there, and is consistent, is seen here."""
    mounts = {mount.split(":")[1]: mount.split(":")[0] for mount in _services()["grafana"]["volumes"]}
    provisioning = ROOT / mounts["/etc/grafana/provisioning"]
    provider = yaml.safe_load((provisioning / "dashboards" / "pixcrawler.yml").read_text())["providers"][0]
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"][0]

    dashboards = list((ROOT / mounts[provider["options"]["path"]]).glob("*.json"))

    assert dashboards
    assert source["url"] == f"http://{source['type']}:9090"
    assert set(_services()["grafana"]["networks"]) & set(_services()[source["type"]]["networks"])
    for file in dashboards:
        assert json.loads(file.read_text())["title"].startswith("PixCrawler"), file


def _made(file: Path) -> dict[str, str]:
    subprocess.run(["sh", str(ROOT / "infra" / "setup" / "env.sh"), str(file)], check=True, timeout=60)
    lines = (line.partition("=") for line in file.read_text().splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in lines}


def test_stages_without_a_lock_of_their_own_need_what_all_need() -> None:
    """Their images install the common wheels and no more."""
    locks = {name: (ROOT / "infra" / "requirements" / f"{name}.txt").read_text() for name in ("service", *SERVICES)}
    installed = set(re.findall(r"-r requirements/(\w+)\.txt", _DOCKERFILE.read_text()))

    assert {name for name, lock in locks.items() if lock != locks["service"]} <= installed
