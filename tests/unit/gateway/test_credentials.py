"""What an API key looks like, and what is refused without a look-up."""

import pytest

from gateway.credentials import new_key, parse_key


def test_a_new_key_is_parsed_and_matches_its_own_hash_only() -> None:
    key, other = new_key(), new_key()

    ours, theirs = parse_key(key), parse_key(other)

    assert ours is not None
    assert theirs is not None
    assert ours.id != theirs.id
    assert ours.matches(ours.secret_hash)
    assert not ours.matches(theirs.secret_hash)


def test_a_parsed_key_does_not_hold_the_secret() -> None:
    key = new_key()

    assert key.split("_")[2] not in repr(parse_key(key))


def test_every_single_mistyped_character_is_noticed() -> None:
    key = new_key()

    for place, character in enumerate(key):
        wrong = "0" if character != "0" else "1"
        assert parse_key(key[:place] + wrong + key[place + 1 :]) is None


@pytest.mark.parametrize(
    "text",
    ["", "pxc_", "Bearer x", "pxc_é", new_key() + "\n", " " + new_key(), new_key()[:-1]],
    ids=["nothing", "prefix", "scheme", "accent", "line-feed", "space", "short"],
)
def test_anything_else_is_no_key(text: str) -> None:
    assert parse_key(text) is None
