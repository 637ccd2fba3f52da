"""The fingerprint of a list, by which a run that was started before is recognised."""

import hashlib
from pathlib import Path


def digest_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hex; reads the file once, in bounded memory. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
