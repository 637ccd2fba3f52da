"""What a dry run found, as it is kept and shown."""

from enum import StrEnum

from pydantic import BaseModel, Field


class BadRowOut(BaseModel):
    """A row that would be rejected without being fetched."""

    row: int = Field(description="Its number in the dataset to be, from 0")
    line: int | None = Field(description="The line on which it ends, from 1; null for parquet")
    reason: str
    detail: str


class HostOut(BaseModel):
    """A host and how many rows name it."""

    host: str
    rows: int


class ColumnsOut(BaseModel):
    """How the list was read."""

    format: str
    names: list[str] = Field(description="All there are, 1,000 at most; empty where rows are bare URLs")
    url: str
    caption: str | None
    url_is_guessed: bool = Field(description="By its name, because you named none")
    caption_is_guessed: bool


class Trial(StrEnum):
    """What became of a row that was tried."""

    IMAGE = "image"
    REFUSED = "refused"  #: the host has none there, or forbids it
    FAILED = "failed"  #: the host did not answer properly, which may pass
    NOT_TRIED = "not_tried"  #: only https on port 443 is tried, for a minute in all


class Tried(BaseModel):
    """A row that was drawn to be tried."""

    row: int
    trial: Trial
    detail: str
    size_bytes: int | None = None
    seconds: float | None = None


class Estimate(BaseModel):
    """What the whole list would give and take, by the rows that were tried."""

    images: int
    size_bytes: int = Field(description="As fetched")
    seconds: int = Field(description="At 100 rows a second, and 10 of each host, while nobody else's job is before it")


class ListReport(BaseModel):
    """What a list holds."""

    rows: int
    bad_rows: int = Field(description="Rows that would be rejected unfetched: no URL, or one that may not be fetched")
    rejected: dict[str, int] = Field(description="Those by reason")
    bad: list[BadRowOut] = Field(description="The first hundred of them")
    duplicates: int = Field(description="Rows whose URL stands further up")
    duplicates_are_exact: bool = Field(description="false: only the first 50,000,000 were compared")
    hosts: int = Field(description="Different hosts")
    hosts_are_exact: bool = Field(description="false: only the first 200,000 were told apart")
    top_hosts: list[HostOut] = Field(description="Those with most rows, twenty at most")
    columns: ColumnsOut
    sample: list[Tried] = Field(default=[], description="Sixteen rows at most, drawn evenly from the good ones")
    estimate: Estimate | None = Field(default=None, description="null when no row could be tried")
