"""A store in memory: the twin of the real ones, for tests and for trying things out.

It keeps the same promises (create-only, key order, StoreUnavailable when told so) and passes the same
contract suite, so code that works with it works with Azure, S3 and folders. Nothing outlives the object.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count

from shared.storage.base import StoredObject
from shared.storage.keys import checked
from shared.storage.parts import Body, read_whole


@dataclass(frozen=True, kw_only=True)
class Held:
    """An object as the memory holds it."""

    body: bytes
    content_type: str
    sha256: str
    version: int = field(default_factory=count().__next__, compare=False)


class MemoryStore:
    """Objects in a dictionary, which tests may look into: `store.objects["index/r000.parquet"].body`.

    `before(operation, key)` is called before every operation and may raise, as a store that is away would.
    `key` is the prefix for `list`.
    """

    def __init__(self, *, before: Callable[[str, str], None] | None = None) -> None:
        self.objects: dict[str, Held] = {}
        self._before = before

    async def create(self, key: str, body: Body, *, content_type: str, sha256: str) -> bool:
        await self._begin("create", checked(key))
        held = await self._hold(body, content_type, sha256)
        return self.objects.setdefault(key, held) is held

    async def replace(self, key: str, body: bytes, *, content_type: str, sha256: str) -> None:
        await self._begin("replace", checked(key))
        self.objects[key] = await self._hold(body, content_type, sha256)

    async def exchange(self, key: str, body: bytes, *, version: str, content_type: str, sha256: str) -> bool:
        await self._begin("exchange", checked(key))
        held = await self._hold(body, content_type, sha256)
        if key not in self.objects or str(self.objects[key].version) != version:
            return False
        self.objects[key] = held
        return True

    async def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        await self._begin("get", checked(key))
        end = None if length is None else offset + length
        return self.objects[key].body[offset:end]

    async def stat(self, key: str) -> StoredObject | None:
        await self._begin("stat", checked(key))
        if key not in self.objects:
            return None
        return replace(self._stored(key), version=str(self.objects[key].version))

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        await self._begin("list", prefix)
        for key in sorted(key for key in self.objects if key.startswith(prefix)):
            if key in self.objects:
                yield self._stored(key)

    async def delete(self, key: str) -> None:
        await self._begin("delete", checked(key))
        self.objects.pop(key, None)

    async def link(self, key: str, *, valid: timedelta) -> str | None:
        """Nobody else sees this memory."""
        checked(key)
        return None

    async def sweep(self) -> None:
        """No write is ever half done here."""

    async def close(self) -> None:
        """Nothing to give back; the objects stay, so that a test can look at them."""

    async def _begin(self, operation: str, key: str) -> None:
        # A real store gives others a turn here; code that relies on not being interrupted must fail with this one too.
        await asyncio.sleep(0)
        if self._before is not None:
            self._before(operation, key)

    async def _hold(self, body: Body, content_type: str, sha256: str) -> Held:
        return Held(body=await asyncio.to_thread(read_whole, body), content_type=content_type, sha256=sha256)

    def _stored(self, key: str) -> StoredObject:
        held = self.objects[key]
        return StoredObject(key=key, size_bytes=len(held.body), sha256=held.sha256)
