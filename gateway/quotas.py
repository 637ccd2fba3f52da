"""Whether a tenant may ask for one more job: what it agreed on, held against what it has used."""

import math

from gateway.problems import ApiError, Code
from gateway.settings import GatewaySettings
from shared.db import tenants
from shared.db.session import Connection
from shared.db.tenants import Tenant
from shared.quotas import Quota, Usage, next_day, used_up

#: Nobody knows when a job ends; asking once a minute costs little.
_LOOK_AGAIN_SECONDS = 60
_WORDS = {
    Quota.OPEN_JOBS: "jobs that have not ended; wait until one has, or cancel one",
    Quota.ROWS_A_DAY: "rows a day; the next day begins at midnight UTC",
    Quota.BYTES_A_DAY: "bytes stored a day; the next day begins at midnight UTC",
}


async def check_room(connection: Connection, settings: GatewaySettings, tenant: Tenant) -> None:
    """Raises ApiError (429) when a quota is used up. Until the transaction ends nobody else uses what was counted."""
    limits = tenant.limits(settings.quotas)
    if all(limit is None for limit in limits.values()):
        return
    await tenants.take_turns(connection, tenant.id)
    usage = await tenants.usage(connection, tenant.id)
    quota = used_up(limits, usage)
    if quota is not None:
        raise ApiError(
            Code.QUOTA_EXCEEDED,
            f"{usage.of(quota):,} of {limits[quota]:,} {_WORDS[quota]}",
            headers={"Retry-After": str(_seconds_until_room(quota, usage))},
        )


def check_fits(settings: GatewaySettings, tenant: Tenant, rows: int) -> None:
    """Raises ApiError (403) for a list that no day has room for."""
    limit = tenant.limits(settings.quotas).get(Quota.ROWS_A_DAY)
    if limit is not None and rows > limit:
        raise ApiError(
            Code.OVER_QUOTA, f"the list has {rows:,} rows and your quota is {limit:,} a day; shorten it or ask for more"
        )


def _seconds_until_room(quota: Quota, usage: Usage) -> int:
    if quota is Quota.OPEN_JOBS:
        return _LOOK_AGAIN_SECONDS
    return math.ceil((next_day(usage.at) - usage.at).total_seconds())
