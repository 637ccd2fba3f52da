"""What the user gives as LIST and DEST, looked at before anything is started."""

import os
import re
from pathlib import Path, PurePath

from pixcrawler.commands.exits import Exit, Failure
from pixcrawler.words import LIST_ENDINGS, ListFormat

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://")
#: What says that a folder holds a dataset of ours, and the other names that one needs.
_DATASET, _FILES, _FOLDERS = "dataset.json", ("README.md", "_SUCCESS"), ("data", "index")


def checked_list(path: Path) -> Path:
    """The list's file. Raises Failure when it cannot be one; the gateway reads it."""
    if not path.exists():
        raise Failure(f"there is no file {path}; give the list's path", Exit.USAGE)
    if path.is_dir():
        raise Failure(f"{path} is a folder; give one file", Exit.USAGE)
    if not path.is_file():
        raise Failure(f"{path} is not a regular file; save the list in one", Exit.USAGE)
    try:
        with path.open("rb") as file:
            is_empty = not file.read(1)
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}", Exit.USAGE) from error
    if is_empty:
        raise Failure(f"{path} is empty; put at least one URL into it", Exit.USAGE)
    return path


def check_name(name: str) -> None:
    """Raises Failure when the name that a list is uploaded by tells no format."""
    endings = [ending[1:].lower() for ending in PurePath(name).suffixes]
    if endings[-1:] == ["gz"]:
        endings.pop()
    if not endings or endings[-1] not in LIST_ENDINGS:
        known = ", ".join(ListFormat)
        raise Failure(f"the format of {name} is unknown; known are {known}, each also .gz, or give --input-format")


def check_place(destination: str) -> None:
    """Raises Failure when this machine can tell that nothing can be built there; the gateway has the last word."""
    url = _URL.match(destination)
    if url is None:
        _check_folder(Path(destination))
    elif url[1].lower() not in ("az", "s3"):
        raise Failure(f"{url[1]}:// is not supported; give a folder, az://container/prefix or s3://bucket/prefix")


def _check_folder(folder: Path) -> None:
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not there.is_dir():
        raise Failure(f"{there} is not a folder; choose another destination")
    if not os.access(there, os.W_OK | os.X_OK):
        raise Failure(f"the folder {there} cannot be written; choose another destination, or ask for its permission")
    if there == folder and not (folder / _DATASET).exists() and (taken := _taken(folder)):
        raise Failure(
            f"{folder} already holds {taken}, a name that the dataset needs; choose an empty folder", Exit.CONFLICT
        )


def _taken(folder: Path) -> str | None:
    taken = [name for name in _FILES if (folder / name).exists()]
    taken += [f"{name}/" for name in _FOLDERS if any(path.is_file() for path in (folder / name).rglob("*"))]
    return taken[0] if taken else None


def whole_destination(text: str) -> str:
    """The destination as the gateway wants it: a folder by its whole path, URLs as they are."""
    if not text.strip():
        raise Failure("the destination is empty; give a folder, az://container/prefix or s3://bucket/prefix")
    if _URL.match(text):
        return text
    return os.path.abspath(os.path.expanduser(text))
