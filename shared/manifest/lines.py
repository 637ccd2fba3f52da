"""Lines of a byte stream, in bounded memory however long a line is."""

from collections.abc import Iterator

from shared.manifest.cells import MAX_CELL_BYTES
from shared.manifest.stream import ByteStream

BLOCK_BYTES = 1024**2

#: Where a line ends in the stream, and its bytes without the line feed; None when it is too long.
Line = tuple[int, bytes | None]


def lines(stream: ByteStream, position: int) -> Iterator[Line]:
    """The lines from a position on, which must be the beginning of a line. Raises BadSource as the stream does."""
    stream.seek(position)
    rest, dropped = b"", 0
    while block := stream.read(BLOCK_BYTES):
        parts = (rest + block).split(b"\n")
        rest = parts.pop()
        for part in parts:
            length = dropped + len(part)
            position += length + 1
            dropped = 0
            yield position, part if length <= MAX_CELL_BYTES else None
        if len(rest) > MAX_CELL_BYTES:
            rest, dropped = b"", dropped + len(rest)
    length = dropped + len(rest)
    if length:
        yield position + length, rest if length <= MAX_CELL_BYTES else None
