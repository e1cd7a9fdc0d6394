"""How much memory a run may use, and large arrays that live in a file instead. No torch here."""

from __future__ import annotations

import ctypes
import errno
import math
import mmap
import os
import re
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdq_cli.errors import ImageError, OptionsError

CURE = "lower `memory`, give smaller pictures"
"""What a run can do that ran out of this computer's memory."""

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d*)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_FALLBACK = 2 << 30  # where the system does not tell
_TRIM_SECONDS = 0.2
MINIMUM = 64 << 20
"""Smallest budget: below it nothing could be in flight."""


def parse_size(text: str) -> int:
    """Bytes of ``2GiB``, ``800M``, ``1.5g`` or a plain number; all units are powers of 1024.

    Raises:
        OptionsError: if it is none of these, less than ``MINIMUM``, or more than any machine has.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise OptionsError(f"`memory` takes a size such as 2GiB or 800M, not {text!r}")
    size = float(match[1]) * _UNITS[match[2].lower()]
    if size < MINIMUM:
        raise OptionsError(f"`memory` must be at least {MINIMUM >> 20} MiB, not {text!r}")
    if size >= 2**60:
        raise OptionsError(f"`memory` {text[:30]!r} is more than any machine has")
    return int(size)


def keep_freed_memory() -> bool:
    """Have glibc reuse what large tensors free in place of giving it back page by page; for a whole process.

    Training frees and takes the same large blocks in every step: a fifth of its time would go to clearing fresh pages.

    Returns:
        Whether the C library took it; it does on Linux with glibc.
    """
    mmap_max, trim_threshold, top_pad = -4, -1, -2  # of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # musl, macOS; Windows takes no None
        return False
    wishes = ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 64 << 20))
    return all(mallopt(ctypes.c_int(name), ctypes.c_int(value)) for name, value in wishes)


def free_memory() -> int:
    """Bytes that this process could still take without swapping, the limits of its control group included."""
    free = [_available()]
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # "max" is no number: no limit
            free.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
    return max(0, min(free))


def _available() -> int:
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) << 10
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return _FALLBACK


def default_budget() -> int:
    """Half of what is free: the rest is for the network's own buffers, the encoder, and other programs."""
    return max(MINIMUM, free_memory() // 2)


class ArrayStore:
    """Makes the large arrays of one picture, in memory or, if asked, in temporary files without a name.

    The files have no name on POSIX systems, so that even a killed run leaves none. The space is allocated at once:
    a full disk is an error here and not a crash in the middle.

    Args:
        folder: for the files: that of the output, or None for the system's own.
        mapped: whether to use files.
    """

    def __init__(self, folder: Path | None, *, mapped: bool) -> None:
        self._folder, self.mapped = folder, mapped
        self._maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()  # gone as soon as no array needs them

    def empty(self, shape: Sequence[int], dtype: Any = np.uint8) -> NDArray[Any]:
        """An array whose content is arbitrary.

        Raises:
            ImageError: if there is no room for the file.
        """
        if not self.mapped:
            return np.empty(tuple(shape), dtype)
        size = math.prod(shape) * np.dtype(dtype).itemsize
        try:
            with tempfile.TemporaryFile(dir=self._folder, prefix=".gdq-", suffix=".part") as file:
                _allocate(file.fileno(), size)
                array = np.memmap(file, dtype, "r+", shape=tuple(shape))
        except OSError as error:
            reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
            raise ImageError(f"no room for a temporary file of {size >> 20} MiB ({reason})") from error
        self._maps.add(array._mmap)  # type: ignore[attr-defined]
        return array

    @contextmanager
    def trimmed(self) -> Iterator[None]:
        """Keep the resident part of the files small while the block runs: pages go back to the system's cache."""
        if not self.mapped or not hasattr(mmap, "MADV_DONTNEED"):
            yield
            return
        done = threading.Event()

        def trim() -> None:
            while not done.wait(_TRIM_SECONDS):
                for mapping in list(self._maps):
                    mapping.madvise(mmap.MADV_DONTNEED)  # shared mapping: what was written stays in the file

        thread = threading.Thread(target=trim, name="gdq-trim", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    block = bytes(1 << 20)
    for start in range(0, size, len(block)):
        os.write(descriptor, block[: size - start])
