"""Amazon S3 and stores that speak like it, through boto3 in threads.

Creations carry `If-None-Match: *`, for a large object with the request that completes its parts. Bodies are
signed with their sha256, which every such store checks; newer checksum trailers are left off, because many
stores refuse them. A body travels as bytes of at most 16 MiB a request, so a repeated request can rewind.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ResponseStreamingError,
)

from shared.errors import PixCrawlerError, StoreRefused, StoreUnavailable
from shared.settings import StorageSettings
from shared.storage.base import StoredObject
from shared.storage.destination import Destination
from shared.storage.keys import checked
from shared.storage.parts import SINGLE_BYTES, Body, Part, read_part, read_whole, send_parts, size_of
from shared.storage.threads import THREADS, Threads
from shared.storage.unreached import why

#: The first request and two more; the caller's own attempts come on top.
_ATTEMPTS = 3
_CONNECT_TIMEOUT_SECONDS = 10.0
#: Two creations of one key at the same time: one is told to come again, and then learns that it exists.
_CONFLICT_PAUSES_SECONDS = (0.05, 0.2, 0.8)

_EXISTS = frozenset({"PreconditionFailed", "412"})
_CONFLICT = frozenset({"ConditionalRequestConflict", "OperationAborted"})
_MISSING = frozenset({"NoSuchKey", "404"})
_PAST_THE_END = frozenset({"InvalidRange", "416"})
_WRONG_REGION = frozenset({"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"})
_MAY_PASS = _CONFLICT | {
    *("RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "InternalError"),
    *("ServiceUnavailable", "BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody", "NoSuchUpload"),
}
_UNREACHED = (HTTPClientError, ConnectionError, IncompleteReadError, ResponseStreamingError)
_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)


class S3Store:
    """Objects below a prefix of a bucket. `list` gives no `sha256`; `stat` does."""

    def __init__(self, client: Any, destination: Destination) -> None:
        self._client = client
        self._destination = destination
        self._bucket = destination.container
        self._threads = Threads("s3-store")

    @classmethod
    async def open(cls, destination: Destination, settings: StorageSettings) -> "S3Store":
        """The store of a bucket. Nothing is asked of the bucket yet."""
        return cls(await asyncio.to_thread(_client, destination, settings), destination)

    async def create(self, key: str, body: Body, *, content_type: str, sha256: str) -> bool:
        described = self._described(key, content_type, sha256)
        if size_of(body) > SINGLE_BYTES:
            return await self._create_in_parts(key, body, described)
        return await self._threads.run(self._create, body, described)

    async def replace(self, key: str, body: bytes, *, content_type: str, sha256: str) -> None:
        described = self._described(key, content_type, sha256)
        await self._threads.run(self._call, self._client.put_object, Body=bytes(body), **described)

    async def exchange(self, key: str, body: bytes, *, version: str, content_type: str, sha256: str) -> bool:
        described = self._described(key, content_type, sha256)
        return await self._threads.run(self._exchange, body, version, described)

    async def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        return await self._threads.run(self._get, checked(key), offset, length)

    async def stat(self, key: str) -> StoredObject | None:
        return await self._threads.run(self._stat, checked(key))

    async def list(self, prefix: str) -> AsyncIterator[StoredObject]:
        token: dict[str, str] = {}
        while True:
            page = await self._threads.run(self._page, prefix, token)
            for found in page.get("Contents", ()):
                yield StoredObject(key=self._relative(found["Key"]), size_bytes=found["Size"], sha256=None)
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    async def delete(self, key: str) -> None:
        await self._threads.run(self._call, self._client.delete_object, **self._named(key))

    async def link(self, key: str, *, valid: timedelta) -> str | None:
        return await self._threads.run(self._link, self._named(key), valid)

    async def sweep(self) -> None:
        """Nothing to do: parts of an upload that was cut off are no object; a bucket's lifecycle rule drops them."""

    async def close(self) -> None:
        self._threads.close()
        self._client.close()

    def _link(self, named: dict[str, Any], valid: timedelta) -> str:
        with self._translated():  # nothing is asked of the bucket, but credentials may have to be fetched
            link: str = self._client.generate_presigned_url(
                "get_object", Params=named, ExpiresIn=int(valid.total_seconds())
            )
            return link

    def _described(self, key: str, content_type: str, sha256: str) -> dict[str, Any]:
        return {**self._named(key), "ContentType": content_type, "Metadata": {"sha256": sha256}}

    def _named(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._destination.key(checked(key))}

    def _relative(self, full_key: str) -> str:
        return full_key.removeprefix(self._destination.key(""))

    def _create(self, body: Body, described: dict[str, Any]) -> bool:
        content = read_whole(body)
        for pause_seconds in _CONFLICT_PAUSES_SECONDS:
            with suppress(_Conflict):
                return self._unless_exists(self._client.put_object, Body=content, **described)
            time.sleep(pause_seconds * random.uniform(0.5, 1.5))
        with self._translated():
            return self._unless_exists(self._client.put_object, Body=content, **described)

    def _exchange(self, body: bytes, version: str, described: dict[str, Any]) -> bool:
        with self._translated():
            try:
                self._client.put_object(Body=bytes(body), IfMatch=version, **described)
            except ClientError as error:
                if _code(error) in _EXISTS | _MISSING:
                    return False
                raise
            return True

    async def _create_in_parts(self, key: str, body: Body, described: dict[str, Any]) -> bool:
        if await self.stat(key) is not None:  # asked before gigabytes are sent in vain
            return False
        begun = await self._threads.run(self._call, self._client.create_multipart_upload, **described)
        upload = {**self._named(key), "UploadId": begun["UploadId"]}
        created = False
        try:
            parts = await send_parts(size_of(body), lambda part: self._threads.run(self._send, upload, body, part))
            created = await self._threads.run(self._complete, key, upload, parts)
        finally:
            if not created:
                await self._abort(upload)
        return created

    def _send(self, upload: dict[str, Any], body: Body, part: Part) -> dict[str, Any]:
        number = part.number + 1  # S3 counts from 1
        answer = self._call(self._client.upload_part, PartNumber=number, Body=read_part(body, part), **upload)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _complete(self, key: str, upload: dict[str, Any], parts: Sequence[dict[str, Any]]) -> bool:
        try:
            complete = self._client.complete_multipart_upload
            return self._unless_exists(complete, MultipartUpload={"Parts": list(parts)}, **upload)
        except StoreUnavailable:
            # Another writer was faster, or the answer to our own first request was lost.
            if self._stat(key) is not None:
                return False
            raise

    async def _abort(self, upload: dict[str, Any]) -> None:
        # What cannot be aborted now is left to the bucket's lifecycle rule for unfinished uploads.
        with suppress(PixCrawlerError):
            await self._threads.run(self._call, self._client.abort_multipart_upload, **upload)

    def _unless_exists(self, call: Callable[..., Any], **arguments: Any) -> bool:
        """Whether the call made the object; False when it exists. Raises `_Conflict` when asked to come again."""
        with self._translated():
            try:
                call(IfNoneMatch="*", **arguments)
            except ClientError as error:
                if _code(error) in _EXISTS:
                    return False
                if _code(error) in _CONFLICT:
                    raise _Conflict(f"another writer holds a key in {self._destination}") from error
                raise
            return True

    def _get(self, key: str, offset: int, length: int | None) -> bytes:
        if length == 0:
            return self._empty(key)
        last = "" if length is None else str(offset + length - 1)
        wanted = {"Range": f"bytes={offset}-{last}"} if offset or last else {}
        with self._translated():
            try:
                content: bytes = self._client.get_object(**self._named(key), **wanted)["Body"].read()
                return content
            except ClientError as error:
                if _code(error) in _MISSING:
                    raise KeyError(key) from None
                if _code(error) in _PAST_THE_END:
                    return b""
                raise

    def _empty(self, key: str) -> bytes:
        if self._stat(key) is None:
            raise KeyError(key)
        return b""

    def _stat(self, key: str) -> StoredObject | None:
        with self._translated():
            try:
                head = self._client.head_object(**self._named(key))
            except ClientError as error:
                if _code(error) not in _MISSING:
                    raise
                self._client.head_bucket(Bucket=self._bucket)  # an answer to HEAD does not say which of them is missing
                return None
        return StoredObject(
            key=key,
            size_bytes=head["ContentLength"],
            sha256=head["Metadata"].get("sha256"),
            version=head.get("ETag", ""),
        )

    def _page(self, prefix: str, token: dict[str, str]) -> dict[str, Any]:
        return self._call(
            self._client.list_objects_v2, Bucket=self._bucket, Prefix=self._destination.key(prefix), **token
        )

    def _call(self, call: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
        with self._translated():
            answer: dict[str, Any] = call(**arguments)
            return answer

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise self._explained(error) from error
        except _UNREACHED as error:
            raise StoreUnavailable(f"{self._place()} cannot be reached: {why(error)}") from error
        except _NO_CREDENTIALS as error:
            raise StoreRefused(
                "there are no credentials for s3:// destinations; set PIXCRAWLER_S3_ACCESS_KEY_ID and"
                " PIXCRAWLER_S3_SECRET_ACCESS_KEY, or give the services a role"
            ) from error
        except BotoCoreError as error:
            raise StoreRefused(
                f"{self._place()} cannot be used as configured; check PIXCRAWLER_S3_ENDPOINT, PIXCRAWLER_S3_REGION and"
                " the credentials"
            ) from error

    def _place(self) -> str:
        """Names the server only where the client did; the operator's own is nobody's business."""
        server = self._destination.endpoint
        return f"the store of {self._destination}" + (f" at {server}" if server else "")

    def _explained(self, error: ClientError) -> PixCrawlerError:
        code, status = _code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _MAY_PASS or status >= 500 or status in (408, 429):
            return StoreUnavailable(f"the store of {self._destination} is busy or failing ({code})")
        if code in ("NoSuchBucket", "404"):
            return StoreRefused(f"the bucket {self._bucket} does not exist; make it or correct the destination")
        if code in _WRONG_REGION or status == 301:
            return StoreRefused(f"the bucket {self._bucket} is in another region; set PIXCRAWLER_S3_REGION to it")
        if status in (401, 403):
            return StoreRefused(
                f"the store lets the services not use the bucket {self._bucket} ({code}); check their S3 credentials,"
                " and that they may list, get, put and delete"
            )
        return StoreRefused(f"the store of {self._destination} refuses the request ({code})")


class _Conflict(StoreUnavailable):
    """Two requests for one key met; coming again settles it."""


def _client(destination: Destination, settings: StorageSettings) -> Any:
    endpoint = destination.endpoint or settings.s3_endpoint
    key_id, secret = settings.s3_access_key_id, settings.s3_secret_access_key
    return boto3.session.Session().client(
        "s3",
        region_name=settings.s3_region,
        endpoint_url=endpoint,
        aws_access_key_id=key_id.get_secret_value() if key_id else None,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            connect_timeout=min(_CONNECT_TIMEOUT_SECONDS, settings.store_timeout_seconds),
            read_timeout=settings.store_timeout_seconds,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            max_pool_connections=THREADS,
            # Links would be signed by the old way, which newer regions refuse.
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # Stores elsewhere than AWS seldom have a host name for each bucket.
            s3={"addressing_style": "path" if endpoint else "auto", "payload_signing_enabled": True},
        ),
    )


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
