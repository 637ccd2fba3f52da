"""RabbitMQ as the broker: it may be restarted, silent or full, workers may die, and no row is lost."""

import asyncio
from pathlib import Path

import amqp
import pytest

from shared.broker import broker_answers, build_app, queue_lengths, ring
from shared.pipeline import DOWNLOAD, JobState
from shared.settings import Settings
from tests.brokers.rabbitmq import RabbitMQ
from tests.faults.world import World
from tests.system import until
from tests.tls import make_authority, tls_before

pytestmark = [pytest.mark.brokers, pytest.mark.timeout(400)]

#: Nested so deeply that Python's JSON gives up on it.
_RUBBISH = (b"", b"{", b"[" * 200_000, b"\xff\xfe", b"[[], {}]", b'["a", [], {}]')


async def test_a_worker_killed_over_its_chunk_loses_nothing(ours: World) -> None:
    ours.arm("uploader", "upload.progress:kill:2")
    job = await ours.submit()

    await ours.is_reached("upload.progress")
    ours.mend()

    await ours.has_kept_its_promises(job)


async def test_rabbitmq_restarted_loses_nothing_and_no_worker_ends(ours: World, rabbitmq: RabbitMQ) -> None:
    job = await ours.under_way()

    rabbitmq.kill()
    ours.heal()
    await ours.is_away("broker")
    await asyncio.to_thread(rabbitmq.start)

    await ours.has_kept_its_promises(job)
    assert ours.dead() == []


async def test_rabbitmq_that_stands_still_holds_up_nothing_for_good(ours: World, rabbitmq: RabbitMQ) -> None:
    job = await ours.under_way()

    rabbitmq.pause()
    ours.heal()
    await ours.is_away("broker")
    rabbitmq.resume()

    await ours.has_kept_its_promises(job)
    assert ours.dead() == []


async def test_rabbitmq_without_memory_takes_no_bell_and_loses_none(ours: World, rabbitmq: RabbitMQ) -> None:
    job = await ours.under_way()

    await asyncio.to_thread(rabbitmq.control, "set_vm_memory_high_watermark", "0.000001")
    ours.heal()
    try:
        await ours.has_said("scheduler", "bells_not_rung", limit_seconds=120)
    finally:
        await asyncio.to_thread(rabbitmq.control, "set_vm_memory_high_watermark", "0.6")

    await ours.has_kept_its_promises(job)
    assert ours.dead() == []


async def test_a_worker_holds_no_more_bells_than_it_has_children(ours: World, rabbitmq: RabbitMQ) -> None:
    job = await ours.under_way()

    async def is_held_up() -> bool:
        lengths = await asyncio.to_thread(
            queue_lengths, build_app(Settings.model_validate({"broker_url": rabbitmq.url}))
        )
        return lengths["download"] >= 1 and await asyncio.to_thread(rabbitmq.unacknowledged, DOWNLOAD.queue) == 1

    await until("one bell is at the worker and others wait", is_held_up, limit_seconds=120)
    ours.heal()

    await ours.has_kept_its_promises(job)


async def test_a_worker_whose_queue_was_deleted_subscribes_again(ours: World, rabbitmq: RabbitMQ) -> None:
    with rabbitmq.connected() as connection:
        connection.channel().queue_delete(DOWNLOAD.queue)

    job = await ours.submit()

    await ours.has_kept_its_promises(job)
    assert ours.dead() == []
    assert (await asyncio.to_thread(ours.running["downloader"].get, "/livez"))[0] == 200


async def test_rubbish_in_a_queue_harms_no_worker(ours: World, rabbitmq: RabbitMQ) -> None:
    headers = {"task": DOWNLOAD.task, "id": "1", "lang": "py"}
    with rabbitmq.connected() as connection:
        channel = connection.channel()
        for body in _RUBBISH:
            for said in ({}, headers):
                message = amqp.Message(
                    body, content_type="application/json", content_encoding="utf-8", application_headers=said
                )
                channel.basic_publish(message, routing_key=DOWNLOAD.queue)

    job = await ours.submit()

    await ours.has_kept_its_promises(job)
    assert ours.dead() == []


async def test_what_workers_tell_flower_is_heard_over_rabbitmq(ours: World, rabbitmq: RabbitMQ) -> None:
    app = build_app(Settings.model_validate({"broker_url": rabbitmq.url}))
    heard: dict[str, str] = {}

    def hear() -> None:
        def note(event: dict[str, str]) -> None:
            heard[event["type"]] = event["hostname"]
            receiver.should_stop = "task-succeeded" in heard

        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": note})
            receiver.capture(limit=None, timeout=90, wakeup=False)

    async def is_at_work() -> bool:
        return "worker-heartbeat" in heard

    with ours.instead("downloader", {"PIXCRAWLER_TASK_EVENTS": "true"}):
        hearing = asyncio.create_task(asyncio.to_thread(hear))
        await until("the worker is heard", is_at_work)
        job = await ours.submit()
        await hearing
    app.close()
    ours.mend()

    assert heard["task-received"].startswith("downloader-")
    await ours.has_kept_its_promises(job)


async def test_a_bell_is_rung_by_tls_and_only_to_a_server_that_is_trusted(
    ours: World, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    authority, stranger = make_authority(tmp_path / "ours"), make_authority(tmp_path / "theirs")
    await ours.board.admit(*await ours.board.chunks_of(await ours.board.job(state=JobState.RUNNING)), cell="elsewhere")
    (bell,) = [bell for bell in await ours.board.take_bells() if bell.cell == "elsewhere"]

    async with tls_before("127.0.0.1", rabbitmq.port, authority) as port:
        for trusted, is_ours in ((authority, True), (stranger, False)):
            url = f"amqps://guest:guest@localhost:{port}//?ssl_ca_certs={trusted.certificate}"
            app = build_app(Settings.model_validate({"broker_url": url}))
            assert await asyncio.to_thread(broker_answers, app) is is_ours
            if is_ours:
                await asyncio.to_thread(ring, app, bell)
            app.close()
