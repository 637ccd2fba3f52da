"""img2dataset in an environment of its own, from hash-checked requirements.

Renew them with: uv pip compile tests/bench/peer.in --generate-hashes --no-header --no-annotate -o tests/bench/peer.txt
"""

import subprocess
import sys
from pathlib import Path

_REQUIREMENTS = Path(__file__).with_name("peer.txt")


def peer_environment(folder: Path) -> Path:
    """The environment, made at the first call. Raises CalledProcessError when it cannot be installed."""
    home, stamp = folder / "peer", folder / "peer" / "installed"
    wanted = _REQUIREMENTS.read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        pip = [home / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
        subprocess.run([*pip, "install", "--require-hashes", "-r", _REQUIREMENTS], check=True)
        stamp.write_text(wanted)
    return home
