"""An origin whose pictures change between two looks at them, with validators, without, and behind redirects."""

from collections import Counter
from dataclasses import dataclass, field

from tests.images import jpeg
from tests.origin import Origin, Request, Wire


@dataclass
class Page:
    """What one URL answers now."""

    picture: bytes
    etag: str | None = None
    last_modified: str | None = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, str]:
        named = {"ETag": self.etag, "Last-Modified": self.last_modified}
        return {**{name: value for name, value in named.items() if value is not None}, **self.headers}

    def is_what(self, request: Request) -> bool:
        """Whether the request's condition says that this very answer is known."""
        if self.etag is not None and (asked := request.headers.get("if-none-match")) is not None:
            return asked == self.etag
        return self.last_modified is not None and request.headers.get("if-modified-since") == self.last_modified


class ChangingPages:
    """Pages by their paths; `bodies` counts the pictures that were sent."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.pages: dict[str, Page] = {}
        self.bodies: Counter[str] = Counter()

    def put(self, path: str, page: Page) -> str:
        """The page's URL."""
        self.pages[path] = page
        self.origin.handlers[path] = self._serve
        return self.origin.url(path)

    async def _serve(self, request: Request, wire: Wire) -> None:
        page = self.pages[request.path]
        if page.status == 200 and page.is_what(request):
            await wire.reply(status=304, headers=page.fields, length=500_000)  # of the body that is not sent
            return
        self.bodies[request.path] += page.status == 200
        await wire.reply(page.picture, status=page.status, headers=page.fields)


def a_picture(number: int) -> bytes:
    """One for each number, all different."""
    return jpeg(64 + number % 32, 64 + number // 32)
