"""Why a store was not reached, in words for people: libraries say it by the names of their classes."""

import socket
import ssl
from collections.abc import Iterator


def why(error: BaseException) -> str:
    """What failed and what to do about it, found among the error and those it came from."""
    causes = tuple(_causes(error))
    if any(isinstance(cause, ssl.SSLError) or "SSLError" in type(cause).__name__ for cause in causes):
        return "no safe connection could be made; check that its certificate is valid, and trusted by the services"
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return "its name is not known; check its spelling and the services' DNS"
    if any("Proxy" in type(cause).__name__ for cause in causes):
        return "the proxy does not let the services through; check HTTPS_PROXY and NO_PROXY"
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return "nobody listens there; check its address, and that it runs"
    if any(isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__ for cause in causes):
        return "it did not answer in time; check the network, or set PIXCRAWLER_STORE_TIMEOUT_SECONDS higher"
    return "the connection broke off; check the network"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it wraps, outermost first; Azure's client keeps that in an attribute of its own."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        found = waiting.pop(0)
        if id(found) not in seen:
            seen.add(id(found))
            yield found
            inner = (found.__cause__, found.__context__, getattr(found, "inner_exception", None), *found.args)
            waiting.extend(cause for cause in inner if isinstance(cause, BaseException))
