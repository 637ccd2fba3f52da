"""The commands that talk to any gateway: submit, status, watch, cancel, pause, resume, list, rejects."""

import difflib
import json
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from pixcrawler.client import Client
from pixcrawler.commands.exits import Exit, Failure
from pixcrawler.commands.following import conclude, follow
from pixcrawler.commands.interrupts import Interrupts
from pixcrawler.commands.lists import checked_list, whole_destination
from pixcrawler.commands.options import Choices
from pixcrawler.commands.report import Reporter, found, progress_line
from pixcrawler.commands.running import submit
from pixcrawler.commands.summary import Summary, rendered
from pixcrawler.models import Job, JobFilter, Submission
from pixcrawler.reasons import ADVICE
from pixcrawler.words import ImageStatus


def submit_job(
    client: Client, path: Path, destination: str, choices: Choices, interrupts: Interrupts, *, is_json: bool
) -> None:
    """Prints the job's id."""
    show_submission(
        submit(client, checked_list(path), whole_destination(destination), choices, interrupts), is_json=is_json
    )


def show_submission(submission: Submission, *, is_json: bool) -> None:
    """Prints the job's id."""
    if is_json:
        _line({"is_new": submission.is_new, "job": submission.job.model_dump(mode="json")})
        return
    _print(str(submission.job.id))
    if not submission.is_new:
        sys.stderr.write(f"The same request was made before; its job is {submission.job.state}.\n")


def show_status(client: Client, job_id: str, *, is_json: bool) -> None:
    job = client.job(job_id)
    if is_json:
        _line(job.model_dump(mode="json"))
        return
    _print(f"{job.id}  {job.name}  {job.state}")
    if not job.state.is_final:
        _print(progress_line(job))
    if job.chunks_ahead is not None:
        _print(f"waiting   {job.chunks_ahead:,} chunks of 500 rows are before it")
    if job.error is not None:
        _print(f"error     {job.error.detail} ({job.error.code})")
    sys.stdout.write(rendered(Summary(job, job.images_per_second, Exit.OK), width=110))


def watch_job(client: Client, job_id: str, reporter: Reporter) -> Exit:
    """Follows it until it has ended or is paused; leaving does nothing to the job."""
    with reporter:
        return conclude(follow(client, client.job(job_id), reporter), reporter)


def move_job(client: Client, job_id: str, verb: str, *, is_json: bool) -> None:
    job: Job = getattr(client, verb)(job_id)
    if is_json:
        _line(job.model_dump(mode="json"))
    else:
        _print(f"{job.id}  {job.state}")


def list_jobs(client: Client, wanted: JobFilter, limit: int, *, is_json: bool) -> None:
    for job in islice(client.jobs(wanted), limit):
        if is_json:
            _line(job.model_dump(mode="json"))
        else:
            _print(f"{job.id}  {job.state:<23}  {found(job)} of {job.rows:,}  {job.destination.url}")


def list_rejects(client: Client, job_id: str, reason: str | None, limit: int | None, *, is_json: bool) -> None:
    """Row, reason and URL, parted by tabs; with JSON all columns of the index."""
    if reason is not None:
        check_reason(reason)
    for row in islice(client.images(job_id, status=ImageStatus.REJECTED, reason=reason), limit):
        if is_json:
            _line(row)
        else:
            _print(f"{row['row']}\t{row['reason']}\t{row['url'] or ''}")


def check_reason(reason: str) -> None:
    """Raises Failure for a reason that nobody rejects by, with those it may be meant for."""
    if reason not in ADVICE:
        near = difflib.get_close_matches(reason.lower().replace("-", "_"), ADVICE, n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(near)}?" if near else "the job's table shows those it has"
        raise Failure(f"'{reason}' is no reason; {meant}")


def _line(fields: dict[str, Any]) -> None:
    _print(json.dumps(fields))


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
