"""How the client reaches this gateway."""

from fastapi import Request

from gateway.services import services_of


def base_url(request: Request) -> str:
    """Without a slash at its end."""
    settings = services_of(request).settings
    return (settings.public_url or str(request.base_url)).rstrip("/")
