"""Log lines: JSON, and nothing in them forges a line, colours a terminal or gives a secret away."""

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest
import structlog

from shared.logs import make_inert, set_up_logs
from shared.settings import Settings


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        # a second line
        ("one\r\n2026 INFO forged", "one��2026 INFO forged"),
        # a terminal's colours and titles
        ("\x1b[31mred\x1b[0m \x9b31m", "�[31mred�[0m �31m"),
        # text that turns its direction, and lines of other alphabets
        ("safe\u202egpj.exe", "safe�gpj.exe"),
        ("\u2066a\u2069 b\u2028c", "�a� b�c"),
        ("\x00", "�"),
        # what signs a link
        ("GET https://a.example/x.jpg?sig=secret&se=1 failed", "GET https://a.example/x.jpg?… failed"),
        ("https://user:secret@a.example/x?y", "https://a.example/x?…"),
        ("https://a.example/x#token=secret", "https://a.example/x?…"),
        # a password without a query
        ("https://user:secret@a.example/x.jpg", "https://a.example/x.jpg"),
        # what is harmless stays
        ("https://a.example/x.jpg", "https://a.example/x.jpg"),
        ("Ärger mit 500 Zeilen", "Ärger mit 500 Zeilen"),
    ],
)
def test_what_is_shown_of_a_text(text: str, shown: str) -> None:
    assert make_inert(text) == shown


def test_a_text_is_not_shown_beyond_two_kibibytes() -> None:
    assert len(make_inert("x" * 1_000_000)) == 2049


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a service that has set up its logs writes."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    set_up_logs(Settings(), service="scheduler")
    yield written
    logging.captureWarnings(False)
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_a_warning_of_python_is_a_line_like_the_others(lines: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)  # pytest records warnings by a way of its own
        warnings.warn("the library\nhas grown old", DeprecationWarning, stacklevel=1)

    (line,) = (json.loads(line) for line in lines.getvalue().splitlines())
    assert (line["level"], line["logger"]) == ("warning", "py.warnings")
    assert "the library" in line["event"]


def test_an_event_is_one_json_line_with_what_was_bound(lines: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(job="j", chunk=7):
        structlog.get_logger("some.module").info("stage_completed", url="https://a.example/?sig=secret", note="a\nb")

    (line,) = lines.getvalue().splitlines()
    event = json.loads(line)
    assert (event["event"], event["service"], event["job"], event["chunk"]) == ("stage_completed", "scheduler", "j", 7)
    assert "secret" not in line
    assert event["note"] == "a�b"


def test_lines_of_libraries_take_the_same_shape(lines: io.StringIO) -> None:
    logging.getLogger("celery.worker").warning("lost %s", "https://a.example/?sig=secret")

    event = json.loads(lines.getvalue())
    assert (event["event"], event["level"], event["service"]) == ("lost https://a.example/?…", "warning", "scheduler")


def test_an_exceptions_trace_gives_no_secret_away_either(lines: io.StringIO) -> None:
    try:
        raise ValueError("cannot read https://a.example/x?sig=secret")
    except ValueError:
        structlog.get_logger("some.module").exception("planning_failed")

    (line,) = lines.getvalue().splitlines()
    assert "Traceback" in line
    assert "sig=secret" not in line


@pytest.mark.parametrize(
    "text",
    ["../../x", '=HYPERLINK("http://x?y=secret")', 'a"}\r\n{"event": "forged"', "\x1b[31mred", "\u202egpj.exe", "\x00"],
)
def test_whatever_a_text_says_it_stays_one_field_of_one_line(lines: io.StringIO, text: str) -> None:
    structlog.get_logger("some.module").info("row_read", caption=text, seen=[{text: (text, 7)}])

    (line,) = lines.getvalue().splitlines()
    assert (json.loads(line)["event"], line.isprintable(), line.isascii() or "�" in line) == ("row_read", True, True)
    assert "secret" not in line
    assert json.loads(line)["seen"] == [{make_inert(text): [make_inert(text), 7]}]
