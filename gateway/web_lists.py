"""Lists that lie on the web: fetched through the guard, by https only, a few at a time.

A host that answers slowly holds a thread, so they are threads of their own: whoever names such hosts keeps waiting
only those who name lists on the web, and they are told to come later.
"""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from shared.egress import Egress
from shared.errors import BadSource, PlaceRefused, TransientError
from shared.workdir.local import full_disk_is_transient

#: Fetched at once.
_AT_ONCE = 4
#: For a list, redirects included; clients wait no longer for an answer.
_LONGEST_SECONDS = 90.0


class WebLists:
    """Fetches lists from hosts that clients name."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="web-list")
        self._free = threading.BoundedSemaphore(_AT_ONCE)

    def close(self) -> None:
        """Takes no more; what is under way ends with its time."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def fetch(self, url: str, path: Path, *, most_bytes: int) -> None:
        """Writes the list into the file. Raises BadSource, PlaceUnavailable, TransientError, WorkAreaFull."""
        if not self._free.acquire(blocking=False):
            raise TransientError("other lists are being fetched from the web")
        try:
            fetching = self._threads.submit(self._download, url, path, most_bytes)
        except BaseException:
            self._free.release()
            raise
        fetching.add_done_callback(lambda _: self._free.release())
        await asyncio.wrap_future(fetching)

    def _download(self, url: str, path: Path, most_bytes: int) -> None:
        try:
            with full_disk_is_transient(), path.open("wb") as file:
                self._egress.download(url, file, most_bytes=most_bytes, seconds=_LONGEST_SECONDS, only_tls=True)
        except PlaceRefused as error:
            raise BadSource(f"the list cannot be fetched: {error}") from error


def is_web(reference: str) -> bool:
    return reference.lower().startswith(("http://", "https://"))


def name_in(url: str) -> str:
    """The last part of the URL's path, which tells the format. Raises BadSource for what is no URL."""
    try:
        return urlsplit(url).path.rsplit("/", 1)[-1]
    except ValueError:
        raise BadSource("the reference is no URL; correct it") from None
