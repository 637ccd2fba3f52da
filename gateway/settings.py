"""How the gateway is configured."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from shared.egress import EgressSettings
from shared.pipeline import Tier
from shared.quotas import Quota
from shared.storage import Destination, Scheme

_MIB = 1024**2
#: Of `store_roots`: all that the services' credentials open.
EVERYWHERE = "*"


class GatewaySettings(EgressSettings):
    """What the gateway adds to what all services share."""

    listen_host: str = Field(default="127.0.0.1", description="Where the REST API listens")
    listen_port: int = Field(default=8080, ge=0, le=65535, description="Its port; 0: any free one")
    public_url: str | None = Field(default=None, description="How clients reach it; None: as the request came")
    max_inline_rows: int = Field(default=10_000, ge=1, description="Rows in a request; longer lists are uploaded")
    max_job_bytes: int = Field(default=8 * _MIB, ge=1024, description="Largest body that asks for a job, in bytes")
    max_manifest_bytes: int = Field(default=16 * 1024 * _MIB, ge=1024, description="Largest list uploaded, in bytes")
    scratch_dir: Path | None = Field(default=None, description="For lists being checked; None: the system's")
    store_roots: tuple[str, ...] | None = Field(
        default=None,
        description="Where in az:// and s3:// jobs may store and name lists, as s3://bucket/prefix; * for everywhere;"
        " None: everywhere while there is one tenant, nowhere when there are more",
    )
    reserved_folders: tuple[Path, ...] = Field(
        default=(), description="Folders where no job may store, beside spool, work_dir and scratch_dir"
    )
    database_connections: int = Field(default=10, ge=2, le=200, description="Connections to PostgreSQL at most")
    requests_a_minute: int = Field(
        default=12_000, ge=1, le=10**7, description="Requests a tenant may make within 60 s, all copies together"
    )
    quotas: dict[Tier, dict[Quota, Annotated[int, Field(ge=0)] | None]] = Field(
        default={},
        description='Limits by tier, as {"free": {"open_jobs": 20, "rows_a_day": 1000000, "bytes_a_day": null}};'
        " None: no limit. What was agreed with a tenant goes before",
    )
    max_streams: int = Field(default=2_000, ge=1, description="Progress streams open at once")
    shutdown_seconds: float = Field(default=5.0, gt=0, description="How long open requests may go on at shutdown")

    @field_validator("store_roots")
    @classmethod
    def _name_stores(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for root in value or ():
            if root != EVERYWHERE and Destination.parse(root).scheme is Scheme.FOLDER:
                raise ValueError("must name az:// and s3:// places only; folders are PIXCRAWLER_FOLDER_ROOTS")
        return value
