"""What happens to a chunk is said in `shared/pipeline.py` and derived everywhere else."""

import ast
import subprocess
import sys

import pytest

from shared.pipeline import ALLOWED_MOVES, FINAL_STATES, PIPELINE, SLOT_STATES, ChunkState, next_stage
from tests.architecture.tree import ROOT, SERVICES, modules

_STAGE_NAMES = {stage.name for stage in PIPELINE}
_STAGE_CONSTANTS = {stage.name.upper() for stage in PIPELINE}


def _asks_which_stage(comparison: ast.Compare) -> bool:
    sides = [comparison.left, *comparison.comparators]
    names = {side.id for side in sides if isinstance(side, ast.Name)}
    names |= {side.attr for side in sides if isinstance(side, ast.Attribute)}
    texts = {side.value for side in sides if isinstance(side, ast.Constant) and isinstance(side.value, str)}
    return bool(names & _STAGE_CONSTANTS) or ("stage" in names and bool(texts & _STAGE_NAMES))


def test_no_code_asks_which_stage_it_is() -> None:
    found = [
        f"{path}:{node.lineno}: the declaration lacks a field"
        for path, text in modules()
        if path.as_posix() != "shared/pipeline.py"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Compare) and _asks_which_stage(node)
    ]

    assert not found, "\n".join(found)


def test_the_contracts_between_packages_hold() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_opens_with_the_same_names(service: str) -> None:
    missing = [
        name for name in ("__init__", "__main__", "app", "settings") if not (ROOT / service / f"{name}.py").exists()
    ]

    assert not missing, f"{service} lacks {', '.join(missing)}"


@pytest.mark.parametrize("stage", PIPELINE, ids=lambda stage: stage.name)
def test_every_stage_has_a_service_with_a_door_and_a_verb(stage: object) -> None:
    service, name = stage.service, stage.name  # type: ignore[attr-defined]

    assert (ROOT / service / "tasks.py").exists()
    assert (ROOT / service / f"{name}.py").exists()


def test_every_state_can_be_left_or_is_final() -> None:
    assert set(ALLOWED_MOVES) == set(ChunkState)
    stuck = {state for state, targets in ALLOWED_MOVES.items() if not targets - {state}}

    assert stuck == FINAL_STATES - {ChunkState.FAILED}


def test_a_chunk_in_a_stage_holds_a_slot() -> None:
    assert all({stage.ready, stage.running} <= SLOT_STATES for stage in PIPELINE)
    assert [next_stage(stage) for stage in PIPELINE] == [*PIPELINE[1:], None]
