"""The administrator's commands about dead letters: show failed chunks, redrive them, drop them."""

import json
import sys
from itertools import islice

from pixcrawler.client import Client
from pixcrawler.commands.exits import Failure
from pixcrawler.models import Decided, FailedChoice, FailedChunk, PoisonMessage


def list_failed(client: Client, job: str | None, code: str | None, limit: int | None, *, is_json: bool) -> None:
    """A line for each chunk: id, job, rows, stage, tries, redrives, time, error."""
    for chunk in islice(client.failed_chunks(job, code=code), limit):
        _print(json.dumps({"chunk": chunk.model_dump(mode="json")}) if is_json else _line(chunk))
    if job is None and code is None:
        for message in islice(client.poison_messages(), limit):
            _show_poison(message, is_json=is_json)


def show(client: Client, chunk_id: int, *, is_json: bool) -> None:
    """The chunk's line, and a line for each of its moves."""
    chunk = client.failed_chunk(chunk_id)
    if is_json:
        _print(json.dumps({"chunk": chunk.model_dump(mode="json")}))
        return
    _print(_line(chunk))
    for event in chunk.history:
        why = f"\t{event.error_code}: {event.error}" if event.error_code else ""
        _print(f"{event.at.isoformat(timespec='seconds')}\t{event.from_state} > {event.to_state}\t{event.actor}{why}")


def redrive(
    client: Client, chunk: int | None, job: str | None, code: str | None, *, force: bool, is_json: bool
) -> None:
    decided = client.redrive(_choice(chunk, job, code), force=force)
    _show_decided(decided, "redriven", is_json=is_json)
    if decided.passed_over and not is_json:
        sys.stderr.write(f"{decided.passed_over} failed again after three redrives; --force tries them once more.\n")


def drop(client: Client, chunk: int | None, job: str | None, code: str | None, *, is_json: bool) -> None:
    _show_decided(client.drop(_choice(chunk, job, code)), "dropped", is_json=is_json)


def drop_poison(client: Client, poison_id: int, *, is_json: bool) -> None:
    _show_poison(client.drop_poison(poison_id), is_json=is_json)


def _choice(chunk: int | None, job: str | None, code: str | None) -> FailedChoice:
    if chunk is None and job is None and code is None:
        raise Failure("give CHUNK, --job or --code")
    return FailedChoice(chunk=chunk, job=job, code=code)


def _line(chunk: FailedChunk) -> str:
    last_row = chunk.first_row + chunk.rows - 1
    decided = "dropped" if chunk.dropped_at else "to be redriven" if chunk.redrive_asked_at else chunk.state
    return "\t".join(
        (
            str(chunk.id),
            str(chunk.job_id),
            f"rows {chunk.first_row}-{last_row}",
            decided,
            f"in {chunk.stage}" if chunk.stage else "-",
            f"{chunk.attempts} attempts, {chunk.crashes} crashes, {chunk.redrives} redrives",
            chunk.failed_at.isoformat(timespec="seconds") if chunk.failed_at else "-",
            f"{chunk.error_code}: {chunk.error}" if chunk.error_code else "-",
        )
    )


def _show_decided(decided: Decided, done: str, *, is_json: bool) -> None:
    _print(json.dumps(decided.model_dump(mode="json")) if is_json else f"{done}\t{decided.chunks}")


def _show_poison(message: PoisonMessage, *, is_json: bool) -> None:
    if is_json:
        _print(json.dumps({"poison": message.model_dump(mode="json")}))
    else:
        _print("\t".join((str(message.id), f"message of {message.queue}", message.error, message.body[:100])))


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
