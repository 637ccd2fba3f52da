"""What /metrics tells: truth told by one, children counted once, closed lists of labels."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

from shared import metrics
from shared.errors import ClaimLost, StoreRefused, StoreUnavailable
from shared.notes import StageNotes, begin_series
from shared.pipeline import DOWNLOAD, UPLOAD
from shared.policy import HandBack, LetGo
from shared.storage.destination import Scheme
from shared.storage.memory import MemoryStore
from shared.storage.timed import TimedStore

METRICS = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
#: Whatever comes from outside: it would make as many series as there are hosts, clients or jobs.
OPEN_LABELS = {"url", "host", "tenant", "job", "chunk", "dataset", "key", "path", "pid", "worker", "instance"}


def value(line_start: str) -> float | None:
    """The sample whose line starts so."""
    told = metrics.exposition().decode()
    found = re.search(rf"^{re.escape(line_start)} (\S+)$", told, re.MULTILINE)
    return float(found[1]) if found else None


@pytest.fixture(autouse=True)
def nothing_published() -> Iterator[None]:
    metrics.withdraw_truth()
    yield
    metrics.withdraw_truth()


def test_truth_is_told_as_of_its_publication_and_not_after_its_withdrawal() -> None:
    metrics.slots.set(35)
    before = value("pixcrawler_slots")
    metrics.publish_truth()
    metrics.slots.set(36)
    published = value("pixcrawler_slots")
    metrics.withdraw_truth()

    assert (before, published, value("pixcrawler_slots")) == (None, 35.0, None)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric._name)
def test_a_metric_is_ours_by_name_and_its_labels_are_no_open_lists(metric: MetricWrapperBase) -> None:
    assert metric._name.startswith("pixcrawler_")
    assert not OPEN_LABELS & set(metric._labelnames)
    assert isinstance(metric, Counter) or not metric._name.endswith("_total")


_POOL = """
import os, sys
from billiard import Process
from shared import metrics

def work():
    metrics.fence_refused.labels(stage="download").inc()
    metrics.chunk_seconds.labels(stage="download", result="completed").observe(1)
    os._exit(0)  # killed: nothing is cleaned up

metrics.fence_refused.labels(stage="download")
for _ in range(int(sys.argv[1])):
    for index in range(2):  # the two places of a pool
        child = Process(target=work)
        child.index = index
        child.start()
        child.join()
print(len(os.listdir(os.environ["PROMETHEUS_MULTIPROC_DIR"])))
print(metrics.exposition().decode())
"""


def test_replaced_children_leave_few_files_and_are_counted_once(tmp_path: Path) -> None:
    def pool(name: str, generations: int) -> tuple[int, str]:
        folder = tmp_path / name
        folder.mkdir()
        ran = subprocess.run(
            [sys.executable, "-c", _POOL, str(generations)],
            env={"PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": str(Path.cwd())},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        files, told = ran.stdout.split("\n", 1)
        return int(files), told

    few, _ = pool("once", 1)
    files, told = pool("often", 5)

    assert files == few
    assert 'pixcrawler_fence_refused_total{stage="download"} 10.0' in told
    assert 'pixcrawler_chunk_seconds_count{result="completed",stage="download"} 10.0' in told


def test_a_store_is_timed_and_its_failures_are_counted_by_code() -> None:
    def away(operation: str, _key: str) -> None:
        if operation == "stat":
            raise StoreUnavailable("away")

    async def use() -> None:
        store = TimedStore(MemoryStore(before=away), Scheme.S3)
        await store.create("a", b"x", content_type="text/plain", sha256="0")
        with pytest.raises(StoreUnavailable):
            await store.stat("a")
        with pytest.raises(KeyError):
            await store.get("b")
        assert [stored.key async for stored in store.list("")] == ["a"]

    asyncio.run(use())

    assert value('pixcrawler_store_seconds_count{kind="s3",operation="create"}') == 1
    errors = 'pixcrawler_store_errors_total{code="%s",kind="s3",operation="%s"}'
    assert value(errors % (StoreUnavailable.code, "stat")) == 1
    assert value(errors % (StoreRefused.code, "create")) == 0
    assert value(errors % (StoreUnavailable.code, "get")) == 0


def test_what_never_happened_is_told_as_zero() -> None:
    begin_series(UPLOAD)

    assert value('pixcrawler_poison_messages_total{stage="upload"}') == 0
    assert value('pixcrawler_chunk_errors_total{code="store_unavailable",stage="upload"}') == 0
    assert value('pixcrawler_chunk_seconds_count{result="let_go",stage="upload"}') == 0


def test_an_error_is_counted_by_a_code_of_a_closed_list() -> None:
    class Foreign(Exception):
        code = "InvalidAccessKeyId/7f3a"

    begin_series(DOWNLOAD)
    notes, errors = StageNotes(DOWNLOAD), 'pixcrawler_chunk_errors_total{code="%s",stage="download"}'
    before = {code: value(errors % code) or 0 for code in ("bug", "stopped", "claim_lost")}
    back = HandBack(DOWNLOAD.retry.first_delay, burns_attempt=True)

    notes.interrupted(Foreign(), back, 1.0)
    notes.interrupted(asyncio.CancelledError(), back, 1.0)
    notes.interrupted(ClaimLost(), LetGo(), 1.0)

    assert {code: value(errors % code) for code in before} == {code: count + 1 for code, count in before.items()}
    assert "7f3a" not in metrics.exposition().decode()
