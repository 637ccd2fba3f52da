"""Commands that the pages name exist."""

import re
import subprocess

import pytest

from tests.architecture.tree import ROOT, texts

_MAKEFILE = (ROOT / "Makefile").read_text()
_TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):", _MAKEFILE, re.MULTILINE))


def _named_targets(text: str) -> set[str]:
    """The targets of `make …` in code, not in prose."""
    code = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE) + re.findall(r"`([^`\n]+)`", text)
    return {target for block in code for target in re.findall(r"(?:^|[\s$&;])make ([a-z][a-z0-9-]*)", " " + block)}


def test_every_make_command_on_a_page_exists() -> None:
    unknown = [
        f"{path}: make {target}"
        for path, text in texts()
        if path.suffix == ".md"
        for target in sorted(_named_targets(text) - _TARGETS)
    ]

    assert not unknown, "\n".join(unknown)


@pytest.mark.parametrize("target", ["run", "test"])
def test_the_readme_names_the_two_commands_that_set_everything_up(target: str) -> None:
    assert target in _named_targets((ROOT / "README.md").read_text())


def test_make_alone_lists_every_public_command() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout
    documented = set(re.findall(r"^  ([a-z][a-z0-9-]*) ", listed, re.MULTILINE))

    assert documented == _TARGETS - {"help"}
