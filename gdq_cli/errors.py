"""What can go wrong for a user: one line of text each, and the exit code of the command line.

A message names an argument in backticks, `` `max_pixels` `` or with a value `` `device=cpu` ``; commands.terminal makes
options of them.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager


class GdqError(Exception):
    """An error whose message is meant for the user: what is wrong and what to do, on one line."""

    exit_code = 1


class OptionsError(GdqError):
    """Options that are out of range or contradict each other."""

    exit_code = 2


class FileError(GdqError):
    """A file that cannot be written."""

    exit_code = 3


class ImageError(GdqError):
    """A picture that cannot be read, or not be held by the format of an output."""

    exit_code = 3


class WeightsError(GdqError):
    """A checkpoint that is missing, damaged, or not of the kind that was asked for."""

    exit_code = 4


class DeviceError(GdqError):
    """A device that is absent, unfit, or out of memory."""

    exit_code = 5


def mebibytes(size: int) -> int:
    """A size that is more than a limit, as a message says it: rounded up, since rounded down it could be the limit."""
    return -(-size >> 20)


@contextmanager
def system_errors(kind: type[GdqError], what: str) -> Iterator[None]:
    """What the system refuses is an error of this kind: what cannot be done, and the system's reason."""
    try:
        yield
    except OSError as error:
        raise kind(f"{what} ({error.strerror or error})") from error


_NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|bad_alloc|DataLoader worker.*Killed")
"""What torch says where the computer's own memory ran out."""


@contextmanager
def memory_errors(cure: str = "give smaller pictures", cure_here: str | None = None) -> Iterator[None]:
    """Running out of memory, on the CPU or a device, or of threads is an error with an exit code, not a traceback.

    Args:
        cure: what to do about it.
        cure_here: where it is the computer's own memory; by default the same.
    """
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        text = str(error)
        enough = isinstance(error, OSError) and error.errno != errno.ENOMEM
        if isinstance(error, RuntimeError):
            if "out of memory" in text:
                raise DeviceError(f"out of memory on the device: {cure} ({text.splitlines()[0]})") from error
            if "can't start new thread" in text:
                raise DeviceError(
                    "no more threads can be started; raise the limit (ulimit -u, or of the container)"
                ) from error
            enough = _NO_MEMORY.search(text) is None
        if enough:
            raise
        raise DeviceError(f"out of memory: {cure_here or cure}, or close other programs") from error
