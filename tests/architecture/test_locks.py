"""The locks say exactly what is installed, with hashes, and not where it comes from."""

import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.tree import ROOT, SERVICES

_LOCKS = ROOT / "infra" / "requirements"
_NAMES = ("client", "service", *SERVICES, "local", "otel", "sentry", "flower", "dev", "docs", "build", "audit")
#: `make audit` has an environment of its own.
_APART = ("audit",)
#: Not installed for development; what both hold must be the same.
_MORE_THAN_DEV = ("otel", "flower")
_PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@cache
def _pins(lock: str) -> frozenset[str]:
    """`name==version` of each line, without markers."""
    text = (_LOCKS / f"{lock}.txt").read_text()
    return frozenset(re.findall(r"^([a-z0-9][^\s;\\]*==[^\s;\\]+)", text, re.MULTILINE))


def _name(pin: str) -> str:
    return pin.partition("==")[0]


def _declared(extra: str | None) -> list[Requirement]:
    """What pyproject asks for, the project's own extras resolved."""
    project = _PYPROJECT["project"]
    listed = list(project["dependencies"])
    waiting = [extra] if extra else []
    while waiting:
        for line in project["optional-dependencies"][waiting.pop()]:
            requirement = Requirement(line)
            if requirement.name == project["name"]:
                waiting.extend(requirement.extras)
            else:
                listed.append(line)
    return [Requirement(line) for line in listed]


def test_there_is_a_lock_for_everything_that_can_be_installed() -> None:
    present = {path.stem for path in _LOCKS.glob("*.txt")}

    assert present == set(_NAMES)


@pytest.mark.parametrize("lock", _NAMES)
def test_a_lock_names_no_place(lock: str) -> None:
    text = (_LOCKS / f"{lock}.txt").read_text()

    assert "://" not in text
    assert not re.search(r"^\s*-", text.replace("    --hash=sha256:", ""), re.MULTILINE)
    assert " @ " not in text


@pytest.mark.parametrize("lock", _NAMES)
def test_every_line_of_a_lock_has_a_hash(lock: str) -> None:
    text = (_LOCKS / f"{lock}.txt").read_text()
    entries = re.split(r"\n(?=\S)", text.strip())

    assert entries
    assert [entry for entry in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)] == []


@pytest.mark.parametrize("lock", [name for name in _NAMES if name != "dev" and name not in _APART])
def test_a_library_has_one_version_everywhere(lock: str) -> None:
    others = set(_pins(lock) - _pins("dev"))
    if lock in _MORE_THAN_DEV:
        others = {pin for pin in others if _name(pin) in {_name(known) for known in _pins("dev")}}

    assert not others


@pytest.mark.parametrize("lock", [name for name in _NAMES if name != "build" and name not in _APART])
def test_a_lock_holds_what_pyproject_asks_for(lock: str) -> None:
    pinned: dict[str, list[str]] = {}
    for pin in _pins(lock):
        name, _, version = pin.partition("==")
        pinned.setdefault(canonicalize_name(re.sub(r"\[.*", "", name)), []).append(version)

    stale = [
        str(requirement)
        for requirement in _declared(None if lock == "client" else lock)
        if not any(
            requirement.specifier.contains(version) for version in pinned.get(canonicalize_name(requirement.name), [])
        )
    ]

    assert not stale, f"run `make lock`: {lock}.txt lacks {', '.join(stale)}"


def test_what_builds_the_project_is_locked() -> None:
    asked = _PYPROJECT["build-system"]["requires"]
    written = [line for line in (_LOCKS / "build.in").read_text().splitlines() if line and not line.startswith("#")]

    assert set(asked) <= set(written)
    assert set(asked) <= _pins("build")


def test_no_lock_records_download_addresses() -> None:
    forbidden = ("uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock", "pylock.toml")

    assert [name for name in forbidden if Path(ROOT, name).exists()] == []
