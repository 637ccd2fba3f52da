"""The downloader's settings."""

import pytest
from pydantic import ValidationError

from downloader.settings import DownloaderSettings


def test_nothing_internal_is_allowed_by_default() -> None:
    assert not DownloaderSettings().policy().has_allowances


def test_open_transfers_are_divided_among_the_children() -> None:
    assert DownloaderSettings(transfers=256, concurrency=7).transfers_per_child == 36


def test_we_say_who_we_are() -> None:
    settings = DownloaderSettings(contact="https://crawler.example.com/about")

    assert settings.agent.startswith("PixCrawler/")
    assert settings.agent.endswith(" (+https://crawler.example.com/about)")


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
