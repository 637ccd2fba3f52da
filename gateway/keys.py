"""API keys by command: `python -m gateway.keys create --tenant NAME`, `list`, `revoke ID`.

`create` makes the tenant if it is missing and prints the key, once, as the only line on stdout.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from gateway.credentials import Scope, new_key, parse_key
from shared.db import tenants
from shared.db.session import Engine, open_engine, transaction
from shared.errors import PixCrawlerError
from shared.pipeline import Tier
from shared.settings import Settings
from shared.startup import exit_with, wait_for_database

_PLANS = (Tier.ENTERPRISE, Tier.FREE)
_EVERYDAY = (Scope.JOBS_READ, Scope.JOBS_WRITE)
_LONGEST_NAME = 100


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    try:
        return asyncio.run(_run(Settings.load(), asked))
    except PixCrawlerError as error:
        return exit_with(error)


async def create(engine: Engine, *, tenant: str, tier: Tier, name: str, scopes: Sequence[Scope]) -> str:
    """A new key of that tenant, who is made if missing. Nobody can show it again."""
    key = new_key()
    credential = parse_key(key)
    assert credential is not None, "made a line above"
    async with transaction(engine) as connection:
        tenant_id = await tenants.ensure_tenant(connection, tenant, tier)
        await tenants.add_key(
            connection,
            tenant_id=tenant_id,
            key_id=credential.id,
            secret_hash=credential.secret_hash,
            name=name,
            scopes=scopes,
        )
    return key


async def _run(settings: Settings, asked: argparse.Namespace) -> int:
    await wait_for_database(settings)
    engine = open_engine(settings.database_url, connections=1)
    try:
        match asked.command:
            case "create":
                scopes = asked.scopes or _EVERYDAY
                name = asked.name or ""
                key = await create(engine, tenant=asked.tenant, tier=asked.tier, name=name, scopes=scopes)
                sys.stdout.write(f"{key}\n")
                return 0
            case "list":
                return await _list(engine)
            case _:
                return await _revoke(engine, asked.id)
    finally:
        await engine.dispose()


async def _list(engine: Engine) -> int:
    async with transaction(engine) as connection:
        found = await tenants.keys(connection)
    for key in found:
        used = key.last_used_at.isoformat(timespec="minutes") if key.last_used_at else "never"
        standing = "valid" if key.is_valid else "revoked or expired"
        shown = [key.id, key.tenant, key.tier, key.name or "-", " ".join(sorted(key.scopes)), standing, f"used {used}"]
        sys.stdout.write("\t".join(shown) + "\n")
    return 0


async def _revoke(engine: Engine, key_id: str) -> int:
    async with transaction(engine) as connection:
        is_known = await tenants.revoke_key(connection, key_id)
    if not is_known:
        sys.stderr.write("there is no key of that id; see python -m gateway.keys list\n")
    return 0 if is_known else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gateway.keys", description="Makes, lists and revokes API keys.")
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("create", help="make a key, and its tenant if missing; prints the key once")
    make.add_argument("--tenant", required=True, type=_name)
    make.add_argument("--tier", type=Tier, choices=_PLANS, default=Tier.FREE, help="of a new tenant")
    make.add_argument("--name", type=_name, help="what the key is for")
    make.add_argument("--scopes", type=Scope, choices=tuple(Scope), nargs="+", help="default: jobs:read jobs:write")
    commands.add_parser("list", help="list all keys, without secrets")
    commands.add_parser("revoke", help="make a key useless").add_argument("id", help="its eight characters")
    return parser


def _name(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > _LONGEST_NAME:
        raise argparse.ArgumentTypeError(f"must be 1 to {_LONGEST_NAME} printable characters")
    return text


if __name__ == "__main__":
    raise SystemExit(main())
