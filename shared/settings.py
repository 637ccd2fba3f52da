"""Settings that every service reads from the environment, as `PIXCRAWLER_<NAME>`.

Each service has one subclass, built once in its `app.py`. All mistakes are reported at once, by the
variable's name; secrets are never printed.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Self
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared import rabbitmq
from shared.pipeline import DEFAULT_CELL, LEASE
from shared.sentinel import SCHEME, SentinelAddress, is_sentinel

ENV_PREFIX = "PIXCRAWLER_"
#: The exit code for settings that cannot be used (EX_CONFIG of sysexits).
EXIT_CONFIG = 78
_REDIS_SCHEMES = ("redis", "rediss", "unix", SCHEME)


class StorageSettings(BaseSettings):
    """How destinations and the spool are reached. Credentials belong to the service, never to a job."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="ignore", hide_input_in_errors=True)

    azure_connection_string: SecretStr | None = Field(default=None, description="For az://, with an account key")
    azure_account_url: str | None = Field(default=None, description="For az:// by managed identity")
    s3_endpoint: str | None = Field(default=None, description="For s3:// elsewhere than AWS, when a job names none")
    s3_region: str = Field(default="us-east-1", description="Region for s3://")
    s3_access_key_id: SecretStr | None = Field(default=None, description="None: as boto3 finds it")
    s3_secret_access_key: SecretStr | None = Field(default=None, description="None: as boto3 finds it")
    s3_endpoints: tuple[str, ...] = Field(default=(), description="Endpoints a job may name; * for any")
    folder_roots: tuple[Path, ...] = Field(default=(), description="Folders below which a job may store; none: refused")
    store_timeout_seconds: float = Field(default=30.0, gt=0, le=600, description="Longest silence of a store")


class Settings(StorageSettings):
    """What all five services share."""

    database_url: SecretStr = Field(
        default=SecretStr("postgresql://pixcrawler@127.0.0.1:5432/pixcrawler"), description="PostgreSQL, the truth"
    )
    redis_url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"), description="Redis: priority set, manners, progress"
    )
    broker_url: SecretStr | None = Field(
        default=None,
        description="Celery's broker, a Redis or RabbitMQ (amqp://, amqps://); the Redis above when not set",
    )
    bell_key: SecretStr | None = Field(
        default=None, min_length=32, description="Signs bells, and refuses others; the same for all services"
    )
    bell_key_old: SecretStr | None = Field(
        default=None, min_length=32, description="Accepted beside bell_key, while one key follows another"
    )
    spool_url: str = Field(
        default="/var/lib/pixcrawler/spool", description="Where lists and plans are kept: a folder, az:// or s3://"
    )
    work_dir: Path = Field(
        default=Path("/var/lib/pixcrawler/work"), description="Work area, shared by the stages of a cell"
    )
    work_url: str | None = Field(
        default=None,
        description="Where no volume is shared: what one stage leaves for the next, in az:// or s3://; work_dir is then"
        " each worker's own",
    )
    cell: str = Field(default=DEFAULT_CELL, pattern=r"^[a-z0-9-]{1,32}$", description="Workers that share a work_dir")
    http_host: str = Field(default="127.0.0.1", description="Where /livez, /readyz and /metrics listen")
    http_port: int = Field(default=0, ge=0, le=65535, description="Their port; 0: none")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least that is logged"
    )
    tracing: bool = Field(
        default=False, description="Send traces by OTLP, to where the OTEL_ variables say; needs pixcrawler[otel]"
    )
    sentry_dsn: SecretStr | None = Field(
        default=None, description="Unexpected errors are sent there; needs pixcrawler[sentry]"
    )
    log_format: Literal["json", "console"] = Field(default="json", description="A JSON object a line, or for people")
    startup_timeout_seconds: float = Field(default=60.0, gt=0, description="How long to wait for the servers at start")

    @field_validator("bell_key_old")
    @classmethod
    def _has_a_successor(cls, value: SecretStr | None, known: ValidationInfo) -> SecretStr | None:
        if value is not None and known.data.get("bell_key", value) is None:
            raise ValueError("needs PIXCRAWLER_BELL_KEY beside it")
        return value

    @field_validator("tracing", "sentry_dsn")
    @classmethod
    def _has_its_extra(cls, value: object, known: ValidationInfo) -> object:
        extra, package = {"tracing": ("otel", "opentelemetry.sdk"), "sentry_dsn": ("sentry", "sentry_sdk")}[
            str(known.field_name)
        ]
        if value and not _is_installed(package):
            raise ValueError(f"needs what is not installed: pip install 'pixcrawler[{extra}]'")
        return value

    @field_validator("database_url", "database_direct_url", check_fields=False)
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and urlsplit(value.get_secret_value()).scheme not in ("postgresql", "postgres"):
            raise ValueError("must be postgresql://user:password@host:port/database")
        return value

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, value: SecretStr) -> SecretStr:
        if urlsplit(value.get_secret_value()).scheme not in _REDIS_SCHEMES:
            raise ValueError("must be redis://, rediss://, sentinel:// or unix://")
        return value

    @field_validator("broker_url")
    @classmethod
    def _is_redis_or_rabbitmq(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and rabbitmq.is_rabbitmq(value.get_secret_value()):
            rabbitmq.check(value.get_secret_value())
            return value
        if value is not None and urlsplit(value.get_secret_value()).scheme not in _REDIS_SCHEMES:
            raise ValueError("must be amqp://, amqps://, redis://, rediss://, sentinel:// or unix://")
        return value

    @field_validator("redis_url", "broker_url")
    @classmethod
    def _names_its_sentinels(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and is_sentinel(value.get_secret_value()):
            SentinelAddress.parse(value.get_secret_value())
        return value

    @field_validator("redis_url", "broker_url")
    @classmethod
    def _checks_certificates(cls, value: SecretStr | None) -> SecretStr | None:
        return value if value is None else SecretStr(_with_checked_certificate(value.get_secret_value()))

    @classmethod
    def load(cls) -> Self:
        """The settings, or an exit with every mistake in one message."""
        try:
            return cls()
        except ValidationError as error:
            sys.stderr.write(explain(error))
            raise SystemExit(EXIT_CONFIG) from None

    def broker(self) -> str:
        """The broker's address, with its password."""
        return (self.broker_url or self.redis_url).get_secret_value()


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # not even what holds it
        return False


def _with_checked_certificate(url: str) -> str:
    """The address as all clients read it alike: by rediss:// the server's certificate and name are checked."""
    parts = urlsplit(url)
    if parts.scheme != "rediss":
        return url
    asked = dict(parse_qsl(parts.query))
    checked = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
    if any(asked.get(name, needed).lower() != needed for name, needed in checked.items()):
        raise ValueError("rediss:// must check the server's certificate and name")
    return urlunsplit(parts._replace(query=urlencode(asked | checked)))


class WorkerSettings(Settings):
    """What the three stage services add."""

    concurrency: int = Field(default=7, ge=1, le=64, description="Chunks at once in this worker")
    lease_seconds: float = Field(
        default=LEASE.total_seconds(),
        ge=2,
        le=600,
        description="A chunk is taken from a worker silent for this long: a pause longer than that costs work twice",
    )
    least_concurrency: int | None = Field(
        default=None,
        ge=1,
        description="Children kept while there is nothing to do, up to concurrency when there is; None: always as many",
    )
    longest_silence_seconds: float = Field(
        default=120.0,
        ge=2,
        le=3600,
        description="A worker whose loop stands still, or does not ask the broker, for this long is not live;"
        " more than the 30 s after which it tries again to reach a broker",
    )
    chunks_per_child: int = Field(default=200, ge=1, description="A child is replaced after this many chunks")
    soft_stop_seconds: float | None = Field(default=None, ge=0, description="None: as the stage declares")
    task_events: bool = Field(
        default=False,
        description="Tell Flower what becomes of each message: three events for it, and one every two seconds",
    )
    hold_seconds: float = Field(default=60.0, ge=0, description="How long a chunk waits for lower ones of its job")

    @model_validator(mode="after")
    def _keeps_no_more_than_it_may(self) -> Self:
        if self.least_concurrency is not None and self.least_concurrency > self.concurrency:
            raise ValueError("least_concurrency must be at most concurrency")
        return self

    @model_validator(mode="after")
    def _grows_only_where_the_broker_lets_it(self) -> Self:
        if self.least_concurrency is not None and rabbitmq.is_rabbitmq(self.broker()):
            raise ValueError(
                "least_concurrency cannot be had with RabbitMQ, which pushes a fixed number; leave it unset"
            )
        return self


def explain(error: ValidationError) -> str:
    """One line for each mistake: the variable and what it must be."""
    lines = ["PixCrawler cannot start; correct these settings:"]
    for mistake in error.errors(include_input=False, include_url=False, include_context=False):
        name = ENV_PREFIX + "__".join(str(part) for part in mistake["loc"]).upper()
        lines.append(f"  {name}: {mistake['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines) + "\n"
