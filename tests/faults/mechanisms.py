"""What keeps the promises, and the proof that each is needed: taken away, a test goes red.

    python -m tests.faults.mechanisms            takes each away in a copy of the tree, and writes the table
    python -m tests.faults.mechanisms fence …    only these

A mechanism whose tests stay green is either not needed or not tested: the command then ends with 1.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "mechanisms.md"
_LIMIT_SECONDS = 900


@dataclass(frozen=True)
class Mechanism:
    """One thing that keeps a promise, and how to take it away."""

    name: str
    promise: str
    file: str
    #: This text, which stands there once, …
    text: str
    #: … becomes this.
    without: str
    #: What should go red, as pytest names it.
    tests: tuple[str, ...]


MECHANISMS = (
    Mechanism(
        "grace after an outage",
        "nobody loses a chunk because PostgreSQL could not hear it",
        "scheduler/caretaker.py",
        "        if time.monotonic() < self._leadership.since + self._settings.grace_seconds:\n            return\n",
        "",
        ("tests/integration/test_caretaker.py",),
    ),
    Mechanism(
        "sweep of half-written files",
        "a killed worker leaves no rubbish in the dataset",
        "shared/publishing.py",
        "    await store.sweep()\n",
        "",
        ("tests/integration/test_closing.py", "tests/faults/test_kills.py"),
    ),
    Mechanism(
        "withdrawal of _SUCCESS",
        "only a whole dataset says that it is whole",
        "shared/publishing.py",
        "        await store.delete(SUCCESS_KEY)\n",
        "        pass\n",
        ("tests/faults/test_moves.py::test_a_job_cancelled_while_it_is_finished_ends_as_one_thing",),
    ),
    Mechanism(
        "second try after a dead decoder",
        "an image is not blamed for a decoder that died of something else",
        "validator/children.py",
        "_SECOND_TRIES = 5",
        "_SECOND_TRIES = 0",
        ("tests/faults/test_children.py::test_a_decoder_killed_under_an_image_costs_no_image",),
    ),
    Mechanism(
        "fence",
        "a worker that lost its chunk writes nothing any more",
        "shared/db/chunks.py",
        'where="chunks.id = :id AND chunks.fence = :fence",',
        'where="chunks.id = :id AND (chunks.fence = :fence OR true)",',
        ("tests/integration/test_chunks.py",),
    ),
    Mechanism(
        "state named by each move",
        "a bell that comes twice, late or out of order moves nothing",
        "shared/db/moves.py",
        "WHERE chunks.state = :start AND {where}",
        "WHERE (chunks.state = :start OR true) AND {where}",
        ("tests/integration/test_stage.py", "tests/integration/test_chunks.py"),
    ),
    Mechanism(
        "fence in the work area's paths",
        "a worker that lost its chunk spoils nothing of its successor's files",
        "shared/workdir/local.py",
        'f"f{key.fence}"',
        '"f0"',
        (
            "tests/faults/test_zombies.py",
            "tests/integration/test_stage.py",
        ),
    ),
    Mechanism(
        "one row a slot",
        "never more chunks in flight than slots, whoever admits at once",
        "shared/db/slots.py",
        '"SELECT no FROM slots WHERE chunk_id IS NULL ORDER BY no LIMIT :most FOR UPDATE SKIP LOCKED"',
        '"SELECT no FROM slots WHERE chunk_id IS NULL ORDER BY no LIMIT :most"',
        ("tests/integration/test_slots.py",),
    ),
    Mechanism(
        "slot freed with the chunk's end",
        "an ended chunk holds no slot",
        "shared/db/chunks.py",
        "    await free_slots(connection, [ended.claim.chunk_id])\n    chunk = moved[0]",
        "    chunk = moved[0]",
        ("tests/integration/test_slots.py",),
    ),
    Mechanism(
        "term in the leader's transactions",
        "a scheduler that was paused acts no more when another leads",
        "shared/db/leader.py",
        "AND expires_at > clock_timestamp() FOR KEY SHARE",
        "AND true OR name = :name FOR KEY SHARE",
        ("tests/integration/test_leader.py",),
    ),
    Mechanism(
        "bells due in the rows",
        "a bell that could not be rung is rung later",
        "shared/ringing.py",
        "            await bells.put_back(connection, unrung)",
        "            pass",
        ("tests/integration/test_caretaker.py",),
    ),
    Mechanism(
        "ringing again",
        "a message that is lost costs seconds, not the chunk",
        "scheduler/caretaker.py",
        "            due += await bells.take_unanswered(connection, again=self._ring_again)\n",
        "",
        ("tests/faults/test_lost_bells.py",),
    ),
    Mechanism(
        "answers Redis could not be told",
        "a worker hears bells after one it could not acknowledge",
        "shared/broker.py",
        "            self._quick_ack(delivery_tag)\n",
        "",
        ("tests/faults/test_redis.py::test_a_worker_hears_more_bells_after_one_it_could_not_acknowledge",),
    ),
    Mechanism(
        "leases that end",
        "what a dead worker held is done by another",
        "scheduler/loop.py",
        "            _Chore(timedelta(seconds=2), caretaker.expire),\n",
        "",
        ("tests/faults/test_kills.py",),
    ),
    Mechanism(
        "count of crashes",
        "a chunk that kills its workers is given up, and the others go on",
        "shared/db/sweeps.py",
        'where=f"{due} AND chunks.crashes + 1 >= :most",',
        'where=f"{due} AND chunks.crashes + 1 >= :most + 1000",',
        (
            "tests/integration/test_chunks.py",
            "tests/faults/test_children.py",
        ),
    ),
    Mechanism(
        "attempts not burned by a stop",
        "replacing workers costs no chunk its tries",
        "shared/db/chunks.py",
        "attempt = attempt - :unburned",
        "attempt = attempt - 0 * :unburned",
        ("tests/faults/test_shutdowns.py",),
    ),
    Mechanism(
        "janitor",
        "work areas and slots of ended chunks are freed although nobody closed them",
        "shared/steward.py",
        "            await close_what_was_left(resources)\n",
        "",
        ("tests/faults/test_kills.py::test_a_worker_killed_before_it_closed_its_chunk_leaves_that_to_the_janitor",),
    ),
    Mechanism(
        "creation only",
        "what is stored is never overwritten",
        "shared/storage/local.py",
        "                    os.link(temporary, name, src_dir_fd=staging, dst_dir_fd=parent, follow_symlinks=False)",
        "                    os.replace(temporary, name, src_dir_fd=staging, dst_dir_fd=parent)",
        ("tests/contract",),
    ),
    Mechanism(
        "adoption of a whole index",
        "a chunk done twice is stored once",
        "uploader/upload.py",
        "    adopted = await _adopt_finished(chunk)\n    if adopted is not None:\n        return adopted\n    verdicts",
        "    verdicts",
        ("tests/unit/uploader",),
    ),
    Mechanism(
        "order of duplicates",
        "of equal images the first in the list is kept, again and again",
        "shared/db/chunks.py",
        "    OR chunks.ready_at < clock_timestamp() - CAST(:hold AS interval)",
        "    OR true OR chunks.ready_at < clock_timestamp() - CAST(:hold AS interval)",
        ("tests/integration/test_bells.py",),
    ),
    Mechanism(
        "audit of the priority set",
        "admission goes on after Redis lost everything",
        "scheduler/admitter.py",
        "            if await self._waiting.size() != wait:",
        "            if False:",
        ("tests/integration/test_waiting.py",),
    ),
    Mechanism(
        "keeping of unreadable messages",
        "a message nobody understands is there to be looked at",
        "shared/stage.py",
        "            await self._keep_poison(message, error)\n",
        "",
        ("tests/integration/test_stage.py",),
    ),
    Mechanism(
        "check of what was committed",
        "a result whose commit was not answered is not thrown away",
        "shared/stage.py",
        "            if not is_published:\n                await",
        "            if True:\n                await",
        ("tests/integration/test_stage.py",),
    ),
    Mechanism(
        "cursor of planning",
        "a scheduler that dies over a long list is followed by one that goes on where it was",
        "shared/db/lifecycle.py",
        "UPDATE jobs SET cursor = CAST(:cursor AS jsonb),",
        "UPDATE jobs SET cursor = CASE WHEN false THEN CAST(:cursor AS jsonb) END,",
        ("tests/integration/test_scheduler.py",),
    ),
    Mechanism(
        "count of stumbles",
        "a chunk whose claim goes wrong every time is given up, and the others go on",
        "shared/stage.py",
        "            await self._note_stumble(bell.chunk, error)\n",
        "",
        ("tests/integration/test_stage.py::test_a_claim_that_goes_wrong_every_time_ends_the_chunk",),
    ),
    Mechanism(
        "removal of remnants",
        "what a cancelled chunk had stored does not lie there for ever",
        "shared/closing.py",
        "            await remove_remnants(store, claim)",
        "            pass",
        ("tests/integration/test_remnants.py",),
    ),
    Mechanism(
        "version of what a purge exchanges",
        "a scheduler that stood still undoes nothing of its successor's purge",
        "shared/storage/local.py",
        "if held is None or held.version != version:",
        "if held is None:",
        (
            "tests/integration/test_purges.py::test_a_leader_that_stood_still_in_a_purge_undoes_nothing_of_its_successors",
        ),
    ),
    Mechanism(
        "redrive after the purge",
        "a purge deletes nothing of a redriven chunk",
        "shared/db/failed.py",
        "AND (purged_to <> :under_way OR",
        "AND (true OR purged_to <> :under_way OR",
        ("tests/integration/test_purges.py::test_a_chunk_is_not_redriven_while_it_is_purged",),
    ),
    Mechanism(
        "missing of the work volume",
        "a work volume that is gone for a while costs no try, and nobody writes beside it",
        "shared/workdir/local.py",
        "if self._was_there and not is_there:",
        "if False:",
        ("tests/contract/test_work_area.py::test_a_work_volume_that_is_gone_is_waited_for_and_not_made_anew",),
    ),
)


def main(wanted: list[str]) -> int:
    chosen = [mechanism for mechanism in MECHANISMS if not wanted or mechanism.name in wanted]
    unknown = set(wanted) - {mechanism.name for mechanism in chosen}
    if unknown:
        sys.exit(f"there is no mechanism {', '.join(sorted(unknown))}")
    reds = {}
    for mechanism in chosen:
        reds[mechanism] = red_test(mechanism)
        print(f"{mechanism.name}: {reds[mechanism] or 'NOTHING WENT RED'}", flush=True)
    if not wanted:
        PAGE.write_text(page({mechanism: red or "**none**" for mechanism, red in reds.items()}))
    return 0 if all(reds.values()) else 1


def red_test(mechanism: Mechanism) -> str | None:
    """The first test that fails without the mechanism; None when all pass."""
    with tempfile.TemporaryDirectory(prefix="pixcrawler-without-") as name:
        copy = Path(name) / "tree"
        _copy_tree(copy)
        path = copy / mechanism.file
        path.write_text(path.read_text().replace(mechanism.text, mechanism.without))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "faults or not faults", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, *mechanism.tests], cwd=copy, capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=False
        )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{mechanism.name}: the tests could not run\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    failed = re.search(r"^(?:FAILED|ERROR) (\S+::[^\s\[]+)", done.stdout, re.MULTILINE)
    return failed.group(1) if failed else None


def page(reds: dict[Mechanism, str]) -> str:
    """The table for the documentation."""
    lines = [
        "# What keeps the promises",
        "",
        "Each of these was taken away once, in a copy of the code, and the test beside it went red.",
        "Written by `make mechanisms`.",
        "",
        "| Mechanism | Promise | Where | Goes red without it |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {one.name} | {one.promise} | `{one.file}` | `{red}` |" for one, red in reds.items()]
    return "\n".join(lines) + "\n"


def _copy_tree(target: Path) -> None:
    """The files that git knows, as they are now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
