"""Where things lie in the spool.

lists/<tenant>/<sha256>          a client's list, once for all jobs that name it
plans/<job>/<first chunk>.arrow  planned rows, some chunks a file; of rows taken again with a digest in the name,
                                 for what they were taken from may change before the plan is committed
"""

from uuid import UUID

LISTS = "lists/"
PLANS = "plans/"


def list_key(tenant_id: UUID, sha256: str) -> str:
    return f"{LISTS}{tenant_id.hex}/{sha256}"


def plan_key(job_id: UUID, first_ordinal: int, digest: str = "") -> str:
    mark = f"-{digest[:16]}" if digest else ""
    return f"{PLANS}{job_id}/{first_ordinal:06d}{mark}.arrow"


def job_of(key: str) -> UUID | None:
    """The job whose plan has this key; None for a key that is no plan's."""
    try:
        return UUID(key.removeprefix(PLANS).split("/", 1)[0])
    except ValueError:
        return None
