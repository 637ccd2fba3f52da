"""The operator's commands about tenants and their API keys. A line for each; a new key alone on its line."""

import json
import sys
from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel

from pixcrawler import administration
from pixcrawler.administration import Key, NewKey, Tenant, TenantDetail
from pixcrawler.client import Client
from pixcrawler.commands.exits import Exit, Failure


def list_tenants(client: Client, *, is_json: bool) -> None:
    for tenant in client.ask(administration.tenants()).data:
        _show(tenant, *_words(tenant), is_json=is_json)


def show(client: Client, name: str, *, is_json: bool) -> None:
    _show_detail(client.ask(administration.tenant(_named(client, name).id)), is_json=is_json)


def create(client: Client, name: str, tier: str | None, limits: Sequence[str] | None, *, is_json: bool) -> None:
    call = administration.create_tenant(name, plan=tier or "free", quotas=_quotas(limits))
    _show_detail(client.ask(call), is_json=is_json)


def change(client: Client, name: str, tier: str | None, limits: Sequence[str] | None, *, is_json: bool) -> None:
    if tier is None and not limits:
        raise Failure("give --tier or --limit")
    quotas = _quotas(limits) if limits else None
    call = administration.change_tenant(_named(client, name).id, plan=tier, quotas=quotas)
    _show_detail(client.ask(call), is_json=is_json)


def suspend(client: Client, name: str, *, suspended: bool, is_json: bool) -> None:
    call = administration.change_tenant(_named(client, name).id, suspended=suspended)
    _show_detail(client.ask(call), is_json=is_json)


def list_keys(client: Client, tenant: str | None, *, is_json: bool) -> None:
    for key in client.ask(administration.keys(tenant)).data:
        _show_key(key, is_json=is_json)


def create_key(
    client: Client, tenant: str, name: str, scopes: Sequence[str] | None, days: int | None, *, is_json: bool
) -> None:
    chosen = scopes or ("jobs:read", "jobs:write")
    _show_new(client.ask(administration.create_key(tenant, name=name, scopes=chosen, days=days)), is_json=is_json)


def rotate_key(client: Client, key_id: str, overlap_hours: int, *, is_json: bool) -> None:
    _show_new(client.ask(administration.rotate_key(key_id, overlap_hours=overlap_hours)), is_json=is_json)


def revoke_key(client: Client, key_id: str, *, is_json: bool) -> None:
    _show_key(client.ask(administration.revoke_key(key_id)), is_json=is_json)


def _named(client: Client, name: str) -> Tenant:
    found = next((tenant for tenant in client.ask(administration.tenants()).data if tenant.name == name), None)
    if found is None:
        raise Failure("there is no tenant of that name; see pixcrawler admin tenant list", Exit.NOT_FOUND)
    return found


def _quotas(limits: Sequence[str] | None) -> dict[str, int | None]:
    quotas: dict[str, int | None] = {}
    for limit in limits or ():
        name, _, number = limit.partition("=")
        if number != "none" and not (number.isascii() and number.isdigit()):
            raise Failure("a limit is written as open_jobs=5, or open_jobs=none for no limit")
        quotas[name] = None if number == "none" else int(number[:20])
    return quotas


def _words(tenant: Tenant) -> list[str]:
    limits = " ".join(f"{name}={'none' if limit is None else limit}" for name, limit in tenant.quotas.items())
    standing = f"suspended since {_when(tenant.suspended_at)}" if tenant.suspended_at else "may submit"
    return [tenant.name, f"agreed {tenant.plan}", f"counts as {tenant.tier}", limits or "limits of its tier", standing]


def _show_detail(tenant: TenantDetail, *, is_json: bool) -> None:
    used = tenant.usage
    today = f"{used.open_jobs} open jobs, {used.rows_a_day} rows and {used.bytes_a_day} bytes today"
    _show(tenant, *_words(tenant), today, is_json=is_json)


def _show_key(key: Key, *, is_json: bool) -> None:
    until = f"valid until {_when(key.expires_at)}" if key.expires_at else "valid"
    _show(
        key,
        key.id,
        key.tenant,
        key.name or "-",
        " ".join(key.scopes),
        until if key.is_valid else "revoked or expired",
        f"used {_when(key.last_used_at)}" if key.last_used_at else "never used",
        f"replaced by {key.replaced_by}" if key.replaced_by else "-",
        is_json=is_json,
    )


def _show_new(made: NewKey, *, is_json: bool) -> None:
    _show(made, made.key, is_json=is_json)


def _show(thing: BaseModel, *words: str, is_json: bool) -> None:
    line = json.dumps(thing.model_dump(mode="json")) if is_json else "\t".join(words)
    sys.stdout.write(f"{line}\n")


def _when(moment: datetime) -> str:
    return moment.isoformat(timespec="minutes")
