"""The types of a tar shard's members, as the card declares them to Hugging Face.

Left to itself the loader guesses from the first five samples, and a list that is empty in all five makes the
first one that is not an error.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from shared.index import SHARD_COLUMNS
from shared.records import INDEX


def shard_features(saved: Sequence[pa.Field], *, suffix: str) -> list[dict[str, Any]]:
    """What each sample holds: the image under its suffix, its JSON, its caption and the loader's own two."""
    columns = [*saved, *(INDEX.field(name) for name in SHARD_COLUMNS)]
    return [
        {"name": suffix, "dtype": "image"},
        {"name": "json", "struct": [_named(field) for field in columns]},
        {"name": "txt", "dtype": "string"},
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
    ]


def _named(field: pa.Field) -> dict[str, Any]:
    described = _described(field.type)
    return {"name": field.name, **(described if isinstance(described, dict) else {"dtype": described})}


def _described(kind: pa.DataType) -> str | dict[str, Any]:
    """A JSON value's type: `uploader/formats/json_values.py` writes whatever is not named here as text."""
    if isinstance(kind, (pa.ListType, pa.LargeListType, pa.FixedSizeListType)):
        item = _described(kind.value_type)
        return {"list": item["struct"] if isinstance(item, dict) and "struct" in item else item}
    if isinstance(kind, pa.StructType):
        return {"struct": [_named(field) for field in kind]}
    if pa.types.is_boolean(kind):
        return "bool"
    if pa.types.is_integer(kind):
        return "uint64" if kind == pa.uint64() else "int64"
    return "float64" if pa.types.is_floating(kind) else "string"
