"""Every kind of object store, opened at a place of the test's own."""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from azure.storage.blob import BlobServiceClient
from pydantic import SecretStr

from shared.settings import StorageSettings
from shared.storage import Destination, ObjectStore, open_store
from shared.storage.memory import MemoryStore
from tests.contract.stores import S3_KEY_ID, S3_SECRET, s3_client

ALL = ("memory", "folder", "azure", "s3")
REMOTE = ("azure", "s3")
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Place:
    """A destination with the settings that reach it, and a way to look behind the store's back."""

    destination: Destination
    settings: StorageSettings
    content_type_of: Callable[[str], str | None]


def settings(**values: object) -> StorageSettings:
    return StorageSettings.model_validate({"store_timeout_seconds": 20.0, **values})


@pytest.fixture
def folder_place(tmp_path: Path) -> Place:
    return Place(Destination.parse(f"{tmp_path}/lake/cats"), settings(), lambda key: None)


@pytest.fixture
def azure_place(azurite: str, azure_container: str) -> Place:
    def content_type_of(key: str) -> str | None:
        with BlobServiceClient.from_connection_string(azurite) as client:
            blob = client.get_blob_client(azure_container, f"lake/cats/{key}")
            found: str | None = blob.get_blob_properties().content_settings.content_type
            return found

    destination = Destination.parse(f"az://{azure_container}/lake/cats")
    return Place(destination, settings(azure_connection_string=SecretStr(azurite)), content_type_of)


@pytest.fixture
def s3_place(s3_server: str, s3_bucket: str) -> Place:
    def content_type_of(key: str) -> str | None:
        with contextlib.closing(s3_client(s3_server)) as client:
            found: str | None = client.head_object(Bucket=s3_bucket, Key=f"lake/cats/{key}")["ContentType"]
            return found

    destination = Destination.parse(f"s3://{s3_bucket}/lake/cats", endpoint=s3_server)
    return Place(destination, s3_settings(), content_type_of)


def s3_settings(**values: object) -> StorageSettings:
    return settings(s3_access_key_id=SecretStr(S3_KEY_ID), s3_secret_access_key=SecretStr(S3_SECRET), **values)


@contextlib.asynccontextmanager
async def opened(destination: Destination, settings: StorageSettings) -> AsyncIterator[ObjectStore]:
    store = await open_store(destination, settings)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def place(kind: str, request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(f"{kind}_place")
    return found


@pytest.fixture(params=ALL)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def store(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
    """An empty store of each kind, below a prefix."""
    if kind == "memory":
        yield MemoryStore()
        return
    place: Place = request.getfixturevalue(f"{kind}_place")
    async with opened(place.destination, place.settings) as store:
        yield store


async def put(store: ObjectStore, key: str, body: bytes | memoryview | Path = b"body") -> bool:
    return await store.create(key, body, content_type="image/jpeg", sha256=sha256_of(body))


def sha256_of(body: bytes | memoryview | Path) -> str:
    return hashlib.sha256(body.read_bytes() if isinstance(body, Path) else body).hexdigest()


async def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [found.key async for found in store.list(prefix)]
