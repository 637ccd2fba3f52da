"""The validator's settings."""

import os

from pydantic import Field

from shared.settings import WorkerSettings


def usable_cpus() -> int:
    """The cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class ValidatorSettings(WorkerSettings):
    """What the validator reads from the environment."""

    concurrency: int = Field(default_factory=usable_cpus, ge=1, le=64, description="Chunks at once; one a core")
    image_deadline_seconds: float = Field(
        # With the killing it makes less than ten seconds.
        default=9.0,
        gt=0,
        le=120,
        description="Longest that one image may be decoded and encoded",
    )
    decode_memory_mb: int = Field(
        default=1024, ge=128, le=65_536, description="Address space a decoder may use beyond its own start, in MiB"
    )
