"""Rules of a robots.txt: what they allow, and in which thread that is found out."""

import threading
import zlib

from protego import Protego

from downloader.rules import MAX_CRAWL_DELAY_SECONDS, MAX_ROBOTS_BYTES, Rules, read_rules

_SECRET = "User-agent: *\nDisallow: /secret\n"


class Witness(Protego):
    """Tells in which threads it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []

    def can_fetch(self, url: str, user_agent: str) -> bool:
        self.threads.append(threading.get_ident())
        return super().can_fetch(url, user_agent)


async def read(text: str) -> Rules:
    rules = await read_rules(zlib.compress(text.encode()))
    assert rules is not None
    return rules


async def test_they_say_what_may_be_fetched() -> None:
    rules = await read(_SECRET)

    assert await rules.allow("https://example.org/open/a.jpg")
    assert not await rules.allow("https://example.org/secret/a.jpg")


async def test_a_large_file_is_obeyed_like_a_small_one() -> None:
    rules = await read(_SECRET + "".join(f"Disallow: /*{number}*x\n" for number in range(20_000)))

    assert await rules.allow("https://example.org/open/a.jpg")
    assert not await rules.allow("https://example.org/secret/a.jpg")
    assert not await rules.allow("https://example.org/19999/x.jpg")


async def test_a_large_file_is_matched_beside_the_event_loop() -> None:
    parsed = Witness.parse(_SECRET)
    small, large = Rules(parsed, size_bytes=1_000), Rules(parsed, size_bytes=400_000)

    await small.allow("https://example.org/a")
    await large.allow("https://example.org/a")

    here, elsewhere = parsed.threads
    assert here == threading.get_ident()
    assert elsewhere != threading.get_ident()


async def test_what_is_no_compressed_text_holds_no_rules() -> None:
    assert await read_rules(b"not zlib") is None


async def test_a_bomb_is_read_only_up_to_the_limit() -> None:
    rules = await read(_SECRET + "# nothing\n" * 1_000_000)

    assert rules.size_bytes == MAX_ROBOTS_BYTES
    assert not await rules.allow("https://example.org/secret/a.jpg")


async def test_a_long_pause_is_cut() -> None:
    assert (await read("User-agent: *\nCrawl-delay: 3600\n")).crawl_delay_seconds == MAX_CRAWL_DELAY_SECONDS
    assert (await read("User-agent: *\nCrawl-delay: 2\n")).crawl_delay_seconds == 2
    assert (await read(_SECRET)).crawl_delay_seconds == 0
