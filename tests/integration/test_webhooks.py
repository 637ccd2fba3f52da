"""Webhooks from the wish to the receiver: made by the gateway, owed with a job's end, sent by the scheduler."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from pixcrawler.webhooks import verify
from scheduler.leadership import Leadership
from scheduler.notifier import Notifier, Outcome
from shared.db import deliveries, figures, lifecycle, webhooks
from shared.db.figures import Owed
from shared.db.leader import Term
from shared.db.session import transaction
from shared.egress import Egress
from shared.guard import ANY_PORT, Guard, Policy, networks
from shared.notices import PAUSES, DeliveryState, Notice, new_secret
from shared.pipeline import JobState
from shared.resources import Resources, open_resources
from tests.core import Board, board_at, scheduler_settings
from tests.origin import Origin, Request, Wire
from tests.system import until

ALLOWED = Policy(allow_cidrs=networks(["127.0.0.1/32"]), allow_ports=frozenset({ANY_PORT}))
ALLOWED_EGRESS = Egress(Guard(ALLOWED), agent="test/1")


@dataclass
class Receiver:
    """Answers notices with the statuses it was given, the last one again and again, and keeps their headers."""

    origin: Origin
    statuses: list[int] = field(default_factory=lambda: [204])
    seen: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.origin.handlers["/hook"] = self._receive

    @property
    def url(self) -> str:
        return self.origin.url("/hook")

    async def _receive(self, request: Request, wire: Wire) -> None:
        self.seen.append(request)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        await wire.reply(b"", status=status)
        await wire.close()  # the body is not read


@dataclass
class Office:
    """A tenant with a job and a webhook, and a notifier that leads."""

    board: Board
    resources: Resources
    receiver: Receiver
    job: UUID
    tenant: UUID
    webhook: UUID
    secret: str

    async def end_job(self, state: JobState) -> None:
        await self.board.set_job(self.job, JobState.FINISHING)
        async with transaction(self.board.engine) as connection:
            await lifecycle.finish(connection, self.job, start=JobState.FINISHING, to=state)

    async def send(self, *, noted_by: Term | None = None, policy: Policy = ALLOWED) -> int:
        """All that is due now; how many notices were begun. What a former leader sends, it cannot note."""
        leadership = Leadership(self.resources.engine)
        term = noted_by or await leadership.term()
        assert term
        notifier = Notifier(self.resources, Egress(Guard(policy), agent="test/1"))
        begun = 0
        while await notifier.notify(term):
            begun += 1
            await notifier.settle(seconds=30)
            if noted_by:
                break
        await notifier.close()
        await leadership.resign()
        return begun

    async def owe_test(self, webhook: UUID | None = None) -> bool:
        async with transaction(self.board.engine) as connection:
            return await deliveries.owe_test(connection, webhook or self.webhook) is not None

    async def another(self, url: str, *, tenant: UUID | None = None) -> UUID:
        """Another webhook, with a test notice owed to it."""
        async with transaction(self.board.engine) as connection:
            made = await webhooks.create(
                connection, tenant or self.tenant, url=url, events=[Notice.TEST], secret=new_secret()
            )
        assert made is not None
        assert await self.owe_test(made)
        return made

    async def states(self) -> dict[UUID, str]:
        """Of the newest delivery to each webhook."""
        rows = await self.board.run("SELECT webhook_id, state FROM webhook_deliveries ORDER BY created_at")
        return {row.webhook_id: row.state for row in rows}

    async def let_time_pass(self) -> None:
        await self.board.run("UPDATE webhook_deliveries SET next_attempt_at = now() WHERE state = 'pending'")
        await self.board.run("UPDATE webhooks SET rests_until = NULL")

    async def owed(self) -> Owed:
        async with transaction(self.board.engine) as connection:
            return await figures.owed(connection)

    async def record(self) -> list[deliveries.Delivery]:
        async with transaction(self.board.engine) as connection:
            return await deliveries.newest(connection, self.webhook, state=None, before=None, limit=9)

    async def shown(self) -> webhooks.Webhook:
        async with transaction(self.board.engine) as connection:
            found = await webhooks.get(connection, self.tenant, self.webhook)
        assert found is not None
        return found


@pytest.fixture
async def office(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    settings = scheduler_settings(database_url, redis_url, tmp_path)
    async with (
        board_at(database_url) as board,
        open_resources(settings) as resources,
        Origin() as origin,
    ):
        receiver, secret, job = Receiver(origin), new_secret(), await board.job()
        tenant = await board.one("SELECT tenant_id FROM jobs")
        async with transaction(board.engine) as connection:
            webhook = await webhooks.create(
                connection, tenant, url=receiver.url, events=[Notice.JOB_COMPLETED], secret=secret
            )
        assert webhook is not None
        yield Office(board, resources, receiver, job, tenant, webhook, secret)


def the_body(delivery: deliveries.Delivery) -> bytes:
    return json.dumps(delivery.payload, separators=(",", ":"), ensure_ascii=False).encode()


async def test_the_end_of_a_job_is_told_signed_and_once(office: Office) -> None:
    await office.end_job(JobState.COMPLETED)

    assert await office.send() == 1
    assert await office.send() == 0

    (delivery,), (request,) = await office.record(), office.receiver.seen
    told = verify(request.headers, the_body(delivery), office.secret)
    assert told["type"] == "job.completed"
    assert (told["data"]["job_id"], told["data"]["state"]) == (str(office.job), "completed")
    assert (delivery.state, delivery.attempts, delivery.last_status) == (DeliveryState.DELIVERED, 1, 204)


async def test_only_events_that_were_asked_for_are_told(office: Office) -> None:
    await office.end_job(JobState.CANCELLED)

    assert await office.send() == 0
    assert await office.record() == []


async def test_a_receiver_that_fails_is_tried_again_later_under_the_same_id(office: Office) -> None:
    office.receiver.statuses = [500, 302, 200]  # 302 leads to 127.0.0.1, and nobody follows
    await office.end_job(JobState.COMPLETED)

    for _ in range(3):
        assert await office.send() == 1, "once, then not before its time"
        await office.let_time_pass()

    (delivery,) = await office.record()
    assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 3)
    assert len({request.headers["webhook-id"] for request in office.receiver.seen}) == 1


async def test_a_notice_given_up_disables_its_webhook_until_it_is_enabled_and_redelivered(office: Office) -> None:
    office.receiver.statuses = [500] * (len(PAUSES) + 1) + [200]
    await office.end_job(JobState.COMPLETED)

    for _ in range(len(PAUSES) + 1):
        await office.send()
        await office.let_time_pass()

    (dead,) = await office.record()
    assert (dead.state, dead.last_error) == (DeliveryState.DEAD, "the receiver answers 500")
    assert (await office.shown()).disabled_at is not None
    async with transaction(office.board.engine) as connection:
        await deliveries.deliver_anew(connection, office.webhook, dead.id)
    assert await office.send() == 0, "nothing is sent to it while it is disabled"
    async with transaction(office.board.engine) as connection:
        await webhooks.enable(connection, office.tenant, office.webhook)
    assert await office.send() == 1
    assert [each.state for each in await office.record()] == [DeliveryState.DELIVERED]


async def test_a_receiver_that_is_gone_for_good_is_not_tried_again(office: Office) -> None:
    office.receiver.statuses = [410]
    await office.end_job(JobState.COMPLETED)

    await office.send()

    assert [each.state for each in await office.record()] == [DeliveryState.DEAD]
    assert (await office.shown()).disabled_why == "the receiver answers 410"


async def test_an_operator_sees_what_is_owed_and_how_attempts_end(office: Office) -> None:
    before = {outcome: attempts(outcome) for outcome in Outcome}
    office.receiver.statuses = [500, 200, 410]
    await office.end_job(JobState.COMPLETED)
    await office.board.run("UPDATE webhook_deliveries SET next_attempt_at = now() - interval '1 hour'")
    due = await office.owed()

    await office.send()
    resting = await office.owed()
    await office.let_time_pass()
    await office.send()
    assert await office.owe_test()
    await office.send()

    assert (due.waiting, due.late_seconds, due.disabled) == (1, pytest.approx(3600, abs=60), 0)
    assert (resting.waiting, resting.late_seconds) == (1, 0), "what rests is not late"
    assert await office.owed() == Owed(waiting=0, late_seconds=0, disabled=1)
    assert {outcome: attempts(outcome) - before[outcome] for outcome in Outcome} == dict.fromkeys(Outcome, 1)


def attempts(outcome: Outcome) -> float:
    return REGISTRY.get_sample_value("pixcrawler_notices_total", {"outcome": outcome.value}) or 0.0


async def test_while_a_secret_is_replaced_both_sign(office: Office) -> None:
    newer, newest = new_secret(), new_secret()

    async def rotate(secret: str, overlap: timedelta) -> None:
        async with transaction(office.board.engine) as connection:
            await webhooks.rotate(connection, office.tenant, office.webhook, secret=secret, overlap=overlap)
        assert await office.owe_test()
        await office.send()

    await rotate(newer, timedelta(hours=1))
    await rotate(newest, timedelta(0))

    overlapping, alone = office.receiver.seen
    second, first = await office.record()
    for secret in (office.secret, newer):
        verify(overlapping.headers, the_body(first), secret)
    assert len(alone.headers["webhook-signature"].split()) == 1
    verify(alone.headers, the_body(second), newest)


async def test_a_receiver_that_hangs_keeps_no_other_waiting(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.notifier._SECONDS", 1.0)
    hanging = await office.another(office.receiver.origin.url("/held"))
    for _ in range(5):
        assert await office.owe_test(hanging)
    assert await office.owe_test()

    begun = await asyncio.wait_for(office.send(), 60)

    assert begun == 2, "a webhook rests after an attempt in vain, whatever else waits for it"
    assert await office.states() == {hanging: "pending", office.webhook: "delivered"}


async def test_hanging_receivers_hold_neither_other_tenants_nor_the_schedulers_threads(office: Office) -> None:
    stranger = await office.board.one("INSERT INTO tenants (name) VALUES ('stranger') RETURNING id")
    await office.another(office.receiver.origin.url("/held"), tenant=stranger)
    leadership, notifier = Leadership(office.resources.engine), Notifier(office.resources, ALLOWED_EGRESS)
    term = await leadership.term()
    assert term

    assert await notifier.notify(term)
    await asyncio.wait_for(office.receiver.origin.is_holding.wait(), 30)
    assert await office.owe_test()
    assert await notifier.notify(term), "while the first is under way"
    await until("the other tenant is told", _is_told(office))
    office.receiver.origin.released.set()
    await asyncio.wait_for(notifier.close(), 30)

    assert set((await office.states()).values()) == {"delivered"}


def _is_told(office: Office) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return (await office.states()).get(office.webhook) == "delivered"

    return holds


async def test_what_a_stopped_scheduler_could_not_note_is_sent_again_under_the_same_id(office: Office) -> None:
    await office.end_job(JobState.COMPLETED)

    await office.send(noted_by=Term(holder="a former leader", number=0))
    (unnoted,) = await office.record()
    await office.send()

    assert (unnoted.state, unnoted.attempts) == (DeliveryState.PENDING, 0)
    assert [each.state for each in await office.record()] == [DeliveryState.DELIVERED]
    first, second = office.receiver.seen
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


async def test_a_queue_has_an_end_and_says_so(office: Office) -> None:
    await office.board.run(
        """INSERT INTO webhook_deliveries (webhook_id, event, payload)
           SELECT :id, 'webhook.test', '{}' FROM generate_series(1, :most)""",
        id=office.webhook,
        most=deliveries.MOST_PENDING,
    )

    assert not await office.owe_test()
    await office.end_job(JobState.COMPLETED)

    newest, *_ = await office.record()
    assert (newest.event, newest.state, newest.attempts) == (Notice.JOB_COMPLETED, DeliveryState.DEAD, 0)
    assert newest.last_error == "1000 others waited for this webhook"


async def test_what_ends_while_a_webhook_is_disabled_is_told_when_it_is_enabled(office: Office) -> None:
    office.receiver.statuses = [410, 200]
    assert await office.owe_test()
    await office.send()
    await office.end_job(JobState.COMPLETED)

    assert await office.send() == 0
    async with transaction(office.board.engine) as connection:
        await webhooks.enable(connection, office.tenant, office.webhook)
    assert await office.send() == 1

    assert [each.state for each in await office.record()] == [DeliveryState.DELIVERED, DeliveryState.DEAD]


async def test_a_receiver_inside_is_not_asked_though_its_webhook_was_made(office: Office) -> None:
    await office.end_job(JobState.COMPLETED)

    await office.send(policy=Policy())

    (delivery,) = await office.record()
    assert (delivery.state, delivery.last_status) == (DeliveryState.PENDING, None)
    assert delivery.last_error is not None
    assert "may not be asked" in delivery.last_error
    assert office.receiver.origin.connections == 0


async def test_a_bug_in_one_delivery_is_noted_and_stops_nothing(office: Office) -> None:
    await office.board.run("UPDATE webhooks SET secret = 'whsec_a'")
    assert await office.owe_test()

    assert await office.send() == 1

    (delivery,) = await office.record()
    assert (delivery.state, delivery.attempts) == (DeliveryState.PENDING, 1)
    assert delivery.last_error is not None
    assert "log" in delivery.last_error
