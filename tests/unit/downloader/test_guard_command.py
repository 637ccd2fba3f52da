"""`python -m downloader.guard`: hostile lists judged by the downloader's own code, with scripted servers."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from downloader.guard import Row, judge, main

PUBLIC, OTHER = "93.184.215.14", "151.101.1.69"
DNS = {"photos.example.org": [PUBLIC], "other.example.org": [OTHER]}
HOME = "http://photos.example.org/x.png"


def hop(location: str | None, status: int = 302) -> dict[str, Any]:
    return {"status": status, "location": location}


#: url, names beside `DNS`, hops, the expected class, whom the worker may have dialled
CASES: list[tuple[Any, dict[str, list[str]], list[dict[str, Any]], str | None, list[str]]] = [
    # nothing is asked of anybody
    (None, {}, [], "malformed", []),
    (7, {}, [], "malformed", []),
    ("http://photos.example.org/\ud800", {}, [], "malformed", []),
    ("gopher://photos.example.org/", {}, [], "scheme", []),
    ("http://2130706433/", {}, [], "numeric_host", []),
    ("http://[::ffff:127.0.0.1]/", {}, [], "embedded_ipv4", []),
    ("http://photos.example.org:6379/", {}, [], "port", []),
    # the resolver's answer: one bad address refuses the name
    ("http://missing.example.org/", {}, [], "dns", []),
    ("http://in.example.org/", {"in.example.org": ["10.0.0.1"]}, [], "private", []),
    ("http://in.example.org/", {"in.example.org": [PUBLIC, "168.63.129.16"]}, [], "metadata", []),
    ("http://in.example.org/", {"in.example.org": ["fe80::1%eth0"]}, [], "zone_id", []),
    ("http://in.example.org/", {"in.example.org": []}, [], "dns", []),
    # what passes, and in which spellings names are scripted
    (HOME, {}, [], None, [PUBLIC]),
    ("http://[2606:4700:4700::1001]/", {}, [], None, ["2606:4700:4700::1001"]),
    ("http://münchen.de/", {"MÜNCHEN.de.": [OTHER]}, [], None, [OTHER]),
    # redirects, each hop checked like a new URL
    (HOME, {}, [hop("https://other.example.org/y")], None, [PUBLIC, OTHER]),
    (HOME, {}, [hop("http://192.168.1.1/")], "private", [PUBLIC]),
    (HOME, {}, [hop("//localhost/")], "internal_name", [PUBLIC]),
    (HOME, {"in.example.org": ["127.0.0.1"]}, [hop("http://in.example.org/")], "loopback", [PUBLIC]),
    (HOME, {}, [hop("http://other.example.org/"), hop("http://127.0.0.1/")], "loopback", [PUBLIC, OTHER]),
    (HOME, {}, [hop("http://u:p@other.example.org/")], "userinfo", [PUBLIC]),
    (HOME, {}, [hop("http://other.example.org:22/")], "port", [PUBLIC]),
    (HOME, {}, [hop("file:///etc/passwd")], "scheme", [PUBLIC]),
    (HOME, {}, [hop("http://other.example.org/\r\nX: y")], "malformed", [PUBLIC]),
    (HOME, {}, [hop("http://①②⑦.0.0.1/")], "idn", [PUBLIC]),
    (HOME, {"xn--mnchen-3ya.de": [OTHER]}, [hop("http://münchen.de/é.png")], None, [PUBLIC, OTHER]),
    (HOME, {}, [hop("/again")] * 5, None, [PUBLIC] * 6),
    (HOME, {}, [hop("/again")] * 6, "redirect_limit", [PUBLIC] * 6),
    # an answer that is no image
    (HOME, {}, [hop(None, 404)], "http_error", [PUBLIC]),
    (HOME, {}, [hop(None)], "http_error", [PUBLIC]),
    (HOME, {}, [hop("http://127.0.0.1/", 300)], "http_error", [PUBLIC]),
]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever asks the system for a name or an address to dial fails the test."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize(("url", "names", "hops", "expected", "connected"), CASES)
async def test_a_row_gets_the_verdict_of_the_downloaders_own_code(
    url: object, names: dict[str, list[str]], hops: list[dict[str, Any]], expected: str | None, connected: list[str]
) -> None:
    row = Row.model_validate({"id": "a", "url": url, "dns": DNS | names, "hops": hops})

    assert await judge(row) == {
        "id": "a",
        "verdict": "deny" if expected else "allow",
        "reason": expected,
        "connected": connected,
    }


async def test_a_name_that_changes_its_answer_is_dialled_where_it_was_checked() -> None:
    row = Row(id="a", url=HOME, dns_seq={"photos.example.org": [[PUBLIC], ["127.0.0.1"]]}, hops=[])

    assert (await judge(row))["connected"] == [PUBLIC]


async def test_a_loop_of_redirects_ends_at_the_limit() -> None:
    row = Row.model_validate({"url": HOME, "dns": DNS, "hops": [hop("/b"), hop("/a")], "loop": True})

    verdict = await judge(row)

    assert verdict["reason"] == "redirect_limit"
    assert verdict["connected"] == [PUBLIC] * 6


def test_the_command_prints_a_verdict_a_row_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "\n".join(
            [
                json.dumps({"id": "redirect", "url": HOME, "dns": DNS, "hops": [hop("http://10.0.0.1/")]}),
                "",
                json.dumps({"id": "file", "url": "file:///etc/passwd", "verdict": "deny", "note": "not read"}),
            ]
        )
    )

    assert main(["--rows", str(rows)]) == 0

    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"id": "redirect", "verdict": "deny", "reason": "private", "connected": [PUBLIC]},
        {"id": "file", "verdict": "deny", "reason": "scheme", "connected": []},
    ]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"{}\nnonsense\n", "line 2: no JSON"),
        (b"\xff\n", "line 1: no JSON"),
        (b'{"hops": [{"status": "x"}]}', "line 1: hops.0.status: "),
        (b"[]", "line 1: the row: "),
        (None, "No such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, complaint: str
) -> None:
    rows = tmp_path / "rows.jsonl"
    if content is not None:
        rows.write_bytes(content)

    assert main(["--rows", str(rows)]) == 2

    assert complaint in capsys.readouterr().err
