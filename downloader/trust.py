"""Which certificates are trusted: libcurl's wheel brings none and does not know where the system's are."""

import ssl
from pathlib import Path


def certificates(chosen: Path | None) -> str | None:
    """The file of certificates to trust; None leaves it to libcurl."""
    if chosen is not None:
        return str(chosen)
    return ssl.get_default_verify_paths().cafile
