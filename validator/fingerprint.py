"""Fingerprints of an image: sha256 of its bytes, and a perceptual hash of how it looks.

The perceptual hash is the 64-bit pHash that other tools write (32 x 32 grey, DCT-II, the 8 x 8 lowest
frequencies against their median), taken of the upright picture. The same picture re-encoded or resized lies
within 4 bits; different ones are mostly more than 18 apart.
"""

import hashlib
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from validator.walk import Body

Grey = npt.NDArray[np.uint8]

#: Pixels of the side that the picture is shrunk to; a grey picture of at least this size is needed.
SIDE = 32
_LOW = 8
#: Pixels of the shorter side that the hash gains nothing beyond.
_ENOUGH = 256
#: Decimals that count: flat pictures differ from zero by rounding alone.
_DECIMALS = 3


def sha256(body: Body | bytes) -> str:
    """The digest of the bytes, hex."""
    return hashlib.sha256(body).hexdigest()


def phash(grey: Grey, orientation: int) -> str:
    """16 hex digits for a grey picture (height, width) with its EXIF orientation, 1 to 8."""
    shrunk = shrink(Image.fromarray(grey)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    small = np.asarray(shrunk, dtype=np.float64)
    basis = _cosines()
    frequencies = basis @ upright(small, orientation) @ basis.T
    low = np.round(frequencies, _DECIMALS)
    bits = np.packbits((low > np.median(low)).ravel())
    return bits.tobytes().hex()


def shrink(image: Image.Image) -> Image.Image:
    """The picture averaged down to a few times `SIDE`, if it is larger: cheaper to convert and to resize."""
    factor = min(image.size) // _ENOUGH
    return image.reduce(factor) if factor > 1 else image


def upright(square: npt.NDArray[np.float64], orientation: int) -> npt.NDArray[np.float64]:
    """The picture as a viewer shows it that obeys the EXIF orientation."""
    turned = {
        2: lambda: square[:, ::-1],
        3: lambda: square[::-1, ::-1],
        4: lambda: square[::-1],
        5: lambda: square.T,
        6: lambda: np.rot90(square, -1),
        7: lambda: square[::-1, ::-1].T,
        8: lambda: np.rot90(square),
    }
    return turned.get(orientation, lambda: square)()


@cache
def _cosines() -> npt.NDArray[np.float64]:
    """The 8 lowest rows of the DCT-II matrix."""
    row, place = np.mgrid[0:_LOW, 0:SIDE]
    return np.asarray(2 * np.cos(np.pi * row * (2 * place + 1) / (2 * SIDE)), dtype=np.float64)
