"""What a takedown covers, and what it does not."""

import pytest

from shared.blocklist import Blocklist, Kind, LiveBlocklist, Version, normalised
from shared.errors import DatabaseUnavailable
from shared.guard import Target, parsed

NOTHING = {"sha256": None, "stored_sha256": None, "phash": None, "url": None, "final_url": None}
TAKEN = "00ff00ff00ff00ff"


def target(url: str) -> Target:
    found = parsed(url)
    assert isinstance(found, Target)
    return found


@pytest.mark.parametrize(
    ("kind", "written", "kept"),
    [
        (Kind.URL, " HTTP://Example.COM:80/a b ".replace("a b", "a%20b"), "http://example.com/a%20b"),
        (Kind.URL, "https://bücher.example/#top", "https://xn--bcher-kva.example/"),
        (Kind.HOST, "Bücher.Example.", "xn--bcher-kva.example"),
        (Kind.HOST, "[2001:DB8::0:1]", "2001:db8::1"),
        (Kind.HOST, "127.0.0.1", "127.0.0.1"),
        (Kind.SHA256, "AB" * 32, "ab" * 32),
        (Kind.PHASH, "00FF00FF00FF00FF", TAKEN),
    ],
)
def test_an_entry_has_one_spelling(kind: Kind, written: str, kept: str) -> None:
    assert normalised(kind, written) == kept
    assert normalised(kind, kept if kind is not Kind.HOST or ":" not in kept else f"[{kept}]") == kept


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        (Kind.URL, "example.com/a.jpg"),
        (Kind.URL, "ftp://example.com/a.jpg"),
        (Kind.URL, "http://me@example.com/"),
        (Kind.HOST, ""),
        (Kind.HOST, "http://example.com"),
        (Kind.HOST, "example.com/a"),
        (Kind.HOST, "example.com:81"),
        (Kind.HOST, "me@example.com"),
        (Kind.HOST, "example.com#a"),
        (Kind.SHA256, "ab" * 20),
        (Kind.SHA256, "xy" * 32),
        (Kind.PHASH, "00ff"),
    ],
)
def test_what_is_none_of_its_kind_is_refused_with_a_sentence(kind: Kind, written: str) -> None:
    with pytest.raises(ValueError, match=" "):
        normalised(kind, written)


@pytest.mark.parametrize(
    ("url", "is_held"),
    [
        ("http://example.com/a/b.jpg?x=1", True),
        ("https://example.com/a/b.jpg?x=1", True),  # the other scheme
        ("http://EXAMPLE.com:80/a/b.jpg?x=1#top", True),
        ("http://example.com/a/%62.jpg?x=1", True),  # a percent sign where none is needed
        ("http://example.com/a/../a/./b.jpg?x=1", True),
        ("http://example.com/a/b.jpg", False),
        ("http://example.com/a/B.jpg?x=1", False),
        ("http://example.com:8080/a/b.jpg?x=1", False),
        ("http://www.example.com/a/b.jpg?x=1", False),
    ],
)
def test_a_url_is_held_in_every_spelling_and_nothing_beside_it(url: str, is_held: bool) -> None:
    blocked = Blocklist([(Kind.URL, normalised(Kind.URL, "http://example.com/a/b.jpg?x=1"))])

    assert blocked.holds_target(target(url)) is is_held
    assert blocked.holds_image({**NOTHING, "final_url": url}) is is_held


@pytest.mark.parametrize(
    ("url", "is_held"),
    [
        ("http://example.com/", True),
        ("https://img.cdn.example.com:8443/x", True),
        ("http://notexample.com/", False),
        ("http://example.com.evil.test/", False),
    ],
)
def test_a_host_is_held_with_all_names_below_it(url: str, is_held: bool) -> None:
    assert Blocklist([(Kind.HOST, "example.com")]).holds_target(target(url)) is is_held


def test_bytes_are_held_as_fetched_and_as_stored() -> None:
    blocked = Blocklist([(Kind.SHA256, "ab" * 32)])

    assert blocked.holds_image({**NOTHING, "sha256": "ab" * 32})
    assert blocked.holds_image({**NOTHING, "stored_sha256": "ab" * 32})
    assert not blocked.holds_image({**NOTHING, "sha256": "cd" * 32})


@pytest.mark.parametrize("bits", [(), (0,), (63,), (0, 13, 26, 39), (12, 25, 51, 52), (60, 61, 62, 63)])
def test_a_picture_is_held_up_to_four_bits_away_wherever_they_lie(bits: tuple[int, ...]) -> None:
    near = int(TAKEN, 16) ^ sum(1 << bit for bit in bits)

    assert Blocklist([(Kind.PHASH, TAKEN)]).holds_image({**NOTHING, "phash": f"{near:016x}"})


@pytest.mark.parametrize("bits", [(0, 1, 2, 3, 4), (0, 13, 26, 39, 52)])
def test_a_picture_five_bits_away_is_another_one(bits: tuple[int, ...]) -> None:
    other = int(TAKEN, 16) ^ sum(1 << bit for bit in bits)

    assert not Blocklist([(Kind.PHASH, TAKEN)]).holds_image({**NOTHING, "phash": f"{other:016x}"})


def test_an_empty_list_holds_nothing() -> None:
    assert not Blocklist().holds_target(target("http://example.com/"))
    assert not Blocklist().holds_image({**NOTHING, "url": "not a url", "phash": TAKEN})


class Source:
    """A list that is read, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[Version | None] = []
        self.answer: tuple[Version, Blocklist] | None = ((1,), Blocklist([(Kind.HOST, "example.com")]))

    async def read(self, known: Version | None) -> tuple[Version, Blocklist] | None:
        self.asked.append(known)
        if self.answer is None:
            raise DatabaseUnavailable("away")
        return None if known == self.answer[0] else self.answer


async def test_the_copy_is_read_again_after_thirty_seconds_and_only_if_it_changed() -> None:
    source = Source()
    live = LiveBlocklist(source.read, clock=lambda: source.now)
    assert not live.holds_target(target("http://example.com/"))

    first = await live.refresh()
    source.now = 29.0
    assert await live.refresh() is first
    source.now = 30.0
    assert await live.refresh() is first

    assert source.asked == [None, (1,)]
    assert live.holds_target(target("http://example.com/"))


async def test_a_list_that_cannot_be_read_lets_nothing_pass() -> None:
    source = Source()
    live = LiveBlocklist(source.read, clock=lambda: source.now)
    await live.refresh()
    source.now, source.answer = 31.0, None

    with pytest.raises(DatabaseUnavailable):
        await live.refresh()
