import subprocess
import sys

_PROGRAM = """
import sys
from shared.startup import leave_pandas_out
leave_pandas_out()
import pyarrow as pa
assert pa.table({"row": pa.array([1, None], pa.int64())}).to_pylist() == [{"row": 1}, {"row": None}]
assert "pandas" not in sys.modules
"""


def test_tables_are_made_without_the_library_that_no_service_uses() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stderr
