"""Each part installs and imports alone, with nothing but what its own lock names."""

import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, SERVICES

#: Imports every module below the package named first, except those that run when imported.
_IMPORT_ALL = """
import importlib, pkgutil, sys
name, *left_out = sys.argv[1:]
package = importlib.import_module(name)
for found in pkgutil.walk_packages(package.__path__, name + "."):
    if not found.name.endswith("__main__") and not any(found.name.startswith(part) for part in left_out):
        importlib.import_module(found.name)
"""
_LOADED_LATE = (
    "kombu.transport.redis",
    "alembic.command",
    "azure.storage.blob.aio",
    "azure.identity.aio",
    "boto3",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "asyncpg",
)
_LOCKS = ROOT / "infra" / "requirements"
_INSTALL_LIMIT_SECONDS = 240


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The interpreter of a fresh environment for each lock, two made at a time."""
    folder = tmp_path_factory.mktemp("environments")
    wheel = _build(folder)
    names = ("client", *SERVICES)
    with ThreadPoolExecutor(max_workers=2) as makers:
        made = makers.map(lambda name: _make(folder / name, _LOCKS / f"{name}.txt", wheel), names)
        return dict(zip(names, made, strict=True))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_needs_nothing_but_its_own_extra(environments: dict[str, Path], service: str, tmp_path: Path) -> None:
    _run([environments[service], "-I", "-c", _IMPORT_ALL, service], cwd=tmp_path)
    # What is loaded only when it is used.
    _run([environments[service], "-I", "-c", "; ".join(f"import {name}" for name in _LOADED_LATE)], cwd=tmp_path)


@pytest.mark.timeout(600)
def test_the_client_needs_nothing_but_the_bare_install(environments: dict[str, Path], tmp_path: Path) -> None:
    _run([environments["client"], "-I", "-c", _IMPORT_ALL, "pixcrawler", "pixcrawler.sample"], cwd=tmp_path)
    _run([environments["client"], "-I", "-c", "import shared.pipeline, shared.reasons, shared.errors"], cwd=tmp_path)


@pytest.mark.timeout(600)
def test_the_client_does_not_bring_the_services_libraries(environments: dict[str, Path], tmp_path: Path) -> None:
    done = subprocess.run(
        [environments["client"], "-I", "-c", "import downloader.app"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert "ModuleNotFoundError" in done.stderr


def _build(folder: Path) -> Path:
    """The project's wheel, by the locked build tools; the checkout stays as it is."""
    _run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT)
    return next(folder.glob("*.whl"))


def _make(folder: Path, lock: Path, wheel: Path) -> Path:
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    _install(python, "--require-hashes", "--requirement", str(lock))
    _install(python, "--no-deps", str(wheel))
    return python


def _install(python: Path, *arguments: str) -> None:
    """By uv, which is quick; by pip where only pip has been told of an index."""
    fast = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python, *arguments]
    done = subprocess.run(fast, capture_output=True, check=False, timeout=_INSTALL_LIMIT_SECONDS)
    if done.returncode:
        _run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *arguments], cwd=python.parent)


def _run(command: list[str | Path], *, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=_INSTALL_LIMIT_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
