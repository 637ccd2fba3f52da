"""Which gateway a command talks to: the one named, or this user's running stack."""

from pixcrawler.client import Client
from pixcrawler.commands.exits import Exit, Failure


def open_client(gateway: str | None, api_key: str | None) -> Client:
    """Raises Failure when no gateway is named and no stack is up."""
    if gateway:
        return Client(gateway, api_key or "")
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
