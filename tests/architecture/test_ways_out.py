"""Foreign URLs are opened by the downloader's engine and the egress, and by nothing else: both ask the guard first."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.tree import modules

#: Whatever opens URLs or connections to hosts by name. Stores use their own kits, the servers' clients theirs.
_OPENERS = (
    "aiohttp",
    "asyncio.open_connection",
    "curl_cffi",
    "ftplib",
    "http.client",
    "httpx",
    "httpx2",
    "pycurl",
    "requests",
    "socket.create_connection",
    "urllib.request",
    "urllib3",
    "websockets",
)
_LOOKUPS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyname_ex")
#: Who may, and what for.
_PERMITTED = {
    "pycurl": ("downloader/engine.py", "downloader/transfer.py"),  # after the guard
    "httpx2": ("pixcrawler/aio.py", "pixcrawler/client.py", "pixcrawler/connection.py"),  # the client's gateway
    # After the guard; and loopback: is a service of `pixcrawler up` ready, is the service in this container?
    "http.client": ("pixcrawler/local/stack.py", "shared/egress.py", "shared/probe.py"),
    "socket.create_connection": ("shared/egress.py",),  # to an address that went through the guard
    "asyncio.open_connection": ("pixcrawler/local/ports.py",),  # loopback, likewise
    "socket.getaddrinfo": ("downloader/resolver.py", "shared/egress.py"),  # what it finds goes through the guard
}


def _names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Everything imported and every dotted name, as if written in full; `from a import b` is `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.lineno, f"{node.value.id}.{node.attr}"


def _ways_out(path: Path, text: str) -> list[str]:
    """What the module opens connections with, though it may not."""
    return [
        f"{path}:{line}: {name}"
        for line, name in _names(ast.parse(text))
        for way in (*_OPENERS, *_LOOKUPS)
        if (name == way or name.startswith(way + ".")) and path.as_posix() not in _PERMITTED.get(way, ())
    ]


def test_only_the_engine_opens_foreign_urls() -> None:
    found = [way for path, text in modules() for way in _ways_out(path, text)]

    assert not found, "not through the guard:\n" + "\n".join(found)


def test_every_permission_is_used() -> None:
    texts = {path.as_posix(): text for path, text in modules()}
    idle = [
        f"{path}: {way}"
        for way, paths in _PERMITTED.items()
        for path in paths
        if not any(name == way or name.startswith(way + ".") for _, name in _names(ast.parse(texts.get(path, ""))))
    ]

    assert not idle, "\n".join(idle)


@pytest.mark.parametrize(
    "text",
    [
        "import requests",
        "import urllib.request as web",
        "from urllib import request",
        "from urllib.request import urlopen",
        "import httpx",
        "from httpx2 import AsyncClient",
        "from aiohttp import ClientSession",
        "def f():\n    import pycurl",
        "import socket\nsocket.create_connection(('example.org', 80))",
        "from asyncio import open_connection",
        "import socket\nsocket.getaddrinfo('example.org', 80)",
    ],
)
def test_no_spelling_of_an_import_escapes(text: str) -> None:
    assert _ways_out(Path("validator/checks.py"), text)
