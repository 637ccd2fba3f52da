"""What a client typed as destination, understood: a folder, `az://container/prefix` or `s3://bucket/prefix`.

Two destinations are equal when they are the same place. Nothing here asks a store or reads the environment;
that the container exists and may be written is `check_writable`'s question. Standard library only.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit


class Scheme(StrEnum):
    """The kinds of destination. The value is what stands before `://`."""

    FOLDER = "file"
    AZURE = "az"
    S3 = "s3"


#: Azure and S3 allow 1,024 characters in a key; ours need fewer than 256 of them.
MAX_PREFIX_BYTES = 512
#: Azure's limit for a path segment, and near the 255 bytes of common file systems.
MAX_SEGMENT_BYTES = 254

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://(.*)", re.DOTALL)
_AZURE_CONTAINER = re.compile(r"[a-z0-9](?:-?[a-z0-9])+")
_S3_BUCKET = re.compile(r"[a-z0-9](?:[.-]?[a-z0-9]|-(?=-))+")
_IP_ADDRESS = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
#: Characters that a provider, a shell or a URL reads as something else than a name.
_UNSAFE = frozenset('\\?#%*:|"<>^`{}[]~')
_KNOWN_SPELLINGS = "a folder (/data/cats), az://container/prefix or s3://bucket/prefix"
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class Destination:
    """One place to store a dataset, in canonical form. Made by `parse`; `str()` gives what `parse` takes.

    `container` is Azure's container or S3's bucket, empty for a folder. `path` is the prefix inside it without
    slashes at its ends ("" for the whole container), or the folder's absolute path.
    """

    scheme: Scheme
    container: str
    path: str
    endpoint: str | None = None  #: base URL of an S3-compatible store; None for AWS or the service's own

    @classmethod
    def parse(cls, text: str, *, endpoint: str | None = None) -> "Destination":
        """The destination a client typed. Raises ValueError with a sentence that says what to write instead."""
        if not text.strip():
            raise ValueError(f"the destination is empty; give {_KNOWN_SPELLINGS}")
        if not text.isprintable() or text != text.strip():
            raise ValueError("the destination holds control characters or blanks at its ends; remove them")
        url = _URL.fullmatch(text)
        parsed = _parse_url(url[1].lower(), url[2]) if url else _parse_folder(text)
        if endpoint is None:
            return parsed
        if parsed.scheme is not Scheme.S3:
            raise ValueError("an endpoint belongs to s3:// destinations only; leave it out")
        return cls(scheme=parsed.scheme, container=parsed.container, path=parsed.path, endpoint=_endpoint(endpoint))

    @property
    def folder(self) -> Path:
        """The folder, for a destination that is one."""
        if self.scheme is not Scheme.FOLDER:
            raise ValueError(f"{self} is not a folder")
        return Path(self.path)

    def key(self, relative: str) -> str:
        """The key inside the container of an object whose key is relative to this destination."""
        return f"{self.path}/{relative}" if self.path else relative

    def __str__(self) -> str:
        if self.scheme is Scheme.FOLDER:
            return self.path
        return f"{self.scheme}://{self.key_prefix}"

    @property
    def key_prefix(self) -> str:
        """Container and path, as one path."""
        return f"{self.container}/{self.path}" if self.path else self.container


def _parse_folder(text: str) -> Destination:
    if not text.startswith("/"):
        raise ValueError("a folder must be given by its whole path, as in /data/cats; ~ and relative ones are not")
    segments = [segment for segment in text.split("/") if segment]
    if not segments:
        raise ValueError("the destination is the root folder; name a folder of its own, as in /data/cats")
    if any(segment in (".", "..") for segment in segments):
        raise ValueError("the folder's path holds . or ..; write it out")
    if any(len(segment.encode()) > MAX_SEGMENT_BYTES for segment in segments):
        raise ValueError(f"a part of the folder's path is longer than {MAX_SEGMENT_BYTES} bytes; choose a shorter name")
    return Destination(scheme=Scheme.FOLDER, container="", path=str(PurePosixPath("/", *segments)))


def _parse_url(scheme: str, rest: str) -> Destination:
    if scheme == "file":
        raise ValueError("write the folder's path without file://")
    if scheme in ("http", "https"):
        raise ValueError(f"a web address is not a destination; give {_KNOWN_SPELLINGS}")
    if scheme not in (Scheme.AZURE, Scheme.S3):
        raise ValueError(f"{scheme}:// is not supported; give {_KNOWN_SPELLINGS}")
    if "@" in rest or "?" in rest:
        raise ValueError("credentials and options do not belong in a destination; the services have their own")
    container, _, prefix = rest.partition("/")
    if scheme == Scheme.AZURE:
        _check_azure_container(container)
    else:
        _check_s3_bucket(container)
    return Destination(scheme=Scheme(scheme), container=container, path=_prefix(prefix))


def _check_azure_container(name: str) -> None:
    if not name:
        raise ValueError("az:// needs a container, as in az://datasets/cats")
    if not 3 <= len(name) <= 63 or not _AZURE_CONTAINER.fullmatch(name):
        raise ValueError(
            "this is no name of an Azure container: 3 to 63 lower case letters, digits and single hyphens,"
            " with a letter or digit at both ends"
        )


def _check_s3_bucket(name: str) -> None:
    if not name:
        raise ValueError("s3:// needs a bucket, as in s3://datasets/cats")
    if not 3 <= len(name) <= 63 or not _S3_BUCKET.fullmatch(name) or _IP_ADDRESS.fullmatch(name):
        raise ValueError(
            "this is no name of an S3 bucket: 3 to 63 lower case letters, digits, hyphens and single dots,"
            " with a letter or digit at both ends, and not an IP address"
        )


def _prefix(text: str) -> str:
    prefix = text.rstrip("/")
    if not prefix:
        return ""
    if len(prefix.encode()) > MAX_PREFIX_BYTES:
        raise ValueError(f"the prefix is longer than {MAX_PREFIX_BYTES} bytes; choose a shorter one")
    if unsafe := sorted(_UNSAFE.intersection(prefix)):
        raise ValueError(f"the prefix holds {' '.join(unsafe)}; use letters, digits, - _ . = and /")
    for segment in prefix.split("/"):
        _check_segment(segment)
    return prefix


def _check_segment(segment: str) -> None:
    if not segment:
        raise ValueError("the prefix holds two slashes in a row; write one")
    if segment in (".", ".."):
        raise ValueError("the prefix holds . or ..; write it out")
    if segment.endswith("."):
        raise ValueError("a part of the prefix ends with a dot, which Azure refuses; drop the dot")
    if len(segment.encode()) > MAX_SEGMENT_BYTES:
        raise ValueError(f"a part of the prefix is longer than {MAX_SEGMENT_BYTES} bytes; choose a shorter one")


def _endpoint(text: str) -> str:
    """The base URL, host in lower case, without the port its scheme implies."""
    advice = "give the endpoint as https://host or https://host:port"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"the endpoint is not a URL; {advice}") from None
    if not text.isprintable() or " " in text or parts.scheme not in _DEFAULT_PORTS or not host:
        raise ValueError(f"the endpoint is not an http or https URL; {advice}")
    if "@" in parts.netloc or parts.query or parts.fragment or parts.path.strip("/"):
        raise ValueError(f"the endpoint holds more than a host and a port; {advice}")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + (f":{port}" if port and port != _DEFAULT_PORTS[parts.scheme] else "")
