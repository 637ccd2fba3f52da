"""What the client wants done to each image, validated once when the job is accepted.

Names follow img2dataset where they mean the same. A recipe is stored with its job and is part of what
makes two runs the same run, so it holds nothing but choices.
"""

import hashlib
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import UnknownRecipe


class Depth(StrEnum):
    """How thoroughly an image is checked before it is accepted."""

    STRUCTURE = "structure"  #: header walk, checksums, end marker; finds no flipped byte in a JPEG
    STANDARD = "standard"  #: structure, and a strict eighth-size decode of JPEGs
    FULL = "full"  #: every pixel of every format


class ImageKind(StrEnum):
    """The formats that are understood. The value is the file extension and part of the API."""

    JPEG = "jpg"
    PNG = "png"
    WEBP = "webp"
    GIF = "gif"

    @property
    def content_type(self) -> str:
        return "image/jpeg" if self is ImageKind.JPEG else f"image/{self.value}"


class ResizeMode(StrEnum):
    """As img2dataset names them."""

    NO = "no"
    BORDER = "border"
    KEEP_RATIO = "keep_ratio"
    KEEP_RATIO_LARGEST = "keep_ratio_largest"
    CENTER_CROP = "center_crop"


class ImageFormat(StrEnum):
    """In which format images are stored."""

    ORIGINAL = "original"
    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"


class OutputFormat(StrEnum):
    """How accepted images lie in the destination."""

    FILES = "files"
    WEBDATASET = "webdataset"
    PARQUET = "parquet"


#: Fields that recipes of earlier versions do not have.
_ADDED_LATER = frozenset({"thumbnails"})

Positive = Annotated[int, Field(ge=1)]


class Recipe(BaseModel):
    """One job's choices. Every field has a default that suits a first dataset."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    depth: Depth = Field(default=Depth.STANDARD, description="How thoroughly images are checked")
    formats: tuple[ImageKind, ...] = Field(
        default=tuple(ImageKind), min_length=1, description="Formats accepted, by what the bytes are"
    )
    min_bytes: int = Field(default=0, ge=0, description="Smallest file accepted, in bytes")
    max_bytes: Positive = Field(default=25 * 1024 * 1024, le=1024**3, description="Largest body fetched, in bytes")
    min_image_size: int = Field(default=0, ge=0, description="Smallest shorter side accepted, in pixels")
    max_image_area: Positive | None = Field(default=None, description="Largest area accepted, in pixels")
    max_aspect_ratio: float | None = Field(
        default=None, ge=1, allow_inf_nan=False, description="Largest longer side over shorter side accepted"
    )
    max_pixels: Positive = Field(default=64_000_000, le=256_000_000, description="Largest image decoded, in pixels")

    resize_mode: ResizeMode = Field(default=ResizeMode.NO, description="How images are brought to image_size")
    image_size: Positive = Field(default=256, le=16_384, description="Target side, in pixels")
    resize_only_if_bigger: bool = Field(default=False, description="Never make an image larger")
    image_format: ImageFormat | None = Field(default=None, description="None: original, or jpeg for webdataset")
    encode_quality: int = Field(default=95, ge=1, le=100, description="For JPEG and WebP that are encoded anew")
    keep_metadata: bool = Field(
        default=False, description="Keep EXIF, XMP and comments; never places, serial numbers, maker notes, thumbnails"
    )

    thumbnails: int | None = Field(
        default=None, ge=16, le=512, description="Longer edge of a small JPEG kept of each image, in pixels; off"
    )

    deduplicate: bool = Field(default=True, description="Reject images whose bytes stand at an earlier row")

    output_format: OutputFormat = Field(default=OutputFormat.FILES, description="How images lie in the destination")

    robots: bool = Field(default=True, description="Obey robots.txt")
    opt_out: bool = Field(default=True, description="Obey X-Robots-Tag and TDM reservations")
    attempts: int = Field(default=3, ge=1, le=10, description="Tries for a URL whose failure may pass")
    url_deadline_seconds: float = Field(
        default=30.0, gt=0, le=600, allow_inf_nan=False, description="For one URL, its redirects included"
    )

    @model_validator(mode="after")
    def _choose_image_format(self) -> "Recipe":
        if self.image_format is None:
            chosen = ImageFormat.JPEG if self.output_format is OutputFormat.WEBDATASET else ImageFormat.ORIGINAL
            object.__setattr__(self, "image_format", chosen)
        return self

    @classmethod
    def read(cls, stored: object) -> "Recipe":
        """The recipe that a job's row holds. Raises UnknownRecipe for one that another version wrote."""
        try:
            return cls.model_validate(stored)
        except ValidationError as error:
            raise UnknownRecipe(
                "the job's recipe is of another version of PixCrawler; bring all services to one"
            ) from error

    @property
    def stored_format(self) -> ImageFormat:
        """The format images are stored in, decided."""
        assert self.image_format is not None, "set by the validator"
        return self.image_format

    @property
    def rewrites_pixels(self) -> bool:
        """Whether stored images differ from fetched ones by more than their metadata."""
        return self.resize_mode is not ResizeMode.NO or self.stored_format is not ImageFormat.ORIGINAL

    def digest(self) -> str:
        """Identifies the choices: equal recipes have equal digests (sha256, hex).

        What was added later counts only where it is chosen, so that a request made before is still the same one.
        """
        unchosen = {name for name in _ADDED_LATER if getattr(self, name) is None}
        return hashlib.sha256(self.model_dump_json(exclude=unchosen).encode()).hexdigest()
