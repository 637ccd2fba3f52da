"""Which rows the sample has: what is good, what is bad in which way, and what PixCrawler should say of each."""

import csv
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pixcrawler.sample.pictures import Picture, render

#: The choices the truth holds for: a tiny picture is rejected only by a recipe that says so.
SAMPLE_RECIPE = {"min_image_size": 32}
DEFAULT_ROWS = 2000
DEFAULT_SEED = 7
COLUMNS = ("url", "caption", "id", "licence")
_LICENCES = ("CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0")
_WORDS = ("harbour", "meadow", "market", "bridge", "garden", "station", "forest", "library", "coast", "kitchen")
#: Shares of the formats among the pictures, and the smallest and largest width of each, in pixels.
_FORMATS = (("jpg", 0.82, 400, 1150), ("png", 0.08, 170, 400), ("webp", 0.06, 260, 480), ("gif", 0.04, 300, 620))
_ASPECTS = (1.0, 4 / 3, 3 / 2, 16 / 9, 3 / 4, 2 / 3)
_LONGEST_HEIGHT = 1100


@dataclass(frozen=True)
class Kind:
    """A way in which rows behave."""

    name: str
    #: Of all rows.
    share: float
    #: The reason PixCrawler should give; None: accepted.
    reason: str | None = None
    #: The URL when the row is not served by the origin.
    elsewhere: str | None = None


#: What is not simply good. All failures together are about a tenth.
KINDS = (
    Kind("missing", 0.025, "http_not_found"),
    Kind("forbidden", 0.005, "http_denied"),
    Kind("server_error", 0.002, "http_server_error"),
    Kind("truncated", 0.012, "corrupt_image"),
    Kind("cut_off", 0.003, "truncated_body"),
    Kind("html", 0.010, "not_an_image"),
    Kind("empty", 0.005, "empty_body"),
    Kind("tiny", 0.010, "too_small"),
    Kind("duplicate", 0.020, "duplicate"),
    Kind("opted_out", 0.008, "opted_out"),
    Kind("no_scheme", 0.001, "bad_scheme", "ftp://files.example.org/{number}.jpg"),
    Kind("private", 0.001, "blocked_address", "http://10.0.0.1/{number}.jpg"),
    Kind("flaky", 0.005),
    Kind("redirect", 0.010),
    Kind("wrong_extension", 0.010),
    Kind("rotated", 0.010),
    Kind("slow", 0.005),
)
GOOD = Kind("good", 0.0)


@dataclass(frozen=True)
class Row:
    """One row of the list and the truth about it."""

    number: int
    kind: Kind
    #: What the origin sends, before it is spoilt; for a duplicate the original's.
    picture: Picture
    #: The row whose bytes a duplicate has.
    duplicate_of: int | None = None

    @property
    def is_accepted(self) -> bool:
        return self.kind.reason is None

    @property
    def path(self) -> str:
        extension = self.picture.kind
        if self.kind.name == "wrong_extension":
            extension = "png" if extension == "jpg" else "jpg"
        return f"/{self.kind.name}/{self.number:06d}.{extension}"

    def url(self, base_url: str) -> str:
        if self.kind.elsewhere is not None:
            return self.kind.elsewhere.format(number=self.number)
        return base_url + self.path

    @property
    def caption(self) -> str:
        word = _WORDS[self.number % len(_WORDS)]
        return f"A {word}, no. {self.number}" if self.number % 50 else f'"{word.title()}", été {self.number}'

    @property
    def licence(self) -> str:
        return _LICENCES[self.number % len(_LICENCES)]

    def truth(self, base_url: str) -> dict[str, object]:
        """What should come out: sizes in pixels as stored in the file, before the orientation is applied."""
        return {
            "id": self.number,
            "url": self.url(base_url),
            "kind": self.kind.name,
            "accepted": self.is_accepted,
            "reason": self.kind.reason,
            "format": self.picture.kind if self.is_accepted else None,
            "width": self.picture.width if self.is_accepted else None,
            "height": self.picture.height if self.is_accepted else None,
            "orientation": self.picture.orientation,
            "duplicate_of": self.duplicate_of,
        }


class Corpus:
    """The rows of one sample, the same for the same number of rows and seed."""

    def __init__(self, rows: int = DEFAULT_ROWS, seed: int = DEFAULT_SEED) -> None:
        if rows < 1:
            raise ValueError("a sample needs at least one row")
        self._count = rows
        self.seed = seed

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """In the order of the list."""
        kinds = _kinds(self._count, self.seed)
        good = [number for number, kind in enumerate(kinds) if kind is GOOD]
        return tuple(self._row(number, kind, good) for number, kind in enumerate(kinds))

    @cached_property
    def by_path(self) -> dict[str, Row]:
        return {row.path: row for row in self.rows if row.kind.elsewhere is None}

    def body(self, row: Row) -> bytes:
        """The picture's file, whole; a millisecond or ten of computing."""
        return render(row.picture, self.seed)

    def write_list(self, path: Path, base_url: str) -> None:
        """Writes the list as CSV: url, caption and two columns that should come through unchanged."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows((row.url(base_url), row.caption, row.number, row.licence) for row in self.rows)

    def write_truth(self, path: Path, base_url: str) -> None:
        """Writes what should come out of each row, as JSON."""
        path.write_text(json.dumps([row.truth(base_url) for row in self.rows], indent=1), encoding="utf-8")

    def expected_counts(self) -> dict[str, int]:
        """Rows by reason; `accepted` are the rest."""
        counts: dict[str, int] = {}
        for row in self.rows:
            outcome = row.kind.reason or "accepted"
            counts[outcome] = counts.get(outcome, 0) + 1
        return counts

    def _row(self, number: int, kind: Kind, good: list[int]) -> Row:
        choice = random.Random(f"{self.seed}/row/{number}")
        if kind.name == "duplicate":
            earlier = choice.choice([each for each in good if each < number])
            return Row(number, kind, self._picture(earlier, GOOD), duplicate_of=earlier)
        return Row(number, kind, self._picture(number, kind))

    def _picture(self, number: int, kind: Kind) -> Picture:
        choice = random.Random(f"{self.seed}/size/{number}")
        if kind.name == "tiny":
            side = choice.choice((1, 16, 31))
            return Picture(number, choice.choice(("jpg", "png")), side, side)
        shares = [share for _, share, _, _ in _FORMATS]
        name, _, narrow, wide = choice.choices(_FORMATS, weights=shares)[0]
        # A walk cannot tell a cut GIF from a whole one as surely as a JPEG, and only EXIF of JPEG is in wide use.
        if kind.name in ("truncated", "rotated"):
            name, _, narrow, wide = _FORMATS[0]
        width = min(wide, int(narrow * choice.lognormvariate(0.35, 0.3)))
        height = min(_LONGEST_HEIGHT, int(width / choice.choice(_ASPECTS)))
        return Picture(number, name, max(narrow, width), height, orientation=6 if kind.name == "rotated" else 1)


def _kinds(count: int, seed: int) -> list[Kind]:
    """Each kind as often as its share says, in an order that the seed decides."""
    kinds = [kind for kind in KINDS for _ in range(round(kind.share * count))]
    kinds += [GOOD] * (count - len(kinds))
    random.Random(f"{seed}/kinds").shuffle(kinds)
    return list(_with_originals_first(kinds))


def _with_originals_first(kinds: list[Kind]) -> Iterator[Kind]:
    """A duplicate before every good row has nothing to repeat, so it is good itself."""
    has_good = False
    for kind in kinds:
        chosen = GOOD if kind.name == "duplicate" and not has_good else kind
        has_good = has_good or chosen is GOOD
        yield chosen
