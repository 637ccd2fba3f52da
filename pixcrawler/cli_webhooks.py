"""`pixcrawler webhook …`. Names and options; imports as in `cli.py`."""

from typing import Annotated

import typer
from typer import Argument, Option

from pixcrawler.commands.options import Asked, spread
from pixcrawler.words import DeliveryState, Notice

webhooks = typer.Typer(help="Be told when jobs end.", no_args_is_help=True)

WebhookId = Annotated[str, Argument(metavar="WEBHOOK", help="The webhook's id.")]


@webhooks.command()
@spread
def create(
    asked: Asked,
    url: Annotated[str, Argument(metavar="URL", help="https, at a public address.")],
    event: Annotated[list[Notice] | None, Option(help="May be repeated; by default the end of every job.")] = None,
) -> None:
    """Tell that URL of events; print the webhook's id and its secret, which is told only now."""
    from pixcrawler.commands import webhooks as commands

    with asked.client() as client:
        commands.create(client, url, event, is_json=asked.as_json)


@webhooks.command("list")
@spread
def list_webhooks(asked: Asked) -> None:
    """Show your webhooks: id, URL, events, and why one is disabled."""
    from pixcrawler.commands import webhooks as commands

    with asked.client() as client:
        commands.list_webhooks(client, is_json=asked.as_json)


@webhooks.command()
@spread
def delete(asked: Asked, webhook: WebhookId) -> None:
    """Remove a webhook with its deliveries."""
    from pixcrawler.commands import webhooks as commands

    with asked.client() as client:
        commands.show(client.delete_webhook(webhook), is_json=asked.as_json)


@webhooks.command()
@spread
def rotate(
    asked: Asked,
    webhook: WebhookId,
    overlap: Annotated[
        int | None, Option(min=0, metavar="SECONDS", help="For so long the old secret signs, too; by default a day.")
    ] = None,
) -> None:
    """Give a webhook another secret, and print it."""
    from pixcrawler.commands import webhooks as commands

    with asked.client() as client:
        commands.show_secret(client.rotate_webhook(webhook, overlap_seconds=overlap), is_json=asked.as_json)


@webhooks.command()
@spread
def enable(asked: Asked, webhook: WebhookId) -> None:
    """Send to a webhook again after a delivery had been given up."""
    from pixcrawler.commands import webhooks as commands

    with asked.client() as client:
        commands.show(client.enable_webhook(webhook), is_json=asked.as_json)


@webhooks.command("test")
@spread
def send_test(asked: Asked, webhook: WebhookId) -> None:
    """Send a webhook a notice that says nothing; `deliveries` shows what became of it."""
    from pixcrawler.commands import webhooks as commands

    with asked.client() as client:
        commands.show_delivery(client.test_webhook(webhook), is_json=asked.as_json)


@webhooks.command()
@spread
def deliveries(
    asked: Asked,
    webhook: WebhookId,
    state: Annotated[DeliveryState | None, Option(help="Only those in this state.")] = None,
    limit: Annotated[int, Option(min=1, help="How many at most.")] = 20,
) -> None:
    """Show what was and is to be sent to a webhook, newest first."""
    from pixcrawler.commands import webhooks as commands

    with asked.client() as client:
        commands.list_deliveries(client, webhook, state, limit, is_json=asked.as_json)


@webhooks.command()
@spread
def redeliver(
    asked: Asked,
    webhook: WebhookId,
    delivery: Annotated[str, Argument(metavar="DELIVERY", help="The delivery's id.")],
) -> None:
    """Send a notice once more, under its old id."""
    from pixcrawler.commands import webhooks as commands

    with asked.client() as client:
        commands.show_delivery(client.redeliver(webhook, delivery), is_json=asked.as_json)
