"""Webhooks: who wants to be told what became of jobs, and what became of telling."""

import asyncio
from datetime import timedelta
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Path, Query, Request, Response

from gateway import cursors
from gateway.auth import Caller, Reader, Writer
from gateway.idempotency import IdempotentRoute
from gateway.openapi import problems
from gateway.paging import tell_next
from gateway.problems import ApiError, Code, Mistake
from gateway.schemas import JOB_ID
from gateway.services import services_of
from gateway.webhook_schemas import (
    DeliveryOut,
    DeliveryPage,
    RotateSecretIn,
    WebhookIn,
    WebhookList,
    WebhookOut,
    WebhookWithSecret,
)
from shared.db import deliveries, webhooks
from shared.db.session import Connection, transaction
from shared.db.webhooks import Webhook
from shared.errors import PlaceRefused
from shared.notices import DeliveryState, new_secret

routes = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=IdempotentRoute)

log = structlog.get_logger("gateway")

WebhookId = Annotated[str, Path(pattern=JOB_ID, description="The webhook's id")]
DeliveryId = Annotated[str, Path(pattern=JOB_ID, description="The delivery's id")]
_PROBLEMS = problems(Code.NOT_FOUND)
_TEST_PROBLEMS = problems(Code.NOT_FOUND, Code.TOO_MANY_NOTICES)


@routes.post("", operation_id="createWebhook", status_code=201, responses=problems(Code.TOO_MANY_WEBHOOKS))
async def create_webhook(asked: WebhookIn, caller: Writer, request: Request) -> WebhookWithSecret:
    """Tells that URL of events, signed as the Standard Webhooks specification has it. The secret is told only now."""
    services = services_of(request)
    try:
        await asyncio.to_thread(services.egress.check, asked.url, only_tls=True)
    except PlaceRefused as error:
        mistake = Mistake(pointer="/url", detail=str(error))
        raise ApiError(Code.INVALID_REQUEST, f"/url: {error}", errors=[mistake]) from error
    secret = new_secret()
    async with transaction(services.resources.engine) as connection:
        made = await webhooks.create(connection, caller.tenant_id, url=asked.url, events=asked.events, secret=secret)
        if made is None:
            raise ApiError(
                Code.TOO_MANY_WEBHOOKS, f"a tenant has at most {webhooks.MOST_WEBHOOKS} webhooks; delete one first"
            )
        webhook = await _found(connection, caller, made)
    log.info("webhook_created", webhook=str(made), key=caller.key_id)
    return WebhookWithSecret(**_out(webhook).model_dump(), secret=secret)


@routes.get("", operation_id="listWebhooks", responses=problems())
async def list_webhooks(caller: Reader, request: Request) -> WebhookList:
    """The caller's webhooks."""
    async with transaction(services_of(request).resources.engine) as connection:
        found = await webhooks.of_tenant(connection, caller.tenant_id)
    return WebhookList(data=[_out(webhook) for webhook in found])


@routes.get("/{webhook_id}", operation_id="getWebhook", responses=_PROBLEMS)
async def get_webhook(webhook_id: WebhookId, caller: Reader, request: Request) -> WebhookOut:
    """One webhook."""
    async with transaction(services_of(request).resources.engine) as connection:
        return _out(await _found(connection, caller, UUID(webhook_id)))


@routes.delete("/{webhook_id}", operation_id="deleteWebhook", responses=_PROBLEMS)
async def delete_webhook(webhook_id: WebhookId, caller: Writer, request: Request) -> WebhookOut:
    """Removes a webhook with its deliveries, and answers what it was."""
    async with transaction(services_of(request).resources.engine) as connection:
        webhook = await _found(connection, caller, UUID(webhook_id))
        await webhooks.remove(connection, caller.tenant_id, webhook.id)
    log.info("webhook_deleted", webhook=webhook_id, key=caller.key_id)
    return _out(webhook)


@routes.post("/{webhook_id}/rotate", operation_id="rotateWebhookSecret", responses=_PROBLEMS)
async def rotate_webhook_secret(
    webhook_id: WebhookId, asked: RotateSecretIn, caller: Writer, request: Request
) -> WebhookWithSecret:
    """Gives a webhook another secret. For a while both sign, so that the receiver can change over at leisure."""
    secret = new_secret()
    async with transaction(services_of(request).resources.engine) as connection:
        webhook = await _found(connection, caller, UUID(webhook_id))
        overlap = timedelta(seconds=asked.overlap_seconds)
        await webhooks.rotate(connection, caller.tenant_id, webhook.id, secret=secret, overlap=overlap)
        webhook = await _found(connection, caller, webhook.id)
    log.info("webhook_rotated", webhook=webhook_id, key=caller.key_id)
    return WebhookWithSecret(**_out(webhook).model_dump(), secret=secret)


@routes.post("/{webhook_id}/enable", operation_id="enableWebhook", responses=_PROBLEMS)
async def enable_webhook(webhook_id: WebhookId, caller: Writer, request: Request) -> WebhookOut:
    """Sends to a webhook again that was disabled because a delivery had been given up. May be repeated."""
    async with transaction(services_of(request).resources.engine) as connection:
        await webhooks.enable(connection, caller.tenant_id, UUID(webhook_id))
        return _out(await _found(connection, caller, UUID(webhook_id)))


@routes.post("/{webhook_id}/test", operation_id="testWebhook", status_code=202, responses=_TEST_PROBLEMS)
async def test_webhook(webhook_id: WebhookId, caller: Writer, request: Request) -> DeliveryOut:
    """Sends a webhook an event `webhook.test`; look at its deliveries for what became of it."""
    async with transaction(services_of(request).resources.engine) as connection:
        webhook = await _found(connection, caller, UUID(webhook_id))
        owed = await deliveries.owe_test(connection, webhook.id)
    if owed is None:
        raise ApiError(Code.TOO_MANY_NOTICES, "too many deliveries wait for this webhook; mend its receiver first")
    return DeliveryOut.model_validate(owed, from_attributes=True)


@routes.get("/{webhook_id}/deliveries", operation_id="listDeliveries", responses=_PROBLEMS)
async def list_deliveries(
    webhook_id: WebhookId,
    caller: Reader,
    request: Request,
    response: Response,
    state: Annotated[DeliveryState | None, Query(description="Only those in this state")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(description="next_cursor of the page before")] = None,
) -> DeliveryPage:
    """What was and is to be sent to a webhook, newest first."""
    before = cursors.job_place(cursor)
    async with transaction(services_of(request).resources.engine) as connection:
        webhook = await _found(connection, caller, UUID(webhook_id))
        found = await deliveries.newest(connection, webhook.id, state=state, before=before, limit=limit + 1)
    page, has_more = found[:limit], len(found) > limit
    following = cursors.of_job(page[-1].created_at, page[-1].id) if has_more else None
    return DeliveryPage(
        data=[DeliveryOut.model_validate(delivery, from_attributes=True) for delivery in page],
        has_more=has_more,
        next_cursor=tell_next(request, response, following),
    )


@routes.post(
    "/{webhook_id}/deliveries/{delivery_id}/redeliver", operation_id="redeliver", status_code=202, responses=_PROBLEMS
)
async def redeliver(webhook_id: WebhookId, delivery_id: DeliveryId, caller: Writer, request: Request) -> DeliveryOut:
    """Sends a notice once more, under its old id, whatever became of it before."""
    async with transaction(services_of(request).resources.engine) as connection:
        webhook = await _found(connection, caller, UUID(webhook_id))
        owed = await deliveries.deliver_anew(connection, webhook.id, UUID(delivery_id))
    if owed is None:
        raise _unknown()
    return DeliveryOut.model_validate(owed, from_attributes=True)


async def _found(connection: Connection, caller: Caller, webhook_id: UUID) -> Webhook:
    webhook = await webhooks.get(connection, caller.tenant_id, webhook_id)
    if webhook is None:
        raise _unknown()
    return webhook


def _unknown() -> ApiError:
    return ApiError(Code.NOT_FOUND, "there is nothing of that id; look at the list of your webhooks")


def _out(webhook: Webhook) -> WebhookOut:
    return WebhookOut.model_validate(webhook, from_attributes=True)
