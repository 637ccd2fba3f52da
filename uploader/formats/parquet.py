"""Parquet with the images inside, typed so that Hugging Face shows pictures."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from shared.chunk import Claim
from shared.index import PICTURE_FACTS, Record
from shared.recipe import ImageKind
from shared.records import INDEX
from uploader.formats.base import Picture
from uploader.formats.container import HashedFile
from uploader.naming import member_name, parquet_key

CONTENT_TYPE = "application/vnd.apache.parquet"

#: A row group ends at so many rows, as Hugging Face advises for images, or at so many bytes, which bounds memory.
GROUP_ROWS = 100
_GROUP_BYTES = 16 * 1024 * 1024

#: Of each stored row, beside the picture, the caption and the client's own columns.
FACT_FIELDS = tuple(INDEX.field(name) for name in ("key", "url", "row", *PICTURE_FACTS))
CAPTION_FIELD = INDEX.field("caption")

_IMAGE = pa.field("image", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())]))
_HUGGING_FACE = {b"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}}}}).encode()}


class ParquetFile:
    """One chunk's pictures, whatever their format."""

    content_type = CONTENT_TYPE

    def key(self, claim: Claim, kind: ImageKind) -> str:
        return parquet_key(claim)

    def write(self, file: HashedFile, pictures: Sequence[Picture], saved: Sequence[pa.Field]) -> None:
        schema = pa.schema([_IMAGE, CAPTION_FIELD, *saved, *FACT_FIELDS], metadata=_HUGGING_FACE)
        with pq.ParquetWriter(file, schema, **_options(schema)) as writer:
            for group in _groups(pictures):
                writer.write_table(_table(group, schema), row_group_size=GROUP_ROWS)

    def read(self, path: Path) -> list[Record]:
        return read_columns(path, [field.name for field in FACT_FIELDS])


def read_columns(path: Path, names: Sequence[str]) -> list[Record]:
    """Some columns of each row. Raises ValueError when the file does not have them."""
    with pq.ParquetFile(path) as file:
        missing = set(names) - set(file.schema_arrow.names)
        if missing:
            raise ValueError("not a Parquet file of ours")
        rows: list[Record] = file.read(columns=list(names)).to_pylist()
    return rows


def _options(schema: pa.Schema) -> dict[str, object]:
    # Pictures are compressed already, and their smallest and largest bytes tell nobody anything.
    columns = [name for name in schema.names if name != _IMAGE.name]
    return {
        "compression": {**dict.fromkeys(columns, "zstd"), "image.bytes": "none", "image.path": "zstd"},
        "use_dictionary": ["caption"],
        "write_statistics": ["row", "key"],
    }


def _groups(pictures: Sequence[Picture]) -> Iterator[list[Picture]]:
    group: list[Picture] = []
    size_bytes = 0
    for picture in pictures:
        if group and (len(group) == GROUP_ROWS or size_bytes + len(picture.body) > _GROUP_BYTES):
            yield group
            group, size_bytes = [], 0
        group.append(picture)
        size_bytes += len(picture.body)
    if group:
        yield group


def _table(pictures: Sequence[Picture], schema: pa.Schema) -> pa.Table:
    # Column by column: Arrow takes seventy times as long over a list of dicts.
    # Copies: of a window, pyarrow 26 keeps hold for ever, and so of the whole mapped pack.
    bodies = pa.array([bytes(picture.body) for picture in pictures], pa.binary())
    names = pa.array([member_name(picture.row, picture.kind.value) for picture in pictures], pa.string())
    columns = [pa.StructArray.from_arrays([bodies, names], fields=list(_IMAGE.type))]
    for field in list(schema)[1:]:
        columns.append(pa.array([picture.record[field.name] for picture in pictures], field.type))
    return pa.Table.from_arrays(columns, schema=schema)
