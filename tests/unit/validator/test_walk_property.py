"""Whatever the bytes, a walk answers with a picture or a rejection."""

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.recipe import ImageKind
from tests import images
from validator.metadata import MAX_EXIF, clean_block
from validator.walk import Picture, Rejection, kind_of, walk
from validator.walk.exif import orientation_of, tags_of, to_json

SEEDS = [
    images.jpeg(24, 16),
    images.jpeg(24, 16, progressive=True),
    images.jpeg_with_exif(6),
    images.png(24, 16),
    images.animated("PNG"),
    images.animated("GIF"),
    images.webp(24, 16),
    images.animated("WEBP"),
    images.flat_webp(9, 9),
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good image with some bytes overwritten, cut out or put in."""
    body = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(body)))
        removed = draw(st.integers(0, 8))
        body[at : at + removed] = draw(st.binary(max_size=8))
    return bytes(body)


def check_answer(body: bytes, kind: ImageKind) -> None:
    found = walk(memoryview(body), kind, max_pixels=1_000_000)
    if isinstance(found, Rejection):
        assert found.detail
        return
    assert found.end <= len(body)
    assert 0 < found.pixels <= 1_000_000
    assert sum(span.end - span.start for span in found.spans) == found.end


@settings(deadline=None)
@given(body=st.binary(max_size=400), kind=st.sampled_from(ImageKind))
def test_any_bytes_get_an_answer(body: bytes, kind: ImageKind) -> None:
    check_answer(body, kind)
    assert isinstance(kind_of(memoryview(body)), ImageKind | Rejection)


@settings(deadline=None, max_examples=300)
@given(body=mutated())
def test_a_mutated_image_gets_an_answer(body: bytes) -> None:
    kind = kind_of(memoryview(body))

    if isinstance(kind, ImageKind):
        check_answer(body, kind)


@settings(deadline=None)
@given(block=st.binary(max_size=200))
def test_any_exif_block_gets_an_answer(block: bytes) -> None:
    for head in (b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        view = memoryview(head + block)

        assert 1 <= orientation_of(view) <= 8
        assert len(to_json(tags_of(view))) <= 4096
        assert len(clean_block(view, 6)) <= MAX_EXIF


def test_every_seed_is_a_picture() -> None:
    for body in SEEDS:
        kind = kind_of(memoryview(body))
        assert isinstance(kind, ImageKind)
        assert isinstance(walk(memoryview(body), kind, max_pixels=1_000_000), Picture)
