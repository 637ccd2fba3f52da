"""How long the system took to be well again: from the mend (or, without one, from the fault) to the job's end.

Printed at the end of a run. With `PIXCRAWLER_RECOVERIES=<file>` each figure is also added to that file, a JSON object
a line, so that several runs make a table of median and worst: `python -m tests.faults.recovery <file>`.
"""

import json
import os
import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path

#: Of this session: the test's name and seconds.
recoveries: list[tuple[str, float]] = []


def note(seconds: float) -> None:
    """Remembers a recovery of the test that runs."""
    name = re.sub(r" \(\w+\)$", "", os.environ.get("PYTEST_CURRENT_TEST", "")).rpartition("::")[2]
    recoveries.append((name, seconds))
    if file := os.environ.get("PIXCRAWLER_RECOVERIES"):
        with Path(file).open("a") as log:
            log.write(json.dumps({"test": name, "seconds": round(seconds, 2)}) + "\n")


def table(found: list[tuple[str, float]]) -> list[str]:
    """A line for each test: times seen, median and worst seconds."""
    seen: dict[str, list[float]] = defaultdict(list)
    for name, seconds in found:
        seen[name].append(seconds)
    return [
        f"| {name} | {len(all_seconds)} | {statistics.median(all_seconds):.1f} | {max(all_seconds):.1f} |"
        for name, all_seconds in seen.items()
    ]


def main() -> int:
    noted = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    lines = ["| fault | runs | median, s | worst, s |", "| --- | --- | --- | --- |"]
    lines += table([(one["test"], one["seconds"]) for one in noted])
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
