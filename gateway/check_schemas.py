"""What goes in and comes out of dry runs, as JSON."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from gateway.schemas import ColumnName, JobError, StrictRequest
from shared.manifest.report import ListReport
from shared.pipeline import CheckState


class CheckIn(StrictRequest):
    """How the list is to be read. What is not given is guessed by the columns' names."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"url_col": "image_url", "caption_col": "alt"}]})

    format: Literal["txt", "csv", "tsv", "json", "jsonl", "parquet"] | None = Field(
        default=None, description="None: as the file's name tells"
    )
    url_col: ColumnName | None = Field(default=None, description="None: guessed")
    caption_col: ColumnName | None = Field(default=None, description="None: guessed")
    save_columns: list[ColumnName] = Field(default=[], max_length=100, description="Columns kept in the index")


class CheckOut(BaseModel):
    """A dry run of an uploaded list."""

    id: UUID
    manifest_id: UUID
    state: CheckState = Field(description="Ask again until it is done or failed")
    created_at: datetime
    finished_at: datetime | None
    report: ListReport | None = Field(description="Once it is done")
    error: JobError | None = Field(description="Once it has failed: why the list cannot be read")
