"""What both clients do alike with httpx2: addresses, limits, and errors in our words."""

import ipaddress
from typing import Any
from urllib.parse import urlsplit

import httpx2

from pixcrawler.calls import Answer, Call
from pixcrawler.errors import ConnectionFailed, PixCrawlerError, error_of

#: A submission reads the list's beginning and writes to the destination, which takes a while.
_ANSWER_SECONDS = 120.0
_CONNECT_SECONDS = 10.0
#: The gateway sends something every 15 s.
SILENCE_SECONDS = 60.0
#: Streams that end at once are opened again after this, and given up after so many.
RECONNECT_SECONDS = 1.0
RECONNECTS = 10
BLOCK_BYTES = 256 * 1024
#: A list that is larger is sent in parts of this size, or of larger ones when there would be too many.
_PART_BYTES = 8 * 1024**2
_MOST_PARTS = 5_000


def options(url: str, api_key: str) -> dict[str, Any]:
    """How httpx2's clients are made. Raises PixCrawlerError for what is no URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PixCrawlerError(f"'{url}' is not a gateway's URL; give one like https://gateway.example")
    return {
        "base_url": url.rstrip("/"),
        "headers": {"Authorization": f"Bearer {api_key}"} if api_key else {},
        "timeout": httpx2.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
        # A proxy from the environment cannot reach this machine's loopback.
        "trust_env": not _is_loopback(parts.hostname),
    }


def part_bytes(size_bytes: int) -> int | None:
    """Bytes of each part that a list of that size is sent in; None: in one piece."""
    return None if size_bytes <= _PART_BYTES else max(_PART_BYTES, -(-size_bytes // _MOST_PARTS))


def answer_of(call: Call[Answer], response: httpx2.Response) -> Answer:
    """The answer's model. Raises ApiError for a problem."""
    raise_for(response)
    return call.read(response.status_code, response.content)


def raise_for(response: httpx2.Response) -> None:
    """Raises ApiError for what is not success. The body must have been read."""
    if response.is_success:
        return
    try:
        problem = response.json()
    except ValueError:
        problem = None
    raise error_of(response.status_code, problem)


def failed(url: httpx2.URL, error: httpx2.TransportError) -> ConnectionFailed:
    where = f"{url.scheme}://{url.netloc.decode()}"
    why = str(error) or type(error).__name__
    return ConnectionFailed(f"the gateway at {where} cannot be reached ({why}); is it running, and is the URL right?")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
