"""The commands that make something of a job that is there: append, retry, refresh, clone; files, and delete."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pixcrawler.client import Client
from pixcrawler.commands.exits import Failure
from pixcrawler.commands.interrupts import Interrupts
from pixcrawler.commands.lists import checked_list, whole_destination
from pixcrawler.commands.options import Choices
from pixcrawler.commands.remote import check_reason, show_submission
from pixcrawler.commands.running import understood
from pixcrawler.models import AppendRequest, CloneRequest, Destination, Source
from pixcrawler.words import Gone


def append(
    client: Client,
    job_id: str,
    path: Path,
    name: str | None,
    columns: Choices,
    interrupts: Interrupts,
    *,
    is_json: bool,
) -> None:
    manifest = client.upload(checked_list(path), filename=columns.upload_name(path))
    options = columns.list_options().model_dump(exclude_unset=True)
    request = AppendRequest(name=name, source=Source(manifest_id=manifest.id), **options)
    with interrupts.held():
        submission = client.append(job_id, request)
    show_submission(submission, is_json=is_json)


def retry(client: Client, job_id: str, reasons: Sequence[str] | None, *, is_json: bool) -> None:
    for reason in reasons or ():
        check_reason(reason)
    show_submission(client.retry(job_id, reasons or None), is_json=is_json)


def refresh(client: Client, job_id: str, gone: Gone, *, is_json: bool) -> None:
    show_submission(client.refresh(job_id, gone), is_json=is_json)


def clone(client: Client, job_id: str, destination: str, choices: Choices, *, is_json: bool) -> None:
    recipe, options = understood(choices)
    if options.model_fields_set:
        raise Failure("a clone reads the list as the job did; leave --input-format, --url-col and the like out")
    request = CloneRequest(
        name=choices.name or None,
        destination=Destination(url=whole_destination(destination), endpoint=choices.endpoint),
        recipe=recipe if recipe.model_fields_set else None,
    )
    show_submission(client.clone(job_id, request), is_json=is_json)


def files(client: Client, job_id: str, link_seconds: int, *, is_json: bool) -> None:
    """Key, bytes and link, parted by tabs."""
    for each in client.objects(job_id, link_seconds=link_seconds):
        line = each.model_dump_json() if is_json else f"{each.key}\t{each.size_bytes}\t{each.url or ''}"
        sys.stdout.write(f"{line}\n")


def delete(client: Client, job_id: str, *, is_sure: bool, is_json: bool) -> None:
    """Asks on a terminal, unless told not to. Raises Failure when nobody can be asked, or says no."""
    job = client.job(job_id)
    if not is_sure:
        _confirm(f"Delete the dataset at {job.destination.url} with {job.accepted:,} images of this job")
    deletion = client.delete(job_id)
    sys.stdout.write(f"{json.dumps(deletion.model_dump(mode='json')) if is_json else deletion.destination.url}\n")


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise Failure("nobody can be asked here; say --yes")
    sys.stderr.write(f"{question}, for good? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure("nothing was deleted")
