"""What every work area promises, asked of both: a shared volume, and an object store between separate disks."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from shared.errors import StoreRefused, StoreUnavailable, WorkAreaFull, WorkAreaGone
from shared.storage.memory import MemoryStore
from shared.workdir import LocalWorkArea, StoreWorkArea, WorkArea, WorkKey

JOB = UUID(int=7)
KEY = WorkKey(job=JOB, chunk=3, fence=1)
#: Opens the work area as another host does.
Hosts = Callable[[str], WorkArea]


@pytest.fixture(params=["volume", "store"])
def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> Hosts:
    if request.param == "volume":
        return lambda host: LocalWorkArea(tmp_path / "shared")
    store = MemoryStore()
    return lambda host: StoreWorkArea(store, tmp_path / host)


async def published(area: WorkArea, key: WorkKey = KEY, **files: bytes) -> None:
    draft = await area.draft(key)
    for name, content in files.items():
        draft.path(name).write_bytes(content)
    await draft.publish()


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_what_one_host_publishes_another_opens_as_a_file(hosts: Hosts) -> None:
    await published(hosts("a"), pack=b"bodies", table=b"")

    there = hosts("b")

    assert (await there.open(KEY, "pack")).read_bytes() == b"bodies"
    assert (await there.open(KEY, "table")).read_bytes() == b""


async def test_a_file_of_many_blocks_arrives_whole(hosts: Hosts) -> None:
    body = bytes(range(256)) * 80_000
    await published(hosts("a"), pack=body)

    assert (await hosts("b").open(KEY, "pack")).read_bytes() == body


async def test_a_file_opened_twice_is_one_file(hosts: Hosts) -> None:
    await published(hosts("a"), pack=b"bodies")
    there = hosts("b")

    assert await there.open(KEY, "pack") == await there.open(KEY, "pack")


async def test_nothing_is_visible_before_it_is_published(hosts: Hosts) -> None:
    draft = await hosts("a").draft(KEY)
    draft.path("pack").write_bytes(b"half")

    for host in ("a", "b"):
        with pytest.raises(WorkAreaGone):
            await hosts(host).open(KEY, "pack")


async def test_a_file_that_nobody_published_is_gone(hosts: Hosts) -> None:
    await published(hosts("a"), pack=b"bodies")

    with pytest.raises(WorkAreaGone, match="chunk 3 has no table from fence 1"):
        await hosts("b").open(KEY, "table")


async def test_a_draft_begins_empty_whatever_an_earlier_writer_left(hosts: Hosts) -> None:
    await published(hosts("a"), pack=b"old", more=b"old")

    await published(hosts("b"), pack=b"new")

    there = hosts("c")
    assert (await there.open(KEY, "pack")).read_bytes() == b"new"
    with pytest.raises(WorkAreaGone):
        await there.open(KEY, "more")


async def test_discarding_takes_one_claims_draft_and_leaves_the_others(hosts: Hosts) -> None:
    later = WorkKey(job=JOB, chunk=3, fence=2)
    await published(hosts("a"), pack=b"first")
    await published(hosts("b"), later, pack=b"second")

    await hosts("c").discard(KEY)
    await hosts("c").discard(KEY)

    with pytest.raises(WorkAreaGone):
        await hosts("c").open(KEY, "pack")
    assert (await hosts("c").open(later, "pack")).read_bytes() == b"second"


async def test_removing_a_chunk_takes_all_of_it_and_nothing_else(hosts: Hosts) -> None:
    other = WorkKey(job=JOB, chunk=31, fence=1)
    await published(hosts("a"), pack=b"gone")
    await published(hosts("a"), other, pack=b"stays")

    await hosts("b").remove(JOB, 3)
    await hosts("b").remove(JOB, 3)

    with pytest.raises(WorkAreaGone):
        await hosts("a").open(KEY, "pack")
    assert (await hosts("c").open(other, "pack")).read_bytes() == b"stays"


async def test_the_last_chunk_that_goes_leaves_room_for_the_next(hosts: Hosts) -> None:
    area = hosts("a")
    await published(area, pack=b"the last one")
    await area.remove(JOB, 3)

    await published(area, pack=b"the next one")

    assert (await area.open(KEY, "pack")).read_bytes() == b"the next one"


async def test_a_chunk_that_left_a_hosts_hands_can_come_back(hosts: Hosts) -> None:
    await published(hosts("a"), pack=b"bodies")
    there = hosts("b")
    await there.open(KEY, "pack")

    await there.release(JOB, 3)
    await there.release(JOB, 3)

    assert (await there.open(KEY, "pack")).read_bytes() == b"bodies"


async def test_old_drafts_are_listed_from_any_host(hosts: Hosts) -> None:
    await published(hosts("a"), pack=b"bodies")
    there = hosts("b")

    old = [key async for key in there.older_than(timedelta(0))]
    young = [key async for key in there.older_than(timedelta(hours=1))]

    assert old == [KEY]
    assert young == []


async def test_separate_disks_keep_nothing_of_a_chunk_that_left(tmp_path: Path) -> None:
    store = MemoryStore()
    first, second = StoreWorkArea(store, tmp_path / "a"), StoreWorkArea(store, tmp_path / "b")
    await published(first, pack=b"bodies")
    assert files_below(tmp_path) == []

    copy = await second.open(KEY, "pack")
    assert copy.is_relative_to(tmp_path / "b")
    unfinished = await second.draft(WorkKey(job=JOB, chunk=3, fence=2))
    unfinished.path("verdicts").write_bytes(b"half")
    await second.release(JOB, 3)

    assert files_below(tmp_path) == []
    assert list(copy.parents[2].iterdir()) == [], "nor an empty folder for each job there ever was"
    assert list(store.objects) == [f"{JOB}/3/f1/pack"]


async def test_a_store_is_known_to_hold_a_draft_for_as_long_as_it_was_seen(tmp_path: Path) -> None:
    now = 1000.0
    store = MemoryStore()
    area = StoreWorkArea(store, tmp_path, clock=lambda: now)
    await published(area, pack=b"bodies")
    store.objects["somebody/elses"] = next(iter(store.objects.values()))

    first = [key async for key in area.older_than(timedelta(seconds=60))]
    now += 61
    later = [key async for key in area.older_than(timedelta(seconds=60))]

    assert (first, later) == ([], [KEY])


async def test_a_store_that_refuses_is_no_fault_of_the_job(tmp_path: Path) -> None:
    def refuse(operation: str, key: str) -> None:
        raise StoreRefused("no permission")

    area = StoreWorkArea(MemoryStore(before=refuse), tmp_path)

    with pytest.raises(StoreUnavailable, match="no permission"):
        await area.open(KEY, "pack")
    with pytest.raises(StoreUnavailable, match="no permission"):
        await area.remove(JOB, 3)


async def test_a_work_volume_that_is_gone_is_waited_for_and_not_made_anew(tmp_path: Path) -> None:
    area = LocalWorkArea(tmp_path / "shared")
    await published(area, pack=b"bodies")
    (tmp_path / "shared").rename(tmp_path / "elsewhere")

    for use in (area.draft(KEY), area.open(KEY, "pack"), area.check()):
        with pytest.raises(WorkAreaFull, match="is it mounted"):
            await use
    assert not (tmp_path / "shared").exists()
    (tmp_path / "elsewhere").rename(tmp_path / "shared")

    assert (await area.open(KEY, "pack")).read_bytes() == b"bodies"
