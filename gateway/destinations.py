"""Which destinations a job may name here, and what stands in one already."""

from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from gateway.problems import ApiError, Code
from gateway.settings import GatewaySettings
from shared.papers import CARD_KEY, MANIFEST_KEY, SUCCESS_KEY
from shared.storage import Destination, ObjectStore, Scheme

_ANY = "*"
#: What a dataset consists of, besides its `dataset.json`.
_OUR_FOLDERS = ("data/", "index/")
_OUR_FILES = (CARD_KEY, SUCCESS_KEY)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a destination holds of the names that a dataset needs."""

    has_dataset: bool
    occupied_by: str | None  #: one of the names, where there is no dataset

    @property
    def is_free(self) -> bool:
        return not self.has_dataset and self.occupied_by is None


def permitted(settings: GatewaySettings, url: str, endpoint: str | None) -> Destination:
    """The destination, if jobs may store there. Raises ApiError (bad_destination)."""
    try:
        destination = Destination.parse(url, endpoint=endpoint)
    except ValueError as error:
        raise ApiError(Code.BAD_DESTINATION, str(error)) from None
    if destination.scheme is Scheme.FOLDER:
        _check_folder(destination.folder, settings.folder_roots)
    if destination.endpoint:
        _check_endpoint(destination, settings.s3_endpoints)
    return destination


async def standing(store: ObjectStore) -> Standing:
    """Looks into a destination. Raises StoreRefused, StoreUnavailable."""
    if await store.stat(MANIFEST_KEY) is not None:
        return Standing(has_dataset=True, occupied_by=None)
    for key in _OUR_FILES:
        if await store.stat(key) is not None:
            return Standing(has_dataset=False, occupied_by=key)
    for folder in _OUR_FOLDERS:
        async with aclosing(store.list(folder)) as objects:  # type: ignore[type-var]
            async for _ in objects:
                return Standing(has_dataset=False, occupied_by=folder)
    return Standing(has_dataset=False, occupied_by=None)


def _check_folder(folder: Path, roots: tuple[Path, ...]) -> None:
    """Symbolic links are followed first: it counts where the folder really lies."""
    if not roots:
        raise ApiError(Code.BAD_DESTINATION, "this gateway stores in az:// and s3:// only, not in folders")
    real = folder.resolve()
    if not any(real.is_relative_to(root.resolve()) for root in roots):
        allowed = ", ".join(str(root) for root in roots)
        raise ApiError(Code.BAD_DESTINATION, f"the folder must lie below {allowed}; choose another")


def _check_endpoint(destination: Destination, allowed: tuple[str, ...]) -> None:
    spelled = {_ANY} if _ANY in allowed else {_canonical(endpoint) for endpoint in allowed}
    if _ANY not in spelled and destination.endpoint not in spelled:
        raise ApiError(Code.BAD_DESTINATION, "the operator does not allow this endpoint; leave it out or ask for it")


def _canonical(endpoint: str) -> str | None:
    return Destination.parse("s3://any-bucket", endpoint=endpoint).endpoint
