"""A user's own defaults for options, in a file.

    option ─▶ environment ─▶ this file ─▶ what the command itself has

The file is `$PIXCRAWLER_CONFIG`, by default `pixcrawler/config.toml` in the user's folder for settings.
"""

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pixcrawler.commands.exits import Exit, Failure
from pixcrawler.commands.options import Choices

VARIABLE = "PIXCRAWLER_CONFIG"
#: Options that may also stand in the environment, and where.
ENVIRONMENT = {"gateway": "PIXCRAWLER_GATEWAY", "api_key": "PIXCRAWLER_API_KEY"}
#: What belongs to one dataset alone is no default.
NAMES = (*ENVIRONMENT, *(each.name for each in fields(Choices) if each.name != "name"))
#: How much of a key is shown: its id, by which it is revoked, and never its secret.
_SHOWN_OF_KEY = 2


@dataclass(frozen=True)
class Setting:
    """A default and where it comes from."""

    name: str
    value: Any
    source: str


def path() -> Path:
    """Where the file lies or would lie."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "pixcrawler" / "config.toml"


def read() -> dict[str, Any]:
    """What stands in the file; nothing when there is none. Raises Failure."""
    file = path()
    try:
        text, mode = file.read_text(encoding="utf-8"), file.stat().st_mode
    except FileNotFoundError:
        if VARIABLE in os.environ:
            raise Failure(f"{VARIABLE} names {file}, which is not there", Exit.CONFIG) from None
        return {}
    except (OSError, UnicodeError) as error:
        raise Failure(f"{file} cannot be read ({error})", Exit.CONFIG) from error
    try:
        found = {name.replace("-", "_"): value for name, value in tomllib.loads(text).items()}
    except tomllib.TOMLDecodeError as error:
        raise Failure(f"{file} is not TOML: {error}", Exit.CONFIG) from error
    if unknown := sorted(found.keys() - set(NAMES)):
        raise Failure(
            f"{file}: '{unknown[0]}' is no option that may stand there; see docs/how-to/use-the-command.md", Exit.CONFIG
        )
    for name, value in found.items():
        if not _is_plain(value):
            raise Failure(f"{file}: {name} must be a text, a number, true or false, or a list of texts", Exit.CONFIG)
    if "api_key" in found and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Failure(f"{file} holds a key and others may read it; do chmod 600 {file}", Exit.CONFIG)
    return found


def defaults_for(command: Any, found: Mapping[str, Any]) -> dict[str, Any]:
    """The file's values for each option of that name, as click's contexts look them up."""
    if hasattr(command, "commands"):
        below = {name: defaults_for(each, found) for name, each in command.commands.items()}
        return {name: defaults for name, defaults in below.items() if defaults}
    return {each.name: found[each.name] for each in command.params if each.name in found}


def settings(found: Mapping[str, Any]) -> list[Setting]:
    """Every name that may stand in the file, with the value that holds unless an option says otherwise."""
    return [_setting(name, found) for name in NAMES]


def _setting(name: str, found: Mapping[str, Any]) -> Setting:
    variable = ENVIRONMENT.get(name, "")
    if value := os.environ.get(variable):
        return Setting(name, _masked(name, value), variable)
    if name in found:
        return Setting(name, _masked(name, found[name]), str(path()))
    return Setting(name, None, "default")


def _masked(name: str, value: Any) -> Any:
    return "_".join([*str(value).split("_")[:_SHOWN_OF_KEY], "…"]) if name == "api_key" else value


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(each, str) for each in value)
    return isinstance(value, str | int | float | bool)
