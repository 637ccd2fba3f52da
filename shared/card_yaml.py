"""Block YAML for the card's header: scalars as JSON writes them, which YAML reads the same."""

import json
from typing import Any


def yaml(value: dict[str, Any] | list[Any], indent: str = "") -> str:
    """Lines of YAML. Keys must be plain words; strings must hold no control characters."""
    if isinstance(value, dict):
        return "".join(f"{indent}{key}:{_below(item, indent)}" for key, item in value.items())
    return "".join(f"{indent}-{_item(item, indent)}" for item in value)


def _below(value: Any, indent: str) -> str:
    if isinstance(value, (dict, list)):
        return "\n" + yaml(value, indent + "  ") if value else f" {json.dumps(value)}\n"
    return f" {json.dumps(value, ensure_ascii=False)}\n"


def _item(value: Any, indent: str) -> str:
    if isinstance(value, dict):
        return " " + yaml(value, indent + "  ").lstrip(" ")
    return _below(value, indent)
