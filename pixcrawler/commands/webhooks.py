"""The commands about webhooks. A line each, parted by tabs; with JSON an object each."""

import json
import sys
from collections.abc import Sequence
from itertools import islice

from pixcrawler.client import Client
from pixcrawler.models import Delivery, Webhook, WebhookWithSecret
from pixcrawler.words import DeliveryState, Notice


def create(client: Client, url: str, events: Sequence[Notice] | None, *, is_json: bool) -> None:
    show_secret(client.create_webhook(url, events or None), is_json=is_json)


def list_webhooks(client: Client, *, is_json: bool) -> None:
    for webhook in client.webhooks():
        show(webhook, is_json=is_json)


def list_deliveries(client: Client, webhook_id: str, state: DeliveryState | None, limit: int, *, is_json: bool) -> None:
    for delivery in islice(client.deliveries(webhook_id, state=state), limit):
        show_delivery(delivery, is_json=is_json)


def show(webhook: Webhook, *, is_json: bool) -> None:
    standing = f"disabled: {webhook.disabled_why}" if webhook.disabled_at else "enabled"
    _print(webhook, (str(webhook.id), webhook.url, ",".join(webhook.events), standing), is_json=is_json)


def show_secret(webhook: WebhookWithSecret, *, is_json: bool) -> None:
    _print(webhook, (str(webhook.id), webhook.secret), is_json=is_json)
    if not is_json:
        sys.stderr.write("Keep the secret; it is not told again.\n")


def show_delivery(delivery: Delivery, *, is_json: bool) -> None:
    about = delivery.last_error or (f"answered {delivery.last_status}" if delivery.last_status else "-")
    made = delivery.created_at.isoformat(timespec="seconds")
    _print(
        delivery,
        (str(delivery.id), made, delivery.event, delivery.state, f"{delivery.attempts} attempts", about),
        is_json=is_json,
    )


def _print(shown: Webhook | Delivery, columns: Sequence[str], *, is_json: bool) -> None:
    sys.stdout.write(f"{json.dumps(shown.model_dump(mode='json')) if is_json else chr(9).join(columns)}\n")
