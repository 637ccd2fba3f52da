"""A shard's JSON has one type for each column, in every sample: null becomes the type's empty value.

`shared/card_types.py` declares these types to loaders; the two change together.
"""

import base64
import math
from collections.abc import Callable
from datetime import date, datetime, time
from typing import Any

import pyarrow as pa


def never_null(value: Any, kind: pa.DataType) -> Any:
    """The value as JSON of the type that belongs to its Arrow type; what JSON cannot say becomes text."""
    for matches, convert in _CONVERSIONS:
        if matches(kind):
            return convert(value, kind)
    return "" if value is None else str(value)


def _list(value: Any, kind: pa.DataType) -> list[Any]:
    return [never_null(item, kind.value_type) for item in value or ()]


def _struct(value: Any, kind: pa.DataType) -> dict[str, Any]:
    return {field.name: never_null((value or {}).get(field.name), field.type) for field in kind}


def _float(value: float | None, _: pa.DataType) -> float:
    # NaN and infinity are no JSON; a strict reader would refuse the whole sample.
    return float(value) if value is not None and math.isfinite(value) else 0.0


def _text_of_time(value: date | datetime | time | None, _: pa.DataType) -> str:
    return value.isoformat() if value is not None else ""


def _base64(value: bytes | None, _: pa.DataType) -> str:
    return base64.b64encode(value or b"").decode()


def _is_list(kind: pa.DataType) -> bool:
    return isinstance(kind, (pa.ListType, pa.LargeListType, pa.FixedSizeListType))


def _is_binary(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(is_kind(kind) for is_kind in kinds)


def _is_time(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_timestamp, pa.types.is_date, pa.types.is_time)
    return any(is_kind(kind) for is_kind in kinds)


_CONVERSIONS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any, pa.DataType], Any]], ...] = (
    (pa.types.is_boolean, lambda value, _: bool(value)),
    (pa.types.is_integer, lambda value, _: int(value or 0)),
    (pa.types.is_floating, _float),
    (_is_list, _list),
    (pa.types.is_struct, _struct),
    (_is_time, _text_of_time),
    (_is_binary, _base64),
)
