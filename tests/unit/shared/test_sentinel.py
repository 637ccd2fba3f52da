"""One address for a Redis behind Sentinels, read and written for the broker."""

import pytest
from pydantic import ValidationError

from shared.sentinel import SentinelAddress
from shared.settings import Settings


def test_all_of_it_is_read() -> None:
    address = SentinelAddress.parse("sentinel://down%40er:p%3Ass@a.example:26380,b.example/2?master=pix")

    assert address == SentinelAddress(
        sentinels=(("a.example", 26380), ("b.example", 26379)),
        master="pix",
        database=2,
        username="down@er",
        password="p:ss",
    )


def test_the_broker_is_told_each_sentinel_with_the_login() -> None:
    address = SentinelAddress.parse("sentinel://down%40er:p%3Ass@a.example:26380,b.example/2?master=pix")

    assert address.broker_url() == (
        "sentinel://down%40er:p%3Ass@a.example:26380/2;sentinel://down%40er:p%3Ass@b.example:26379/2"
    )


def test_without_a_login_none_is_told() -> None:
    assert SentinelAddress.parse("sentinel://a/?master=pix").broker_url() == "sentinel://a:26379/0"


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://a:26379/0",  # whose master?
        "sentinel:///0?master=pix",  # asked of whom?
        "sentinel://a,/0?master=pix",  # one too few
        "sentinel://a:port/0?master=pix",  # no number
        "sentinel://a/first?master=pix",  # no number either
    ],
)
@pytest.mark.parametrize("setting", ["redis_url", "broker_url"])
def test_what_cannot_be_an_address_stops_the_start(setting: str, url: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({setting: url})
