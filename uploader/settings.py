"""What an uploader reads from its environment."""

from pydantic import Field

from shared.settings import WorkerSettings


class UploaderSettings(WorkerSettings):
    """An uploader waits for its store more than it computes, so a worker holds several chunks."""

    concurrency: int = Field(default=7, ge=1, le=64, description="Chunks at once in this worker")
    puts: int = Field(default=32, ge=1, le=256, description="Objects of one chunk put at once")
