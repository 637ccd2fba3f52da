"""A dataset in a folder as a client reads it, of however many revisions: one truth, and pictures that bear it out."""

import hashlib
import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from shared.reasons import ELSEWHERE


def rows_of(destination: Path) -> dict[int, dict[str, Any]]:
    """The dataset's rows by number, each as the index has it in which it stands."""
    rows: dict[int, dict[str, Any]] = {}
    for path in sorted((destination / "index").glob("*.parquet")):
        rows |= {row["row"]: row for row in pq.read_table(path).to_pylist() if row["reason"] not in ELSEWHERE}
    return rows


def outcomes(destination: Path) -> Counter[str]:
    return Counter(row["reason"] or "" for row in rows_of(destination).values())


def totals(destination: Path) -> Counter[str]:
    told = json.loads((destination / "dataset.json").read_text())["totals"]
    return Counter({"": told["accepted"], **told["rejected_by_reason"]})


def pictures_in(destination: Path) -> Counter[str]:
    """What a loader finds: the digests of all pictures below `data/`."""
    found: Counter[str] = Counter()
    for path in (destination / "data").rglob("*"):
        if path.suffix == ".jpg":
            found[hashlib.sha256(path.read_bytes()).hexdigest()] += 1
        elif path.suffix == ".tar":
            with tarfile.open(path) as tar:
                members = [tar.extractfile(member) for member in tar if member.name.endswith(".jpg")]
                found.update(hashlib.sha256((file or io.BytesIO()).read()).hexdigest() for file in members)
        elif path.suffix == ".parquet" and path.name != "metadata.parquet":
            images = pq.read_table(path)["image"].to_pylist()
            found.update(hashlib.sha256(image["bytes"]).hexdigest() for image in images)
    return found


def is_consistent(destination: Path) -> None:
    """A loader finds each accepted row's picture once and nothing else; indexes, files and papers say the same."""
    accepted = [row for row in rows_of(destination).values() if row["reason"] is None]
    assert pictures_in(destination) == Counter(row["stored_sha256"] for row in accepted)
    paths = {row[name] for row in accepted for name in ("path", "thumbnail_path")} - {None}
    assert all((destination / path).exists() for path in paths)
    assert totals(destination) == outcomes(destination)
    figures = json.loads((destination / "statistics.json").read_text())
    assert Counter({"": figures["accepted"], **figures["rejected_by_reason"]}) == outcomes(destination)
    named = [pq.read_table(path)["file_name"].to_pylist() for path in destination.rglob("metadata.parquet")]
    if named:
        assert sorted(name for names in named for name in names) == sorted(Path(row["path"]).name for row in accepted)
