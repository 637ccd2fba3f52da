"""Pages that the code knows best are fresh, and the documentation builds without a warning."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from shared.recipe import Recipe
from tests.architecture.tree import ROOT


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_pages_are_fresh(generator: ModuleType) -> None:
    stale = [
        name
        for name, text in generator.pages().items()
        if not (generator.REFERENCE / name).exists() or (generator.REFERENCE / name).read_text() != text
    ]

    assert not stale, f"run `make docs`: {', '.join(stale)}"


def test_every_setting_is_described(generator: ModuleType) -> None:
    silent = [
        f"{owner.__name__}.{name}"
        for owner in generator.settings_classes().values()
        for name, field in generator.own_fields(owner).items()
        if not field.description
    ]

    assert not silent, ", ".join(silent)


def test_every_setting_is_on_the_settings_page(generator: ModuleType) -> None:
    page = (generator.REFERENCE / "settings.md").read_text()

    missing = [
        name
        for owner in generator.settings_classes().values()
        for name in owner.model_fields
        if f"`PIXCRAWLER_{name.upper()}`" not in page
    ]

    assert not missing, ", ".join(missing)


def test_every_test_that_a_page_names_exists() -> None:
    written = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text())
    }
    missing = {
        f"{page.name}: {name}"
        for page in (ROOT / "docs" / "explanation").glob("*.md")
        for name in re.findall(r"`(test_\w+)`", page.read_text())
        if name not in written
    }

    assert not missing, ", ".join(sorted(missing))


def test_every_field_of_the_recipe_is_described() -> None:
    assert [name for name, field in Recipe.model_fields.items() if not field.description] == []


@pytest.mark.timeout(300)
def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    source = tmp_path / "docs"
    _copy_sources(source)

    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-b", "dummy", "-W", "-q", "--keep-going", source, tmp_path / "built"],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )

    assert done.returncode == 0, done.stderr


def _copy_sources(target: Path) -> None:
    """The pages beside links to the packages they describe: building writes among the pages."""
    for path in (ROOT / "docs").rglob("*"):
        relative = path.relative_to(ROOT / "docs")
        if path.is_file() and relative.parts[0] not in ("_build", "autoapi", "__pycache__"):
            copy = target / relative
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    for name in ("shared", "pixcrawler", "pyproject.toml"):
        (target.parent / name).symlink_to(ROOT / name)
