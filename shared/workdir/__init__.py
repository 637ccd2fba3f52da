"""The work area: what a chunk's stages hand each other, kept beside the services and always removed."""

from shared.workdir.base import Draft, WorkArea, WorkKey
from shared.workdir.local import LocalWorkArea
from shared.workdir.store import StoreWorkArea

__all__ = ["Draft", "LocalWorkArea", "StoreWorkArea", "WorkArea", "WorkKey"]
