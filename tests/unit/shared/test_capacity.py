"""What a worker may use: the tighter of host and cgroup."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from shared.capacity import Memory, cgroup_memory, measure, process_sums

MB = 10**6


def cgroup(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


@pytest.fixture
def membership(tmp_path: Path) -> Path:
    return tmp_path / "membership"


def test_version_2_counts_file_cache_as_available(tmp_path: Path, membership: Path) -> None:
    membership.write_text("0::/\n")
    cgroup(
        tmp_path,
        memory__max=str(1000 * MB),
        memory__current=str(900 * MB),
        memory__stat=f"anon 5\ninactive_file {600 * MB}",
    )

    assert cgroup_memory(tmp_path, membership) == Memory(available_bytes=700 * MB, total_bytes=1000 * MB)


def test_the_tightest_of_nested_groups_counts(tmp_path: Path, membership: Path) -> None:
    membership.write_text("0::/pod/container\n")
    cgroup(tmp_path / "pod", memory__max=str(500 * MB), memory__current=str(450 * MB))
    cgroup(tmp_path / "pod/container", memory__max="max", memory__current=str(100 * MB))

    assert cgroup_memory(tmp_path, membership) == Memory(available_bytes=50 * MB, total_bytes=500 * MB)


def test_version_1_is_found_at_the_root_when_the_path_is_the_hosts(tmp_path: Path, membership: Path) -> None:
    membership.write_text("5:cpu:/x\n4:memory:/docker/abc\n0::/\n")
    cgroup(
        tmp_path / "memory",
        memory__limit_in_bytes=str(800 * MB),
        memory__usage_in_bytes=str(300 * MB),
        memory__stat=f"total_inactive_file {100 * MB}",
    )

    assert cgroup_memory(tmp_path, membership) == Memory(available_bytes=600 * MB, total_bytes=800 * MB)


@pytest.mark.parametrize("limit", ["max", str(2**63 - 4096)])
def test_no_limit_is_no_limit(tmp_path: Path, membership: Path, limit: str) -> None:
    membership.write_text("0::/\n")
    cgroup(tmp_path, memory__max=limit, memory__current="5")

    assert cgroup_memory(tmp_path, membership) is None


def test_without_cgroups_there_is_no_limit(tmp_path: Path) -> None:
    assert cgroup_memory(tmp_path, tmp_path / "not there") is None


def test_usage_above_the_limit_leaves_nothing_and_not_less(tmp_path: Path, membership: Path) -> None:
    membership.write_text("0::/\n")
    cgroup(tmp_path, memory__max="100", memory__current="150")

    assert cgroup_memory(tmp_path, membership) == Memory(available_bytes=0, total_bytes=100)


def test_the_work_volume_is_measured_where_it_is(tmp_path: Path) -> None:
    volume = os.statvfs(tmp_path)

    report = measure(tmp_path)

    assert report.total_bytes == volume.f_blocks * volume.f_frsize
    assert 0 < report.free_bytes <= report.total_bytes
    assert report.free_inodes > 0
    assert 0 < report.memory_available_bytes <= report.memory_total_bytes <= psutil.virtual_memory().total


def test_a_worker_tells_its_processes_by_generation() -> None:
    waiting = "import sys; sys.stdin.read()"
    with_a_child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {waiting!r}])"
    before = process_sums(("own", "pool", "decoder"))

    with subprocess.Popen([sys.executable, "-c", with_a_child], stdin=subprocess.PIPE) as child:
        ends_at = time.monotonic() + 20
        while (sums := process_sums(("own", "pool", "decoder")))["decoder"].processes == 0:
            assert time.monotonic() < ends_at, "the grandchild never came"
        assert child.stdin is not None
        child.stdin.close()

    assert sums["own"].processes == 1
    assert sums["pool"].processes == before["pool"].processes + 1
    assert sums["decoder"].processes == before["decoder"].processes + 1
    assert sums["decoder"].resident_bytes > 0


def test_a_work_area_that_is_away_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        measure(tmp_path / "gone")
