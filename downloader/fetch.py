"""One URL becomes one row of `records.FETCHED`: its body in the pack, or the reason why not."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from downloader.condition import Condition
from downloader.opt_out import refusal_of
from downloader.pack import Pack
from downloader.retry import least_pause, may_pass, pause
from downloader.robots import Robots
from downloader.transfer import WANTED, Answer, Head
from downloader.web import Outcome, Web, Wish
from shared.guard import Refusal, Target
from shared.reasons import Reason
from shared.recipe import Recipe

#: Longest header text kept in a record.
_MAX_TEXT = 512


@dataclass(slots=True)
class Fetched:
    """A row of `records.FETCHED` in the making; the names are the columns'."""

    reason: Reason | None = None
    detail: str | None = None
    offset: int | None = None
    length: int | None = None
    http_status: int | None = None
    final_url: str | None = None
    content_type: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    opt_out: str | None = None
    attempts: int = 0
    fetch_ms: int | None = None
    fetched_at: datetime | None = None

    def reject(self, reason: Reason, detail: str | None = None) -> None:
        """Takes back whatever was accepted."""
        self.reason, self.detail = reason, detail
        self.offset = self.length = None


class Fetcher:
    """Fetches one chunk's URLs into its pack."""

    def __init__(
        self,
        *,
        web: Web,
        robots: Robots,
        recipe: Recipe,
        pack: Pack,
        ends: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`ends`: the loop's time at which the chunk's deadline passes."""
        self._web = web
        self._pack = pack
        self._attempts = recipe.attempts
        self._ends = ends
        self._chance = chance
        self._wish = Wish(
            judge=_judge_opt_out if recipe.opt_out else _judge_status,
            make_body=lambda: pack.body(recipe.max_bytes),
            deadline_seconds=recipe.url_deadline_seconds,
            admit=robots.admit if recipe.robots else None,
        )

    async def fetch(self, target: Target | Refusal, row: Fetched, condition: Condition | None = None) -> None:
        """Fills the row in; what is known when the call is cancelled stays in it. Raises WorkAreaFull.

        A row whose condition is met is rejected as unchanged.
        """
        if isinstance(target, Refusal):
            row.reject(target.reason, target.detail)
            return
        while True:
            row.attempts += 1
            row.fetched_at = datetime.now(UTC)
            outcome = await self._web.get(target, replace(self._wish, attempt=row.attempts - 1, condition=condition))
            _fill(row, outcome)
            if condition is not None and condition.is_met(outcome.target, outcome.answer):
                row.reject(Reason.UNCHANGED, "not_modified")
                return
            if row.reason is None or not may_pass(row.reason, row.http_status or 0):
                return
            if row.attempts >= self._attempts or not await self._rest(
                row.attempts, least_pause(row.reason, outcome.answer.head)
            ):
                return

    async def _rest(self, attempt: int, least_seconds: float | None) -> bool:
        """Waits before the next attempt; False when the chunk would be over by then."""
        seconds = pause(attempt, least_seconds, self._chance())
        if asyncio.get_running_loop().time() + seconds >= self._ends:
            return False
        await asyncio.sleep(seconds)
        return True


def reason_of_status(status: int) -> Reason | None:
    """What a final status means for an image; None when its body is wanted."""
    if status in WANTED:
        return None
    if status in (404, 410):
        return Reason.HTTP_NOT_FOUND
    if status in (401, 403, 451):
        return Reason.HTTP_DENIED
    if status == 429:
        return Reason.HTTP_RATE_LIMITED
    if 400 <= status < 500:
        return Reason.HTTP_CLIENT_ERROR
    if 500 <= status < 600:
        return Reason.HTTP_SERVER_ERROR
    return Reason.HTTP_UNEXPECTED if 200 <= status < 400 else Reason.BAD_RESPONSE


def _judge_status(head: Head) -> Refusal | None:
    if head.status in WANTED and (head.get("content-type") or "").lower().startswith("multipart/"):
        return Refusal(Reason.HTTP_UNEXPECTED, "multipart")
    return None


def _judge_opt_out(head: Head) -> Refusal | None:
    return refusal_of(head) or _judge_status(head)


def _fill(row: Fetched, outcome: Outcome) -> None:
    answer, head = outcome.answer, outcome.answer.head
    row.fetch_ms = round(outcome.seconds * 1000)
    row.final_url = outcome.target.url
    row.http_status = head.status or None
    row.content_type = _text(head.get("content-type"))
    row.etag = _text(head.get("etag"))
    row.last_modified = _text(head.get("last-modified"))
    row.reason, row.detail = _verdict(answer)
    if row.reason is Reason.OPTED_OUT:
        row.opt_out = _text(answer.detail)
    if row.reason is None and answer.body is not None:
        row.offset, row.length = answer.body.offset, answer.body.size_bytes


def _verdict(answer: Answer) -> tuple[Reason | None, str | None]:
    if answer.reason is not None:
        return answer.reason, answer.detail
    reason = reason_of_status(answer.head.status)
    return reason, None if reason is None else f"status_{answer.head.status}"


def _text(value: str | None) -> str | None:
    """Header text fit for a table: printable and short."""
    if value is None:
        return None
    return "".join(character for character in value[:_MAX_TEXT] if character.isprintable())
