"""Webhooks as JSON."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from gateway.schemas import StrictRequest, storable
from shared.notices import DeliveryState, Notice


def _known_notice(value: object) -> object:
    """Strict means no other type; an event's name is a string in JSON."""
    return Notice(value) if isinstance(value, str) and value in set(Notice) else value


_ENDINGS: list[Notice] = [notice for notice in Notice if notice is not Notice.TEST]


class WebhookIn(StrictRequest):
    """Where to tell of which events."""

    url: Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(storable)] = Field(
        description="https, on port 443, at a public address", examples=["https://hooks.example.com/pixcrawler"]
    )
    events: list[Annotated[Notice, BeforeValidator(_known_notice)]] = Field(
        default=_ENDINGS, min_length=1, max_length=len(Notice), description="By default the end of every job"
    )


class RotateSecretIn(StrictRequest):
    """How a secret is replaced."""

    overlap_seconds: int = Field(
        default=86_400, ge=0, le=7 * 86_400, description="For so long the old secret signs beside the new one"
    )


class WebhookOut(BaseModel):
    """A webhook, without its secret."""

    id: UUID
    url: str
    events: list[Notice]
    created_at: datetime
    old_secret_until: datetime | None = Field(description="Until then the secret before this one signs, too")
    disabled_at: datetime | None = Field(description="Nothing is sent since then; enable it when it is mended")
    disabled_why: str


class WebhookWithSecret(WebhookOut):
    """A webhook and its secret, which is told once."""

    secret: str = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])


class WebhookList(BaseModel):
    """All webhooks of the caller, oldest first."""

    data: list[WebhookOut]


class DeliveryOut(BaseModel):
    """A notice, and how its delivery went."""

    id: UUID
    event: Notice
    payload: dict[str, Any]
    state: DeliveryState
    attempts: int
    next_attempt_at: datetime | None = Field(description="null when it is not pending")
    delivered_at: datetime | None
    last_status: int | None = Field(description="What the receiver answered last; null when it did not")
    last_error: str | None
    created_at: datetime


class DeliveryPage(BaseModel):
    """Deliveries, newest first."""

    data: list[DeliveryOut]
    has_more: bool
    next_cursor: str | None
