"""What an operator may set for the downloader."""

from typing import Self

from pydantic import Field, model_validator

from shared.egress import EgressSettings
from shared.guard import DEFAULT_PORTS, Policy
from shared.settings import WorkerSettings


class DownloaderSettings(WorkerSettings, EgressSettings):
    """Read from `PIXCRAWLER_<NAME>`, as all settings."""

    transfers: int = Field(default=256, ge=1, le=4096, description="Open transfers in this worker, over its children")
    chunk_deadline_seconds: float = Field(
        default=600.0, gt=0, le=840, description="Rows still open after this long become `deadline`"
    )
    connect_timeout_seconds: float = Field(default=5.0, gt=0, le=60, description="To connect, TLS included")
    dns_timeout_seconds: float = Field(default=5.0, gt=0, le=60, description="To look a name up")
    dns_threads: int = Field(default=32, ge=1, le=256, description="Names looked up at once in each child")
    stall_seconds: int = Field(default=10, ge=1, le=120, description="Slower than 1 KiB/s for this long is too slow")
    host_connections: int = Field(
        default=8,
        ge=1,
        le=256,
        description="Requests under way to a host, over all workers; idle connections kept for more do not count",
    )
    host_rate: float = Field(default=10.0, ge=0, le=10_000, description="Requests a second to a host; 0: no limit")
    host_overrides: dict[str, tuple[int, float]] = Field(
        default_factory=dict, description='Other limits, names below included: {"example.org": [2, 4]}'
    )
    breaker_failures: int = Field(default=10, ge=1, description="Failures in a row after which a host is left alone")
    breaker_seconds: float = Field(default=60.0, gt=0, le=3600, description="How long it is left alone")

    ports: frozenset[int] = Field(default=DEFAULT_PORTS, description="Ports that may be fetched from")
    allowed_host_connections: int = Field(default=256, ge=1, le=4096, description="As host_connections, for those")
    allowed_host_rate: float = Field(default=0.0, ge=0, le=10_000, description="As host_rate, for those")

    @model_validator(mode="after")
    def _has_work_for_each_child(self) -> Self:
        if self.transfers < self.concurrency:
            raise ValueError("transfers must be at least concurrency")
        return self

    @property
    def transfers_per_child(self) -> int:
        return self.transfers // self.concurrency

    def policy(self) -> Policy:
        """What the guard applies here."""
        return self.policy_for(self.ports)

    def allowances(self) -> dict[str, list[str]]:
        """What is opened for tests, by setting; empty in production."""
        chosen = {
            "allow_names": sorted(self.allow_names),
            "allow_cidrs": list(self.allow_cidrs),
            "allow_ports": [str(port) for port in sorted(self.allow_ports)],
        }
        return {name: values for name, values in chosen.items() if values}
