"""Exit codes: one table, and which error ends with which code."""

from enum import IntEnum

from pixcrawler.errors import (
    AuthenticationError,
    ConflictError,
    ConnectionFailed,
    GatewayError,
    InvalidRequestError,
    NotFoundError,
    PixCrawlerError,
    UnavailableError,
)
from pixcrawler.words import JobState


class Exit(IntEnum):
    """What a command ends with. The comments make the reference page."""

    OK = 0  #: done; rejected rows are no failure
    FAILED = 1  #: the job failed, or halted by an error; the sentence says what to do
    USAGE = 2  #: an option, the list or the destination is wrong
    PARTLY = 3  #: the dataset is built, but some chunks failed; their rows are `chunk_failed`
    AUTHENTICATION = 4  #: the API key is missing, wrong, or may not do this
    NOT_FOUND = 5  #: there is no such job
    CONFLICT = 6  #: the destination holds another dataset, or one whose state is gone; or the job has ended
    UNAVAILABLE = 7  #: the gateway cannot be reached, or asks to come later
    CANCELLED = 8  #: the job was cancelled
    STACK = 69  #: the embedded stack cannot run here: platform, packages, a port in use, a service that dies
    INTERNAL = 70  #: a bug, of the command or of the gateway
    CANNOT_CREATE = 73  #: the stack's home cannot be written, or its disk is too small
    TRY_LATER = 75  #: another run's stack is in the way; the same command works later
    CONFIG = 78  #: settings contradict what is there
    INTERRUPTED = 130  #: Ctrl-C or SIGTERM, or the job was paused; the same command goes on


class Failure(Exception):
    """A command's end with a sentence for the user."""

    def __init__(self, message: str, code: Exit | int = Exit.USAGE) -> None:
        super().__init__(message)
        self.code = int(code)


_BY_ERROR: tuple[tuple[type[PixCrawlerError], Exit], ...] = (
    (InvalidRequestError, Exit.USAGE),
    (AuthenticationError, Exit.AUTHENTICATION),
    (NotFoundError, Exit.NOT_FOUND),
    (ConflictError, Exit.CONFLICT),
    (UnavailableError, Exit.UNAVAILABLE),
    (ConnectionFailed, Exit.UNAVAILABLE),
    (GatewayError, Exit.INTERNAL),
)
_BY_STATE = {
    JobState.COMPLETED: Exit.OK,
    JobState.COMPLETED_WITH_FAILURES: Exit.PARTLY,
    JobState.FAILED: Exit.FAILED,
    JobState.CANCELLED: Exit.CANCELLED,
    JobState.PAUSED: Exit.INTERRUPTED,
}


def exit_of_error(error: PixCrawlerError) -> Exit:
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), Exit.USAGE)


def exit_of_state(state: JobState) -> Exit:
    """How a command ends that waited for a job."""
    return _BY_STATE.get(state, Exit.OK)
