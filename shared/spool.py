"""Where things lie in the spool.

lists/<tenant>/<sha256>          a client's list, once for all jobs that name it
parts/<upload>/<offset>-<sha256> what has arrived of a list that is uploaded in parts
plans/<job>/<first chunk>.arrow  planned rows, some chunks a file; of rows taken again with a digest in the name,
                                 for what they were taken from may change before the plan is committed
"""

from uuid import UUID

LISTS = "lists/"
PARTS = "parts/"
PLANS = "plans/"


def list_key(tenant_id: UUID, sha256: str) -> str:
    return f"{LISTS}{tenant_id.hex}/{sha256}"


def part_key(upload_id: UUID, offset: int, sha256: str) -> str:
    """Named by the content too: who sends the same stretch again may cut it elsewhere."""
    return f"{PARTS}{upload_id}/{offset:014d}-{sha256[:16]}"


def upload_of(key: str) -> UUID | None:
    """The upload whose part has this key; None for a key that is no part's."""
    return _owner(key, PARTS)


def plan_key(job_id: UUID, first_ordinal: int, digest: str = "") -> str:
    mark = f"-{digest[:16]}" if digest else ""
    return f"{PLANS}{job_id}/{first_ordinal:06d}{mark}.arrow"


def job_of(key: str) -> UUID | None:
    """The job whose plan has this key; None for a key that is no plan's."""
    return _owner(key, PLANS)


def _owner(key: str, prefix: str) -> UUID | None:
    try:
        return UUID(key.removeprefix(prefix).split("/", 1)[0])
    except ValueError:
        return None
