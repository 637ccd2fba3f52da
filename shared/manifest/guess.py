"""Which columns a list has, and which of them are likely the URL's and the caption's: for lists nobody described."""

from collections.abc import Sequence
from pathlib import Path

from shared.manifest.columns import Columns
from shared.manifest.formats import ListFormat
from shared.manifest.opening import opened

#: As people and other tools call them, the likeliest first; compared without case and without `_`, `-` and blanks.
_URL_NAMES = ("url", "imageurl", "imgurl", "image", "img", "src", "link", "href", "uri", "photourl", "pictureurl")
_CAPTION_NAMES = ("caption", "text", "alt", "alttext", "description", "title", "label")


class _Seen(Exception):
    """The names were seen; nothing more is to be read."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)


class _Look(Columns):
    def check(self, present: Sequence[str], where: str = "") -> None:
        raise _Seen(present)


def column_names(path: Path, list_format: ListFormat, *, scratch: Path | None = None) -> tuple[str, ...]:
    """The list's columns; of JSON those of its first rows, none where rows are bare URLs. Raises as `open_list`."""
    try:
        opened(path, list_format, _Look(), scratch).close()
    except _Seen as seen:
        return seen.names
    return ()


def likely_url(names: Sequence[str]) -> str | None:
    return _likely(names, _URL_NAMES)


def likely_caption(names: Sequence[str]) -> str | None:
    return _likely(names, _CAPTION_NAMES)


def _likely(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    plain = {_plain(name): name for name in reversed(names)}
    return next((plain[name] for name in wanted if name in plain), None)


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character not in "_- ")
