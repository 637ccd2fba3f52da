"""When calls are repeated, and what errors they end with."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from pixcrawler import AsyncClient, Client, errors
from pixcrawler.retry import Retries

JOB = {
    "id": "6d0dd1a5-3d0b-4b2e-9f1c-0d6f3c8f7a11",
    "dataset_id": "8a2c7f0e-54a1-4b7c-9a0e-5b1e2f3d4c5b",
    "revision": 0,
    "kind": "build",
    "name": "cats",
    "state": "running",
    "destination": {"url": "/data/cats", "endpoint": None},
    "recipe": {},
    "created_at": "2026-11-21T12:00:00Z",
    "started_at": None,
    "finished_at": None,
    "rows": 2,
    "planned": True,
    "accepted": 1,
    "rejected": {"http_not_found": 1},
    "stored_bytes": 10,
    "progress": {name: {"done": 2, "total": 2} for name in ("download", "validate", "upload")},
    "images_per_second": None,
    "seconds_left": None,
    "chunks_ahead": None,
    "waiting_for": "",
    "error": None,
    "urls": {},
}
Answers = Iterator[httpx2.Response | Exception]


def problem(status: int, code: str, **headers: str) -> httpx2.Response:
    body = {"code": code, "detail": f"a sentence on {code}", "status": status, "request_id": "r1"}
    return httpx2.Response(status, json=body, headers=headers)


def replaying(answers: Answers) -> Callable[[httpx2.Request], httpx2.Response]:
    def answer(request: httpx2.Request) -> httpx2.Response:
        following = next(answers)
        if isinstance(following, Exception):
            raise following
        return following

    return answer


def client_of(*answers: httpx2.Response | Exception, slept: list[float] | None = None) -> Client:
    transport = httpx2.MockTransport(replaying(iter(answers)))
    sleeps = [] if slept is None else slept
    return Client("http://gateway", "key", transport=transport, sleep=sleeps.append)


@pytest.mark.parametrize(
    ("attempt", "paused", "retry_after", "pause"),
    [
        (1, 0.0, None, 0.25),
        (2, 0.25, None, 0.5),  # doubled
        (1, 0.0, "5", 5.0),  # as long as the gateway asks
        (1, 0.0, "0", 0.25),  # but not at once
        (1, 0.0, "31", None),  # longer than we wait
        (2, 26.0, "5", None),  # together longer than we wait
        (4, 1.0, None, None),  # the last attempt
        (1, 0.0, "Fri, 21 Nov 2026 12:00:00 GMT", 0.25),  # dates are not what our gateway sends
    ],
)
def test_the_pause_before_a_repeat(attempt: int, paused: float, retry_after: str | None, pause: float | None) -> None:
    headers = None if retry_after is None else {"Retry-After": retry_after}

    assert Retries().pause_seconds(attempt, paused, headers) == pause


def test_trouble_that_passes_is_repeated_after_the_asked_time() -> None:
    slept: list[float] = []
    busy = problem(503, "unavailable", **{"Retry-After": "3"})

    with client_of(busy, problem(429, "busy"), httpx2.Response(200, json=JOB), slept=slept) as client:
        job = client.job("j")

    assert job.accepted == 1
    assert slept == [3.0, 0.5]


def test_trouble_that_stays_is_raised_after_the_last_attempt() -> None:
    with (
        client_of(*[problem(503, "store_unavailable")] * 4) as client,
        pytest.raises(errors.UnavailableError) as caught,
    ):
        client.job("j")

    assert caught.value.code == "store_unavailable"


def test_nobody_there_is_an_error_that_names_the_place_and_not_the_key() -> None:
    with (
        client_of(*[httpx2.ConnectError("refused")] * 4) as client,
        pytest.raises(errors.ConnectionFailed, match="http://gateway cannot be reached") as caught,
    ):
        client.job("j")

    assert "key" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "malformed_request", errors.InvalidRequestError),
        (401, "unauthorized", errors.AuthenticationError),
        (403, "forbidden", errors.AuthenticationError),
        (404, "not_found", errors.NotFoundError),
        (409, "destination_taken", errors.ConflictError),
        (413, "body_too_large", errors.InvalidRequestError),
        (422, "bad_source", errors.InvalidRequestError),
        (500, "internal", errors.GatewayError),
    ],
)
def test_each_answer_has_its_error_and_is_not_repeated(status: int, code: str, kind: type[errors.ApiError]) -> None:
    with client_of(problem(status, code)) as client, pytest.raises(kind) as caught:
        client.job("j")

    assert (caught.value.code, caught.value.request_id, caught.value.status) == (code, "r1", status)
    assert str(caught.value) == f"a sentence on {code}"


@pytest.mark.parametrize("answer", [httpx2.Response(200, text="<html>"), httpx2.Response(404, text="<html>")])
def test_an_answer_of_another_server_is_told_apart(answer: httpx2.Response) -> None:
    with client_of(answer) as client, pytest.raises(errors.ApiError, match="is the URL right") as caught:
        client.job("j")

    assert caught.value.code == "unexpected_answer"


def test_what_is_no_url_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(errors.PixCrawlerError, match="not a gateway's URL"):
        Client("gateway:8080")


def test_an_upload_is_sent_whole_again(tmp_path: Path) -> None:
    path = tmp_path / "urls.txt"
    path.write_text("https://example.com/a.jpg\n" * 20_000)
    bodies: list[bytes] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        bodies.append(request.read())
        if len(bodies) == 1:
            return problem(503, "unavailable")
        manifest = {"id": JOB["id"], "filename": "urls.txt", "size_bytes": 1, "sha256": "0"}
        return httpx2.Response(201, json=manifest)

    with Client("http://gateway", transport=httpx2.MockTransport(answer), sleep=lambda seconds: None) as client:
        client.upload(path)

    assert bodies == [path.read_bytes()] * 2


def events(*states: str) -> httpx2.Response:
    names = {"completed": "done", "reconnect": "reconnect"}
    text = "".join(
        f"event: {names.get(state, 'job')}\ndata: {httpx2.Response(200, json=JOB | {'state': state}).text}\n\n"
        if state != "reconnect"
        else "event: reconnect\ndata: {}\nretry: 1000\n\n"
        for state in states
    )
    return httpx2.Response(200, text=": ping\n\n" + text, headers={"content-type": "text/event-stream"})


def test_a_stream_that_ends_early_is_opened_again() -> None:
    slept: list[float] = []
    streams = (
        events("queued", "running", "reconnect"),
        httpx2.ReadError("reset"),
        problem(503, "too_many_streams"),
        events("running", "completed"),
    )

    with client_of(*streams, slept=slept) as client:
        states = [job.state.value for job in client.events("j")]

    assert states == ["queued", "running", "running", "completed"]
    assert slept == [1.0, 1.0, 1.0]


def test_a_stream_that_never_brings_anything_is_given_up() -> None:
    with client_of(*[events()] * 10) as client, pytest.raises(errors.UnavailableError):
        list(client.events("j"))


def test_waiting_has_a_limit() -> None:
    with client_of(httpx2.Response(200, json=JOB)) as client, pytest.raises(errors.WaitTimeout, match="goes on"):
        client.wait("j", timeout_seconds=0)


def test_pages_are_fetched_until_there_is_no_cursor() -> None:
    pages = ({"data": [{"row": 0}], "next_cursor": "c1"}, {"data": [{"row": 1}], "next_cursor": None})

    with client_of(*(httpx2.Response(200, json=page) for page in pages)) as client:
        rows = [image["row"] for image in client.images("j")]

    assert rows == [0, 1]


async def test_the_async_client_repeats_and_streams_alike() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    answers = (problem(503, "unavailable"), httpx2.Response(200, json=JOB), events("running"), events("completed"))
    transport = httpx2.MockTransport(replaying(iter(answers)))
    async with AsyncClient("http://gateway", transport=transport, sleep=sleep) as client:
        job = await client.job("j")
        states = [event.state.value async for event in client.events(job.id)]

    assert states == ["running", "completed"]
    assert slept == [0.25, 1.0]
