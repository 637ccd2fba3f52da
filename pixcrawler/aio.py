"""The client for asyncio: the same operations as `pixcrawler.client`, to be awaited."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

import httpx2

from pixcrawler import calls
from pixcrawler.calls import Answer, Call, JobId, WebhookId
from pixcrawler.connection import (
    BLOCK_BYTES,
    RECONNECT_SECONDS,
    RECONNECTS,
    SILENCE_SECONDS,
    answer_of,
    failed,
    options,
    part_bytes,
    raise_for,
)
from pixcrawler.errors import ConflictError, UnavailableError, WaitTimeout
from pixcrawler.models import (
    AppendRequest,
    CheckRequest,
    CloneRequest,
    Decided,
    Deletion,
    Delivery,
    FailedChoice,
    FailedChunk,
    FailedChunkDetail,
    Job,
    JobFilter,
    JobRequest,
    ListCheck,
    Manifest,
    Me,
    PoisonMessage,
    RedriveRequest,
    RefreshRequest,
    RetryRequest,
    RotateSecretRequest,
    Statistics,
    StoredObject,
    Submission,
    Takedown,
    TakedownRequest,
    Upload,
    Webhook,
    WebhookRequest,
    WebhookWithSecret,
)
from pixcrawler.retry import PASSING, Retries
from pixcrawler.words import DeliveryState, Gone, ImageStatus, Notice, TakedownKind

Body = Callable[[], AsyncIterator[bytes]]


class AsyncClient:
    """Talks to one gateway with one API key. Every method raises the errors of `pixcrawler.errors`.

    Trouble that may pass (429, 502 to 504, a lost connection) is repeated within the bounds of `retries`.
    Close it, or use it as a context manager.
    """

    def __init__(
        self,
        url: str,
        api_key: str = "",
        *,
        retries: Retries | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._http = httpx2.AsyncClient(**options(url, api_key), transport=transport)
        self._retries = retries or Retries()
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def me(self) -> Me:
        """Whose key it is; the cheapest way to find out whether it is right."""
        return await self._ask(calls.me())

    async def upload(self, path: Path, *, filename: str | None = None) -> Manifest:
        """Sends a list; a large one in parts, so that a broken connection costs one of them and not all.

        `filename` tells its format (None: the file's own name).
        """
        name, size = filename or path.name, part_bytes((await asyncio.to_thread(path.stat)).st_size)
        if size is None:
            return await self._ask(calls.upload(name), lambda: _blocks(path))
        return await self._upload_in_parts(path, name, size)

    async def _upload_in_parts(self, path: Path, name: str, size: int) -> Manifest:
        upload, sha256 = await self._ask(calls.begin_upload(name)), hashlib.sha256()
        with await asyncio.to_thread(path.open, "rb") as file:
            while part := await asyncio.to_thread(file.read, size):
                sha256.update(part)
                upload = await self._send_part(upload, part)
        return await self._ask(calls.complete_upload(upload, sha256.hexdigest()))

    async def _send_part(self, upload: Upload, part: bytes) -> Upload:
        """Counts whole or not at all, so that one whose answer was lost is found to have arrived."""
        try:
            return await self._ask(calls.send_part(upload), lambda: _only(part))
        except ConflictError:
            now = await self._ask(calls.upload_now(upload))
            if now.size_bytes != upload.size_bytes + len(part):
                raise
            return now

    async def check(
        self, manifest: Manifest, request: CheckRequest | None = None, *, timeout_seconds: float | None = None
    ) -> ListCheck:
        """Has an uploaded list read whole and waits for what was found. Raises WaitTimeout; it goes on then.

        A list that cannot be read is a result, too: its `error` says why.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        check = await self._ask(calls.check(manifest.id, request or CheckRequest()))
        while not check.has_ended:
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeout(f"the list was not checked after {timeout_seconds:g} s; ask for it again later")
            await self._sleep(RECONNECT_SECONDS)
            check = await self._ask(calls.checked(check))
        return check

    async def submit(self, request: JobRequest) -> Submission:
        """Asks for a dataset. The same destination, list and recipe give the job that they gave before."""
        return await self._made(calls.submit(request))

    async def append(self, job_id: JobId, request: AppendRequest) -> Submission:
        """Adds the rows of another list to the job's dataset; the same list once."""
        return await self._made(calls.append(job_id, request))

    async def retry(self, job_id: JobId, reasons: Sequence[str] | None = None) -> Submission:
        """Fetches rejected rows of the job's dataset again (None: all whose reason may pass), and nothing else."""
        chosen = None if reasons is None else list(reasons)
        return await self._made(calls.retry(job_id, RetryRequest(reasons=chosen)))

    async def refresh(self, job_id: JobId, gone: Gone = Gone.KEEP) -> Submission:
        """Asks whether the pictures of the job's dataset have changed, and replaces those that have.

        `gone` says what becomes of pictures that are not there any more.
        """
        return await self._made(calls.refresh(job_id, RefreshRequest(gone=gone)))

    async def clone(self, job_id: JobId, request: CloneRequest) -> Submission:
        """Builds another dataset from the job's list, elsewhere."""
        return await self._made(calls.clone(job_id, request))

    async def job(self, job_id: JobId) -> Job:
        return await self._ask(calls.job(job_id))

    async def jobs(self, wanted: JobFilter | None = None) -> AsyncIterator[Job]:
        """All jobs, or those that meet the filter, newest first, fetched page by page."""
        cursor = None
        while True:
            page = await self._ask(calls.jobs(wanted or JobFilter(), cursor))
            for each in page.data:
                yield each
            if (cursor := page.next_cursor) is None:
                return

    async def delete(self, job_id: JobId) -> Deletion:
        """Deletes the job's dataset with all its jobs and all that is stored of it, for good."""
        return await self._ask(calls.delete(job_id))

    async def images(
        self, job_id: JobId, *, status: ImageStatus | None = None, reason: str | None = None
    ) -> AsyncIterator[dict[str, object]]:
        """Rows of the dataset's index, of chunks that have ended, in input order, fetched page by page."""
        cursor = None
        while True:
            page = await self._ask(calls.images(job_id, status, reason, cursor))
            for each in page.data:
                yield each
            if (cursor := page.next_cursor) is None:
                return

    async def objects(self, job_id: JobId, *, link_seconds: int = 3600) -> AsyncIterator[StoredObject]:
        """What chunks of the job have stored, in key order, with links that anybody may read for so long."""
        cursor = None
        while True:
            page = await self._ask(calls.objects(job_id, link_seconds, cursor))
            for each in page.data:
                yield each
            if (cursor := page.next_cursor) is None:
                return

    async def statistics(self, job_id: JobId) -> Statistics:
        """The job's dataset in figures. Raises NotFoundError until a job of it has ended."""
        return await self._ask(calls.statistics(job_id))

    async def thumbnail(self, job_id: JobId, row: int) -> bytes:
        """A small JPEG of an accepted row. Raises NotFoundError when it has none: see `thumbnail_path` of `images`."""
        return (await self._ask(calls.thumbnail(job_id, row))).jpeg

    async def cancel(self, job_id: JobId) -> Job:
        """Withdraws a job: what is stored stays, the rest is not fetched any more."""
        return await self._ask(calls.move(job_id, "cancel"))

    async def pause(self, job_id: JobId) -> Job:
        """Halts a job; chunks in flight come to their end."""
        return await self._ask(calls.move(job_id, "pause"))

    async def resume(self, job_id: JobId) -> Job:
        return await self._ask(calls.move(job_id, "resume"))

    async def create_webhook(self, url: str, events: Sequence[Notice] | None = None) -> WebhookWithSecret:
        """Tells that URL of the end of jobs; keep the secret, by which `pixcrawler.webhooks.verify` checks notices."""
        chosen = None if events is None else list(events)
        return await self._ask(calls.create_webhook(WebhookRequest(url=url, events=chosen)))

    async def webhooks(self) -> list[Webhook]:
        """All of them, oldest first; there are never many."""
        return (await self._ask(calls.webhooks())).data

    async def webhook(self, webhook_id: WebhookId) -> Webhook:
        return await self._ask(calls.webhook(webhook_id))

    async def delete_webhook(self, webhook_id: WebhookId) -> Webhook:
        return await self._ask(calls.delete_webhook(webhook_id))

    async def rotate_webhook(self, webhook_id: WebhookId, *, overlap_seconds: int | None = None) -> WebhookWithSecret:
        """Gives it another secret; for a while (None: a day) the old one signs, too."""
        return await self._ask(calls.rotate_webhook(webhook_id, RotateSecretRequest(overlap_seconds=overlap_seconds)))

    async def enable_webhook(self, webhook_id: WebhookId) -> Webhook:
        """Sends to it again after a delivery had been given up."""
        return await self._ask(calls.enable_webhook(webhook_id))

    async def test_webhook(self, webhook_id: WebhookId) -> Delivery:
        """Sends it a notice that says nothing; `deliveries` tells what became of it."""
        return await self._ask(calls.test_webhook(webhook_id))

    async def deliveries(self, webhook_id: WebhookId, *, state: DeliveryState | None = None) -> AsyncIterator[Delivery]:
        """What was and is to be sent to a webhook, newest first, fetched page by page."""
        cursor = None
        while True:
            page = await self._ask(calls.deliveries(webhook_id, state, cursor))
            for each in page.data:
                yield each
            if (cursor := page.next_cursor) is None:
                return

    async def redeliver(self, webhook_id: WebhookId, delivery_id: UUID | str) -> Delivery:
        """Sends a notice once more, under its old id."""
        return await self._ask(calls.redeliver(webhook_id, delivery_id))

    async def take_down(self, kind: TakedownKind, value: str, *, note: str = "", purge: bool = False) -> Takedown:
        """Forbids to fetch or to store it, in any dataset; `purge` deletes what is stored. For administrators."""
        return await self._ask(calls.take_down(TakedownRequest(kind=kind, value=value, note=note, purge=purge)))

    async def takedowns(self, kind: TakedownKind | None = None) -> AsyncIterator[Takedown]:
        """Those in force, newest first, fetched page by page."""
        cursor = None
        while True:
            page = await self._ask(calls.takedowns(kind, cursor))
            for each in page.data:
                yield each
            if (cursor := page.next_cursor) is None:
                return

    async def lift_takedown(self, takedown_id: int) -> Takedown:
        """Allows again what a takedown forbade. Raises NotFoundError when there is none of that id."""
        return await self._ask(calls.lift_takedown(takedown_id))

    async def failed_chunks(
        self, job_id: JobId | None = None, *, code: str | None = None
    ) -> AsyncIterator[FailedChunk]:
        """Failed chunks nobody has decided about, newest first. For administrators, as all of failed chunks."""
        cursor = None
        while True:
            page = await self._ask(calls.failed_chunks(job_id, code, cursor))
            for each in page.data:
                yield each
            if (cursor := page.next_cursor) is None:
                return

    async def failed_chunk(self, chunk_id: int) -> FailedChunkDetail:
        """A chunk and its history, also when it was redriven or dropped meanwhile."""
        return await self._ask(calls.failed_chunk(chunk_id))

    async def redrive(self, choice: FailedChoice, *, force: bool = False) -> Decided:
        """Tries failed chunks again. Raises ConflictError when the one chunk that was named cannot be."""
        return await self._ask(calls.redrive(RedriveRequest(**choice.model_dump(), force=force)))

    async def drop(self, choice: FailedChoice) -> Decided:
        """Accepts the loss of failed chunks for good. Raises ConflictError as `redrive` does."""
        return await self._ask(calls.drop(choice))

    async def poison_messages(self) -> AsyncIterator[PoisonMessage]:
        """Messages that no worker could read, newest first."""
        cursor = None
        while True:
            page = await self._ask(calls.poison_messages(cursor))
            for each in page.data:
                yield each
            if (cursor := page.next_cursor) is None:
                return

    async def drop_poison(self, poison_id: int) -> PoisonMessage:
        """Throws a message away; what it was."""
        return await self._ask(calls.drop_poison(poison_id))

    async def events(self, job_id: JobId) -> AsyncIterator[Job]:
        """The job whenever it changes, at most twice a second, until it has ended; the last one is final.

        A lost stream is opened again. Numbers never go back within one stream.
        """
        failures = 0
        while failures < RECONNECTS:
            try:
                async for event in self._stream(job_id):
                    failures = 0
                    yield event
                    if event.state.is_final:
                        return
                failures += 1
            except httpx2.TransportError as error:
                failures += 1
                if failures == RECONNECTS:
                    raise failed(self._http.base_url, error) from error
            except UnavailableError:
                failures += 1
                if failures == RECONNECTS:
                    raise
            await self._sleep(RECONNECT_SECONDS)
        raise UnavailableError(503, "unavailable", "the stream of progress ends again and again; try again later")

    async def wait(self, job_id: JobId, *, timeout_seconds: float | None = None) -> Job:
        """The job when it has ended. Raises WaitTimeout; the job goes on then."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not (job := await self.job(job_id)).state.is_final:
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeout(f"the job had not ended after {timeout_seconds:g} s; it goes on")
            await self._sleep(RECONNECT_SECONDS)
        return job

    async def _stream(self, job_id: JobId) -> AsyncIterator[Job]:
        timeout = httpx2.Timeout(SILENCE_SECONDS)
        async with self._http.stream("GET", f"{calls.path_of(job_id)}/events", timeout=timeout) as response:
            if not response.is_success:
                await response.aread()
                raise_for(response)
            async for event in httpx2.EventSource(response):
                if event.event in ("job", "done"):
                    yield Job.model_validate_json(event.data)

    async def ask(self, call: Call[Answer]) -> Answer:
        """Makes one call of `pixcrawler.administration`, which has what operators ask of the system."""
        return await self._ask(call)

    async def _made(self, call: Call[Job]) -> Submission:
        response = await self._send(call)
        return calls.submission(response.status_code, answer_of(call, response))

    async def _ask(self, call: Call[Answer], body: Body | None = None) -> Answer:
        return answer_of(call, await self._send(call, body))

    async def _send(self, call: Call[Answer], body: Body | None = None) -> httpx2.Response:
        attempt, paused = 0, 0.0
        while True:
            attempt += 1
            response, error = await self._try(call, body)
            if response is not None and response.status_code not in PASSING:
                return response
            pause = self._retries.pause_seconds(attempt, paused, response.headers if response is not None else None)
            if pause is None and response is not None:
                return response
            if pause is None:
                assert error is not None, "there is an answer or an error"
                raise failed(self._http.base_url, error) from error
            await self._sleep(pause)
            paused += pause

    async def _try(
        self, call: Call[Answer], body: Body | None
    ) -> tuple[httpx2.Response | None, httpx2.TransportError | None]:
        content = body() if body is not None else None
        try:
            sent = await self._http.request(
                call.method,
                call.path,
                params=dict(call.params),
                headers=dict(call.headers),
                json=call.json,
                content=content,
            )
            return sent, None
        except httpx2.TransportError as error:
            return None, error


async def _blocks(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while block := await asyncio.to_thread(file.read, BLOCK_BYTES):
            yield block


async def _only(part: bytes) -> AsyncIterator[bytes]:
    yield part
