"""Compares the images that both contenders make of the same URLs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from tests.bench.runs import Ground, path_of, run_ours, run_peer


def largest_difference(ground: Ground, choices: Sequence[str]) -> Sequence[str]:
    """How many images were compared, and their mean absolute differences: the median one and the worst."""
    places: list[Mapping[str, Path]] = []
    run_ours(ground, choices, then=lambda out: places.append(_ours(out)))
    ours = {path: np.asarray(Image.open(file).convert("RGB"), np.int16) for path, file in places[0].items()}
    run_peer(ground, (), then=lambda out: places.append(_peers(out)))
    differences = [
        _difference(ours[path], np.asarray(Image.open(file).convert("RGB"), np.int16))
        for path, file in places[1].items()
        if path in ours
    ]
    return (f"{len(differences):,}", f"{median(differences):.2f}", f"{max(differences):.2f}")


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).mean()) if one.shape == other.shape else 255.0


def _ours(out: Path) -> dict[str, Path]:
    rows = [row for path in (out / "index").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    return {path_of(row["url"]): out / row["path"] for row in rows if row["reason"] is None}


def _peers(out: Path) -> dict[str, Path]:
    rows = [row for path in out.glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    return {
        path_of(row["url"]): out / row["key"][:5] / f"{row['key']}.jpg" for row in rows if row["status"] == "success"
    }
