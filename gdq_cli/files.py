"""Files that appear complete or not at all.

The bytes go to a hidden, uniquely named neighbour of the target, which takes the target's name as the last step.
A reader, or a run that continues after a kill, finds either no file or a whole one under the final name.
"""

from __future__ import annotations

import ctypes
import errno
import io
import os
import re
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

from gdq_cli.errors import FileError

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PART_SUFFIX = ".part"
_PART_NAME = re.compile(r"\..*\.[0-9a-f]{12}\.part", re.DOTALL)
_ADDRESS = re.compile(r"([a-z][a-z0-9+-]+):/+(.*)", re.IGNORECASE | re.DOTALL)
_MAX_NAME = 255  # bytes in a file name, on every usual file system
_PATIENCE = 2.0  # seconds that one waits without a word
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1  # of Linux
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}


class OutputExistsError(FileError):
    """The output is there already and must not be replaced."""


@contextmanager
def atomic_file(target: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a file for writing that becomes `target` when the block ends, and vanishes when the block raises.

    The content is synced to disk before it gets its name: `gdq` skips outputs that exist, so a name must never stand
    for a file that a power cut emptied. (The name itself is not synced; losing it only means that the picture is made
    again.) The mode follows the umask, or is that of the file replaced. A symbolic link is followed, not replaced.

    Args:
        target: where the file shall be; its folder must exist.
        overwrite: replace a file of that name. Otherwise one that is there, or appears in the meantime, stays.

    Raises:
        OutputExistsError: there is such a file, and `overwrite` is False.
        FileError: the folder does not exist or cannot be written, the disk is full, the target is a folder.
    """
    final = Path(os.path.realpath(target))
    check_target(target, overwrite=overwrite)
    part = final.with_name(_part_name(final.name))
    try:
        with _create(part) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            if os.name != "nt":  # under the lock; Windows cannot rename an open file
                _publish(part, final, overwrite)
        if os.name == "nt":
            _publish(part, final, overwrite)
    except BaseException as e:
        with suppress(OSError):
            os.unlink(part)
        if isinstance(e, FileExistsError):
            raise OutputExistsError(f"{target}: exists already; `overwrite` replaces it") from e
        if isinstance(e, OSError):
            raise FileError(f"{target}: cannot be written ({_strerror(e)})") from e
        raise


def open_regular(path: Path) -> BinaryIO:
    """Open a file on a disk for reading, and nothing else: a pipe or a device could keep whoever opens or reads it.

    Raises:
        OSError: as of ``open``, and with ``EINVAL`` for what is no such file.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a file on a disk", os.fspath(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def user_path(text: str) -> Path:
    """A path as a user writes it: ``~`` is the home folder, unless nobody knows of one."""
    return Path(os.path.expanduser(text))


def path_key(path: Path, *, follow: bool = True) -> str:
    """Equal for paths that lead to the same place on this system, however they are spelled and over whatever links.

    Args:
        path: of a file, there or not.
        follow: where the file is a link, too; without it two links to one file are two places.
    """
    place = os.path.realpath(path) if follow else os.path.join(os.path.realpath(path.parent), path.name)
    return place.casefold() if sys.platform in ("darwin", "win32") else place


def why_missing(
    name: str | os.PathLike[str], what: str = "no such file", cure: str = "; download it first and give the file"
) -> str:
    """What to say of a path that leads to no file: an address is no path, a link may lead nowhere.

    Args:
        name: as given, or as a path, which holds one slash of an address's two.
        what: to say of anything else.
        cure: added for an address.
    """
    found, path = _ADDRESS.match(os.fspath(name)), user_path(os.fspath(name))
    if found is None and is_endless(path):
        return "is a pipe or device, and a file on a disk is wanted"
    if found is None:
        return f"{what}, but a link to {os.readlink(path)}, which is not there" if os.path.islink(path) else what
    if found[1].lower() == "file":
        return f"gdq takes paths, not addresses; this one's path is /{unquote(found[2])}"
    return f"gdq takes paths, not addresses{cure}"


def is_endless(path: Path) -> bool:
    """Whether a path leads to a pipe, a device or a socket, which may never come to an end."""
    try:
        kind = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))


def is_stream(path: Path) -> bool:
    """Whether a path leads to what is no file on a disk, or is a descriptor of a process, be it of such a file."""
    descriptor = path.is_relative_to("/proc") or path.is_relative_to("/dev/fd")
    return is_endless(path) or (descriptor and os.path.exists(path))


def read_pipe(path: Path, say: Callable[[str], None]) -> io.BytesIO:
    """All that goes into a named pipe, which can be read but once. Raises OSError."""
    with announced(say, f"{path} is a pipe; waiting for all that goes into it"):
        return io.BytesIO(path.read_bytes())


@contextmanager
def announced(say: Callable[[str], None], text: str) -> Iterator[None]:
    """Say what is being waited for, should the block take longer than a moment."""
    timer = threading.Timer(_PATIENCE, say, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def check_target(target: Path, *, overwrite: bool = False) -> None:
    """Find out before the work whether `atomic_file` has a chance. Raises as it does."""
    final = Path(os.path.realpath(target))
    folder = final.parent
    if len(os.fsencode(final.name)) > _MAX_NAME:
        raise FileError(f"{target}: cannot be written (the name is too long)")
    try:
        if not folder.is_dir():
            reason = why_missing(target, f"there is no folder {folder}", cure="")
            raise FileError(f"{target}: cannot be written ({reason})")
        if final.is_dir():
            raise FileError(f"{target}: cannot be written (is a folder)")
        if is_stream(final) or is_endless(target):  # a pipe's name by /dev/stdout is no path
            raise FileError(f"{target}: cannot be written (a pipe or device stands there)")
        if not overwrite and final.exists():
            raise OutputExistsError(f"{target}: exists already; `overwrite` replaces it")
    except OSError as error:  # a folder that may not be entered, a name that is too long
        raise FileError(f"{target}: cannot be written ({_strerror(error)})") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"{target}: cannot be written (no permission to write to {folder})")


def check_link(target: Path, folder: Path) -> None:
    """Refuse a name that was made for an output and leads elsewhere: a link may have been put there by others.

    Args:
        target: in ``folder`` or below it.
        folder: that the user named, be it a link itself.

    Raises:
        FileError: if links lead out of the folder.
    """
    if not Path(os.path.realpath(target)).is_relative_to(os.path.realpath(folder)):
        raise FileError(f"{target}: cannot be written (a link there leads out of {folder}; remove it)")


def remove_stale_parts(folder: Path) -> int:
    """Remove the unfinished files that killed runs left in a folder. Those being written are locked and stay.

    Returns:
        How many were removed. 0 on systems without file locks, where they cannot be told apart.
    """
    removed = 0
    if fcntl is None:
        return removed
    for part in folder.iterdir():
        if not _PART_NAME.fullmatch(part.name):
            continue
        with suppress(OSError), open_regular(part) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(part)
            removed += 1
    return removed


def _part_name(name: str) -> str:
    token = f".{os.urandom(6).hex()}{PART_SUFFIX}"
    stem = os.fsencode(name)[: _MAX_NAME - 1 - len(token)]
    return "." + stem.decode("utf-8", "ignore") + token


def _create(part: Path) -> BinaryIO:
    """Create a part file, locked for as long as it is open, so that `remove_stale_parts` of another run lets it be."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    while True:
        stream = os.fdopen(os.open(part, flags, 0o666), "w+b")
        if fcntl is None:
            return stream
        with suppress(OSError):  # file systems without locks: there a leftover stays, hidden
            fcntl.flock(stream, fcntl.LOCK_EX)
        if os.fstat(stream.fileno()).st_nlink:
            return stream
        stream.close()  # taken for a stale one in the instant before the lock


def _publish(part: Path, final: Path, overwrite: bool) -> None:
    """Give the finished file its name."""
    if overwrite:
        with suppress(OSError):
            os.chmod(part, stat.S_IMODE(os.stat(final).st_mode))
        os.replace(part, final)
    elif os.name == "nt":
        os.rename(part, final)  # never replaces there
    else:
        try:
            os.link(part, final)  # never replaces; rename would
        except OSError as e:
            if e.errno not in _NO_LINKS:
                raise
            _rename(part, final)
        else:
            os.unlink(part)


def _rename(part: Path, final: Path) -> None:
    """Rename, without replacing, where there are no hard links (FAT, some network drives).

    Linux does it in one step. Elsewhere a look comes first, and what appears in the instant after it is replaced: an
    empty file that claims the name would be left under it by a kill.
    """
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        rename = None
    if rename is not None:
        if rename(_AT_FDCWD, os.fsencode(part), _AT_FDCWD, os.fsencode(final), _RENAME_NOREPLACE) == 0:
            return
        if ctypes.get_errno() == errno.EEXIST:
            raise FileExistsError
    if os.path.lexists(final):
        raise FileExistsError
    os.rename(part, final)


def _strerror(e: OSError) -> str:
    text = (e.strerror or str(e)).lower()
    return {errno.ENOSPC: "the disk is full", errno.EACCES: "no permission"}.get(e.errno or 0, text)
