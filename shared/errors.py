"""Everything a chunk, a job or a request can fail with.

    PixCrawlerError
    ├── TransientError        trouble that may pass and is nobody's fault: no attempt is burned
    │   ├── StoreUnavailable  the object store is away, slow or throttling
    │   ├── WorkAreaFull      no bytes or inodes left on the work volume
    │   ├── PlaceUnavailable  a host that a client named does not answer as it should
    │   ├── DatabaseUnavailable
    │   └── UnknownRecipe     the job is of another version, whose workers can read it
    ├── ChunkError            this chunk went wrong: an attempt is burned, then it fails
    ├── PermanentError        no retry can mend it
    │   ├── StoreRefused      credentials, permission, missing container
    │   ├── PlaceRefused      a URL that a client named may not be asked, or says no
    │   ├── BadSource         the list cannot be read
    │   └── OverQuota         the list is longer than the tenant may ask for in a day
    ├── WorkAreaGone          what an earlier stage left is not there: the chunk starts again
    └── ClaimLost             somebody else owns the chunk now: stop quietly

An image that cannot be had is none of these: it is a row with a `Reason`. `code` is stable and part of the
API; the text is for people and never names an address, a query string or a secret.
"""

from typing import ClassVar


class PixCrawlerError(Exception):
    """The root. `code` is what programs read; `str(error)` is what people read."""

    code: ClassVar[str] = "internal"


class TransientError(PixCrawlerError):
    code = "transient"


class StoreUnavailable(TransientError):
    code = "store_unavailable"


class WorkAreaFull(TransientError):
    code = "work_area_full"


class PlaceUnavailable(TransientError):
    code = "place_unavailable"


class DatabaseUnavailable(TransientError):
    code = "database_unavailable"


class UnknownRecipe(TransientError):
    code = "unknown_recipe"


class ChunkError(PixCrawlerError):
    code = "chunk_error"


class PermanentError(PixCrawlerError):
    code = "permanent"


class StoreRefused(PermanentError):
    code = "store_refused"


class PlaceRefused(PermanentError):
    code = "place_refused"


class BadSource(PermanentError):
    code = "bad_source"


class OverQuota(PermanentError):
    code = "over_quota"


class WorkAreaGone(PixCrawlerError):
    code = "work_area_gone"


class ClaimLost(PixCrawlerError):
    code = "claim_lost"
