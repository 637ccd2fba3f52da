"""Pages of lists: where the next one is, also as a header."""

from urllib.parse import urlencode

from fastapi import Request, Response

from gateway.addresses import base_url


def tell_next(request: Request, response: Response, cursor: str | None) -> str | None:
    """Adds the header Link (RFC 8288) when there is a next page; the cursor itself, for the body."""
    if cursor is not None:
        asked = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
        following = urlencode([*asked, ("cursor", cursor)])
        response.headers["Link"] = f'<{base_url(request)}{request.url.path}?{following}>; rel="next"'
    return cursor
