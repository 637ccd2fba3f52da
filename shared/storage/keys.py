"""What a key may look like, the same for every store, so that none is asked what another would refuse."""

import re

_KEY = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")
#: Leaves room for the destination's prefix within the 1,024 characters of Azure and S3.
MAX_KEY_LENGTH = 400


def checked(key: str) -> str:
    """The key itself. Raises ValueError for one that no store may see: a mistake of ours, never a client's."""
    parts = key.split("/")
    if not _KEY.fullmatch(key) or len(key) > MAX_KEY_LENGTH or any(not part.strip(".") for part in parts):
        raise ValueError(f"{key!r} is not a key")
    return key
