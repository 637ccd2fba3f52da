"""Compiles the locks under infra/requirements from pyproject.toml: `make lock`.

Every lock names exact versions and the hashes of their files, and no place to get them from, so each
machine uses its own index. All are cut from the development lock: one version of a library everywhere.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = Path("infra/requirements")
#: Each extra has a lock of its name, `service` being what all services share; the bare install is the client.
EXTRAS = (
    "service",
    "gateway",
    "scheduler",
    "downloader",
    "validator",
    "uploader",
    "local",
    "otel",
    "sentry",
    "flower",
    "docs",
)


def main() -> None:
    """Writes all locks; ends with uv's exit code when one cannot be resolved."""
    upgrade = ["--upgrade"] if "--upgrade" in sys.argv[1:] else []
    development = LOCKS / "dev.txt"
    _compile(development, "pyproject.toml", LOCKS / "build.in", "--extra", "dev", *upgrade)
    for extra in EXTRAS:
        _compile(LOCKS / f"{extra}.txt", "pyproject.toml", "--extra", extra, "--constraint", development)
    _compile(LOCKS / "client.txt", "pyproject.toml", "--constraint", development)
    _compile(LOCKS / "build.txt", LOCKS / "build.in", "--constraint", development)
    _compile(LOCKS / "audit.txt", LOCKS / "audit.in")


def _compile(lock: Path, *arguments: str | Path) -> None:
    print(lock, flush=True)
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", *arguments, "--output-file", lock, "--quiet"),
        *("--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate"),
        *("--no-emit-index-url", "--no-emit-find-links"),
    ]
    done = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
    if done.returncode:
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
