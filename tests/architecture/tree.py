"""The project's own files, as the architecture tests read them."""

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("gateway", "scheduler", "downloader", "validator", "uploader")
PACKAGES = ("shared", *SERVICES, "pixcrawler")
_NOT_OURS = {".git", ".venv", "_build", "autoapi", "dist", "__pycache__", "node_modules"}


@cache
def files() -> tuple[Path, ...]:
    """Every file that belongs to the project: what git would keep, or all but caches in an unpacked archive."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=30,
    )
    if listing.returncode:
        return tuple(path for path in ROOT.rglob("*") if path.is_file() and not _NOT_OURS & set(path.parts))
    names = listing.stdout.decode().split("\0")
    return tuple(path for name in names if name and (path := ROOT / name).is_file())


def texts() -> Iterator[tuple[Path, str]]:
    """Each text file by its path from the root."""
    for path in files():
        content = path.read_bytes()
        if b"\0" not in content:
            yield path.relative_to(ROOT), content.decode(errors="replace")


def modules() -> Iterator[tuple[Path, str]]:
    """Each Python file of the packages by its path from the root."""
    return ((path, text) for path, text in texts() if path.suffix == ".py" and path.parts[0] in PACKAGES)
