"""What a dataset is like, in figures: tallied from index tables, kept beside the data as `statistics.json`.

A tally takes any number of tables and stays small: distributions are counted in buckets two per cent wide, and of the
hosts only those with most rows are kept once there are too many. The file and the API's answer are one model.
"""

import math
from collections import Counter
from collections.abc import Mapping
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from shared.reasons import REASONS, Group, Reason, Status
from shared.records import INDEX

#: What of an index is read.
COLUMNS = (
    "row",
    "url",
    "caption",
    "status",
    "reason",
    "format",
    "stored_format",
    "width",
    "height",
    "original_width",
    "original_height",
    "bytes",
    "stored_bytes",
    "http_status",
    "fetch_ms",
)
SCHEMA = pa.schema([INDEX.field(name) for name in COLUMNS])

#: Of the file; raised when a figure changes its meaning.
_VERSION = 1
#: Width of a bucket: a quantile is at most one per cent off.
_GROWTH = math.log(1.02)
#: Hosts counted at once, some 20 MB; beyond, those with fewest rows are forgotten.
_MOST_HOSTS = 50_000
_HOSTS_SHOWN = 20
#: Of an address in lower case: what stands between scheme, credentials, port and path.
_HOST = r"^\s*[a-z][a-z0-9+.-]*://(?:[^/?#@]*@)?(?P<host>\[[^\]]*\]|[^/?#:\\]+)"
_DUPLICATES = tuple(reason for reason in Reason if REASONS[reason].group is Group.DUPLICATE)


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True)


class Spread(_Figures):
    """How a quantity is distributed. Quantiles are at most one per cent off, the rest is exact."""

    count: int = Field(description="Rows that have it", examples=[1732])
    smallest: float
    p5: float = Field(description="5 % have less")
    p25: float
    median: float
    p75: float
    p95: float
    largest: float
    mean: float


class HostFigures(_Figures):
    """A host of the list, and rows of it."""

    host: str
    rows: int


class Hosts(_Figures):
    """Where the list's URLs lead, before any redirect."""

    distinct: int = Field(description="Different hosts; at least so many when not exact")
    is_exact: bool = Field(description="False for lists of very many hosts: small ones were not counted")
    accepted: list[HostFigures] = Field(description="Hosts with most accepted rows, at most 20")
    rejected: list[HostFigures] = Field(description="Hosts with most rejected rows, at most 20")


class StageTime(_Figures):
    """What chunks spent at a stage, added up over all of them; many are worked on at once."""

    working_seconds: float
    waiting_seconds: float = Field(description="For a worker that is free")


class Statistics(_Figures):
    """A dataset in figures; each row counts once, as its newest revision has it."""

    version: int = Field(default=_VERSION, description="Of this list of figures")
    dataset: UUID
    revision: int = Field(description="The newest revision that is counted")
    rows: int = Field(description="Rows counted", examples=[2000])
    rows_without_index: int = Field(description="Rows of chunks whose index could not be read; not counted")
    accepted: int = Field(description="Rows with an image in the dataset", examples=[1732])
    rejected: int = Field(description="The other rows")
    rejected_by_reason: dict[str, int] = Field(description="See the page of reasons")
    by_status: dict[str, int] = Field(description="Rows by img2dataset's words: success, failed_to_download, …")
    http_status: dict[str, int] = Field(description="Rows by the last answer's HTTP status")
    formats: dict[str, int] = Field(description="Accepted images by the format that is stored", examples=[{"jpg": 9}])
    fetched_formats: dict[str, int] = Field(description="Rows, also rejected ones, by what the fetched bytes are")
    width: Spread | None = Field(description="Of stored images, pixels; null when there is none")
    height: Spread | None = Field(description="Of stored images, pixels")
    aspect_ratio: Spread | None = Field(description="Width over height of stored images")
    original_width: Spread | None = Field(description="Of accepted images as fetched, pixels, before they are turned")
    original_height: Spread | None = Field(description="Of accepted images as fetched, pixels")
    image_bytes: Spread | None = Field(description="Of stored images, each")
    fetch_ms: Spread | None = Field(description="Milliseconds the last try for a row took, redirects included")
    stored_bytes: int = Field(description="Of all stored images; shards and indexes take more")
    fetched_bytes: int = Field(description="Of all bodies that were kept to be checked")
    with_caption: int = Field(description="Accepted images that have a caption")
    caption_characters: Spread | None = Field(description="Of captions of accepted images")
    duplicates: dict[str, int] = Field(description="Rows rejected because an earlier row has the same bytes, by reason")
    hosts: Hosts
    stages: dict[str, StageTime] = Field(description="By stage, over all chunks and revisions")


class Tally:
    """Adds index tables up."""

    def __init__(self) -> None:
        self.rows = 0
        self._reasons: Counter[str | None] = Counter()
        self._statuses: Counter[str] = Counter()
        self._answers: Counter[int] = Counter()
        self._formats: Counter[str] = Counter()
        self._fetched_formats: Counter[str] = Counter()
        self._width, self._height, self._aspect = _Buckets(), _Buckets(), _Buckets()
        self._original_width, self._original_height = _Buckets(), _Buckets()
        self._image_bytes, self._fetched_bytes = _Buckets(), _Buckets()
        self._fetch_ms, self._captions = _Buckets(), _Buckets()
        self._hosts = _HostCounts()

    def add(self, table: pa.Table) -> None:
        """Counts the rows of a table with the columns of `SCHEMA`."""
        self.rows += len(table)
        accepted = table.filter(pc.is_null(table["reason"]))
        for counter, column in (
            (self._reasons, table["reason"]),
            (self._statuses, table["status"]),
            (self._answers, table["http_status"].drop_null()),
            (self._formats, accepted["stored_format"].drop_null()),
            (self._fetched_formats, table["format"].drop_null()),
        ):
            counter.update({each["values"]: each["counts"] for each in pc.value_counts(column).to_pylist()})
        self._width.add(accepted["width"])
        self._height.add(accepted["height"])
        self._aspect.add(pc.divide(pc.cast(accepted["width"], pa.float64()), accepted["height"]))
        self._original_width.add(accepted["original_width"])
        self._original_height.add(accepted["original_height"])
        self._image_bytes.add(accepted["stored_bytes"])
        self._fetched_bytes.add(table["bytes"])
        self._fetch_ms.add(table["fetch_ms"])
        lengths = pc.utf8_length(accepted["caption"])
        self._captions.add(lengths.filter(pc.greater(lengths, 0)))
        self._hosts.add(table)

    def statistics(
        self, dataset: UUID, revision: int, *, rows_without_index: int, stages: Mapping[str, StageTime]
    ) -> Statistics:
        """What was counted so far."""
        by_reason = {reason: count for reason, count in self._reasons.items() if reason is not None}
        return Statistics(
            dataset=dataset,
            revision=revision,
            rows=self.rows,
            rows_without_index=rows_without_index,
            accepted=self._reasons[None],
            rejected=sum(by_reason.values()),
            rejected_by_reason=_most_first(by_reason),
            by_status={status.value: self._statuses[status.value] for status in Status},
            http_status=_most_first({str(status): count for status, count in self._answers.items()}),
            formats=_most_first(self._formats),
            fetched_formats=_most_first(self._fetched_formats),
            width=self._width.spread(),
            height=self._height.spread(),
            aspect_ratio=self._aspect.spread(),
            original_width=self._original_width.spread(),
            original_height=self._original_height.spread(),
            image_bytes=self._image_bytes.spread(),
            fetch_ms=self._fetch_ms.spread(),
            stored_bytes=int(self._image_bytes.total),
            fetched_bytes=int(self._fetched_bytes.total),
            with_caption=self._captions.count,
            caption_characters=self._captions.spread(),
            duplicates={reason.value: by_reason.get(reason.value, 0) for reason in _DUPLICATES},
            hosts=self._hosts.hosts(),
            stages=dict(stages),
        )


class _Buckets:
    """A quantity, counted in buckets that grow with it."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self._smallest, self._largest = math.inf, -math.inf
        #: None: of zero.
        self._counts: Counter[int | None] = Counter()

    def add(self, column: pa.ChunkedArray) -> None:
        """Counts what is not null. Nothing is below zero."""
        values = pc.cast(column, pa.float64()).drop_null()
        if not len(values):
            return
        ends = pc.min_max(values)
        self.count += len(values)
        self.total += pc.sum(values).as_py()
        self._smallest = min(self._smallest, ends["min"].as_py())
        self._largest = max(self._largest, ends["max"].as_py())
        above = values.filter(pc.greater(values, 0))
        self._counts[None] += len(values) - len(above)
        places = pc.cast(pc.ceil(pc.divide(pc.ln(above), _GROWTH)), pa.int32())
        self._counts.update({each["values"]: each["counts"] for each in pc.value_counts(places).to_pylist()})

    def spread(self) -> Spread | None:
        if not self.count:
            return None
        p5, p25, median, p75, p95 = (self._quantile(share) for share in (0.05, 0.25, 0.5, 0.75, 0.95))
        return Spread(
            count=self.count,
            smallest=_rounded(self._smallest),
            p5=p5,
            p25=p25,
            median=median,
            p75=p75,
            p95=p95,
            largest=_rounded(self._largest),
            mean=_rounded(self.total / self.count),
        )

    def _quantile(self, share: float) -> float:
        wanted, passed = share * self.count, 0
        for place in sorted(self._counts, key=lambda place: -math.inf if place is None else place):
            passed += self._counts[place]
            if passed >= wanted:
                middle = 0.0 if place is None else math.exp((place - 0.5) * _GROWTH)
                return _rounded(min(max(middle, self._smallest), self._largest))
        return _rounded(self._largest)


class _HostCounts:
    """Rows by host, within bounds."""

    def __init__(self, most: int = _MOST_HOSTS) -> None:
        self._most = most
        self._accepted: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._forgotten = 0

    def add(self, table: pa.Table) -> None:
        hosts = pc.struct_field(pc.extract_regex(pc.utf8_lower(table["url"]), _HOST), "host")
        for is_accepted, counter in ((True, self._accepted), (False, self._rejected)):
            chosen = hosts.filter(pc.equal(pc.is_null(table["reason"]), is_accepted)).drop_null()
            counter.update({each["values"]: each["counts"] for each in pc.value_counts(chosen).to_pylist()})
            if len(counter) > self._most:
                self._forgotten += len(counter) - self._most // 2
                kept = counter.most_common(self._most // 2)
                counter.clear()
                counter.update(dict(kept))

    def hosts(self) -> Hosts:
        return Hosts(
            distinct=len(self._accepted.keys() | self._rejected.keys()),
            is_exact=not self._forgotten,
            accepted=_most_rows(self._accepted),
            rejected=_most_rows(self._rejected),
        )


def _most_rows(counts: Counter[str]) -> list[HostFigures]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [HostFigures(host=host, rows=rows) for host, rows in ordered[:_HOSTS_SHOWN]]


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _rounded(value: float) -> float:
    """Whole numbers stay whole, small ones keep three digits behind the point."""
    return round(value, 3) if value < 100 else float(round(value))
