"""What is owed to webhooks. Clients' statements name the webhook, once it was found to be theirs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.notices import DeliveryState, Notice
from shared.pipeline import JobState

#: Deliveries that may wait for a webhook; one more is given up at once, and stays in the record.
MOST_PENDING = 1000
_TOO_MANY = f"{MOST_PENDING} others waited for this webhook"
#: For so long nothing is sent to a webhook after an attempt in vain, or for the notice's own pause if that is shorter.
_LONGEST_REST = timedelta(minutes=1)
_LONGEST_ERROR = 500


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A notice, and how its delivery went."""

    id: UUID
    event: Notice
    payload: dict[str, Any]
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime | None  #: None when it is not pending
    delivered_at: datetime | None
    last_status: int | None
    last_error: str | None
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Due:
    """A delivery to be tried now."""

    id: UUID
    webhook_id: UUID
    tenant_id: UUID
    url: str
    signing: Sequence[str]
    payload: dict[str, Any]
    attempts: int


_DELIVERY = """id, event, payload, state, attempts, CASE WHEN state = 'pending' THEN next_attempt_at END
    AS next_attempt_at, delivered_at, last_status, last_error, created_at"""
#: How many wait for the webhook; not counted further than it matters.
_PENDING = """(SELECT count(*) FROM (SELECT FROM webhook_deliveries AS other
    WHERE other.webhook_id = webhooks.id AND other.state = 'pending' LIMIT :most) AS waiting)"""


async def owe_test(connection: AsyncConnection, webhook_id: UUID) -> Delivery | None:
    """Adds a delivery that says nothing but that it arrives. None: as many wait as may."""
    row = (
        await connection.execute(
            text(f"""
                INSERT INTO webhook_deliveries (webhook_id, event, payload)
                SELECT id, :event, jsonb_build_object(
                    'type', CAST(:event AS text), 'timestamp', now(), 'data', '{{}}'::jsonb)
                FROM webhooks WHERE id = :webhook AND {_PENDING} < :most
                RETURNING {_DELIVERY}"""),
            {"webhook": webhook_id, "event": Notice.TEST, "most": MOST_PENDING},
        )
    ).first()
    await wake(connection)
    return None if row is None else _delivery(row)


async def owe(connection: AsyncConnection, job_id: UUID, state: JobState) -> None:
    """Adds a delivery for each webhook of the job's tenant that wants to know that the job ended in this state.

    One for a disabled webhook waits until it is enabled.
    """
    await connection.execute(
        text(f"""
            INSERT INTO webhook_deliveries (webhook_id, event, payload, state, last_error)
            SELECT webhooks.id, :event, jsonb_build_object('type', CAST(:event AS text), 'timestamp', now(), 'data',
                jsonb_build_object('job_id', jobs.id, 'dataset_id', dataset_id, 'revision', jobs.revision, 'kind', kind,
                    'name', name, 'state', CAST(:state AS text), 'destination', destination, 'rows', planned_rows,
                    'accepted', counts -> 'accepted', 'rejected', counts -> 'rejected', 'error_code', error_code)),
                CASE WHEN waiting < :most THEN 'pending' ELSE 'dead' END, CASE WHEN waiting >= :most THEN :too_many END
            FROM jobs JOIN datasets ON datasets.id = dataset_id JOIN webhooks ON webhooks.tenant_id = jobs.tenant_id
                CROSS JOIN LATERAL {_PENDING} AS queue (waiting)
            WHERE jobs.id = :job AND :event = ANY(events)"""),
        {"job": job_id, "event": f"job.{state}", "state": state, "most": MOST_PENDING, "too_many": _TOO_MANY},
    )


async def newest(
    connection: AsyncConnection,
    webhook_id: UUID,
    *,
    state: DeliveryState | None,
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Delivery]:
    """What was and is owed to a webhook, newest first, from behind the place `before`."""
    created_at, delivery_id = before or (None, None)
    rows = await connection.execute(
        text(f"""
            SELECT {_DELIVERY} FROM webhook_deliveries
            WHERE webhook_id = :webhook AND (CAST(:state AS text) IS NULL OR state = :state)
              AND (CAST(:created_at AS timestamptz) IS NULL
                   OR (created_at, id) < (CAST(:created_at AS timestamptz), CAST(:id AS uuid)))
            ORDER BY created_at DESC, id DESC LIMIT :limit"""),
        {"webhook": webhook_id, "state": state, "created_at": created_at, "id": delivery_id, "limit": limit},
    )
    return [_delivery(row) for row in rows]


async def deliver_anew(connection: AsyncConnection, webhook_id: UUID, delivery_id: UUID) -> Delivery | None:
    """Owes a delivery once more, under its old id. None: there is none of that id."""
    row = (
        await connection.execute(
            text(f"""
                UPDATE webhook_deliveries SET state = 'pending', attempts = 0, next_attempt_at = clock_timestamp()
                WHERE id = :id AND webhook_id = :webhook RETURNING {_DELIVERY}"""),
            {"id": delivery_id, "webhook": webhook_id},
        )
    ).first()
    await wake(connection)
    return None if row is None else _delivery(row)


async def due(connection: AsyncConnection, *, without: Sequence[UUID], limit: int) -> list[Due]:
    """Deliveries whose time has come, one for each tenant, the longest due first; but for some tenants."""
    rows = await connection.execute(
        text("""
            SELECT id, webhook_id, tenant_id, url, signing, payload, attempts FROM (
                SELECT DISTINCT ON (tenant_id) owed.id, webhook_id, tenant_id, url, payload, attempts, next_attempt_at,
                    CASE WHEN old_secret_until > clock_timestamp() THEN ARRAY[secret, old_secret] ELSE ARRAY[secret] END
                        AS signing
                FROM webhook_deliveries AS owed JOIN webhooks ON webhooks.id = webhook_id
                WHERE state = 'pending' AND next_attempt_at <= clock_timestamp() AND disabled_at IS NULL
                  AND (rests_until IS NULL OR rests_until <= clock_timestamp()) AND tenant_id <> ALL(:without)
                ORDER BY tenant_id, next_attempt_at) AS first
            ORDER BY next_attempt_at LIMIT :limit"""),
        {"without": list(without), "limit": limit},
    )
    return [Due(**row._mapping) for row in rows]


async def note_delivered(connection: AsyncConnection, delivery: Due, *, status: int) -> None:
    await connection.execute(
        text("""
            UPDATE webhook_deliveries SET state = 'delivered', attempts = attempts + 1, last_status = :status,
                last_error = NULL, delivered_at = clock_timestamp() WHERE id = :id"""),
        {"id": delivery.id, "status": status},
    )


async def note_failure(
    connection: AsyncConnection, delivery: Due, *, status: int | None, error: str, pause: timedelta | None
) -> None:
    """Notes an attempt in vain: it is tried again after the pause. None: it is dead, and nothing more is sent there.

    The webhook rests for a while, so that what waits for a receiver that hangs does not keep a tenant's others waiting.
    """
    await connection.execute(
        text("""
            UPDATE webhook_deliveries SET attempts = attempts + 1, last_status = :status, last_error = :error,
                state = CASE WHEN CAST(:pause AS interval) IS NULL THEN 'dead' ELSE state END,
                next_attempt_at = clock_timestamp() + coalesce(CAST(:pause AS interval), interval '0')
            WHERE id = :id"""),
        {"id": delivery.id, "status": status, "error": error[:_LONGEST_ERROR], "pause": pause},
    )
    if pause is None:
        changes = "disabled_at = clock_timestamp(), disabled_why = :why WHERE disabled_at IS NULL"
        await _change(connection, delivery, changes, why=error[:_LONGEST_ERROR])
    else:
        changes = "rests_until = clock_timestamp() + CAST(:rest AS interval) WHERE TRUE"
        await _change(connection, delivery, changes, rest=min(pause, _LONGEST_REST))


async def forget(connection: AsyncConnection, *, keep: timedelta, limit: int = 10_000) -> int:
    """Forgets deliveries that ended so long ago; how many."""
    gone = await connection.execute(
        text("""
            DELETE FROM webhook_deliveries WHERE id IN (
                SELECT id FROM webhook_deliveries WHERE state <> 'pending'
                AND created_at < clock_timestamp() - CAST(:keep AS interval) LIMIT :limit)"""),
        {"keep": keep, "limit": limit},
    )
    return gone.rowcount


async def _change(connection: AsyncConnection, delivery: Due, changes: str, **values: object) -> None:
    await connection.execute(
        text(f"UPDATE webhooks SET {changes} AND id = :webhook"), {"webhook": delivery.webhook_id, **values}
    )


async def wake(connection: AsyncConnection) -> None:
    """Lets the scheduler look."""
    await connection.execute(text("SELECT pg_notify('pixcrawler_scheduler', 'notice_owed')"))


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(**{**row._mapping, "event": Notice(row.event), "state": DeliveryState(row.state)})
