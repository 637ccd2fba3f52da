"""What the routes work with, built once in `app.py`."""

import asyncio
from dataclasses import dataclass, field

from fastapi import Request

from gateway.images import IndexCache
from gateway.keyring import Keyring
from gateway.limits import RateLimiter
from gateway.settings import GatewaySettings
from gateway.watch import JobWatch
from gateway.web_lists import WebLists
from shared.egress import Egress
from shared.resources import Resources


@dataclass(frozen=True, kw_only=True)
class Services:
    """One gateway's parts. They belong to the event loop that serves."""

    settings: GatewaySettings
    resources: Resources
    watch: JobWatch
    indexes: IndexCache
    keyring: Keyring
    limiter: RateLimiter
    #: For what clients name on the web.
    egress: Egress
    web_lists: WebLists
    #: Set when the server is asked to stop: streams end, so that it can.
    closing: asyncio.Event = field(default_factory=asyncio.Event)


def services_of(request: Request) -> Services:
    found: Services = request.app.state.services
    return found
