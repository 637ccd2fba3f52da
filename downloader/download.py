"""The downloader's work on a chunk: plan, fetch all, write the table, publish.

source ──▶ one fetch for each different URL, hosts interleaved ──▶ pack + table ──▶ published draft
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from downloader.condition import Condition
from downloader.engine import Engine
from downloader.fetch import Fetched, Fetcher
from downloader.hosts import Hosts
from downloader.leases import Breaker, Limit
from downloader.pack import Pack
from downloader.resolver import Resolver
from downloader.robots import Robots
from downloader.settings import DownloaderSettings
from downloader.trust import certificates
from downloader.web import Web
from shared.blocklist import LiveBlocklist
from shared.chunk import Chunk, StageResult, Verb
from shared.guard import Guard, Refusal, Target
from shared.reasons import Reason
from shared.records import FETCHED, FETCHED_FILE, HELD, PACK, to_stream
from shared.workdir.local import full_disk_is_transient


@asynccontextmanager
async def open_downloader(
    settings: DownloaderSettings, redis: Any, blocked: LiveBlocklist | None = None
) -> AsyncIterator[Verb]:
    """The verb, with everything it keeps between chunks. `redis` as `shared.cache` opens it; stays the caller's.

    `blocked` is what was taken down; None, for tests: nothing.
    """
    blocked = blocked or LiveBlocklist()
    async with AsyncExitStack() as stack:
        guard = Guard(settings.policy(), is_taken_down=blocked.holds_target)
        engine = await stack.enter_async_context(
            Engine(slots=settings.transfers_per_child, agent=settings.agent, ca_file=certificates(settings.ca_file))
        )
        resolver = Resolver(guard, timeout_seconds=settings.dns_timeout_seconds, threads=settings.dns_threads)
        stack.push_async_callback(resolver.close)
        hosts = await stack.enter_async_context(_open_hosts(settings, guard, redis))
        web = Web(
            engine=engine,
            resolver=resolver,
            guard=guard,
            hosts=hosts,
            transfers=settings.transfers_per_child,
            connect_timeout_seconds=settings.connect_timeout_seconds,
            stall_seconds=settings.stall_seconds,
        )
        robots = Robots(redis, web, hosts)
        stack.push_async_callback(robots.close)
        downloader = Downloader(
            web=web, robots=robots, hosts=hosts, blocked=blocked, deadline_seconds=settings.chunk_deadline_seconds
        )
        yield downloader.download


def _open_hosts(settings: DownloaderSettings, guard: Guard, redis: Any) -> Hosts:
    default = _limit(settings.host_connections, settings.host_rate)
    allowed = _limit(settings.allowed_host_connections, settings.allowed_host_rate)
    overrides = {name: _limit(*limit) for name, limit in settings.host_overrides.items()}

    def limit_of(host: str) -> Limit:
        labels = host.split(".")
        for start in range(len(labels)):
            if found := overrides.get(".".join(labels[start:])):
                return found
        return allowed if guard.is_allowed_host(host) else default

    breaker = Breaker(failures=settings.breaker_failures, seconds=settings.breaker_seconds)
    return Hosts(redis, limit_of=limit_of, default=default, breaker=breaker)


def _limit(connections: int, rate: float) -> Limit:
    return Limit(connections=connections, spacing_seconds=1 / rate if rate else 0.0)


@asynccontextmanager
async def _open_pack(path: Path) -> AsyncIterator[Pack]:
    """A pack that is closed in the end, and removed at once if the chunk does not get through."""
    pack = Pack(path)
    is_whole = False
    try:
        yield pack
        is_whole = True
    finally:
        # An append may be under way in the engine's thread: the loop does not wait for the disk.
        await asyncio.shield(asyncio.to_thread(_end, pack, path, is_whole=is_whole))


def _end(pack: Pack, path: Path, *, is_whole: bool) -> None:
    pack.close()
    if not is_whole:
        path.unlink(missing_ok=True)


class Downloader:
    """Downloads chunks with parts that outlive them."""

    def __init__(
        self, *, web: Web, robots: Robots, hosts: Hosts, blocked: LiveBlocklist, deadline_seconds: float
    ) -> None:
        self._web = web
        self._robots = robots
        self._hosts = hosts
        self._blocked = blocked
        self._deadline_seconds = deadline_seconds

    async def download(self, chunk: Chunk) -> StageResult:
        """The verb. Raises WorkAreaFull, DatabaseUnavailable; a row that cannot be had is data."""
        ends = asyncio.get_running_loop().time() + self._deadline_seconds
        await self._blocked.refresh()
        source = await chunk.source()
        draft = await chunk.draft()
        async with _open_pack(draft.path(PACK)) as pack:
            fetched = await self._fetch_all(chunk, source, pack, ends)
        await self._hosts.release()
        await asyncio.to_thread(_write, draft.path(FETCHED_FILE), _table(source, fetched))
        await draft.publish()
        return _result(fetched, pack.size_bytes)

    async def _fetch_all(self, chunk: Chunk, source: pa.Table, pack: Pack, ends: float) -> list[Fetched]:
        urls: list[str | None] = source.column("url").to_pylist()
        rows = {url: Fetched() for url in urls}
        fetcher = Fetcher(web=self._web, robots=self._robots, recipe=chunk.claim.recipe, pack=pack, ends=ends)
        copies, conditions = Counter(urls), _conditions(source)
        done = passed = 0

        async def fetch(url: str | None) -> None:
            nonlocal done, passed
            await fetcher.fetch(targets[url], rows[url], conditions.get(url))
            done += copies[url]
            passed += copies[url] if rows[url].reason is None else 0
            chunk.report(done=done, passed=passed, size_bytes=pack.size_bytes)

        targets = {url: self._web.guard.check_url(url) for url in rows}
        line = self._interleave(targets)
        tasks = [asyncio.create_task(fetch(url)) for url in line]
        for url in await _run(line, tasks, ends):
            rows[url].reject(Reason.DEADLINE, "chunk")
            done += copies[url]
        chunk.report(done=done, passed=passed, size_bytes=pack.size_bytes)
        return [rows[url] for url in urls]

    def _interleave(self, targets: Mapping[str | None, Target | Refusal]) -> list[str | None]:
        """The same URLs, one of each host in turn; the hosts' limits are asked for on the way."""
        by_host: dict[str, list[str | None]] = {}
        for url, target in targets.items():
            by_host.setdefault(target.host if isinstance(target, Target) else "", []).append(url)
        self._hosts.expect({host: len(rows) for host, rows in by_host.items() if host})
        return list(_in_turn(list(by_host.values())))


def _conditions(source: pa.Table) -> dict[str | None, Condition]:
    """By URL, what is known of the picture that a row holds; nothing of a URL whose rows do not agree."""
    if HELD.name not in source.column_names:
        return {}
    known: dict[str | None, set[Condition]] = {}
    for row in source.select(["url", HELD.name]).to_pylist():
        held = row[HELD.name]
        condition = Condition(held["final_url"], held["etag"], held["last_modified"])
        known.setdefault(row["url"], set()).add(condition)
    return {url: conditions.pop() for url, conditions in known.items() if len(conditions) == 1}


def _in_turn(lines: Sequence[list[str | None]]) -> Iterator[str | None]:
    """The first of each line, then the second of each, and so on."""
    for place in range(max(map(len, lines), default=0)):
        yield from (line[place] for line in lines if place < len(line))


async def _run(urls: Sequence[str | None], tasks: Sequence[asyncio.Task[None]], ends: float) -> list[str | None]:
    """Waits for all until the deadline and returns the URLs that are still open then. Leaves no task behind."""
    try:
        seconds = max(0.0, ends - asyncio.get_running_loop().time())
        finished, _ = (
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION) if tasks else ((), ())
        )
        for task in finished:
            task.result()
        return [url for url, task in zip(urls, tasks, strict=True) if not task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _table(source: pa.Table, fetched: Sequence[Fetched]) -> pa.Table:
    columns: dict[str, Any] = {"row": source.column("row")}
    for name in FETCHED.names[1:]:
        columns[name] = pa.array([getattr(row, name) for row in fetched], FETCHED.field(name).type)
    return pa.table(columns, schema=FETCHED)


def _write(path: Path, table: pa.Table) -> None:
    with full_disk_is_transient():
        path.write_bytes(to_stream(table))


def _result(fetched: Sequence[Fetched], size_bytes: int) -> StageResult:
    rejected = Counter(row.reason.value for row in fetched if row.reason is not None)
    return StageResult(passed=len(fetched) - rejected.total(), rejected=dict(rejected), size_bytes=size_bytes)
