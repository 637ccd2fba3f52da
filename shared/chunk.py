"""What a stage's work is given: the chunk it claimed, and what it may do with it.

A verb (`download`, `validate`, `upload`) is an async callable from a `Chunk` to a `StageResult`. It knows
nothing of queues, leases or states; `shared/stage.py` carries it. It is cancelled when the chunk is paused,
cancelled or lost, or its worker is asked to stop: clean up in `finally` and let the cancellation pass.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import UUID

import pyarrow as pa

from shared.pipeline import Gone
from shared.recipe import Recipe
from shared.storage.base import ObjectStore
from shared.workdir.base import Draft


@dataclass(frozen=True, kw_only=True)
class SourceRef:
    """Where a chunk's planned rows lie in the spool: an Arrow stream at a byte range of a part."""

    key: str
    offset: int
    length: int


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A chunk as its owner sees it. Valid while its fence is the newest."""

    chunk_id: int
    job_id: UUID
    dataset_id: UUID
    revision: int
    ordinal: int  #: place of the chunk in its job, from 0
    first_row: int  #: dataset-wide number of its first row
    rows: int
    recipe: Recipe
    destination: str  #: as given by the client: a folder, az://container/prefix or s3://bucket/prefix
    endpoint: str | None  #: of an S3-compatible store
    source: SourceRef
    cell: str
    fence: int
    work_fence: int | None  #: of the draft the stage before published
    attempt: int  #: from 1
    crashes: int  #: workers that died under this chunk
    restarts: int = 0  #: times it began anew
    round: int = 0  #: times it was redriven after it had failed
    gone: Gone | None = None  #: of a chunk that is refreshed: what becomes of pictures that are gone
    traceparent: str | None = None  #: of the request that made the job (`shared.trace.Trace.stored`)


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What a stage did with a chunk: `passed + Σ rejected == rows`, always."""

    passed: int
    rejected: Mapping[str, int] = field(default_factory=dict)  #: by reason, over all stages so far
    size_bytes: int = 0  #: fetched, kept or stored by this stage


@dataclass(frozen=True, kw_only=True)
class NewObject:
    """An object of the dataset that this chunk's upload made or adopted."""

    key: str
    size_bytes: int
    sha256: str


class Chunk(Protocol):
    """A claimed chunk and its surroundings."""

    @property
    def claim(self) -> Claim: ...

    async def source(self) -> pa.Table:
        """The planned rows (`records.SOURCE` and the saved columns)."""
        ...

    async def draft(self) -> Draft:
        """This claim's own part of the work area, empty."""
        ...

    async def open(self, name: str, *, fence: int | None = None) -> Path:
        """A file the stage before published (at `work_fence` unless a fence is named). Raises WorkAreaGone."""
        ...

    async def destination(self) -> ObjectStore:
        """The dataset's store; kept open and closed by the worker, not by the verb."""
        ...

    def report(self, *, done: int, passed: int, size_bytes: int) -> None:
        """Tells how far the stage is, in rows and bytes; cheap, call it as often as you like."""
        ...

    async def settle_duplicates(self, fingerprints: Mapping[int, str | None]) -> dict[str, int]:
        """Claims sha256 digests (hex) for the chunk's rows and returns the row that each digest belongs to.

        None for a row that claims nothing: what an earlier attempt claimed for it is given up. Repeating it gives
        the same answer. The lowest row wins as long as chunks come in order.
        """
        ...

    async def record_objects(self, objects: Sequence[NewObject]) -> None:
        """Remembers the dataset's objects; repeating it is harmless."""
        ...


Verb = Callable[[Chunk], Awaitable[StageResult]]
