"""What is asked of a host that gave a picture before, and when its answer says that nothing has changed."""

import pytest

from downloader.condition import Condition
from downloader.transfer import Answer, Head
from shared.guard import Guard, Target
from shared.reasons import Reason

URL = "https://pictures.example.com/cat.jpg"
MONDAY = "Mon, 02 Nov 2026 10:00:00 GMT"


def target(url: str = URL) -> Target:
    found = Guard().check_url(url)
    assert isinstance(found, Target)
    return found


@pytest.mark.parametrize(
    ("etag", "last_modified", "sent"),
    [
        ('"1"', None, (b'If-None-Match: "1"',)),
        ('W/"1"', MONDAY, (b'If-None-Match: W/"1"', f"If-Modified-Since: {MONDAY}".encode())),
        (None, MONDAY, (f"If-Modified-Since: {MONDAY}".encode(),)),
        ('"caf\xe9"', None, ('If-None-Match: "caf\xe9"'.encode("latin-1"),)),
        # Nothing to ask by, or nothing that could stand in a header.
        (None, None, ()),
        ("", " ", ()),
        ('"1"\r\nCookie: a=b', None, ()),
        ('"1\x00"', None, ()),
        ('"1\x85"', None, ()),
        ('"\u20ac"', None, ()),
        # As long as a noted text can be: it may have been cut.
        ("e" * 512, None, ()),
        ("e" * 511, None, (b"If-None-Match: " + b"e" * 511,)),
    ],
)
def test_validators_are_sent_as_they_came_or_not_at_all(
    etag: str | None, last_modified: str | None, sent: tuple[bytes, ...]
) -> None:
    assert Condition(URL, etag, last_modified).headers_for(target()) == sent


def test_validators_go_to_the_url_that_gave_them_and_to_no_other() -> None:
    condition = Condition(URL, '"1"')

    assert condition.headers_for(target("https://pictures.example.com/cat.jpg?size=2")) == ()
    assert condition.headers_for(target("https://elsewhere.example.com/cat.jpg")) == ()
    assert Condition(None, '"1"').headers_for(target()) == ()


def test_only_a_304_that_was_asked_for_says_that_nothing_has_changed() -> None:
    asked, not_modified = Condition(URL, '"1"'), Answer(head=Head(304))

    assert asked.is_met(target(), not_modified)
    assert not asked.is_met(target("https://elsewhere.example.com/cat.jpg"), not_modified)
    assert not asked.is_met(target(), Answer(head=Head(200)))
    assert not asked.is_met(target(), Answer(head=Head(304), reason=Reason.OPTED_OUT))
    assert not Condition(URL).is_met(target(), not_modified)
