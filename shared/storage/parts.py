"""How a body is cut: small ones go in one request, large ones in parts, so that memory and time-outs stay small."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PosixPath
from typing import TypeVar

T = TypeVar("T")

#: A body up to this size is one request. At 30 s for a request it asks for half a megabyte a second.
SINGLE_BYTES = 16 * 1024 * 1024
#: S3 wants at least 5 MiB a part and at most 10,000 of them: 80 GiB, several times the largest chunk.
PART_BYTES = 8 * 1024 * 1024
#: Parts of one body in flight at once; memory is this times `PART_BYTES`.
PARTS_AT_ONCE = 3


class FinishedFile(PosixPath):
    """A body that nobody writes to any more, whatever becomes of its name: a folder may keep it and not a copy."""


Body = bytes | memoryview | Path


@dataclass(frozen=True)
class Part:
    """A piece of a body, by place: `number` counts from 0."""

    number: int
    offset: int
    length: int


def size_of(body: Body) -> int:
    """The body's size in bytes. Raises OSError for a file that cannot be read."""
    if isinstance(body, Path):
        return body.stat().st_size
    return body.nbytes if isinstance(body, memoryview) else len(body)


def parts_of(size_bytes: int) -> Iterator[Part]:
    """The parts of a body of that size, in order."""
    for number, offset in enumerate(range(0, size_bytes, PART_BYTES)):
        yield Part(number, offset, min(PART_BYTES, size_bytes - offset))


def read_whole(body: Body) -> bytes:
    """The body as bytes; for bodies of at most `SINGLE_BYTES`."""
    return body.read_bytes() if isinstance(body, Path) else bytes(body)


def read_part(body: Body, part: Part) -> bytes:
    """One part's bytes. Raises EOFError when the file became shorter meanwhile."""
    if not isinstance(body, Path):
        return bytes(memoryview(body).cast("B")[part.offset : part.offset + part.length])
    with body.open("rb", buffering=0) as file:
        content = os.pread(file.fileno(), part.length, part.offset)
    if len(content) != part.length:
        raise EOFError(f"{body.name} became shorter while it was stored")
    return content


async def send_parts(size_bytes: int, send: Callable[[Part], Coroutine[object, object, T]]) -> list[T]:
    """What `send` returned for each part, in order. The first failure stops the others and is raised."""
    sent: list[T] = []
    parts = parts_of(size_bytes)
    while some := list(islice(parts, PARTS_AT_ONCE)):
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(send(part)) for part in some]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        sent += [task.result() for task in tasks]
    return sent
