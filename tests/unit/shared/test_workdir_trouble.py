"""Which trouble with the work volume is nobody's fault, and which is a bug."""

import errno

import pytest

from shared.errors import WorkAreaFull
from shared.workdir.local import full_disk_is_transient


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EROFS, errno.EIO, errno.ESTALE])
def test_a_volume_that_takes_nothing_now_burns_no_attempt(code: int) -> None:
    with pytest.raises(WorkAreaFull), full_disk_is_transient():
        raise OSError(code, "on request")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EISDIR, errno.ENOENT])
def test_anything_else_says_so_and_is_counted(code: int) -> None:
    with pytest.raises(OSError, match="on request"), full_disk_is_transient():
        raise OSError(code, "on request")
