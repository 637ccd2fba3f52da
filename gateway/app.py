"""Wires the gateway: settings in, an ASGI application out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from fastapi import FastAPI

from gateway import openapi
from gateway.images import IndexCache
from gateway.keyring import Keyring
from gateway.limits import RateLimiter
from gateway.middleware import Observed
from gateway.problems import HANDLED, on_error
from gateway.routes import (
    calendar,
    checks,
    events,
    failed,
    images,
    jobs,
    keys,
    manifests,
    poison,
    revisions,
    stages,
    statistics,
    system,
    takedowns,
    tenants,
    thumbnails,
    uploads,
    webhooks,
)
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.watch import JobWatch, read_figures
from gateway.web_lists import WebLists
from shared.egress import NOTICE_PORTS, Egress
from shared.resources import Resources, open_resources
from shared.version import VERSION

#: Of a body that holds no list.
_MOST_BYTES = 1024**2
_DESCRIPTION = "Turns a list of image URLs into a clean, documented, training-ready dataset."


def create_app(settings: GatewaySettings) -> FastAPI:
    """The application. It opens what it needs when it starts to serve and closes it at the end."""
    app = FastAPI(
        title="PixCrawler",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=partial(_lifespan, settings),
        docs_url=None,  # its page loads scripts from elsewhere; ours is in routes/system.py
        redoc_url=None,
        redirect_slashes=False,
    )
    app.add_middleware(Observed)
    for kind in HANDLED:
        app.add_exception_handler(kind, on_error)
    app.include_router(jobs.router(settings), max_body_size=_MOST_BYTES)
    app.include_router(revisions.router(settings), max_body_size=_MOST_BYTES)
    app.include_router(manifests.routes)  # counts what arrives by itself
    app.include_router(uploads.routes)  # likewise; what holds no part of a list has its limit there
    for module in (
        calendar,
        checks,
        events,
        failed,
        images,
        keys,
        poison,
        stages,
        statistics,
        system,
        takedowns,
        tenants,
        thumbnails,
        webhooks,
    ):
        app.include_router(module.routes, max_body_size=_MOST_BYTES)
    openapi.install(app)
    return app


@asynccontextmanager
async def _lifespan(settings: GatewaySettings, app: FastAPI) -> AsyncIterator[None]:
    async with open_resources(settings, connections=settings.database_connections) as resources:
        services = build_services(settings, resources)
        app.state.services = services
        watching = asyncio.create_task(services.watch.run(), name="job-watch")
        try:
            yield
        finally:
            services.closing.set()
            services.web_lists.close()
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


def build_services(settings: GatewaySettings, resources: Resources) -> Services:
    """The parts that routes work with."""
    watch = JobWatch(partial(read_figures, resources))
    egress = Egress.of(settings, NOTICE_PORTS)
    return Services(
        settings=settings,
        resources=resources,
        watch=watch,
        indexes=IndexCache(),
        keyring=Keyring(),
        egress=egress,
        web_lists=WebLists(egress),
        limiter=RateLimiter(resources.redis, limit=settings.requests_a_minute),
    )
