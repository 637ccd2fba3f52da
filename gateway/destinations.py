"""Which destinations a job may name here, and what stands in one already."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gateway.problems import ApiError, Code
from gateway.settings import EVERYWHERE, GatewaySettings
from shared.db import tenants
from shared.db.session import transaction
from shared.index import THUMBNAILS_FOLDER
from shared.papers import CARD_KEY, MANIFEST_KEY, STATISTICS_KEY, SUCCESS_KEY
from shared.resources import Resources, own_place
from shared.storage import Destination, ObjectStore, Scheme

_ANY = "*"
#: What a dataset consists of, besides its `dataset.json`.
_OUR_FOLDERS = ("data/", "index/", THUMBNAILS_FOLDER)
_OUR_FILES = (CARD_KEY, STATISTICS_KEY, SUCCESS_KEY)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a destination holds of the names that a dataset needs."""

    has_dataset: bool
    occupied_by: str | None  #: one of the names, where there is no dataset

    @property
    def is_free(self) -> bool:
        return not self.has_dataset and self.occupied_by is None


async def permitted(settings: GatewaySettings, resources: Resources, url: str, endpoint: str | None) -> Destination:
    """The destination, if jobs may store there. Raises ApiError (bad_destination), DatabaseUnavailable."""
    try:
        destination = Destination.parse(url, endpoint=endpoint)
    except ValueError as error:
        raise ApiError(Code.BAD_DESTINATION, str(error)) from None
    if destination.scheme is Scheme.FOLDER:
        _check_folder(destination.folder, settings.folder_roots)
    if wrong := await why_not(settings, resources, destination):
        raise ApiError(Code.BAD_DESTINATION, wrong)
    if destination.endpoint:
        _check_endpoint(destination, settings.s3_endpoints)
    return destination


async def why_not(settings: GatewaySettings, resources: Resources, place: Destination) -> str | None:
    """Why no job may use a place; None when jobs may.

    The services' own credentials open az:// and s3://, whoever asks: it counts what the operator lets all tenants use.
    """
    if await asyncio.to_thread(holds_own_files, settings, place):
        return "PixCrawler keeps files of its own there; choose another place"
    if place.scheme is Scheme.FOLDER:
        return None
    roots = settings.store_roots
    if roots is None:
        async with transaction(resources.engine) as connection:
            is_alone = await tenants.is_alone(connection)
        return None if is_alone else "the operator has not said what of az:// and s3:// tenants may use; ask for it"
    if any(root == EVERYWHERE or _is_inside(place, Destination.parse(root)) for root in roots):
        return None
    allowed = ", ".join(roots)
    return f"it must lie below {allowed}; choose another" if roots else "this gateway stores in folders only"


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


def holds_own_files(settings: GatewaySettings, place: Destination) -> bool:
    """Whether a place lies among the services' own files, or they in it. Links are followed."""
    if place.scheme is Scheme.FOLDER:
        real = place.folder.resolve()
        return any(real.is_relative_to(own) or own.is_relative_to(real) for own in _own_folders(settings))
    # Whatever endpoint is named: a server has many names.
    return any(_is_inside(place, own) or _is_inside(own, place) for own in _own_places(settings))


def _own_folders(settings: GatewaySettings) -> list[Path]:
    known = [settings.work_dir, settings.scratch_dir, *settings.reserved_folders]
    known += [place.folder for place in _own_places(settings) if place.scheme is Scheme.FOLDER]
    return [folder.resolve() for folder in known if folder is not None]


def _own_places(settings: GatewaySettings) -> list[Destination]:
    return [own_place(url) for url in (settings.spool_url, settings.work_url) if url is not None]


def _is_inside(place: Destination, root: Destination) -> bool:
    return (place.scheme, place.container) == (root.scheme, root.container) and (
        PurePosixPath(place.path).is_relative_to(root.path)
    )


def _check_endpoint(destination: Destination, allowed: tuple[str, ...]) -> None:
    spelled = {_ANY} if _ANY in allowed else {_canonical(endpoint) for endpoint in allowed}
    if _ANY not in spelled and destination.endpoint not in spelled:
        raise ApiError(Code.BAD_DESTINATION, "the operator does not allow this endpoint; leave it out or ask for it")


def _canonical(endpoint: str) -> str | None:
    return Destination.parse("s3://any-bucket", endpoint=endpoint).endpoint
