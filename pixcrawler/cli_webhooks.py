"""`pixcrawler webhook …`. Names and options; imports as in `cli.py`."""

from typing import Annotated

import typer
from typer import Argument, Option

from pixcrawler.commands.options import ApiKey, AsJson, Gateway
from pixcrawler.words import DeliveryState, Notice

webhooks = typer.Typer(help="Be told when jobs end.", no_args_is_help=True)

WebhookId = Annotated[str, Argument(metavar="WEBHOOK", help="The webhook's id.")]


@webhooks.command()
def create(
    url: Annotated[str, Argument(metavar="URL", help="https, at a public address.")],
    event: Annotated[list[Notice] | None, Option(help="May be repeated; by default the end of every job.")] = None,
    gateway: Gateway = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Tell that URL of events; print the webhook's id and its secret, which is told only now."""
    from pixcrawler.commands import webhooks as commands
    from pixcrawler.commands.gateway import open_client

    with open_client(gateway, api_key) as client:
        commands.create(client, url, event, is_json=as_json)


@webhooks.command("list")
def list_webhooks(gateway: Gateway = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show your webhooks: id, URL, events, and why one is disabled."""
    from pixcrawler.commands import webhooks as commands
    from pixcrawler.commands.gateway import open_client

    with open_client(gateway, api_key) as client:
        commands.list_webhooks(client, is_json=as_json)


@webhooks.command()
def delete(webhook: WebhookId, gateway: Gateway = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Remove a webhook with its deliveries."""
    from pixcrawler.commands import webhooks as commands
    from pixcrawler.commands.gateway import open_client

    with open_client(gateway, api_key) as client:
        commands.show(client.delete_webhook(webhook), is_json=as_json)


@webhooks.command()
def rotate(
    webhook: WebhookId,
    overlap: Annotated[
        int | None, Option(min=0, metavar="SECONDS", help="For so long the old secret signs, too; by default a day.")
    ] = None,
    gateway: Gateway = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Give a webhook another secret, and print it."""
    from pixcrawler.commands import webhooks as commands
    from pixcrawler.commands.gateway import open_client

    with open_client(gateway, api_key) as client:
        commands.show_secret(client.rotate_webhook(webhook, overlap_seconds=overlap), is_json=as_json)


@webhooks.command()
def enable(webhook: WebhookId, gateway: Gateway = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Send to a webhook again after a delivery had been given up."""
    from pixcrawler.commands import webhooks as commands
    from pixcrawler.commands.gateway import open_client

    with open_client(gateway, api_key) as client:
        commands.show(client.enable_webhook(webhook), is_json=as_json)


@webhooks.command("test")
def send_test(webhook: WebhookId, gateway: Gateway = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Send a webhook a notice that says nothing; `deliveries` shows what became of it."""
    from pixcrawler.commands import webhooks as commands
    from pixcrawler.commands.gateway import open_client

    with open_client(gateway, api_key) as client:
        commands.show_delivery(client.test_webhook(webhook), is_json=as_json)


@webhooks.command()
def deliveries(
    webhook: WebhookId,
    state: Annotated[DeliveryState | None, Option(help="Only those in this state.")] = None,
    limit: Annotated[int, Option(min=1, help="How many at most.")] = 20,
    gateway: Gateway = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show what was and is to be sent to a webhook, newest first."""
    from pixcrawler.commands import webhooks as commands
    from pixcrawler.commands.gateway import open_client

    with open_client(gateway, api_key) as client:
        commands.list_deliveries(client, webhook, state, limit, is_json=as_json)


@webhooks.command()
def redeliver(
    webhook: WebhookId,
    delivery: Annotated[str, Argument(metavar="DELIVERY", help="The delivery's id.")],
    gateway: Gateway = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Send a notice once more, under its old id."""
    from pixcrawler.commands import webhooks as commands
    from pixcrawler.commands.gateway import open_client

    with open_client(gateway, api_key) as client:
        commands.show_delivery(client.redeliver(webhook, delivery), is_json=as_json)
