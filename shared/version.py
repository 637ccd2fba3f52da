"""Which PixCrawler this is."""

from importlib.metadata import version

VERSION = version("pixcrawler")
