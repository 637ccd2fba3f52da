"""Which gateway a command talks to: the one named, or this user's running stack."""

from pixcrawler.client import Client
from pixcrawler.commands.exits import Exit, Failure


def open_client(gateway: str | None, api_key: str | None) -> Client:
    """Raises Failure when no gateway is named and no stack is up, or one is named without a key."""
    if gateway:
        if not api_key:
            raise Failure(f"the gateway at {gateway} wants a key; set PIXCRAWLER_API_KEY", Exit.AUTHENTICATION)
        return Client(gateway, api_key)
    url, key = _running_stack()
    return Client(url, api_key or key)


def _running_stack() -> tuple[str, str]:
    from pixcrawler.local import Home

    home = Home.find()
    try:
        from pixcrawler.local import state

        found = state.read_state(home)
        key = (home.secrets / "api-key").read_text().strip() if found else ""
    except (ImportError, OSError):
        found, key = None, ""
    if found is None:
        raise Failure(
            "no gateway is named and no stack of yours is up;"
            " give --gateway URL (or PIXCRAWLER_GATEWAY), or start one: pixcrawler up",
            Exit.UNAVAILABLE,
        )
    return found.url, key
