"""What an operator may set for the scheduler."""

from typing import Annotated

from pydantic import Field, SecretStr

from shared.db.bells import RING_AGAIN
from shared.egress import EgressSettings
from shared.pipeline import LEADER_LEASE, MAX_CHUNKS, Tier
from shared.quotas import Quota


class SchedulerSettings(EgressSettings):
    """Read from `PIXCRAWLER_<NAME>`, as all settings."""

    database_direct_url: SecretStr | None = Field(
        default=None,
        description="The same PostgreSQL without a transaction pooler, where database_url goes through one: to be told"
        " of news at once (LISTEN) and not only by looking every tick",
    )
    max_chunks: int = Field(default=MAX_CHUNKS, ge=1, le=10_000, description="Chunks in flight in the whole system")
    hold_seconds: float = Field(default=60.0, ge=0, description="How long a chunk waits for lower ones of its job")
    grace_seconds: float = Field(
        default=75.0, ge=0, description="After a start or an outage no lease is taken for this long"
    )
    leader_lease_seconds: float = Field(
        default=LEADER_LEASE.total_seconds(), ge=2, le=300, description="A scheduler silent for this long is replaced"
    )
    ring_again_seconds: float = Field(
        default=RING_AGAIN.total_seconds(), ge=1, le=300, description="A bell nobody answers is rung again after this"
    )
    keep_lists_days: float = Field(
        default=30.0, ge=1, le=3650, description="Lists and plans stay this long after their last job has ended"
    )
    keep_keys_days: float = Field(
        default=90.0, ge=1, le=3650, description="API keys are forgotten this long after they expired or were revoked"
    )
    keep_history_days: float = Field(
        default=90.0,
        ge=1,
        le=3650,
        description="Moves of chunks are forgotten this long after their job has ended, and runs of the calendar",
    )
    keep_fingerprints_days: float = Field(
        default=365.0,
        ge=1,
        le=3650,
        description="A dataset to which nothing was added for this long is not compared with later rows any more",
    )
    keep_strays_days: float = Field(
        default=7.0, ge=1, le=3650, description="A stray object is looked at for this long before it may be removed"
    )
    remove_strays: bool = Field(
        default=False, description="Remove objects that no index names, rather than only say which they are"
    )
    quotas: dict[Tier, dict[Quota, Annotated[int, Field(ge=0)] | None]] = Field(
        default={},
        description="Limits by tier as the gateway has them, for lists too long and jobs of the calendar",
    )
    tick_seconds: float = Field(default=1.0, gt=0, le=60, description="How often it looks without being woken")
