"""The administrator's commands about takedowns: make one, show them, lift one."""

import json
import sys
from itertools import islice

from pixcrawler.client import Client
from pixcrawler.models import Takedown
from pixcrawler.words import TakedownKind


def take_down(client: Client, kind: TakedownKind, value: str, note: str, *, purge: bool, is_json: bool) -> None:
    _show(client.take_down(kind, value, note=note, purge=purge), is_json=is_json)


def list_takedowns(client: Client, kind: TakedownKind | None, limit: int | None, *, is_json: bool) -> None:
    for takedown in islice(client.takedowns(kind), limit):
        _show(takedown, is_json=is_json)


def lift(client: Client, takedown_id: int, *, is_json: bool) -> None:
    _show(client.lift_takedown(takedown_id), is_json=is_json)


def _show(takedown: Takedown, *, is_json: bool) -> None:
    """Id, kind, value, note and how far its purge is, parted by tabs; with JSON a line with all that is known."""
    if is_json:
        line = json.dumps(takedown.model_dump(mode="json"))
    else:
        line = "\t".join((str(takedown.id), takedown.kind, takedown.value, takedown.note, *_purge(takedown)))
    sys.stdout.write(f"{line}\n")


def _purge(takedown: Takedown) -> list[str]:
    purge = takedown.purge
    if purge is None:
        return []
    removed = f"{purge.images_removed} removed"
    return [f"purged, {removed}" if purge.finished_at else f"purging, {removed}, {purge.chunks_left} chunks left"]
