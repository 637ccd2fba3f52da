"""What an API key looks like: `pxc_<8 id>_<43 secret>_<6 check>`.

The prefix and the checksum let secret scanners find leaked keys, and let us refuse a mistyped one without a
look-up. The secret has 256 random bits, so its plain hash is as safe as a slow one, and cheap. Values in, values out.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass
from enum import StrEnum

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY = re.compile(r"(pxc_([0-9A-Za-z]{8})_([0-9A-Za-z]{43}))_([0-9A-Za-z]{6})")


class Scope(StrEnum):
    """What a key may do."""

    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    ADMIN = "admin"


@dataclass(frozen=True, kw_only=True)
class Credential:
    """A key taken apart. The secret never leaves this object in clear."""

    id: str
    secret_hash: bytes

    def matches(self, stored_hash: bytes) -> bool:
        """Whether the stored hash is this secret's; takes the same time either way."""
        return hmac.compare_digest(self.secret_hash, stored_hash)


def new_key() -> str:
    """A fresh key. It is shown once."""
    body = f"pxc_{_random(8)}_{_random(43)}"
    return f"{body}_{_check(body)}"


def parse_key(text: str) -> Credential | None:
    """The parts of a key; None when it is mistyped or no key at all."""
    found = _KEY.fullmatch(text)
    if found is None or not hmac.compare_digest(_check(found[1]), found[4]):
        return None
    return Credential(id=found[2], secret_hash=hashlib.sha256(found[3].encode()).digest())


def fresh_key() -> tuple[str, Credential]:
    """A fresh key, to be shown once, and what is kept of it."""
    key = new_key()
    credential = parse_key(key)
    assert credential is not None, "made a line above"
    return key, credential


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _check(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = _ALPHABET[digit] + digits
    return digits
