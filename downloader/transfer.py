"""One HTTP exchange on a libcurl handle: what is asked, what is answered, and where it is cut short."""

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import pycurl

from downloader.pack import Body, BodyRefused, BodySuffices
from shared.guard import Refusal, Target
from shared.reasons import Reason

#: As aiohttp's defaults: a header line longer than this, or more lines, is no honest answer.
MAX_HEADER_BYTES = 8190
MAX_HEADERS = 128
#: All lines together, those of interim answers and trailers included: libcurl keeps them while the transfer lasts.
MAX_HEAD_BYTES = 64 * 1024
#: Bytes of an unwanted body (an error page, a redirect's text) read to keep the connection.
MAX_DISCARDED_BYTES = 64 * 1024
#: Slower than this for `stall_seconds` is too slow.
LOW_SPEED_BYTES = 1024
#: Read from a socket at once: six times fewer callbacks an image than libcurl's 16 KiB.
_BUFFER_BYTES = 128 * 1024
#: An idle connection older than this is not trusted again.
_MAX_IDLE_SECONDS = 60


#: Stands for each length of that many digits; libcurl reads such a body as if none were announced.
_MAX_DIGITS = 19
ASTRONOMIC = 10**_MAX_DIGITS


@dataclass(slots=True)
class Head:
    """The status and the header fields somebody reads, names in lower case."""

    status: int = 0
    fields: dict[str, list[str]] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        """The field's first value; None when it is absent."""
        values = self.fields.get(name)
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        return self.fields.get(name, [])

    @property
    def length(self) -> int | None:
        """What Content-Length announces; None when absent or nonsense, `ASTRONOMIC` for more digits than files have."""
        text = self.get("content-length") or ""
        if not (text.isascii() and text.isdecimal()):
            return None
        return int(text) if len(text) < _MAX_DIGITS else ASTRONOMIC


#: Looks at the head before the body is read: None takes the body, a refusal drops the connection.
Judge = Callable[[Head], Refusal | None]
#: Checks an address on behalf of a host, once more, when the socket opens.
DialCheck = Callable[[str, str], Refusal | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is to be fetched and under which limits."""

    target: Target
    #: Where the connection goes: checked by the guard.
    address: str
    check_address: DialCheck
    judge: Judge
    #: Made when a wanted body begins.
    make_body: Callable[[], Body]
    connect_timeout_seconds: float
    stall_seconds: int
    deadline_seconds: float
    #: Sent beside those of every request.
    headers: tuple[bytes, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """How the exchange ended. `reason` is None when the whole body of a 200 is in `body`, or the status says it all."""

    head: Head
    reason: Reason | None = None
    detail: str | None = None
    #: Finished: in its pack, or to be read.
    body: Body | None = None


#: The answer to a condition that does not hold: what was fetched before is what there is.
NOT_MODIFIED: Final = 304
#: Statuses whose body is an image; every other body is thrown away.
WANTED: Final = frozenset({200, 203})

#: The header fields somebody reads; hosts send many more.
_READ = frozenset(
    (
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"etag",
        b"last-modified",
        b"location",
        b"retry-after",
        b"tdm-reservation",
        b"x-robots-tag",
    )
)
_HEADERS = (b"Accept: image/*,*/*;q=0.5", b"Accept-Encoding: identity")
_ABORT = -1
_REASON_OF = {
    pycurl.E_COULDNT_RESOLVE_HOST: Reason.DNS_TEMPORARY,
    pycurl.E_COULDNT_CONNECT: Reason.CONNECT_FAILED,
    pycurl.E_SSL_CONNECT_ERROR: Reason.CONNECT_FAILED,
    pycurl.E_PEER_FAILED_VERIFICATION: Reason.TLS_INVALID,
    pycurl.E_SSL_CERTPROBLEM: Reason.TLS_INVALID,
    pycurl.E_SSL_CIPHER: Reason.TLS_INVALID,
    pycurl.E_SSL_ISSUER_ERROR: Reason.TLS_INVALID,
    pycurl.E_SSL_INVALIDCERTSTATUS: Reason.TLS_INVALID,
    pycurl.E_PARTIAL_FILE: Reason.TRUNCATED_BODY,
    pycurl.E_GOT_NOTHING: Reason.CONNECTION_RESET,
    pycurl.E_RECV_ERROR: Reason.CONNECTION_RESET,
    pycurl.E_SEND_ERROR: Reason.CONNECTION_RESET,
    pycurl.E_FILESIZE_EXCEEDED: Reason.BODY_TOO_LARGE,
    pycurl.E_BAD_CONTENT_ENCODING: Reason.BAD_ENCODING,
}


class Transfer:
    """A handle and what is going on with it; used again and again."""

    def __init__(self, agent: str, ca_file: str | None) -> None:
        self.curl = _handle(agent, ca_file)
        self.curl.setopt(pycurl.HEADERFUNCTION, self._take_header)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._take_piece)
        self.curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        self._request: Request | None = None
        self._head = Head()
        self._lines = self._head_bytes = 0
        self._discarded = 0
        self._body: Body | None = None
        self._is_cut = False
        self._refusal: Refusal | None = None
        self._error: Exception | None = None

    def begin(self, request: Request) -> None:
        """Sets the handle up for a request."""
        self._request = request
        self._head = Head()
        self._lines = self._head_bytes = self._discarded = 0
        self._body = self._refusal = self._error = None
        self._is_cut = False
        curl, address = self.curl, request.address
        curl.setopt(pycurl.URL, request.target.url)
        curl.setopt(pycurl.HTTPHEADER, [*_HEADERS, *request.headers])
        place = f"[{address}]" if ":" in address else address
        # Empty host and port match every URL: whatever libcurl reads in ours, it dials this address.
        curl.setopt(pycurl.CONNECT_TO, [f"::{place}:{request.target.port}"])
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, _milliseconds(request.connect_timeout_seconds))
        curl.setopt(pycurl.TIMEOUT_MS, _milliseconds(request.deadline_seconds))
        curl.setopt(pycurl.LOW_SPEED_TIME, request.stall_seconds)

    def end(self, code: int) -> Answer:
        """The answer, once libcurl is done. Raises what the body's file raised."""
        body, self._body = self._body, None
        try:
            if self._error is not None:
                raise self._error
            refusal = self._refusal or self._failure(code) or self._unfinished(body)
            if refusal is not None:
                return Answer(head=self._head, reason=refusal.reason, detail=refusal.detail)
            answer = Answer(head=self._head, body=body)
            body = None
            return answer
        finally:
            self._request = None
            if body is not None:
                body.close()

    def abandon(self) -> None:
        """Forgets the request; nobody waits for its answer."""
        self._request = None
        if self._body is not None:
            self._body.close()
            self._body = None

    def _failure(self, code: int) -> Refusal | None:
        if code == pycurl.E_OK or (self._is_cut and code == pycurl.E_WRITE_ERROR):
            return None
        if code == pycurl.E_OPERATION_TIMEDOUT:
            return Refusal(self._timeout(), "timeout")
        if code == pycurl.E_RECV_ERROR and "chunk" in self.curl.errstr():
            return Refusal(Reason.BAD_RESPONSE, "chunks")  # libcurl has one code for this and for a broken connection
        return Refusal(_REASON_OF.get(code, Reason.BAD_RESPONSE), f"curl_{code}")

    def _timeout(self) -> Reason:
        assert self._request is not None, "begun"
        # Not PRETRANSFER_TIME: where TLS stalls, libcurl sets it all the same.
        if self.curl.getinfo(pycurl.REQUEST_SIZE) == 0:
            return Reason.CONNECT_TIMEOUT
        # libcurl has one code for both; only the total deadline ends at the deadline.
        spent = self.curl.getinfo(pycurl.TOTAL_TIME)
        return Reason.DEADLINE if spent >= self._request.deadline_seconds - 0.05 else Reason.TOO_SLOW

    def _unfinished(self, body: Body | None) -> Refusal | None:
        if self._head.status not in WANTED:
            return None
        if body is None:
            return Refusal(Reason.BAD_RESPONSE, "no_body")
        try:
            body.finish()
        except BodyRefused as refused:
            return Refusal(refused.reason, refused.detail)
        return None

    def _take_header(self, line: bytes) -> int | None:
        self._lines += 1
        self._head_bytes += len(line)
        if len(line) > MAX_HEADER_BYTES or self._lines > MAX_HEADERS or self._head_bytes > MAX_HEAD_BYTES:
            return self._refuse(Refusal(Reason.BAD_RESPONSE, "headers"))
        if line in (b"\r\n", b"\n"):
            return self._judge() if self._head.status >= 200 else None
        if line.startswith(b"HTTP/"):
            self._head = Head(_status(line))
            return None
        name, colon, value = line.partition(b":")
        key = name.strip().lower()
        if colon and key in _READ:
            self._head.fields.setdefault(key.decode(), []).append(value.strip().decode("latin-1"))
        return None

    def _judge(self) -> int | None:
        if self._body is not None:
            return None  # a trailer's end
        request, head = self._request, self._head
        assert request is not None, "begun"
        refusal = request.judge(head)
        if refusal is not None:
            return self._refuse(refusal)
        if head.status not in WANTED:
            # What a 304 announces is the length of the body that it does not send.
            is_long = head.status != NOT_MODIFIED and (head.length or 0) > MAX_DISCARDED_BYTES
            return self._cut() if is_long else None
        return self._begin_body(request)

    def _begin_body(self, request: Request) -> int | None:
        self._body = request.make_body()
        try:
            encodings = ", ".join(self._head.all("content-encoding")).lower()
            self._body.expect(self._head.length, encodings)
        except BodyRefused as refused:
            return self._refuse(Refusal(refused.reason, refused.detail))
        return None

    def _take_piece(self, piece: bytes) -> int | None:
        if self._body is None:
            self._discarded += len(piece)
            return self._cut() if self._discarded > MAX_DISCARDED_BYTES else None
        try:
            self._body.write(piece)
        except BodySuffices:
            return self._cut()
        except BodyRefused as refused:
            return self._refuse(Refusal(refused.reason, refused.detail))
        except Exception as error:
            self._error = error
            return _ABORT
        return None

    def _refuse(self, refusal: Refusal) -> int:
        self._refusal = refusal
        return _ABORT

    def _cut(self) -> int:
        """Ends the transfer without blame: all that was wanted is known."""
        self._is_cut = True
        return _ABORT

    def _open_socket(self, _purpose: int, wanted: tuple[int, int, int, tuple[str, int]]) -> socket.socket | int:
        family, kind, protocol, place = wanted
        request = self._request
        if request is None:
            return int(pycurl.SOCKET_BAD)
        refusal = request.check_address(request.target.host, place[0])
        if refusal is not None:
            self._refusal = refusal
            return int(pycurl.SOCKET_BAD)
        return _Lent(family, kind, protocol)


class _Lent(socket.socket):
    """A socket that pycurl copies: ours closes when it is forgotten, which is no oversight."""

    def __del__(self) -> None:
        self.close()


def _handle(agent: str, ca_file: str | None) -> pycurl.Curl:
    curl = pycurl.Curl()
    options: dict[int, object] = {
        pycurl.USERAGENT: agent,
        pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
        pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
        pycurl.HTTP09_ALLOWED: 0,
        pycurl.HTTP_CONTENT_DECODING: 0,
        pycurl.FOLLOWLOCATION: 0,
        pycurl.PROXY: "",
        pycurl.NOPROXY: "*",
        pycurl.NETRC: pycurl.NETRC_IGNORED,
        pycurl.NOSIGNAL: 1,
        pycurl.TCP_NODELAY: 1,
        pycurl.BUFFERSIZE: _BUFFER_BYTES,
        pycurl.LOW_SPEED_LIMIT: LOW_SPEED_BYTES,
        pycurl.MAXAGE_CONN: _MAX_IDLE_SECONDS,
        pycurl.SSL_VERIFYPEER: 1,
        pycurl.SSL_VERIFYHOST: 2,
    }
    if ca_file is not None:
        options[pycurl.CAINFO] = ca_file
    for option, value in options.items():
        curl.setopt(option, value)
    return curl


def _status(line: bytes) -> int:
    with contextlib.suppress(IndexError, ValueError):
        return int(line.split(None, 2)[1])
    return 0


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
