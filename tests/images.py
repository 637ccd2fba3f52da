"""Tiny and hostile images for tests: made from constants, so that two runs agree.

Every function gives the bytes of one file. Good pictures come from Pillow; the hostile ones are put together
here, because no honest encoder would write them.
"""

import io
import struct
import zlib
from functools import cache

import numpy as np
from PIL import Image

SIZE = (96, 64)
GPS_TEXT = b"hidden-gps-place"
SECRET = b"hidden-in-metadata"
TAIL = b"\n<?php echo 'hidden-tail'; ?>\n"


def picture(width: int = SIZE[0], height: int = SIZE[1], mode: str = "RGB") -> Image.Image:
    """A picture without any symmetry: a gradient and a bright block in the upper left."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 255 // max(1, width - 1), 255 - y * 255 // max(1, height - 1), (x * 3 + y * 5) & 127], axis=-1)
    rgb[: height // 3, : width // 4] = (250, 240, 30)
    return Image.fromarray(rgb.astype(np.uint8), "RGB").convert(mode)


def photo(width: int = 1200, height: int = 900, seed: int = 1, quality: int = 85) -> bytes:
    """A JPEG about as hard to decode as a photo of its size: soft shapes and some noise."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 255, (12, 16, 3), dtype=np.uint8), "RGB")
    soft = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = soft + random.integers(-7, 8, soft.shape, dtype=np.int16)
    return encoded(Image.fromarray(noisy.clip(0, 255).astype(np.uint8), "RGB"), "JPEG", quality=quality)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def jpeg(width: int = SIZE[0], height: int = SIZE[1], **options: object) -> bytes:
    return encoded(picture(width, height), "JPEG", **{"quality": 90, **options})


def png(width: int = SIZE[0], height: int = SIZE[1], mode: str = "RGB") -> bytes:
    return encoded(picture(width, height, mode), "PNG")


def webp(width: int = SIZE[0], height: int = SIZE[1], **options: object) -> bytes:
    return encoded(picture(width, height), "WEBP", **options)


def gif(width: int = SIZE[0], height: int = SIZE[1]) -> bytes:
    return encoded(picture(width, height), "GIF")


def good() -> dict[str, bytes]:
    """One plain image of each kind, by the extension it is stored with."""
    return {"jpg": jpeg(), "png": png(), "webp": webp(), "gif": gif()}


def animated(kind: str, frames: int = 3) -> bytes:
    """A GIF, WebP or PNG with so many different frames."""
    pictures = [picture().rotate(7 * frame) for frame in range(frames)]
    return encoded(pictures[0], kind, save_all=True, append_images=pictures[1:], duration=50, loop=0)


# JPEG


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segment(body: bytes, marker: int, content: bytes) -> bytes:
    """The JPEG with a segment more, right after its start."""
    return body[:2] + segment(marker, content) + body[2:]


def exif_block(orientation: int = 1, *, text: bytes = SECRET, order: str = "<") -> bytes:
    """An EXIF block: orientation, maker, a copyright text, and a GPS directory with a place in it."""
    texts = (text + b"\0", GPS_TEXT + b"\0", b"Pentax\0")
    at = 8 + 2 + 12 * 4 + 4
    copyright_at, place_at = at, at + len(texts[0])
    maker_at = place_at + len(texts[1])
    gps_at = maker_at + len(texts[2])
    entries = [
        struct.pack(order + "HHII", 0x010F, 2, len(texts[2]), maker_at),
        struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0),
        struct.pack(order + "HHII", 0x8298, 2, len(texts[0]), copyright_at),
        struct.pack(order + "HHII", 0x8825, 4, 1, gps_at),
    ]
    gps = struct.pack(order + "HHHIII", 1, 0x001B, 2, len(texts[1]), place_at, 0)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 4)
    return head + b"".join(entries) + bytes(4) + b"".join(texts) + gps


def jpeg_with_exif(orientation: int = 1, **options: object) -> bytes:
    return with_segment(jpeg(**options), 0xE1, b"Exif\0\0" + exif_block(orientation))  # type: ignore[arg-type]


def cmyk_jpeg() -> bytes:
    """Pure cyan, as Adobe writes it (inverted)."""
    return encoded(Image.new("CMYK", SIZE, (255, 0, 0, 0)), "JPEG", quality=95)


def jpeg_of_scans(scans: int, width: int = 64, height: int = 64) -> bytes:
    """A grey progressive JPEG of so many refinements that change nothing."""
    blocks = -(-width // 8) * -(-height // 8)
    head = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64)
    head += segment(0xC4, b"\x00\1" + bytes(15) + b"\0") + segment(0xC4, b"\x10\1" + bytes(15) + b"\xe0")
    head += segment(0xC2, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")
    head += segment(0xDA, b"\1\1\0\0\0\0") + bytes(-(-blocks // 8))
    bits = "0" * 15 * -(-blocks // (1 << 14))
    bits += "1" * (-len(bits) % 8)
    scan = segment(0xDA, b"\1\1\0\1\x3f\0") + int(bits, 2).to_bytes(len(bits) // 8, "big")
    return head + scan * (scans - 1) + b"\xff\xd9"


def jpeg_with_false_end() -> bytes:
    """Cut in the middle, then closed by an end marker, so that only a decoder sees it."""
    body = jpeg(400, 300)
    return body[: len(body) * 2 // 3] + b"\xff\xd9"


# PNG


def chunk(name: bytes, content: bytes, *, checksum: int | None = None) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content) if checksum is None else checksum)
    )


def png_of(width: int, height: int, depth: int, colour: int, packed: bytes, *extra: bytes) -> bytes:
    """A PNG around finished IDAT content; `extra` chunks stand before it."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", packed), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def with_chunk(body: bytes, name: bytes, content: bytes) -> bytes:
    """The PNG with a chunk more, right after its header."""
    return body[:33] + chunk(name, content) + body[33:]


@cache
def zeros(total: int) -> bytes:
    """A zlib stream that inflates to `total` zero bytes."""
    unit = 1 << 20
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(unit)) + packer.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(9, zlib.DEFLATED, -15)
    tail = last.compress(bytes(total % unit)) + last.flush(zlib.Z_FINISH)
    return b"\x78\xda" + block * (total // unit) + tail + struct.pack(">I", (total % 65521) << 16 | 1)


def png_bomb(side: int = 20_000) -> bytes:
    """A grey PNG of a few kilobytes and `side` squared pixels, right in every respect."""
    return png_of(side, side, 8, 0, zeros((side + 1) * side))


def animated_png_of(frames: int, side: int) -> bytes:
    """A grey PNG of so many black frames, each as large as the picture: a few kilobytes, minutes to decode."""
    pixels = zeros((side + 1) * side)
    control = [struct.pack(">IIIIIHHBB", 0, side, side, 0, 0, 1, 10, 0, 0)]
    control += [struct.pack(">IIIIIHHBB", 2 * n + 1, side, side, 0, 0, 1, 10, 0, 0) for n in range(frames - 1)]
    chunks = [chunk(b"acTL", struct.pack(">II", frames, 0)), chunk(b"fcTL", control[0])]
    later = b"".join(
        chunk(b"fcTL", head) + chunk(b"fdAT", struct.pack(">I", 2 * n + 2) + pixels)
        for n, head in enumerate(control[1:])
    )
    whole = png_of(side, side, 8, 0, pixels, *chunks)
    return whole[:-12] + later + whole[-12:]


def grey_png_16(value: int = 48_000) -> bytes:
    """A flat grey PNG of 16 bits."""
    row = b"\0" + struct.pack(">H", value) * SIZE[0]
    return png_of(*SIZE, 16, 0, zlib.compress(row * SIZE[1]))


# GIF and WebP


def gif_of_frames(frames: int, screen: tuple[int, int] = SIZE) -> bytes:
    """A GIF whose frames are single pixels."""
    frame = b"\x21\xf9\4\0\1\0\0\0," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + b"\xa0\x50\x10\0\0\0"
    return head + frame * frames + b";"


def with_gif_block(head: bytes, content: bytes) -> bytes:
    """The GIF with an extension before its frame: `head` as it is, then the content as a further sub-block."""
    body = gif()
    at = 13 + (3 << (body[10] & 7) + 1)
    return body[:at] + head + bytes([len(content)]) + content + b"\0" + body[at:]


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP container of these chunks."""
    body = b"WEBP"
    for name, content in chunks:
        body += name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) & 1)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def flat_webp(width: int, height: int) -> bytes:
    """A lossless WebP of one colour in some fifty bytes, whatever its size."""
    value = (width - 1) | (height - 1) << 14
    length = 14 + 14 + 1 + 3 + 3
    for symbol in (0x80, 0x20, 0x40, 0xFF, 0):
        value |= (0b101 | symbol << 3) << length
        length += 11
    return riff((b"VP8L", b"\x2f" + value.to_bytes((length + 7) // 8, "little") + bytes(8)))


def animated_webp_of(frames: int) -> bytes:
    """A WebP that announces so many frames, all of one pixel."""
    pixel = flat_webp(1, 1)[12:]
    frame = bytes(6) + bytes(6) + bytes(4) + pixel
    canvas = b"\x02" + bytes(3) + struct.pack("<I", 0)[:3] * 2
    return riff((b"VP8X", canvas), (b"ANIM", bytes(6)), *[(b"ANMF", frame)] * frames)


def linear_profile() -> bytes:
    """An ICC profile with the primaries of sRGB and no gamma: the middle value 128 shows as 188."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 7) + b"linear\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": b"XYZ " + bytes(4) + fixed(0.9642, 1.0, 0.8249),
        b"rXYZ": b"XYZ " + bytes(4) + fixed(0.4360, 0.2225, 0.0139),
        b"gXYZ": b"XYZ " + bytes(4) + fixed(0.3851, 0.7169, 0.0971),
        b"bXYZ": b"XYZ " + bytes(4) + fixed(0.1431, 0.0606, 0.7141),
        **{name: b"curv" + bytes(8) for name in (b"rTRC", b"gTRC", b"bTRC")},
    }
    table, content = struct.pack(">I", len(tags)), b""
    at = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", at + len(content), len(value))
        content += value + bytes(-len(value) % 4)
    size = at + len(content)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    return head + bytes(28) + fixed(0.9642, 1.0, 0.8249) + bytes(48) + table + content
