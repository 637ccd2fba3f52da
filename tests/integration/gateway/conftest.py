"""A gateway over a real PostgreSQL, spoken to in-process, and tenants with keys."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from gateway.app import create_app
from gateway.credentials import Scope
from gateway.keys import create
from gateway.settings import GatewaySettings
from shared.db.session import open_engine
from shared.pipeline import Tier

MakeKey = Callable[..., Awaitable[str]]


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> GatewaySettings:
    return GatewaySettings.model_validate(
        {
            "database_url": database_url,
            "redis_url": redis_url,
            "spool_url": str(tmp_path / "spool"),
            "work_dir": tmp_path / "work",
            "folder_roots": [tmp_path / "datasets"],
            "s3_endpoints": ["http://store.example:9000"],
            "max_inline_rows": 3,
            "max_job_bytes": 20_000,
            "max_manifest_bytes": 2_000_000,
        }
    )


@pytest.fixture
async def app(settings: GatewaySettings) -> AsyncIterator[FastAPI]:
    made = create_app(settings)
    async with made.router.lifespan_context(made):
        yield made


@pytest.fixture
async def make_key(settings: GatewaySettings) -> AsyncIterator[MakeKey]:
    engine = open_engine(settings.database_url, connections=1)

    async def make(tenant: str = "ours", scopes: tuple[Scope, ...] = (Scope.JOBS_READ, Scope.JOBS_WRITE)) -> str:
        return await create(engine, tenant=tenant, tier=Tier.FREE, name="test", scopes=scopes)

    yield make
    await engine.dispose()


@pytest.fixture
async def api(app: FastAPI, make_key: MakeKey) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with a key."""
    async with client_of(app, await make_key()) as client:
        yield client


@pytest.fixture
async def stranger(app: FastAPI, make_key: MakeKey) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with another tenant's key."""
    async with client_of(app, await make_key("theirs")) as client:
        yield client


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that jobs may store in; it does not exist yet."""
    return tmp_path / "datasets" / "cats"


def client_of(app: FastAPI, key: str | None) -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://gateway", headers=headers)


def request_for(place: Path | str, *urls: str, **more: Any) -> dict[str, Any]:
    """A request for a dataset of these URLs."""
    rows = [{"url": url} for url in urls or ("https://example.com/a.jpg", "https://example.com/b.jpg")]
    return {"source": {"rows": rows}, "destination": {"url": str(place)}, **more}


def put(path: Path, text: str) -> None:
    """A file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@dataclass
class Effects:
    """What requests left behind."""

    database: asyncpg.Connection
    tmp_path: Path

    async def seen(self) -> dict[str, Any]:
        """Rows and files."""
        counts = {
            table: await self.database.fetchval(f"SELECT count(*) FROM {table}")
            for table in ("datasets", "jobs", "uploads", "blocked")
        }
        return {**counts, "files": [str(path) for path in self._below() if path.is_file()]}

    async def folders(self) -> list[str]:
        """Names of folders."""
        return [path.name for path in self._below() if path.is_dir()]

    def _below(self) -> list[Path]:
        return sorted(self.tmp_path.rglob("*"))


@pytest.fixture
def effects(database: asyncpg.Connection, tmp_path: Path) -> Effects:
    return Effects(database, tmp_path)
