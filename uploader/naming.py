"""Where things lie in a destination: keys from revision and position alone, so that a rerun names the same.

    data/r000-000012/000006001.jpg       files       data/r000-000012/metadata.parquet beside them
    data/r000-000012.tar                 webdataset  data/png/r000-000012.tar when formats are kept
    data/r000-000012.parquet             parquet
    index/r000-000012.parquet            every format (`shared.index.index_key`); …-1.parquet when redriven once
    thumbnails/r000-000012.parquet       every format (`shared.index.thumbnails_key`), if the recipe asks for them

A row's file is named by its number. No caption, address or header ever reaches a key or a member's name.
"""

from shared.chunk import Claim
from shared.index import METADATA_NAME, chunk_name
from shared.recipe import ImageFormat, ImageKind
from shared.records import key_of

DATA = "data"


def member_name(row: int, suffix: str) -> str:
    """A row's file in a folder or a shard; `suffix` without its dot."""
    return f"{key_of(row)}.{suffix}"


def folder(claim: Claim) -> str:
    """Of a chunk's loose files, with its slash."""
    return f"{DATA}/{_chunk(claim)}/"


def file_key(claim: Claim, row: int, kind: ImageKind) -> str:
    return folder(claim) + member_name(row, kind.value)


def metadata_key(claim: Claim) -> str:
    return folder(claim) + METADATA_NAME


def row_of(name: str) -> tuple[int, ImageKind] | None:
    """The row and format that a loose file's name (without its folder) speaks of; None if it is not ours."""
    stem, _, suffix = name.partition(".")
    kinds = {kind.value: kind for kind in ImageKind}
    if not (stem.isascii() and stem.isdigit()) or suffix not in kinds or key_of(int(stem)) != stem:
        return None
    return int(stem), kinds[suffix]


def shard_key(claim: Claim, kind: ImageKind) -> str:
    """Of the tar that holds the chunk's images of that format.

    Kept formats get folders of their own: a split that mixes member suffixes loses images in Hugging Face's loader.
    """
    if claim.recipe.stored_format is ImageFormat.ORIGINAL:
        return f"{DATA}/{kind.value}/{_chunk(claim)}.tar"
    return f"{DATA}/{_chunk(claim)}.tar"


def parquet_key(claim: Claim) -> str:
    return f"{DATA}/{_chunk(claim)}.parquet"


def _chunk(claim: Claim) -> str:
    return chunk_name(claim.revision, claim.ordinal)
