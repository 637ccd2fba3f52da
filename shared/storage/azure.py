"""Azure Blob Storage, through Microsoft's asynchronous client.

Creations carry `If-None-Match: *`, for a large blob with the request that commits its blocks. Block names are
random for each upload: the client's own names are positions, and two writers of one key would commit each
other's blocks. Blocks that are never committed vanish by themselves after a week.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.storage.blob import BlobBlock, BlobSasPermissions, ContentSettings, generate_blob_sas
from azure.storage.blob.aio import BlobClient, ContainerClient, LinearRetry

from shared.errors import PixCrawlerError, StoreRefused, StoreUnavailable
from shared.settings import StorageSettings
from shared.storage.base import StoredObject
from shared.storage.destination import Destination
from shared.storage.keys import checked
from shared.storage.parts import SINGLE_BYTES, Body, Part, read_part, read_whole, send_parts, size_of
from shared.storage.unreached import why

#: Requests after the first; the caller's own attempts come on top.
_RETRIES = 2
_CONNECT_TIMEOUT_SECONDS = 10.0

#: What a creation is told when the blob exists; the third to writers who may create but not overwrite.
_EXISTS = frozenset({"BlobAlreadyExists", "ConditionNotMet", "UnauthorizedBlobOverwrite"})
#: What an exchange is told when another version lies there, or none.
_NOT_THAT_VERSION = frozenset({"ConditionNotMet", "BlobNotFound"})
#: Another writer's commit drops all blocks not in it, ours as well.
_BLOCKS_GONE = frozenset({"InvalidBlockList", "InvalidBlobOrBlock"})
_CONTAINER_MISSING = frozenset({"ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled"})
_MAY_PASS = frozenset({"OperationTimedOut", "ServerBusy", "InternalError", "Md5Mismatch"}) | _BLOCKS_GONE


class AzureStore:
    """Blobs below a prefix of a container."""

    def __init__(self, client: ContainerClient, credential: Any, destination: Destination) -> None:
        self._client = client
        self._credential = credential
        self._destination = destination

    @classmethod
    async def open(cls, destination: Destination, settings: StorageSettings) -> "AzureStore":
        """The store of a container. Nothing is asked of the container yet."""
        options: dict[str, Any] = {
            "connection_timeout": min(_CONNECT_TIMEOUT_SECONDS, settings.store_timeout_seconds),
            "read_timeout": settings.store_timeout_seconds,
            "retry_policy": LinearRetry(backoff=1, retry_total=_RETRIES, random_jitter_range=1),
            "max_single_put_size": SINGLE_BYTES,
        }
        if settings.azure_connection_string is not None:
            secret = settings.azure_connection_string.get_secret_value()
            return cls(_client_of_account(secret, destination.container, options), None, destination)
        if settings.azure_account_url is None:
            raise StoreRefused(
                "az:// destinations need PIXCRAWLER_AZURE_CONNECTION_STRING, or PIXCRAWLER_AZURE_ACCOUNT_URL and a"
                " managed identity"
            )
        credential = _identity()
        client = ContainerClient(settings.azure_account_url, destination.container, credential=credential, **options)
        return cls(client, credential, destination)

    async def create(self, key: str, body: Body, *, content_type: str, sha256: str) -> bool:
        described = _described(content_type, sha256)
        with self._translated():
            try:
                await self._put(self._blob(key), body, match_condition=MatchConditions.IfMissing, **described)
            except HttpResponseError as error:
                if _code(error) in _EXISTS:
                    return False
                if _code(error) in _BLOCKS_GONE and await self.stat(key) is not None:
                    return False
                raise
            return True

    async def replace(self, key: str, body: bytes, *, content_type: str, sha256: str) -> None:
        with self._translated():
            await self._put(self._blob(key), body, **_described(content_type, sha256))

    async def exchange(self, key: str, body: bytes, *, version: str, content_type: str, sha256: str) -> bool:
        held = {"etag": version, "match_condition": MatchConditions.IfNotModified}
        with self._translated():
            try:
                await self._put(self._blob(key), body, **held, **_described(content_type, sha256))
            except HttpResponseError as error:
                if _code(error) in _NOT_THAT_VERSION:
                    return False
                raise
            return True

    async def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        if length == 0:
            return await self._empty(key)
        with self._translated():
            try:
                stream = await self._blob(key).download_blob(offset=offset, length=length)
                return await stream.readall()
            except HttpResponseError as error:
                if _code(error) == "BlobNotFound":
                    raise KeyError(key) from None
                if error.status_code == 416:
                    return b""
                raise

    async def stat(self, key: str) -> StoredObject | None:
        with self._translated():
            try:
                found = await self._blob(key).get_blob_properties()
            except HttpResponseError as error:
                if _code(error) == "BlobNotFound":
                    return None
                raise
        return StoredObject(
            key=key, size_bytes=found.size, sha256=found.metadata.get("sha256"), version=str(found.etag or "")
        )

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        start = len(self._destination.key(""))
        with self._translated():
            pages = self._client.list_blobs(name_starts_with=self._destination.key(prefix), include=["metadata"])
            async for found in pages:
                sha256 = (found.metadata or {}).get("sha256")
                yield StoredObject(key=found.name[start:], size_bytes=found.size, sha256=sha256)

    async def delete(self, key: str) -> None:
        with self._translated():
            try:
                await self._blob(key).delete_blob()
            except HttpResponseError as error:
                if _code(error) != "BlobNotFound":
                    raise

    async def link(self, key: str, *, valid: timedelta) -> str | None:
        blob, account_key = self._blob(key), getattr(self._client.credential, "account_key", None)
        if not account_key:  # an identity: what it may sign with is another right, which services need not have
            return None
        signature = generate_blob_sas(
            str(blob.account_name),
            blob.container_name,
            blob.blob_name,
            account_key=account_key,
            permission=BlobSasPermissions(read=True),
            expiry=datetime.now(UTC) + valid,
        )
        return f"{blob.url}?{signature}"

    async def sweep(self) -> None:
        """Nothing to do: blocks that nobody committed are no blob, and Azure drops them after a week."""

    async def close(self) -> None:
        await self._client.close()
        if self._credential is not None:
            await self._credential.close()

    def _blob(self, key: str) -> BlobClient:
        return self._client.get_blob_client(self._destination.key(checked(key)))

    async def _put(self, blob: BlobClient, body: Body, **described: Any) -> None:
        size_bytes = size_of(body)
        if size_bytes > SINGLE_BYTES:
            await self._put_in_blocks(blob, body, size_bytes, **described)
            return
        content = await asyncio.to_thread(read_whole, body)
        # overwrite=True sets no condition of its own; a creation brings one in `described`.
        await blob.upload_blob(content, length=len(content), overwrite=True, **described)

    async def _put_in_blocks(self, blob: BlobClient, body: Body, size_bytes: int, **described: Any) -> None:
        upload = secrets.token_hex(8)

        async def send(part: Part) -> BlobBlock:
            content = await asyncio.to_thread(read_part, body, part)
            block = f"{upload}-{part.number:06d}"
            await blob.stage_block(block, content, length=part.length)
            return BlobBlock(block_id=block)

        await blob.commit_block_list(await send_parts(size_bytes, send), **described)

    async def _empty(self, key: str) -> bytes:
        if await self.stat(key) is None:
            raise KeyError(key)
        return b""

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ClientAuthenticationError as error:
            raise self._denied(_code(error)) from error
        except HttpResponseError as error:
            raise self._explained(error) from error
        except (ServiceRequestError, ServiceResponseError, TimeoutError) as error:
            raise StoreUnavailable(f"the store of {self._destination} cannot be reached: {why(error)}") from error
        except AzureError as error:
            raise StoreUnavailable(
                f"the store of {self._destination} cannot be used now; the services try again, and their logs say more"
            ) from error

    def _explained(self, error: HttpResponseError) -> PixCrawlerError:
        code, status = _code(error) or f"HTTP {error.status_code}", error.status_code
        if code in _MAY_PASS or status is None or status >= 500 or status in (408, 429):
            return StoreUnavailable(f"the store of {self._destination} is busy or failing ({code})")
        if code in _CONTAINER_MISSING:
            container = self._destination.container
            return StoreRefused(f"the container {container} does not exist; make it or correct the destination")
        if status in (401, 403):
            return self._denied(code)
        return StoreRefused(f"the store of {self._destination} refuses the request ({code})")

    def _denied(self, code: str) -> StoreRefused:
        return StoreRefused(
            f"the store lets the services not use the container {self._destination.container}"
            f" ({code or 'no identity'}); check their Azure credentials, and that they may list, read, write and delete"
        )


def _described(content_type: str, sha256: str) -> dict[str, Any]:
    return {"content_settings": ContentSettings(content_type=content_type), "metadata": {"sha256": sha256}}


def _client_of_account(connection_string: str, container: str, options: dict[str, Any]) -> ContainerClient:
    try:
        return ContainerClient.from_connection_string(connection_string, container, **options)
    except ValueError:
        # Not the error's own text, which may quote the secret.
        raise StoreRefused("PIXCRAWLER_AZURE_CONNECTION_STRING is not a connection string; copy it again") from None


def _identity() -> Any:
    # Imported only for those who use it: azure-identity costs a third of a second and ten megabytes.
    from azure.identity.aio import DefaultAzureCredential

    return DefaultAzureCredential()


def _code(error: HttpResponseError) -> str:
    """The service's own word for the error; "" when the answer held none."""
    code = getattr(error, "error_code", None) or ""
    return str(getattr(code, "value", code))
