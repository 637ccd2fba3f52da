"""What a dataset says of itself: `dataset.json` for programs, `_SUCCESS` for those who wait.

`shared/card.py` adds `README.md` for people and loaders, `shared/statistics.py` figures. Values in, bytes out; the
scheduler stores them.
`dataset.json` and the card are written when a job begins and replaced when it ends; `_SUCCESS` comes last and
holds the revision.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

import pyarrow as pa

from shared.chunk import NewObject
from shared.recipe import Recipe

MANIFEST_KEY = "dataset.json"
CARD_KEY = "README.md"
STATISTICS_KEY = "statistics.json"
SUCCESS_KEY = "_SUCCESS"

MANIFEST_TYPE = "application/json"
CARD_TYPE = "text/markdown; charset=utf-8"
STATISTICS_TYPE = "application/json"
SUCCESS_TYPE = "text/plain; charset=utf-8"

#: Of `dataset.json`; raised when a field changes its meaning.
_MANIFEST_VERSION = 1
_LONGEST_NAME = 120


class PaperState(StrEnum):
    """What a reader may expect of the destination."""

    BUILDING = "building"
    COMPLETE = "complete"
    CANCELLED = "cancelled"  #: what was stored before the job was withdrawn; each index is whole


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """All that the papers are made of. No time of day, so that equal datasets have equal papers."""

    dataset_id: UUID
    job_id: UUID
    revision: int
    #: As the client wrote it; anything may stand in it.
    name: str
    state: PaperState
    recipe: Recipe
    #: sha256 of the list that was asked for, hex.
    list_digest: str
    software_version: str
    #: These three count the whole dataset, over all of its revisions.
    rows: int = 0
    accepted: int = 0
    #: By reason code; `rows == accepted + Σ rejected` once complete.
    rejected: Mapping[str, int] = field(default_factory=dict)
    #: The client's own columns (`shared.index.saved_fields`); None when they are not known, and then not declared.
    saved: Sequence[pa.Field] | None = None
    #: Of all revisions, as `Chunk.record_objects` was told.
    objects: Sequence[NewObject] = ()


def manifest(dataset: Dataset) -> bytes:
    """`dataset.json`. For the `files` format each image's hash stands in the index, not here."""
    rejected = {reason: count for reason, count in sorted(dataset.rejected.items()) if count}
    content = {
        "version": _MANIFEST_VERSION,
        "dataset": str(dataset.dataset_id),
        "job": str(dataset.job_id),
        "revision": dataset.revision,
        "name": plain(dataset.name),
        "state": dataset.state.value,
        "format": dataset.recipe.output_format.value,
        "recipe": dataset.recipe.model_dump(mode="json"),
        "recipe_sha256": dataset.recipe.digest(),
        "list_sha256": dataset.list_digest,
        "software": f"pixcrawler {dataset.software_version}",
        "totals": {
            "rows": dataset.rows,
            "accepted": dataset.accepted,
            "rejected": sum(rejected.values()),
            "rejected_by_reason": rejected,
            "bytes": sum(item.size_bytes for item in dataset.objects),
        },
        "objects": [
            {"key": item.key, "bytes": item.size_bytes, "sha256": item.sha256}
            for item in sorted(dataset.objects, key=lambda item: item.key)
        ],
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def success(dataset: Dataset) -> bytes:
    """`_SUCCESS`: the revision that is whole."""
    return f"{dataset.revision}\n".encode()


def plain(name: str) -> str:
    """A client's name as one line without control characters, or a stand-in when nothing is left."""
    printable = "".join(" " if unicodedata.category(letter)[0] in "CZ" else letter for letter in name)
    return " ".join(printable.split())[:_LONGEST_NAME] or "Images"
