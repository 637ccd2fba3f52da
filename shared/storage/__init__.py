"""Where datasets are stored: one interface (`base.py`), one file for each kind of store.

`open_store` makes the store of a destination. The Azure and S3 libraries are imported when the first such
destination is opened, so that a stack on a folder pays neither their memory nor their start.
"""

import hashlib
import secrets

from shared.errors import StoreRefused
from shared.settings import StorageSettings
from shared.storage.base import ObjectStore, StoredObject
from shared.storage.destination import Destination, Scheme
from shared.storage.timed import TimedStore

__all__ = ["Destination", "ObjectStore", "Scheme", "StoredObject", "check_writable", "open_store"]

#: Begins the key of the object by which `check_writable` tries a store.
PROBE = ".pixcrawler-probe-"


async def open_store(destination: Destination, settings: StorageSettings) -> ObjectStore:
    """The destination's store, timed; whoever opens it closes it. A folder is made if missing, a container is not.

    Raises StoreRefused when the settings hold no usable credentials, or the folder cannot be made.
    """
    return TimedStore(await _open(destination, settings), destination.scheme)


async def _open(destination: Destination, settings: StorageSettings) -> ObjectStore:
    if destination.scheme is Scheme.FOLDER:
        from shared.storage.local import LocalStore

        return await LocalStore.open(destination)
    if destination.scheme is Scheme.AZURE:
        from shared.storage.azure import AzureStore

        return await AzureStore.open(destination, settings)
    from shared.storage.s3 import S3Store

    return await S3Store.open(destination, settings)


async def check_writable(store: ObjectStore) -> None:
    """Tries what a job will need, with an object of our own that is removed again.

    Raises StoreRefused with a sentence for the client when the store may not be used, or ignores create-only
    requests, on which every promise about repeated uploads rests; StoreUnavailable when it does not answer.
    """
    key, body = f"{PROBE}{secrets.token_hex(8)}", b"PixCrawler may write here.\n"
    sha256 = hashlib.sha256(body).hexdigest()
    await store.create(key, body, content_type="text/plain", sha256=sha256)
    try:
        if await store.create(key, body, content_type="text/plain", sha256=sha256):
            raise StoreRefused("the store overwrites objects although told not to (If-None-Match); use another store")
    finally:
        await store.delete(key)
