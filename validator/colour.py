"""Brings decoded pixels to eight bits and sRGB, whatever the file kept them in."""

import io

import numpy as np
from PIL import Image, ImageCms

#: Modes that encoders take as they are.
_PLAIN = frozenset({"L", "LA", "RGB", "RGBA", "CMYK"})
#: Bytes of a profile that is trusted to be one.
MAX_PROFILE = 1 << 20
#: The colour space a profile must speak of for each mode.
_SPACES = {"L": "GRAY", "LA": "GRAY", "RGB": "RGB ", "RGBA": "RGB ", "CMYK": "CMYK"}


def eight_bit(image: Image.Image) -> Image.Image:
    """The picture in one of L, LA, RGB, RGBA, CMYK. 16 bits are scaled, not clipped; palettes are resolved."""
    if image.mode.startswith("I;16") or image.mode == "I":
        # 65535 becomes 255, as dividing by 257 and rounding down would.
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if "transparency" in image.info and image.mode in ("L", "RGB", "P", "1"):
        return image.convert("RGBA")
    if image.mode in _PLAIN:
        return image
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGBA" if image.mode in ("PA", "La", "RGBa") else "RGB")


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The picture in sRGB (L, LA, RGB or RGBA). A damaged or unfitting profile is ignored, as viewers do."""
    converted = _through_profile(image, profile) if profile and len(profile) <= MAX_PROFILE else None
    if converted is not None:
        return converted
    return image.convert("RGB") if image.mode == "CMYK" else image


def _through_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != _SPACES[image.mode]:
            return None
        if ImageCms.getProfileDescription(source).startswith("sRGB"):
            return image
        return _transform(image, source)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None


def _transform(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    has_alpha = image.mode in ("LA", "RGBA")
    inks = image.convert(image.mode[:-1]) if has_alpha else image
    turned = ImageCms.profileToProfile(inks, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert turned is not None, "only an in-place transform gives nothing back"
    if inks.mode == "L":
        turned = turned.convert("L")
    if has_alpha:
        turned.putalpha(image.getchannel("A"))
    return turned
