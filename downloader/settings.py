"""What an operator may set for the downloader."""

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from downloader.interfaces import own_networks
from shared.guard import DEFAULT_PORTS, Policy, networks
from shared.settings import WorkerSettings
from shared.version import VERSION


class DownloaderSettings(WorkerSettings):
    """Read from `PIXCRAWLER_<NAME>`, as all settings."""

    transfers: int = Field(default=256, ge=1, le=4096, description="Open transfers in this worker, over its children")
    chunk_deadline_seconds: float = Field(
        default=600.0, gt=0, le=840, description="Rows still open after this long become `deadline`"
    )
    connect_timeout_seconds: float = Field(default=5.0, gt=0, le=60, description="To connect, TLS included")
    dns_timeout_seconds: float = Field(default=5.0, gt=0, le=60, description="To look a name up")
    dns_threads: int = Field(default=32, ge=1, le=256, description="Names looked up at once in each child")
    stall_seconds: int = Field(default=10, ge=1, le=120, description="Slower than 1 KiB/s for this long is too slow")
    ca_file: Path | None = Field(default=None, description="Certificates to trust; None: the system's")

    user_agent: str | None = Field(default=None, description="None: PixCrawler/<version> (+<contact>)")
    contact: str | None = Field(default=None, description="Your page or address for site owners; set it")

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
    deny_cidrs: tuple[str, ...] = Field(default=(), description="More addresses never to fetch from")
    deny_names: frozenset[str] = Field(default=frozenset(), description="Hosts never to fetch from, names below too")
    allow_names: frozenset[str] = Field(default=frozenset(), description="For tests: internal names to allow")
    allow_cidrs: tuple[str, ...] = Field(default=(), description="For tests: internal addresses to allow")
    allow_ports: frozenset[int] = Field(default=frozenset(), description="For tests: ports of those; 0: all")
    allowed_host_connections: int = Field(default=256, ge=1, le=4096, description="As host_connections, for those")
    allowed_host_rate: float = Field(default=0.0, ge=0, le=10_000, description="As host_rate, for those")

    @field_validator("deny_cidrs", "allow_cidrs")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        networks(value)
        return value

    @field_validator("user_agent", "contact")
    @classmethod
    def _fits_a_header(cls, value: str | None) -> str | None:
        if value is not None and not (value.isascii() and value.isprintable()):
            raise ValueError("must be printable ASCII")
        return value

    @model_validator(mode="after")
    def _has_work_for_each_child(self) -> Self:
        if self.transfers < self.concurrency:
            raise ValueError("transfers must be at least concurrency")
        return self

    @property
    def transfers_per_child(self) -> int:
        return self.transfers // self.concurrency

    @property
    def agent(self) -> str:
        """What we call ourselves; never a browser."""
        own = f"PixCrawler/{VERSION}"
        return self.user_agent or (f"{own} (+{self.contact})" if self.contact else own)

    def policy(self) -> Policy:
        """What the guard applies here. This machine's own addresses are denied as well."""
        return Policy(
            ports=self.ports,
            deny_cidrs=networks(self.deny_cidrs) + own_networks(),
            deny_names=self.deny_names,
            allow_names=self.allow_names,
            allow_cidrs=networks(self.allow_cidrs),
            allow_ports=self.allow_ports,
        )

    def allowances(self) -> dict[str, list[str]]:
        """What is opened for tests, by setting; empty in production."""
        chosen = {
            "allow_names": sorted(self.allow_names),
            "allow_cidrs": list(self.allow_cidrs),
            "allow_ports": [str(port) for port in sorted(self.allow_ports)],
        }
        return {name: values for name, values in chosen.items() if values}
