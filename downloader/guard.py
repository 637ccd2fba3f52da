"""Judges URLs as a worker would, without a network: `python -m downloader.guard --rows FILE`.

Each row is a JSON object on a line and brings its own resolver and its own web: what names resolve to, and
what the servers answer. Between the two runs the downloader's own code (guard, resolver, redirects) under
the default policy; only the wire is a script. A verdict a line comes out, in the rows' order:

    {"id": "s-redir", "verdict": "deny", "reason": "private", "connected": ["104.16.132.229"]}

| field of a row | meaning |
| --- | --- |
| `id`, `url` | name of the case; the URL as it stands in a list |
| `dns` | `{name: [address, …]}`; a name that is absent does not exist |
| `dns_seq` | `{name: [first answer, second answer, …]}`, the last one repeats |
| `hops` | the servers' answers in order, `{status, location}`; a good image follows the last one |
| `loop` | the hops repeat for ever |

`connected` lists the addresses dialled, in order. Other fields are left to whoever compares the verdicts.
"""

import argparse
import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import idna
from pydantic import BaseModel, Field, JsonValue, ValidationError

from downloader.fetch import reason_of_status
from downloader.hosts import Hosts
from downloader.leases import Limit
from downloader.pack import Opening
from downloader.resolver import Resolver
from downloader.transfer import WANTED, Answer, Head, Request
from downloader.web import Outcome, Web, Wish
from shared.guard import Guard, Refusal
from shared.reasons import Reason

#: Rows judged at once; each has a resolver of its own.
_AT_ONCE = 16
#: What a scripted server sends as its image.
_IMAGE = b"\x89PNG\r\n\x1a\n"
_LIMIT: Final = Limit(connections=1000, spacing_seconds=0.0)
#: Reasons whose class is not their detail.
_CLASS_OF: Final = {
    Reason.DNS_NOT_FOUND: "dns",
    Reason.DNS_TEMPORARY: "dns",
    Reason.REDIRECT_LIMIT: "redirect_limit",
}


class Hop(BaseModel):
    """What a server answers."""

    status: int = 302
    location: str | None = None


class Row(BaseModel):
    """A case: a URL, and the world it is fetched in."""

    id: JsonValue = None
    #: Whatever stood in the list: what is no text is no URL.
    url: JsonValue = None
    dns: dict[str, list[str]] = Field(default_factory=dict)
    dns_seq: dict[str, list[list[str]]] = Field(default_factory=dict)
    hops: list[Hop] = Field(default_factory=list)
    loop: bool = False


class ScriptedLookup:
    """Answers as a row's name servers would."""

    def __init__(self, row: Row) -> None:
        once = {name: [addresses] for name, addresses in row.dns.items()}
        self._answers = {_ascii(name): answers for name, answers in (once | row.dns_seq).items()}
        self._asked: dict[str, int] = {}

    def __call__(self, host: str) -> tuple[str, ...]:
        answers = self._answers.get(host)
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        asked = self._asked.get(host, 0)
        self._asked[host] = asked + 1
        return tuple(answers[min(asked, len(answers) - 1)])


class ScriptedTransport:
    """Answers as a row's servers would, and remembers whom it dialled. Checks addresses where the engine does."""

    def __init__(self, row: Row) -> None:
        self.connected: list[str] = []
        self._answers = _answers(row)

    async def fetch(self, request: Request) -> Answer:
        refusal = request.check_address(request.target.host, request.address)
        if refusal is not None:
            return Answer(head=Head(), reason=refusal.reason, detail=refusal.detail)
        self.connected.append(request.address)
        head = next(self._answers)
        if head.status not in WANTED:
            return Answer(head=head)
        body = request.make_body()
        body.write(_IMAGE)
        body.finish()
        return Answer(head=head, body=body)


class _NoLimits:
    """Stands for Redis where manners are not the question: every host may be asked at once."""

    def register_script(self, _text: str) -> Any:
        return self._lease

    async def _lease(self, *, keys: Sequence[str], args: Sequence[object]) -> list[int]:
        connections, starts, first_start_in, wait, is_open = _LIMIT.connections, 1_000_000, 0, 0, 0
        return [connections, starts, first_start_in, wait, is_open] * len(keys)


async def judge(row: Row) -> dict[str, JsonValue]:
    """What a worker would make of the row."""
    guard, transport = Guard(), ScriptedTransport(row)
    target = guard.check_url(row.url if isinstance(row.url, str) else None)
    if isinstance(target, Refusal):
        return _verdict(row, target, transport)
    async with _open_web(guard, transport, ScriptedLookup(row)) as web:
        # The stack of limits is not the question; a row that hangs is a defect.
        wish = Wish(judge=lambda _: None, make_body=lambda: Opening(len(_IMAGE) + 1), deadline_seconds=30)
        outcome = await web.get(target, wish)
    return _verdict(row, _refusal_of(outcome), transport)


async def judge_all(rows: Sequence[Row]) -> list[dict[str, JsonValue]]:
    """The verdicts, in the rows' order."""
    free = asyncio.Semaphore(_AT_ONCE)

    async def judge_in_turn(row: Row) -> dict[str, JsonValue]:
        async with free:
            return await judge(row)

    return await asyncio.gather(*map(judge_in_turn, rows))


def read_rows(path: Path) -> list[Row]:
    """The file's rows. Raises ValueError with the line that is none, OSError."""
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if line.strip():
            rows.append(_row(number, line))
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the verdicts; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m downloader.guard", description="Judges URLs without a network.")
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE", help="a JSON object on each line")
    chosen = parser.parse_args(arguments)
    try:
        rows = read_rows(chosen.rows)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{chosen.rows}: {error}\n")
        return 2
    for verdict in asyncio.run(judge_all(rows)):
        print(json.dumps(verdict))
    return 0


@asynccontextmanager
async def _open_web(guard: Guard, transport: ScriptedTransport, lookup: ScriptedLookup) -> AsyncIterator[Web]:
    resolver = Resolver(guard, threads=1, lookup=lookup)
    try:
        async with Hosts(_NoLimits(), limit_of=lambda _: _LIMIT, default=_LIMIT) as hosts:
            yield Web(
                engine=transport,
                resolver=resolver,
                guard=guard,
                hosts=hosts,
                transfers=1,
                connect_timeout_seconds=5,
                stall_seconds=10,
            )
    finally:
        await resolver.close()


def _answers(row: Row) -> Iterator[Head]:
    while True:
        yield from map(_head, row.hops)
        if not (row.loop and row.hops):
            break
    while True:
        yield Head(status=200, fields={"content-type": ["image/png"]})


def _head(hop: Hop) -> Head:
    if hop.location is None:
        return Head(status=hop.status)
    # As it comes off the wire: bytes read as Latin-1, without the white space around them.
    seen = hop.location.encode("utf-8", "surrogatepass").decode("latin-1").strip(" \t")
    return Head(status=hop.status, fields={"location": [seen]})


def _ascii(name: str) -> str:
    try:
        encoded = name if name.isascii() else idna.encode(name, uts46=True, transitional=False).decode()
    except (idna.IDNAError, UnicodeError):
        encoded = name
    return encoded.lower().removesuffix(".")


def _refusal_of(outcome: Outcome) -> Refusal | None:
    answer = outcome.answer
    if answer.reason is not None:
        return Refusal(answer.reason, answer.detail or answer.reason.value)
    reason = reason_of_status(answer.head.status)
    return Refusal(reason, "http_error") if reason else None


def _verdict(row: Row, refusal: Refusal | None, transport: ScriptedTransport) -> dict[str, JsonValue]:
    return {
        "id": row.id,
        "verdict": "deny" if refusal else "allow",
        "reason": _CLASS_OF.get(refusal.reason, refusal.detail) if refusal else None,
        "connected": list(transport.connected),
    }


def _row(number: int, line: bytes) -> Row:
    try:
        return Row.model_validate(json.loads(line))
    except ValidationError as error:
        field = ".".join(str(part) for part in error.errors(include_url=False)[0]["loc"]) or "the row"
        raise ValueError(f"line {number}: {field}: {error.errors(include_url=False)[0]['msg']}") from None
    except (ValueError, RecursionError):
        raise ValueError(f"line {number}: no JSON") from None


if __name__ == "__main__":
    raise SystemExit(main())
