"""Services under users of their own, made as an operator makes them: in Redis and in PostgreSQL."""

import os
import secrets
import shlex
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
from redis import Redis

from tests.architecture.tree import ROOT, SERVICES

PASSWORDS = {service: f"password of {service} {secrets.token_hex(4)}" for service in (*SERVICES, "admin", "flower")}


def redis_users(*options: str) -> list[list[str]]:
    """The lines of the ACL file, split into words."""
    environment = {f"REDIS_PASSWORD_{name.upper()}": password for name, password in PASSWORDS.items()}
    written = subprocess.run(
        ["sh", ROOT / "infra" / "redis" / "users.sh", *options],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return [shlex.split(line, comments=False) for line in written.stdout.splitlines()]


@contextmanager
def with_redis_users(url: str, *options: str) -> Iterator[str]:
    """The Redis at that address, which has the users for as long."""
    with Redis.from_url(url) as admin:
        made = [words[1:] for words in redis_users(*options) if words[1] != "default"]
        admin.acl_log_reset()
        for name, *rules in made:
            admin.execute_command("ACL", "SETUSER", name, "reset", *rules)
        yield url
        admin.acl_deluser(*(name for name, *_ in made))


def redis_url_for(service: str, url: str) -> str:
    return _with_login(url, service, PASSWORDS[service])


@asynccontextmanager
async def with_database_roles(admin_url: str, database_url: str) -> AsyncIterator[None]:
    """The database, with the services' roles and their rights."""
    owner = await asyncpg.connect(urlunsplit(urlsplit(admin_url)._replace(path=urlsplit(database_url).path)))
    try:
        await owner.execute((ROOT / "infra" / "postgres" / "roles.sql").read_text())
        for service in SERVICES:
            await owner.execute(f"ALTER ROLE pixcrawler_{service} PASSWORD '{PASSWORDS[service]}'")
        yield
    finally:
        await owner.close()


def database_url_for(service: str, url: str) -> str:
    return _with_login(url, f"pixcrawler_{service}", PASSWORDS[service])


def _with_login(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password)}@{parts.hostname}:{parts.port}"))
