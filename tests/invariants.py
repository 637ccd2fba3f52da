"""What must hold of every job that has ended, whatever died under it.

Each check returns what is wrong with it, in words; `broken_promises` asks them all.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
from redis import Redis

from shared.pipeline import ALLOWED_MOVES, FINAL_STATES, PIPELINE, ChunkState
from shared.waiting import KEY as WAITING_KEY
from tests.core import Board

#: Of an index row: what depends on the hour, and on how often a page had to be asked for.
CHANCE = ("fetched_at", "fetch_ms", "attempts")
_PAPERS = {"README.md", "dataset.json", "statistics.json", "_SUCCESS"}


def index_of(destination: Path) -> pa.Table:
    """All index rows of a dataset in a folder, in the order of their chunks."""
    parts = [pq.read_table(path) for path in sorted((destination / "index").glob("*.parquet"))]
    return pa.concat_tables(parts) if parts else pa.table({name: [] for name in ("row", "path", "sha256", "reason")})


def result_of(destination: Path) -> list[dict[str, object]]:
    """The index rows without what chance decides: equal for equal lists, whatever happened meanwhile."""
    table = index_of(destination)
    return table.drop_columns([name for name in CHANCE if name in table.column_names]).to_pylist()


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".janitor"}


def rows_do_not_match(destination: Path, rows: int) -> list[str]:
    """One index row for every input row, in input order."""
    found = index_of(destination)["row"].to_pylist()
    if found == list(range(rows)):
        return []
    times = Counter(found)
    lost = [row for row in range(rows) if row not in times]
    doubled = [row for row, count in times.items() if count > 1]
    return [f"index: {len(found)} rows of {rows}; lost {lost[:5]}, doubled {doubled[:5]}"]


def objects_do_not_match(destination: Path) -> list[str]:
    """Every accepted row has its object, no image has two names, no object is without an index row."""
    accepted = [row for row in index_of(destination).to_pylist() if row["path"] is not None]
    paths = [row["path"] for row in accepted]
    wrong = [f"named twice: {path}" for path, count in Counter(paths).items() if count > 1]
    digests = Counter(row["sha256"] for row in accepted)
    wrong += [f"stored under two names: {digest}" for digest, count in digests.items() if count > 1]
    stored = files_below(destination)
    wrong += [f"not stored: {path}" for path in set(paths) - stored]
    thumbnails = {row["thumbnail_path"] for row in accepted if row.get("thumbnail_path")}
    wrong += [f"not stored: {path}" for path in thumbnails - stored]
    named = set(paths) | thumbnails | {str(Path(path).with_name("metadata.parquet")) for path in paths} | _PAPERS
    return wrong + [f"without an index row: {key}" for key in stored - named if not key.startswith("index/")]


async def counts_do_not_match(board: Board, job: UUID, destination: Path) -> list[str]:
    """Rows in = accepted + Σ rejected, in the job, its chunks and its index alike."""
    (row,) = await board.run("SELECT planned_rows, counts FROM jobs WHERE id = :job", job=job)
    counted = Counter({"": row.counts["accepted"], **row.counts["rejected"]})
    indexed = Counter(reason or "" for reason in index_of(destination)["reason"].to_pylist())
    wrong = [] if +counted == +indexed else [f"counts: the job says {+counted}, its index {+indexed}"]
    if counted.total() != row.planned_rows:
        wrong.append(f"counts: {counted.total()} of {row.planned_rows} rows")
    return wrong


async def records_do_not_match(board: Board, job: UUID, destination: Path) -> list[str]:
    """What PostgreSQL knows to be stored is there, with the size it says."""
    rows = await board.run(
        "SELECT key, size_bytes FROM objects JOIN jobs USING (dataset_id) WHERE jobs.id = :job", job=job
    )
    return [
        f"recorded, but not so: {row.key}"
        for row in rows
        if not (destination / row.key).is_file() or (destination / row.key).stat().st_size != row.size_bytes
    ]


async def chunks_are_unsettled(board: Board, job: UUID) -> list[str]:
    """Chunks have ended by legal moves, and nobody owns one."""
    wrong = []
    for chunk in await board.run("SELECT * FROM chunks WHERE job_id = :job ORDER BY ordinal", job=job):
        if ChunkState(chunk.state) not in FINAL_STATES or chunk.owner or chunk.lease_until:
            wrong.append(f"chunk {chunk.ordinal}: {chunk.state}, owner {chunk.owner}")
    moves = await board.run(
        """SELECT chunk_id, from_state, to_state FROM chunk_events JOIN chunks ON chunks.id = chunk_id
           WHERE job_id = :job""",
        job=job,
    )
    illegal = {
        (move.from_state, move.to_state)
        for move in moves
        if ChunkState(move.to_state) not in ALLOWED_MOVES[ChunkState(move.from_state)]
    }
    return wrong + [f"illegal move: {move}" for move in sorted(illegal)]


async def slots_are_held(board: Board) -> list[str]:
    return [f"slots still held by chunks {sorted(held)}"] if (held := await board.held_slots()) else []


async def poison_is_kept(board: Board) -> list[str]:
    return [f"poison: {row.error}" for row in await board.run("SELECT error FROM poison_messages")]


def queues_are_full(redis: Redis) -> list[str]:
    """Bells, unacknowledged ones and the priority set."""
    lengths = {stage.queue: redis.llen(stage.queue) for stage in PIPELINE}
    lengths |= {str(key): redis.hlen(key) for key in redis.scan_iter("*unacked*", _type="hash")}
    lengths |= {"waiting": redis.zcard(WAITING_KEY)}
    return [f"{length} left in {name}" for name, length in lengths.items() if length]


def work_is_left(work: Path) -> list[str]:
    left = [str(path.relative_to(work)) for path in work.rglob("*") if path.name != ".janitor"]
    return [f"left in the work area: {', '.join(sorted(left)[:5])}"] if left else []


async def broken_promises(
    board: Board, job: UUID, *, destination: Path, rows: int, work: Path, redis: Redis
) -> list[str]:
    """What does not hold of a finished job in a system at rest; empty when all is well."""
    wrong = rows_do_not_match(destination, rows) + objects_do_not_match(destination)
    for check in (counts_do_not_match, records_do_not_match):
        wrong += await check(board, job, destination)
    wrong += await chunks_are_unsettled(board, job)
    wrong += await slots_are_held(board) + await poison_is_kept(board)
    quiet: tuple[Callable[[], list[str]], ...] = (lambda: queues_are_full(redis), lambda: work_is_left(work))
    return wrong + [trouble for look in quiet for trouble in look()]
