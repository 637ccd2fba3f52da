"""What the user gives as LIST and DEST, looked at before anything is started."""

import os
import re
from pathlib import Path

from pixcrawler.commands.exits import Exit, Failure

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


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


def whole_destination(text: str) -> str:
    """The destination as the gateway wants it: a folder by its whole path, URLs as they are."""
    if not text.strip():
        raise Failure("the destination is empty; give a folder, az://container/prefix or s3://bucket/prefix")
    if _URL.match(text):
        return text
    return os.path.abspath(os.path.expanduser(text))
