"""Folders for the copies of a batch, which are gone afterwards, even where the process was killed."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gdq_cli.errors import FileError, system_errors
from gdq_cli.files import fcntl

_PREFIX = "gdq-stage-"
_YOUNG = 60.0  # seconds in which a folder may not be locked yet


@contextmanager
def staging_folder() -> Iterator[Path]:
    """An empty folder in the system's place for temporary files (``TMPDIR``), removed when the block ends.

    Raises:
        FileError: if there is no room for one.
    """
    with system_errors(FileError, "no temporary folder can be made"):
        made = tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True)
    with made as name:
        descriptor = _lock(Path(name))
        try:
            yield Path(name)
        finally:
            if descriptor is not None:
                os.close(descriptor)


def remove_stale_folders() -> int:
    """Remove folders that killed processes of this user left; those in use are locked and stay. How many."""
    removed = 0
    if fcntl is None:
        return removed
    for folder in Path(tempfile.gettempdir()).glob(_PREFIX + "*"):
        with suppress(OSError):
            found = folder.lstat()
            old = time.time() - found.st_mtime > _YOUNG
            if found.st_uid != os.getuid() or not old or folder.is_symlink():
                continue
            descriptor = _lock(folder)
            if descriptor is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(descriptor)
                removed += 1
    return removed


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the lock of a folder as long as it is open; None where another has it."""
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
