"""What can go wrong for a user: one line of text each, and the exit code of the command line.

A message names an argument in backticks, `` `max_pixels` `` or with a value `` `device=cpu` ``; commands.wording makes
options of them.
"""

from __future__ import annotations

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


@contextmanager
def memory_errors() -> Iterator[None]:
    """Running out of memory, on the CPU or a device, is an error with an exit code, not a traceback."""
    try:
        yield
    except MemoryError as error:
        raise DeviceError(
            "out of memory: close other programs, lower `memory`, or upscale a smaller picture"
        ) from error
    except RuntimeError as error:
        if "out of memory" in str(error) or "can't allocate memory" in str(error):
            raise DeviceError(f"out of memory on the device ({str(error).splitlines()[0]})") from error
        raise
