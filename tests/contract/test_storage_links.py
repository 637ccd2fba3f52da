"""Links that read one object without a key, for a while; asked of every store that signs them."""

import asyncio
import urllib.request
from datetime import timedelta
from urllib.error import HTTPError

import pytest

from shared.storage import ObjectStore
from tests.contract.conftest import put

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:moto.*"),
]


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as answer:
        found: bytes = answer.read()
        return found


@pytest.mark.parametrize("kind", ["azure", "s3"])
async def test_a_link_reads_its_object_for_whoever_has_it(store: ObjectStore) -> None:
    await put(store, "data/r000-000001.tar", b"an image")

    link = await store.link("data/r000-000001.tar", valid=timedelta(minutes=5))

    assert link is not None
    assert await asyncio.to_thread(read, link) == b"an image"


@pytest.mark.parametrize("kind", ["azure"])  # the S3 server of the tests checks no signature
async def test_a_link_is_good_for_its_object_and_its_time_only(store: ObjectStore) -> None:
    await put(store, "data/one.tar", b"one")
    await put(store, "data/two.tar", b"two")
    one = await store.link("data/one.tar", valid=timedelta(minutes=5))
    over = await store.link("data/one.tar", valid=timedelta(minutes=-5))
    assert one is not None
    assert over is not None

    for url in (one.replace("one.tar", "two.tar"), over, one.partition("?")[0]):
        with pytest.raises(HTTPError) as refused:
            await asyncio.to_thread(read, url)
        refused.value.close()
        assert refused.value.code in (403, 404)


@pytest.mark.parametrize("kind", ["memory", "folder"])
async def test_a_store_without_addresses_signs_nothing(store: ObjectStore) -> None:
    await put(store, "data/one.tar")

    assert await store.link("data/one.tar", valid=timedelta(minutes=5)) is None
