"""Tar shards as `webdataset` and Hugging Face read them: `000006001.jpg`, `.json`, `.txt` for each picture.

USTAR with no times and no owners, rows in order: equal pictures make equal bytes. Loaders take the JSON's types
from the first samples, so every key is always present and never null.
"""

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from shared.chunk import Claim
from shared.index import PICTURE_FACTS, SHARD_COLUMNS, Record
from shared.recipe import ImageKind
from shared.records import INDEX
from uploader.formats.base import Picture
from uploader.formats.container import HashedFile
from uploader.formats.json_values import never_null
from uploader.naming import member_name, shard_key

#: A tar ends with two empty blocks and is filled up to a record.
_BLOCK, _RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
#: No record of ours is larger, bytes; a tar of somebody else's might hold anything.
_LARGEST_JSON = 64 * 1024 * 1024


class TarShard:
    """One chunk's pictures of one format."""

    content_type = "application/x-tar"

    def key(self, claim: Claim, kind: ImageKind) -> str:
        return shard_key(claim, kind)

    def write(self, file: HashedFile, pictures: Sequence[Picture], saved: Sequence[pa.Field]) -> None:
        fields = [*saved, *(INDEX.field(name) for name in SHARD_COLUMNS)]
        for picture in pictures:
            _add(file, member_name(picture.row, picture.kind.value), picture.body)
            _add(file, member_name(picture.row, "json"), _json(picture.record, fields))
            _add(file, member_name(picture.row, "txt"), (picture.record["caption"] or "").encode())
        file.write(bytes(2 * _BLOCK))
        file.write(bytes(-file.size_bytes % _RECORD))

    def read(self, path: Path) -> list[Record]:
        try:
            with tarfile.open(path, "r:") as tar:
                return [_read(tar, member) for member in tar if member.name.endswith(".json")]
        except tarfile.TarError as error:
            raise ValueError("not a tar of ours") from error


def _add(file: HashedFile, name: str, body: bytes | memoryview) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(body)
    file.write(member.tobuf(tarfile.USTAR_FORMAT))
    file.write(body)
    file.write(bytes(-len(body) % _BLOCK))


def _json(record: Record, fields: Sequence[pa.Field]) -> bytes:
    values = {field.name: never_null(record[field.name], field.type) for field in fields}
    return json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Record:
    file = tar.extractfile(member)
    if file is None or member.size > _LARGEST_JSON:
        raise ValueError("not a record of ours")
    values = json.load(file)
    facts = {name: values[name] or None for name in PICTURE_FACTS}
    return {**facts, "row": int(values["row"])}
