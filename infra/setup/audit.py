"""What is installed, and whether anything known is wrong with it: `make audit`.

    infra/requirements/*.txt ──▶ dist/sbom/<lock>.json   CycloneDX, one for each lock that users install
                             └─▶ pip-audit               known vulnerabilities, asked for at the index's advisories

Its tools live in an environment of their own. Ends with 1 when a vulnerability is known, and also when the
advisories cannot be asked: what was not checked has not passed.
"""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "infra" / "requirements"
#: What users install; development and documentation tools run nowhere.
AUDITED = ("client", "gateway", "scheduler", "downloader", "validator", "uploader", "local")
_ENVIRONMENT = ROOT / ".venv" / "audit"
_LIMIT_SECONDS = 600


def main() -> int:
    """The exit code."""
    tools = _tools()
    for name in AUDITED:
        _write_sbom(tools, name)
    print(f"{len(AUDITED)} bills of materials: {(ROOT / 'dist' / 'sbom').relative_to(ROOT)}/*.json", flush=True)
    failed = [name for name in AUDITED if not _is_clean(tools, name)]
    if failed:
        print(f"not clean, or not checked: {', '.join(failed)}; see above, or renew by `make lock`")
    return 1 if failed else 0


def _tools() -> Path:
    """Where the tools' commands are; they are installed when their lock changed."""
    lock, stamp = LOCKS / "audit.txt", _ENVIRONMENT / ".installed"
    if not stamp.exists() or stamp.read_bytes() != lock.read_bytes():
        venv.create(_ENVIRONMENT, with_pip=True, clear=True)
        _run(_ENVIRONMENT / "bin" / "python", "-m", "pip", "install", "--quiet", "--require-hashes", "-r", lock)
        stamp.write_bytes(lock.read_bytes())
    return _ENVIRONMENT / "bin"


def _write_sbom(tools: Path, name: str) -> None:
    target = ROOT / "dist" / "sbom" / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    options = ("--output-reproducible", "--of", "JSON", "-o", target)
    _run(tools / "cyclonedx-py", "requirements", LOCKS / f"{name}.txt", *options)


def _is_clean(tools: Path, name: str) -> bool:
    print(f"{name}:", flush=True)
    command = [tools / "pip-audit", "--strict", "--disable-pip", "--require-hashes", "-r", LOCKS / f"{name}.txt"]
    return subprocess.run(command, check=False, timeout=_LIMIT_SECONDS).returncode == 0


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT_SECONDS)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command[:3]))} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
