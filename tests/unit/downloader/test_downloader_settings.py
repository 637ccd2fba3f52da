"""The downloader's settings."""

import re

import pytest
from pydantic import ValidationError

from downloader.settings import DownloaderSettings


def test_nothing_internal_is_allowed_by_default() -> None:
    assert not DownloaderSettings().policy().has_allowances


def test_open_transfers_are_divided_among_the_children() -> None:
    assert DownloaderSettings(transfers=256, concurrency=7).transfers_per_child == 36


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, r"PixCrawler/[0-9.]+"),
        (
            {"contact": "https://crawler.example.com/about"},
            r"PixCrawler/[0-9.]+ \(\+https://crawler.example.com/about\)",
        ),
        ({"user_agent": "Museum/1"}, r"Museum/1"),
    ],
)
def test_we_say_who_we_are(chosen: dict[str, str], expected: str) -> None:
    assert re.fullmatch(expected, DownloaderSettings.model_validate(chosen).agent)


@pytest.mark.parametrize(
    "mistake",
    [
        {"contact": "line\r\nX-Other: header"},
        {"user_agent": "naïve"},
        {"allow_cidrs": ("127.0.0.1/8",)},
        {"deny_cidrs": ("nonsense",)},
        {"transfers": 3, "concurrency": 4},
    ],
)
def test_a_setting_that_cannot_work_is_refused_at_start(mistake: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DownloaderSettings.model_validate(mistake)
