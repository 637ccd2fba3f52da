"""One run of a contender as whole processes: what it took, and whether the dataset is right."""

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.bench.corpus import Corpus
from tests.bench.names import NAMES, name_of
from tests.bench.peer import peer_environment
from tests.bench.watch import Watch, Watched

LATE_MS = 150
_RUN_LIMIT_SECONDS = 1800.0
_MIN_SIDE = "16"


@dataclass(frozen=True, kw_only=True)
class Run:
    """Seconds are from the command's start, unless they are of computing. `watched` only where it was asked for."""

    contender: str
    images: int
    finished_seconds: float
    gone_seconds: float
    first_fetch_seconds: float
    cpu_seconds: float
    origin_cpu_seconds: float
    most_connections: int
    good_lost: int
    broken_kept: int
    watched: Watched | None = None

    @property
    def images_per_second(self) -> float:
        return self.images / self.finished_seconds

    @property
    def cpu_per_thousand(self) -> float:
        return 1000 * self.cpu_seconds / self.images


@dataclass
class Ground:
    """Where runs take place: the folder, the corpus, and the origin's port."""

    folder: Path
    corpus: Corpus
    port: int
    _runs: Iterator[int] = field(default_factory=lambda: count(int(time.time())))

    @property
    def urls(self) -> int:
        return len(self.corpus.entries)

    def with_fewer(self, times: int) -> "Ground":
        """The same with that many times fewer URLs."""
        fewer = self.corpus.entries[: len(self.corpus.entries) // times]
        return replace(self, corpus=replace(self.corpus, entries=fewer))

    def fresh(self) -> Path:
        """An empty place for a dataset, never used before: our services know a run by its destination.

        Earlier datasets lose their contents but keep their files until `clear`: ext4 without a journal goes round
        inodes that were freed in the last minutes, one by one, and each run would pay for the one before it.
        """
        for file in self._out.rglob("*"):
            if file.is_file():
                os.truncate(file, 0)
        self._out.mkdir(parents=True, exist_ok=True)
        return self._out / f"run-{next(self._runs)}"

    def clear(self) -> None:
        """Removes all datasets."""
        shutil.rmtree(self._out, ignore_errors=True)

    @property
    def _out(self) -> Path:
        return self.folder / "out"

    def url_list(self, *, is_late: bool) -> Path:
        listed = self.folder / f"urls-{len(self.corpus.entries)}{'-late' if is_late else ''}.txt"
        listed.write_text("".join(f"{self._url(entry.path, is_late)}\n" for entry in self.corpus.entries))
        return listed

    def _url(self, path: str, is_late: bool) -> str:
        return f"http://{name_of(path)}:{self.port}/{'late/' if is_late else ''}{path}"

    def ask_origin(self, path: str, method: str = "GET") -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self._ask(path, method)[1])
        return told

    def fetch(self, path: str) -> tuple[int, int]:
        """Status and size of the origin's answer."""
        status, body = self._ask(path, "GET")
        return status, len(body)

    def _ask(self, path: str, method: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def serving(folder: Path, corpus: Corpus) -> Iterator[Ground]:
    """The origin, as a process of its own, until the block ends."""
    command = [sys.executable, "-m", "tests.bench.origin", str(corpus.root), "0", str(LATE_MS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as origin:
        assert origin.stdin is not None
        assert origin.stdout is not None
        try:
            ground = Ground(folder, corpus, int(origin.stdout.readline()))
            ground.clear()
            yield ground
            ground.clear()
        finally:
            origin.stdin.close()
            origin.wait(10)


def run_ours(
    ground: Ground,
    choices: Sequence[str],
    *,
    is_late: bool = False,
    is_watched: bool = False,
    then: Callable[[Path], None] = lambda _: None,
) -> Run:
    """`pixcrawler run` on a kept data folder, embedded servers and all. `then` is given the dataset."""
    out = ground.fresh()
    command = [sys.executable, "-m", "pixcrawler.cli", "run", str(ground.url_list(is_late=is_late)), "--to", str(out)]
    command += ["--json", "--min-image-size", _MIN_SIDE, *choices]
    told = _measure(ground, command, our_environment(ground), is_watched=is_watched)
    then(out)
    finished = (out / "_SUCCESS").stat().st_mtime - told["began_at"]
    return _run("PixCrawler", ground, told, finished, _kept_by_us(out))


def run_peer(ground: Ground, choices: Sequence[str], *, then: Callable[[Path], None] = lambda _: None) -> Run:
    """img2dataset, with two processes of 64 threads."""
    out = ground.fresh()
    command = [
        *(str(peer_environment(ground.folder) / "bin" / "img2dataset"), f"--url_list={ground.url_list(is_late=False)}"),
        *(f"--output_folder={out}", "--processes_count=2", "--thread_count=64", "--number_sample_per_shard=500"),
        *(f"--min_image_size={_MIN_SIDE}", *choices),
    ]
    told = _measure(ground, command, {"NO_ALBUMENTATIONS_UPDATE": "1"})
    then(out)
    return _run("img2dataset", ground, told, told["ended"] - told["began"], _kept_by_peer(out))


def our_environment(ground: Ground) -> dict[str, str]:
    """A home that is kept between runs, and the test allowances that open loopback to the downloader."""
    return {
        "PIXCRAWLER_HOME": str(ground.folder / "home"),
        "PIXCRAWLER_ALLOW_NAMES": json.dumps(NAMES),
        "PIXCRAWLER_ALLOW_CIDRS": json.dumps(["127.0.0.1/32"]),
        "PIXCRAWLER_ALLOW_PORTS": json.dumps([ground.port]),
    }


def _measure(
    ground: Ground, command: Sequence[str], more: Mapping[str, str], *, is_watched: bool = False
) -> dict[str, Any]:
    os.sync()  # what earlier runs left to be written is not this one's
    ground.ask_origin("/-/begin", "POST")
    told = ground.folder / "measured.json"
    told.unlink(missing_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIXCRAWLER_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.measured", str(told), *command], env=environment | dict(more)
    )
    watch = Watch(process.pid) if is_watched else None
    try:
        process.wait(_RUN_LIMIT_SECONDS)
    finally:
        if process.poll() is None:
            process.terminate()
        watched = watch.end() if watch else None
    measured: dict[str, Any] = json.loads(told.read_text())
    if measured["code"] != 0:
        raise RuntimeError(
            f"{command[:4]} ended with {measured['code']}: {told.with_suffix('.err').read_text()[-2000:]}"
        )
    return measured | ground.ask_origin("/-/seen") | {"watched": watched}


def _run(contender: str, ground: Ground, told: Mapping[str, Any], finished: float, kept: set[str]) -> Run:
    good = {entry.path for entry in ground.corpus.entries if entry.is_good}
    return Run(
        contender=contender,
        images=len(ground.corpus.entries),
        finished_seconds=finished,
        gone_seconds=told["gone"] - told["began"],
        first_fetch_seconds=told["first_at"] - told["began"],
        cpu_seconds=told["user_seconds"] + told["system_seconds"],
        origin_cpu_seconds=told["cpu_seconds"],
        most_connections=told["most_open"],
        good_lost=len(good - kept),
        broken_kept=len(kept - good),
        watched=told["watched"],
    )


def _kept_by_us(out: Path) -> set[str]:
    """Paths of the accepted rows, whose objects must be there."""
    rows = [row for path in (out / "index").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    accepted = [row for row in rows if row["reason"] is None]
    lost = [row["path"] for row in accepted if row["path"] and not (out / row["path"].partition("#")[0]).exists()]
    assert not lost, f"the index names what is not there: {lost[:3]}"
    return {path_of(row["url"]) for row in accepted}


def _kept_by_peer(out: Path) -> set[str]:
    tables = [pq.read_table(path, columns=["url", "status"]).to_pylist() for path in out.glob("*.parquet")]
    return {path_of(row["url"]) for rows in tables for row in rows if row["status"] == "success"}


def path_of(url: str) -> str:
    """The corpus' name of a URL."""
    return "/".join(url.split("/")[-2:])
