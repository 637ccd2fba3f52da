"""The pictures that are crawled: photo-like, always the same, and as large as those of the web.

Sizes are lognormal: median about 85 kB, mean about 180 kB, at most 3 MB. 85 % JPEG (a quarter of them
progressive, 3 % grey), 10 % PNG (most of them graphics of few colours), 5 % WebP. One in twenty is broken: not
there, cut, a web page, empty, or a single pixel. Picture i depends on the seed, i and the libraries' versions
only. What was drawn is kept in a folder named by all of these.
"""

import hashlib
import io
import json
import math
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

SEED = 7
#: Share of each way to be broken.
BROKEN = (("missing", 0.015), ("cut", 0.015), ("page", 0.010), ("empty", 0.005), ("pixel", 0.005))
_SIDE = 2048
#: How steeply each landscape's detail falls off: 1/f^a, from rough to smooth.
_SLOPES = (1.0, 1.1, 1.25, 1.45, 2.0)
#: Bits a pixel that each kind of picture takes on average, to choose a size in pixels for one in bytes.
_BITS = {"jpg": 1.95, "png": 14.0, "webp": 1.7, "graphic": 0.3}
_MEDIAN_BYTES, _SPREAD, _MIN_BYTES, _MAX_BYTES = 86_000, 1.25, 3_000, 3_000_000
_PAGE = b"<!doctype html><title>Gone</title>" + b"<p>This picture has moved.</p>" * 40


@dataclass(frozen=True)
class Entry:
    """One URL of the list. `sha256` is that of the bytes served."""

    path: str
    kind: str
    size_bytes: int
    sha256: str

    @property
    def is_good(self) -> bool:
        return self.kind == "good"


@dataclass(frozen=True)
class Corpus:
    """The first `count` pictures, on disk below `root`."""

    root: Path
    entries: tuple[Entry, ...]

    @property
    def good(self) -> int:
        return sum(entry.is_good for entry in self.entries)

    def describe(self) -> str:
        sizes = sorted(entry.size_bytes for entry in self.entries if entry.is_good)
        return (
            f"{len(self.entries):,} URLs, {len(sizes):,} good pictures of {sum(sizes) / 1e6:,.0f} MB; "
            f"median {sizes[len(sizes) // 2] / 1000:.0f} kB, mean {sum(sizes) / len(sizes) / 1000:.0f} kB"
        )


def corpus(folder: Path, count: int) -> Corpus:
    """Draws what is not there yet: about 25 ms a picture and core."""
    home = folder / f"corpus-{_edition()}"
    known = home / f"entries-{count}.jsonl"
    if not known.exists():
        home.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("corpus-*"):
            if stale != home:
                shutil.rmtree(stale)
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
            drawn = pool.map(_draw, range(count), [home / "root"] * count, chunksize=16)
            text = "".join(json.dumps(asdict(entry)) + "\n" for entry in drawn)
        beside = known.with_suffix(".new")
        beside.write_text(text)
        beside.rename(known)
    entries = tuple(Entry(**json.loads(line)) for line in known.read_text().splitlines())
    return Corpus(home / "root", entries)


def _edition() -> str:
    """Changes with whatever changes the pictures."""
    parts = (Path(__file__).read_bytes(), version("numpy").encode(), version("pillow").encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def _draw(number: int, root: Path) -> Entry:
    choice = np.random.default_rng([SEED, number])
    suffix = str(choice.choice(["jpg", "png", "webp"], p=[0.85, 0.10, 0.05]))
    kind, body = _body(choice, suffix)
    path = f"{number // 500:03d}/{number:06d}.{suffix}"
    target = root / path
    if kind != "missing" and not (target.exists() and target.stat().st_size == len(body)):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
    return Entry(path, kind, len(body), hashlib.sha256(body).hexdigest())


def _body(choice: np.random.Generator, suffix: str) -> tuple[str, bytes]:
    kinds, shares = zip(*BROKEN, strict=True)
    kind = str(choice.choice(["good", *kinds], p=[1 - sum(shares), *shares]))
    if kind in ("missing", "empty"):
        return kind, b""
    if kind == "page":
        return kind, _PAGE
    if kind == "pixel":
        return kind, _encoded(choice, suffix, np.full((1, 1, 3), choice.integers(256, size=3), np.uint8))
    body = _encoded(choice, suffix, _picture(choice, suffix))
    return kind, body if kind == "good" else body[: int(len(body) * choice.uniform(0.2, 0.95))]


def _picture(choice: np.random.Generator, suffix: str) -> np.ndarray:
    is_graphic = suffix == "png" and choice.random() < 0.6
    size = float(np.clip(_MEDIAN_BYTES * math.exp(_SPREAD * choice.standard_normal()), _MIN_BYTES, _MAX_BYTES))
    kind, largest = ("graphic", 3e6) if is_graphic else (suffix, 14e6)
    pixels = np.clip(size * 8 / _BITS[kind], 64 * 64, largest)
    aspect = choice.choice([1, 4 / 3, 3 / 2, 16 / 9, 3 / 4, 2 / 3])
    width, height = int(math.sqrt(pixels * aspect)), int(math.sqrt(pixels / aspect))
    ground = _landscape(len(_SLOPES) - 1 if is_graphic else int(choice.integers(len(_SLOPES) - 1)))
    rows = (int(choice.integers(_SIDE)) + np.arange(height)) % _SIDE
    columns = (int(choice.integers(_SIDE)) + np.arange(width)) % _SIDE
    seen = ground[np.ix_(rows, columns)]
    # Each picture's own light, so that no two crops of one place are alike.
    seen = np.clip(seen.astype(np.int16) + choice.integers(-24, 25, 3, dtype=np.int16), 0, 255).astype(np.uint8)
    return seen // 40 * 40 if is_graphic else seen


def _encoded(choice: np.random.Generator, suffix: str, pixels: np.ndarray) -> bytes:
    image, file = Image.fromarray(pixels), io.BytesIO()
    quality, is_progressive, is_grey = int(choice.integers(75, 91)), choice.random() < 0.25, choice.random() < 0.03
    if suffix == "jpg":
        (image.convert("L") if is_grey else image).save(file, "JPEG", quality=quality, progressive=is_progressive)
    elif suffix == "png":
        image.save(file, "PNG", compress_level=6)
    else:
        image.save(file, "WEBP", quality=quality, method=2)
    return file.getvalue()


@lru_cache(maxsize=len(_SLOPES))
def _landscape(number: int) -> np.ndarray:
    """A square of coloured noise that can be laid edge to edge."""
    light = 118 + 38 * _noise(number, 0, _SLOPES[number])
    colours = [light + 14 * _noise(number, channel, 1.9) for channel in (1, 2, 3)]
    return np.clip(np.stack(colours, axis=-1), 0, 255).astype(np.uint8)


def _noise(number: int, channel: int, slope: float) -> np.ndarray:
    """A field of 1/f noise with mean 0 and deviation 1."""
    choice = np.random.default_rng([SEED, number, channel])
    down, across = np.fft.fftfreq(_SIDE)[:, None], np.fft.rfftfreq(_SIDE)[None, :]
    frequency = np.hypot(down, across)
    frequency[0, 0] = np.inf
    phases = choice.standard_normal((*frequency.shape, 2)).view(np.complex128)[..., 0]
    field = np.fft.irfft2(phases / frequency**slope, s=(_SIDE, _SIDE))
    return (field / field.std()).astype(np.float32)
