import json
import subprocess
import sys
from pathlib import Path

from tests.bench.corpus import Corpus, Entry
from tests.bench.runs import serving

ROOT = Path(__file__).resolve().parents[3]
#: Computes for a tenth of a second in a session of its own, after the command that started it has ended.
_BUSY = "import time\nend = time.process_time() + 0.1\nwhile time.process_time() < end: pass"
_STARTS_AND_LEAVES = (
    f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {_BUSY!r}], start_new_session=True)"
)


def test_the_cpu_of_a_process_that_outlives_its_command_is_counted(tmp_path: Path) -> None:
    told = tmp_path / "told.json"

    command = [sys.executable, "-m", "tests.bench.measured", str(told), sys.executable, "-c", _STARTS_AND_LEAVES]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)

    measured = json.loads(told.read_text())
    assert measured["code"] == 0
    assert measured["user_seconds"] + measured["system_seconds"] >= 0.1
    assert measured["gone"] >= measured["ended"]


def test_the_origin_serves_files_and_tells_what_was_asked(tmp_path: Path) -> None:
    (tmp_path / "000").mkdir()
    (tmp_path / "000" / "000001.jpg").write_bytes(bytes(300_000))
    pictures = Corpus(tmp_path, (Entry("000/000001.jpg", "good", 300_000, ""),))

    with serving(tmp_path, pictures) as ground:
        ground.ask_origin("/-/begin", "POST")
        answers = [
            ground.fetch(f"/{place}000/{name}") for place in ("", "late/") for name in ("000001.jpg", "none.jpg")
        ]
        seen = ground.ask_origin("/-/seen")

    assert answers == [(200, 300_000), (404, 0)] * 2
    assert seen["images"] == 4
    assert seen["last_at"] - seen["first_at"] >= 0.15
