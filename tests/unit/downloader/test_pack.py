"""Bodies on their way into the pack."""

import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from downloader.pack import MOST_HELD, SPILL, Body, BodyRefused, BodySuffices, Opening, Pack, PackClosed
from shared.errors import WorkAreaFull
from shared.reasons import Reason


@pytest.fixture
def pack(tmp_path: Path) -> Iterator[Pack]:
    pack = Pack(tmp_path / "pack")
    yield pack
    pack.close()


def fill(body: Body, *pieces: bytes, encoding: str = "") -> Body:
    body.expect(None, encoding)
    for piece in pieces:
        body.write(piece)
    body.finish()
    return body


def test_bodies_lie_one_after_the_other_whatever_order_their_pieces_came_in(pack: Pack, tmp_path: Path) -> None:
    first, second = pack.body(100), pack.body(100)
    first.write(b"aa")
    second.write(b"bbb")
    first.write(b"aa")

    second.finish()
    first.finish()

    assert (second.offset, second.size_bytes) == (0, 3)
    assert (first.offset, first.size_bytes) == (3, 4)
    assert (tmp_path / "pack").read_bytes() == b"bbbaaaa"
    assert pack.size_bytes == 7


def test_a_large_body_leaves_memory_and_still_arrives_whole(pack: Pack, tmp_path: Path) -> None:
    pieces = [os.urandom(100_000) for _ in range(SPILL // 100_000 + 5)]
    pack.held_bytes = MOST_HELD

    body = fill(pack.body(10 * SPILL), *pieces)

    assert (tmp_path / "pack").read_bytes() == b"".join(pieces)
    assert body.offset == 0
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


def test_of_many_large_bodies_memory_holds_a_bounded_part(pack: Pack, tmp_path: Path) -> None:
    piece = os.urandom(SPILL)
    bodies = [pack.body(10 * SPILL) for _ in range(20)]

    most = 0
    for _ in range(4):
        for body in bodies:
            body.write(piece)
            most = max(most, pack.held_bytes)
    for body in bodies[1:]:
        body.finish()
    bodies[0].close()

    assert most <= MOST_HELD + len(bodies) * SPILL
    assert pack.held_bytes == 0
    assert (tmp_path / "pack").read_bytes() == piece * 4 * 19


def test_a_body_of_very_many_pieces_arrives_whole(pack: Pack, tmp_path: Path) -> None:
    fill(pack.body(100_000), *[b"xy"] * 5000)

    assert (tmp_path / "pack").read_bytes() == b"xy" * 5000


def test_a_refused_body_leaves_nothing_in_the_pack(pack: Pack) -> None:
    body = pack.body(3)

    with pytest.raises(BodyRefused) as refused:
        fill(body, b"aaaa")

    assert refused.value.reason is Reason.BODY_TOO_LARGE
    assert pack.size_bytes == 0


def test_a_body_announced_too_large_is_refused_before_it_is_read(pack: Pack) -> None:
    with pytest.raises(BodyRefused) as refused:
        pack.body(3).expect(4, "")

    assert refused.value.reason is Reason.BODY_TOO_LARGE


def test_an_empty_body_is_refused(pack: Pack) -> None:
    with pytest.raises(BodyRefused) as refused:
        fill(pack.body(3))

    assert refused.value.reason is Reason.EMPTY_BODY


def test_after_close_nothing_is_written(pack: Pack) -> None:
    body = pack.body(10)
    body.write(b"late")
    pack.close()

    with pytest.raises(PackClosed):
        body.finish()


def test_a_full_disk_is_the_work_areas_trouble() -> None:
    pack = Pack(Path("/dev/full"))

    with pytest.raises(WorkAreaFull):
        fill(pack.body(10), b"abc")

    assert pack.size_bytes == 0
    pack.close()


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


BODY = bytes(range(256)) * 40


@pytest.mark.parametrize(
    ("encoding", "sent"),
    [
        ("identity", BODY),
        ("gzip", gzip.compress(BODY)),
        ("x-gzip", gzip.compress(BODY)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
    ],
)
@pytest.mark.parametrize("step", [7, 100_000])
def test_an_encoded_body_is_stored_decoded(pack: Pack, tmp_path: Path, encoding: str, sent: bytes, step: int) -> None:
    fill(pack.body(len(BODY)), *(sent[at : at + step] for at in range(0, len(sent), step)), encoding=encoding)

    assert (tmp_path / "pack").read_bytes() == BODY


@pytest.mark.parametrize(
    ("encoding", "sent", "reason"),
    [
        ("br", b"x", Reason.BAD_ENCODING),
        ("zstd", b"x", Reason.BAD_ENCODING),
        ("gzip, gzip", b"x", Reason.BAD_ENCODING),
        ("gzip", b"not gzip at all", Reason.BAD_ENCODING),
        ("gzip", gzip.compress(BODY)[:-9], Reason.TRUNCATED_BODY),
        ("gzip", gzip.compress(bytes(10_000_000)), Reason.BAD_ENCODING),
        ("gzip", gzip.compress(os.urandom(200_000)), Reason.BODY_TOO_LARGE),
        # bytes that inflate to nothing: empty blocks, and whatever follows the end
        ("gzip", gzip.compress(b"")[:10] + b"\0\0\0\xff\xff" * 30_000, Reason.BODY_TOO_LARGE),
        ("gzip", gzip.compress(BODY) + bytes(100_000), Reason.BODY_TOO_LARGE),
    ],
)
def test_an_encoding_that_hides_something_is_refused(pack: Pack, encoding: str, sent: bytes, reason: Reason) -> None:
    with pytest.raises(BodyRefused) as refused:
        fill(pack.body(100_000), sent, encoding=encoding)

    assert refused.value.reason is reason
    assert pack.size_bytes == 0


def test_an_opening_stops_where_it_has_enough() -> None:
    opening = Opening(5)
    opening.expect(1_000_000, "")
    opening.write(b"abc")

    with pytest.raises(BodySuffices):
        opening.write(b"defgh")

    opening.finish()
    assert opening.read() == b"abcde"


def test_an_opening_that_inflates_to_nothing_ends_too() -> None:
    opening = Opening(1000)
    opening.expect(None, "gzip")

    with pytest.raises(BodySuffices):
        opening.write(gzip.compress(b"")[:10] + b"\0\0\0\xff\xff" * 300)
