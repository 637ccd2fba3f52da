"""The interface of an object store: Azure Blob Storage, anything that speaks S3, or a local folder.

Keys are relative to the destination and made by us (`uploader/naming.py`): lower case letters, digits, `-`,
`_`, `.`, `/`. Puts are create-only, so that repeating one is harmless and a late writer can destroy nothing.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """What the store says of an object. `sha256` (hex) is what its writer recorded; None if it recorded none.

    `version` is another one each time the object is stored; "" in a listing.
    """

    key: str
    size_bytes: int
    sha256: str | None
    version: str = ""


class ObjectStore(Protocol):
    """One destination, or the spool. All methods raise StoreUnavailable (may pass) or StoreRefused (will not).

    A store belongs to the event loop that opened it and must be closed there.
    """

    async def create(self, key: str, body: bytes | memoryview | Path, *, content_type: str, sha256: str) -> bool:
        """Stores a new object, whole or not at all. False when the key exists already (nothing is written)."""
        ...

    async def replace(self, key: str, body: bytes, *, content_type: str, sha256: str) -> None:
        """Stores an object whether or not it exists; readers see the old or the new one, never a mixture."""
        ...

    async def exchange(self, key: str, body: bytes, *, version: str, content_type: str, sha256: str) -> bool:
        """Stores an object in place of that version of it. False: another one lies there, or none; nothing is written.

        A store that knows no conditions for what exists takes this for `replace`.
        """
        ...

    async def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """The object's bytes, or a part of them. Raises KeyError when there is no such object."""
        ...

    async def stat(self, key: str) -> StoredObject | None:
        """What is known of the object; None when there is none."""
        ...

    def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        """Objects whose key starts with the prefix, in key order. `sha256` may be None even where recorded."""
        ...

    async def delete(self, key: str) -> None:
        """Removes the object; no error when there is none."""
        ...

    async def link(self, key: str, *, valid: timedelta) -> str | None:
        """An address at which anybody who knows it may read the object for so long, whether or not it is there.

        None where none can be signed: of a folder, or without a key of the store's own to sign with.
        """
        ...

    async def sweep(self) -> None:
        """Removes what writes left that were cut off by a crash. For when nobody writes: it may fail who does."""
        ...

    async def close(self) -> None:
        """Gives back connections and threads."""
        ...
