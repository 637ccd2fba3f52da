"""PixCrawler's client: the library, the `pixcrawler` command and the embedded stack.

    from pixcrawler import Client, Destination, JobRequest, Source

    with Client("https://gateway.example", api_key="pxc_…") as client:
        source = Source(manifest_id=client.upload(Path("urls.csv")).id)
        job = client.submit(JobRequest(source=source, destination=Destination(url="s3://datasets/cats"))).job
        print(client.wait(job.id).accepted)

Talks to a gateway over HTTP and imports no server code.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixcrawler.aio import AsyncClient
    from pixcrawler.client import Client
    from pixcrawler.errors import (
        ApiError,
        AuthenticationError,
        ConflictError,
        GatewayError,
        InvalidRequestError,
        NotFoundError,
        PixCrawlerError,
        UnavailableError,
        WaitTimeout,
    )
    from pixcrawler.models import Destination, Job, JobRequest, ListOptions, Recipe, Source
    from pixcrawler.words import JobState

__all__ = [
    "ApiError",
    "AsyncClient",
    "AuthenticationError",
    "Client",
    "ConflictError",
    "Destination",
    "GatewayError",
    "InvalidRequestError",
    "Job",
    "JobRequest",
    "JobState",
    "ListOptions",
    "NotFoundError",
    "PixCrawlerError",
    "Recipe",
    "Source",
    "UnavailableError",
    "WaitTimeout",
]

_MODELS = frozenset({"Destination", "Job", "JobRequest", "ListOptions", "Recipe", "Source"})
_PLACES = {"Client": "client", "AsyncClient": "aio", "JobState": "words"}


def __getattr__(name: str) -> Any:
    # Looked up when used: the command and the stack's processes start without what they do not need.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _PLACES.get(name) or ("models" if name in _MODELS else "errors")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
