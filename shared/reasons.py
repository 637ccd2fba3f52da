"""Why an image was rejected: one closed list, so that reasons can be counted, filtered and acted on.

A rejected image is data, not an exception. Every input row of a dataset is accepted or carries exactly
one reason. Codes are stable; advice may be reworded. Standard library only.
"""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """The reason codes. `REASONS` says for each where it arises, whether a retry may help, and what to do."""

    BAD_URL = "bad_url"
    BAD_SCHEME = "bad_scheme"
    BLOCKED_ADDRESS = "blocked_address"
    BLOCKED_HOST = "blocked_host"
    BLOCKED_PORT = "blocked_port"
    TAKEN_DOWN = "taken_down"
    ROBOTS_DISALLOWED = "robots_disallowed"
    ROBOTS_UNREACHABLE = "robots_unreachable"
    OPTED_OUT = "opted_out"
    DNS_NOT_FOUND = "dns_not_found"
    DNS_TEMPORARY = "dns_temporary"
    CONNECT_FAILED = "connect_failed"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS_INVALID = "tls_invalid"
    HOST_CIRCUIT_OPEN = "host_circuit_open"
    HTTP_DENIED = "http_denied"
    HTTP_NOT_FOUND = "http_not_found"
    HTTP_RATE_LIMITED = "http_rate_limited"
    HTTP_CLIENT_ERROR = "http_client_error"
    HTTP_SERVER_ERROR = "http_server_error"
    HTTP_UNEXPECTED = "http_unexpected"
    REDIRECT_LIMIT = "redirect_limit"
    REDIRECT_BLOCKED = "redirect_blocked"
    DEADLINE = "deadline"
    TOO_SLOW = "too_slow"
    CONNECTION_RESET = "connection_reset"
    TRUNCATED_BODY = "truncated_body"
    BODY_TOO_LARGE = "body_too_large"
    EMPTY_BODY = "empty_body"
    BAD_ENCODING = "bad_encoding"
    BAD_RESPONSE = "bad_response"
    NOT_AN_IMAGE = "not_an_image"
    FORMAT_NOT_ALLOWED = "format_not_allowed"
    CORRUPT_IMAGE = "corrupt_image"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_MANY_FRAMES = "too_many_frames"
    TOO_COMPLEX = "too_complex"
    DECODER_CRASHED = "decoder_crashed"
    DECODER_TIMEOUT = "decoder_timeout"
    FILE_TOO_SMALL = "file_too_small"
    TOO_SMALL = "too_small"
    TOO_LARGE = "too_large"
    ASPECT_RATIO = "aspect_ratio"
    DUPLICATE = "duplicate"
    DUPLICATE_OF_LOST = "duplicate_of_lost"
    SUPERSEDED = "superseded"
    CHUNK_FAILED = "chunk_failed"
    CANCELLED = "cancelled"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    REPLACED = "replaced"


class Group(StrEnum):
    """Where in the life of a row the reason arises."""

    INPUT = "input"
    POLICY = "policy"
    FETCH = "fetch"
    DECODE = "decode"
    FILTER = "filter"
    DUPLICATE = "duplicate"
    JOB = "job"
    REVISION = "revision"


@dataclass(frozen=True)
class About:
    """What is known of a reason."""

    group: Group
    #: Whether the same URL may give an image another day.
    is_retryable: bool
    #: One sentence for the client: what it means and what to do.
    advice: str


_ROWS: tuple[tuple[Reason, Group, bool, str], ...] = (
    (Reason.BAD_URL, Group.INPUT, False, "The row holds no usable URL; correct it in the list."),
    (Reason.BAD_SCHEME, Group.INPUT, False, "Only http and https URLs are fetched."),
    (Reason.BLOCKED_ADDRESS, Group.POLICY, False, "The host is or resolves to an address that is not public."),
    (Reason.BLOCKED_HOST, Group.POLICY, False, "The host or URL was taken down or is denied by the operator."),
    (Reason.BLOCKED_PORT, Group.POLICY, False, "The port is not among those the operator allows."),
    (Reason.TAKEN_DOWN, Group.POLICY, False, "The image was taken down and may not be stored; ask the operator."),
    (Reason.ROBOTS_DISALLOWED, Group.POLICY, False, "The site's robots.txt does not allow this URL."),
    (Reason.ROBOTS_UNREACHABLE, Group.POLICY, True, "The site's robots.txt could not be read; try again later."),
    (Reason.OPTED_OUT, Group.POLICY, False, "The answer's headers opt out of this use; ask the owner."),
    (Reason.DNS_NOT_FOUND, Group.FETCH, False, "The host name does not exist."),
    (
        Reason.DNS_TEMPORARY,
        Group.FETCH,
        True,
        "The name could not be resolved; if there are many, look at your resolver.",
    ),
    (Reason.CONNECT_FAILED, Group.FETCH, True, "The host refused the connection or was unreachable."),
    (Reason.CONNECT_TIMEOUT, Group.FETCH, True, "The host did not answer in time."),
    (Reason.TLS_INVALID, Group.FETCH, False, "The host's certificate is not valid for its name."),
    (Reason.HOST_CIRCUIT_OPEN, Group.FETCH, True, "The host failed too often in a row and was left alone."),
    (Reason.HTTP_DENIED, Group.FETCH, False, "The host denies access (401, 403, 451)."),
    (Reason.HTTP_NOT_FOUND, Group.FETCH, False, "The image is gone (404, 410)."),
    (Reason.HTTP_RATE_LIMITED, Group.FETCH, True, "The host asked for fewer requests (429); lower its rate."),
    (Reason.HTTP_CLIENT_ERROR, Group.FETCH, False, "The host calls the request wrong (another 4xx)."),
    (Reason.HTTP_SERVER_ERROR, Group.FETCH, True, "The host failed (5xx); try again later."),
    (
        Reason.HTTP_UNEXPECTED,
        Group.FETCH,
        False,
        "The answer's status is none that carries an image (204, 206, 3xx without a place).",
    ),
    (Reason.REDIRECT_LIMIT, Group.FETCH, False, "Too many redirects, perhaps a loop."),
    (Reason.REDIRECT_BLOCKED, Group.POLICY, False, "A redirect leads to a place that may not be fetched."),
    (Reason.DEADLINE, Group.FETCH, True, "The image did not arrive within its deadline."),
    (Reason.TOO_SLOW, Group.FETCH, True, "The host sends too slowly."),
    (Reason.CONNECTION_RESET, Group.FETCH, True, "The connection broke while the image was read."),
    (Reason.TRUNCATED_BODY, Group.FETCH, True, "Fewer bytes arrived than were announced."),
    (Reason.BODY_TOO_LARGE, Group.FETCH, False, "The body is larger than max_bytes."),
    (Reason.EMPTY_BODY, Group.FETCH, False, "The answer has no body."),
    (
        Reason.BAD_ENCODING,
        Group.FETCH,
        False,
        "The body is encoded in a way that is not accepted, or inflates too far.",
    ),
    (Reason.BAD_RESPONSE, Group.FETCH, False, "The answer breaks HTTP or its headers are too large."),
    (Reason.NOT_AN_IMAGE, Group.DECODE, False, "The bytes are not of a known image format, whatever their name says."),
    (Reason.FORMAT_NOT_ALLOWED, Group.DECODE, False, "The format is not among the recipe's formats."),
    (Reason.CORRUPT_IMAGE, Group.DECODE, False, "The image is cut or damaged."),
    (Reason.TOO_MANY_PIXELS, Group.DECODE, False, "The image has more pixels than max_pixels."),
    (Reason.TOO_MANY_FRAMES, Group.DECODE, False, "The animation has too many frames."),
    (Reason.TOO_COMPLEX, Group.DECODE, False, "The file's structure costs more to read than any photo needs."),
    (Reason.DECODER_CRASHED, Group.DECODE, False, "Decoding this image killed the decoder."),
    (Reason.DECODER_TIMEOUT, Group.DECODE, False, "Decoding this image took too long."),
    (Reason.FILE_TOO_SMALL, Group.FILTER, False, "The file is smaller than min_bytes."),
    (Reason.TOO_SMALL, Group.FILTER, False, "The shorter side is below min_image_size."),
    (Reason.TOO_LARGE, Group.FILTER, False, "The area is above max_image_area."),
    (Reason.ASPECT_RATIO, Group.FILTER, False, "The sides differ more than max_aspect_ratio allows."),
    (Reason.DUPLICATE, Group.DUPLICATE, False, "The same bytes stand at an earlier row; see duplicate_of."),
    (
        Reason.DUPLICATE_OF_LOST,
        Group.DUPLICATE,
        True,
        "The same bytes stand at an earlier row that could not be stored.",
    ),
    (Reason.SUPERSEDED, Group.JOB, True, "The destination already held this chunk's objects without this row."),
    (Reason.CHUNK_FAILED, Group.JOB, True, "The row's chunk failed; redrive it or retry the row."),
    (Reason.CANCELLED, Group.JOB, True, "The job was cancelled before this row was stored."),
    (
        Reason.UNCHANGED,
        Group.REVISION,
        False,
        "A refresh found the same picture; the row stands in the index of an earlier revision.",
    ),
    (
        Reason.KEPT,
        Group.REVISION,
        False,
        "A refresh got no picture and kept the one there was; the row stands in the index of an earlier revision.",
    ),
    (Reason.REPLACED, Group.REVISION, False, "A refresh replaced the row; it stands in the index of another revision."),
)

REASONS: dict[Reason, About] = {row[0]: About(*row[1:]) for row in _ROWS}

#: Of rows that stand in another index: these say nothing of whether the dataset holds a picture.
ELSEWHERE = frozenset(reason for reason, about in REASONS.items() if about.group is Group.REVISION)


class Status(StrEnum):
    """img2dataset's three words, for readers that expect them."""

    SUCCESS = "success"
    FAILED_TO_DOWNLOAD = "failed_to_download"
    FAILED_TO_RESIZE = "failed_to_resize"


def status_of(reason: Reason | None) -> Status:
    """img2dataset's status for a row with this reason; None means accepted."""
    if reason is None:
        return Status.SUCCESS
    if REASONS[reason].group in (Group.DECODE, Group.FILTER, Group.DUPLICATE):
        return Status.FAILED_TO_RESIZE
    return Status.FAILED_TO_DOWNLOAD
