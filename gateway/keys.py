"""API keys by command: `python -m gateway.keys create --tenant NAME`, `list`, `rotate ID`, `revoke ID`.

`create` makes the tenant if it is missing. It and `rotate` print the key, once, as the only line on stdout.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from gateway.credentials import Scope, fresh_key
from shared.db import api_keys, tenants
from shared.db.api_keys import Key, NewKey
from shared.db.session import Engine, open_engine, transaction
from shared.errors import PixCrawlerError
from shared.pipeline import Tier
from shared.settings import Settings
from shared.startup import exit_with, wait_for_database

_PLANS = (Tier.ENTERPRISE, Tier.FREE)
_EVERYDAY = (Scope.JOBS_READ, Scope.JOBS_WRITE)
_LONGEST_NAME = 100
#: How long both keys work after a rotation, unless told otherwise.
OVERLAP = timedelta(days=1)


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    try:
        return asyncio.run(_run(Settings.load(), asked))
    except PixCrawlerError as error:
        return exit_with(error)


async def create(
    engine: Engine,
    *,
    tenant: str,
    tier: Tier,
    name: str,
    scopes: Sequence[Scope],
    lifetime: timedelta | None = None,
) -> str:
    """A new key of that tenant, who is made if missing. Nobody can show it again. Without a lifetime it never ends."""
    key, credential = fresh_key()
    async with transaction(engine) as connection:
        tenant_id = await tenants.ensure_tenant(connection, tenant, tier)
        await api_keys.add(
            connection,
            NewKey(
                id=credential.id,
                secret_hash=credential.secret_hash,
                tenant_id=tenant_id,
                name=name,
                scopes=scopes,
                expires_at=None if lifetime is None else datetime.now(UTC) + lifetime,
            ),
        )
    return key


async def rotate(engine: Engine, key_id: str, *, overlap: timedelta) -> str | None:
    """A key that takes the place of a valid one, which ends after the overlap; None when there is no such key."""
    key, credential = fresh_key()
    async with transaction(engine) as connection:
        made = await api_keys.rotate(
            connection, key_id, new_id=credential.id, secret_hash=credential.secret_hash, overlap=overlap
        )
    return None if made is None else key


async def _run(settings: Settings, asked: argparse.Namespace) -> int:
    await wait_for_database(settings)
    engine = open_engine(settings.database_url, connections=1)
    try:
        match asked.command:
            case "create":
                scopes = asked.scopes or _EVERYDAY
                name = asked.name or ""
                lifetime = None if asked.days is None else timedelta(days=asked.days)
                key = await create(
                    engine, tenant=asked.tenant, tier=asked.tier, name=name, scopes=scopes, lifetime=lifetime
                )
                sys.stdout.write(f"{key}\n")
                return 0
            case "rotate":
                return await _rotate(engine, asked.id, timedelta(hours=asked.overlap_hours))
            case "list":
                return await _list(engine)
            case _:
                return await _revoke(engine, asked.id)
    finally:
        await engine.dispose()


async def _list(engine: Engine) -> int:
    async with transaction(engine) as connection:
        found = await api_keys.every(connection)
    for key in found:
        used = key.last_used_at.isoformat(timespec="minutes") if key.last_used_at else "never"
        tenant, scopes = key.tenant, " ".join(sorted(key.scopes))
        shown = [key.id, tenant.name, tenant.plan, key.name or "-", scopes, _standing(key), f"used {used}"]
        sys.stdout.write("\t".join(shown) + "\n")
    return 0


def _standing(key: Key) -> str:
    if not key.is_valid:
        return "revoked or expired"
    return f"valid until {key.expires_at.isoformat(timespec='minutes')}" if key.expires_at else "valid"


async def _rotate(engine: Engine, key_id: str, overlap: timedelta) -> int:
    key = await rotate(engine, key_id, overlap=overlap)
    if key is None:
        sys.stderr.write("there is no valid key of that id that was not replaced before; see the list of keys\n")
        return 1
    sys.stdout.write(f"{key}\n")
    return 0


async def _revoke(engine: Engine, key_id: str) -> int:
    async with transaction(engine) as connection:
        is_known = await api_keys.revoke(connection, key_id)
    if not is_known:
        sys.stderr.write("there is no key of that id; see python -m gateway.keys list\n")
    return 0 if is_known else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gateway.keys", description="Makes, lists, rotates and revokes API keys."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("create", help="make a key, and its tenant if missing; prints the key once")
    make.add_argument("--tenant", required=True, type=_name)
    make.add_argument("--tier", type=Tier, choices=_PLANS, default=Tier.FREE, help="of a new tenant")
    make.add_argument("--name", type=_name, help="what the key is for")
    make.add_argument("--scopes", type=Scope, choices=tuple(Scope), nargs="+", help="default: jobs:read jobs:write")
    make.add_argument("--days", type=_days, help="how long it is to work; default: until it is revoked")
    commands.add_parser("list", help="list all keys, without secrets")
    turn = commands.add_parser("rotate", help="make a key that takes another's place; prints it once")
    turn.add_argument("id", help="eight characters of the one that is to end")
    hours = OVERLAP // timedelta(hours=1)
    turn.add_argument("--overlap-hours", type=_hours, default=hours, help=f"both work for so long; default: {hours}")
    commands.add_parser("revoke", help="make a key useless").add_argument("id", help="its eight characters")
    return parser


def _days(text: str) -> int:
    return _whole(text, 1, 3650)


def _hours(text: str) -> int:
    return _whole(text, 0, 24 * 90)


def _whole(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text[:9]) <= most):
        raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most:,}")
    return int(text)


def _name(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > _LONGEST_NAME:
        raise argparse.ArgumentTypeError(f"must be 1 to {_LONGEST_NAME} printable characters")
    return text


if __name__ == "__main__":
    raise SystemExit(main())
