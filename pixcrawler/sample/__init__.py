"""A sample to try PixCrawler on: a list of image URLs, an origin on loopback that serves them, and the truth.

    with sample_origin(rows=2000) as origin:
        origin.write_list(Path("urls.csv"))

The images are made from a number, so the same call gives the same images everywhere; nothing is fetched
from anywhere. About one row in ten is bad in some way. `python -m pixcrawler.sample serve` does the same
by itself.
"""

from pixcrawler.sample.corpus import SAMPLE_RECIPE, Corpus, Row
from pixcrawler.sample.origin import Origin, sample_origin

__all__ = ["SAMPLE_RECIPE", "Corpus", "Origin", "Row", "sample_origin"]
