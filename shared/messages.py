"""The message that rings a stage's bell: ids and a version, never contents.

The row in PostgreSQL is the job; a message that is lost, doubled, late or forged costs a refused claim.
Unknown fields are ignored, so that an old worker reads a new message; an unknown version is not guessed at.
Where Redis is shared with others, bells may be signed, so that only who has the key rings them.
"""

import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from shared.pipeline import DEFAULT_CELL, PIPELINE
from shared.settings import Settings

VERSION = 1


class Why(StrEnum):
    """Why the bell rings; for logs and metrics only."""

    HANDED_ON = "handed_on"  #: by the stage before, right after its commit
    DISPATCHED = "dispatched"  #: by the scheduler, because it was never rung
    RUNG_AGAIN = "rung_again"  #: by the scheduler, because nobody came


class BadMessage(ValueError):
    """A message nobody can read; it goes to `poison_messages`."""


class ChunkMessage(BaseModel):
    """One ring. Only `chunk` and `stage` decide anything; the rest is for people."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: int = VERSION
    chunk: int = Field(ge=1)
    job: UUID
    stage: str
    attempt: int = Field(ge=0)
    cell: str = DEFAULT_CELL
    why: Why
    sent_at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    #: HMAC-SHA256, hex; see `BellKeys`.
    signature: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")

    @field_validator("version")
    @classmethod
    def _is_known(cls, version: int) -> int:
        if version != VERSION:
            raise ValueError(f"this worker reads version {VERSION}")
        return version

    @field_validator("stage")
    @classmethod
    def _is_declared(cls, stage: str) -> str:
        if stage not in {declared.name for declared in PIPELINE}:
            raise ValueError("no such stage")
        return stage

    def encode(self) -> dict[str, Any]:
        """The message as a JSON object."""
        return self.model_dump(mode="json")

    @classmethod
    def decode(cls, message: object) -> "ChunkMessage":
        """The message of a JSON object. Raises BadMessage, which names the fields and not their contents."""
        try:
            return cls.model_validate(message)
        except ValidationError as error:
            mistakes = error.errors(include_input=False, include_url=False, include_context=False)
            named = "; ".join(
                f"{'.'.join(map(str, mistake['loc'])) or 'message'}: {mistake['msg']}" for mistake in mistakes
            )
            raise BadMessage(named) from None


@dataclass(frozen=True, kw_only=True)
class BellKeys:
    """What bells are signed with and checked by; without a key they are neither signed nor checked.

    A signature covers version, chunk, stage, attempt and cell. It does not stop a bell from being rung twice:
    that costs a refused claim.
    """

    #: Signs, and is accepted.
    current: SecretStr | None = None
    #: Accepted too, while one key follows another.
    other: SecretStr | None = None

    @classmethod
    def of(cls, settings: Settings) -> "BellKeys":
        return cls(current=settings.bell_key, other=settings.bell_key_old)

    def signed(self, message: ChunkMessage) -> ChunkMessage:
        """The message with its signature; as it was when there is no key."""
        if self.current is None:
            return message
        return message.model_copy(update={"signature": _signature(message, self.current)})

    def check(self, message: ChunkMessage) -> None:
        """Raises BadMessage for a message that nobody who has a key has signed."""
        if self.current is None:
            return
        if message.signature is None:
            raise BadMessage("signature: missing")
        given = message.signature.encode()
        keys = [key for key in (self.current, self.other) if key is not None]
        if not any(hmac.compare_digest(_signature(message, key).encode(), given) for key in keys):
            raise BadMessage("signature: by none of the keys")


def _signature(message: ChunkMessage, key: SecretStr) -> str:
    covered = ["pixcrawler.bell", message.version, message.chunk, message.stage, message.attempt, message.cell]
    return hmac.new(key.get_secret_value().encode(), json.dumps(covered).encode(), hashlib.sha256).hexdigest()
