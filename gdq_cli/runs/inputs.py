"""From the names on a command line to pictures: files, folders, globs. No torch here."""

from __future__ import annotations

import glob
import io
import itertools
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from gdq_cli.errors import ImageError
from gdq_cli.files import is_stream, path_key, read_pipe, user_path, why_missing
from gdq_cli.images import is_image_name


@dataclass(frozen=True)
class Found:
    """One picture to upscale.

    Attributes:
        path: of the file; of standard input, what outputs are called after.
        base: folder that was named, by itself or in a glob; None of a file that was named itself.
        stream: what a pipe held, which can be read but once.
        shown: what messages call it, where that is not the path.
    """

    path: Path
    base: Path | None = None
    stream: BinaryIO | None = None
    shown: str = ""

    @property
    def below(self) -> Path:
        """Its folder relative to ``base``, kept below the folder of the outputs."""
        return Path() if self.base is None else self.path.parent.relative_to(self.base)

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.shown or str(self.path)

    @property
    def source(self) -> Path | BinaryIO:
        """Where its bytes are."""
        return self.path if self.stream is None else self.stream


@dataclass(frozen=True)
class Inputs:
    """Pictures found for the inputs of a command.

    Attributes:
        files: in order, without repetition.
        ignored: files in the given folders that are hidden or not pictures, pipes and devices among them.
        problems: what was named and is not there, or cannot be looked into, by name.
        one_file: a single file was named, nothing else.
    """

    files: tuple[Found, ...]
    ignored: int = 0
    problems: tuple[tuple[str, ImageError], ...] = ()
    one_file: bool = False


@dataclass
class _Collection:
    files: dict[str, Found] = field(default_factory=dict)
    ignored: int = 0
    problems: list[tuple[str, ImageError]] = field(default_factory=list)

    def fail(self, name: str, reason: str) -> None:
        self.problems.append((name, ImageError(f"{name}: {reason}")))

    def add(self, found: Found) -> None:
        """Add a file once, however often and in whatever spelling it was named."""
        self.files.setdefault(path_key(found.path, follow=False), found)

    def add_named(self, path: Path, mode: int, say: Callable[[str], None]) -> None:
        if not stat.S_ISFIFO(mode):
            self.add(Found(path))
        elif path_key(path, follow=False) not in self.files:
            try:
                self.add(Found(path, stream=read_pipe(path, say)))
            except OSError as error:
                self.fail(str(path), f"cannot be read ({error.strerror or error})")

    def add_listed(self, path: Path, base: Path) -> None:
        if is_image_name(path) and not is_stream(path):
            self.add(Found(path, base))
        else:
            self.ignored += 1


def collect_inputs(
    names: Sequence[str],
    *,
    recursive: bool = False,
    exclude: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Inputs:
    """Turn files, folders and globs into a list of pictures.

    Args:
        names: as given. A file is taken whatever its name, a folder gives the pictures in it, a glob what it matches.
            A named pipe is read to its end; one in a folder is not.
        recursive: also look into folders below, hidden ones and links excepted.
        exclude: folder of the outputs, which is not looked into where it lies below an input.
        say: told what is being waited for.

    Raises:
        ImageError: if folders hold no pictures and nothing else was named.
    """
    found = _Collection()
    nested = 0
    for name in names:
        path = user_path(name)
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError, ValueError):
            if glob.has_magic(name):
                _collect_glob(found, str(path))
            else:
                found.fail(name, why_missing(name, "no such file or folder"))
        except OSError as error:
            found.fail(name, f"cannot be read ({error.strerror or error})")
        else:
            if stat.S_ISDIR(mode):
                nested += _collect_folder(found, path, recursive, exclude)
            else:
                found.add_named(path, mode, say)
    if not found.files and not found.problems:
        hint = "; `recursive` looks into the folders below" if nested else ""
        raise ImageError(f"{', '.join(names)}: no pictures in this folder{hint}")
    one_file = len(names) == 1 and [file.base for file in found.files.values()] in ([], [None])
    return Inputs(tuple(found.files.values()), found.ignored, tuple(found.problems), one_file)


def read_stdin(stream: BinaryIO) -> Inputs:
    """The one picture of standard input, once all of it is there."""
    return Inputs((Found(Path("stdin"), stream=io.BytesIO(stream.read()), shown="standard input"),), one_file=True)


def _collect_folder(found: _Collection, folder: Path, recursive: bool, exclude: Path | None) -> int:
    """Add the pictures of a folder; the number of folders in it that ``recursive`` would look into."""
    skipped = path_key(exclude) if exclude is not None else None

    def report(error: OSError) -> None:
        found.fail(str(error.filename), f"cannot be listed ({error.strerror or error})")

    nested = 0
    for parent, folders, files in os.walk(folder, onerror=report):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and path_key(Path(parent, name)) != skipped
        )
        if not recursive:
            nested += sum(not os.path.islink(os.path.join(parent, name)) for name in folders)
            folders.clear()
        for name in sorted(files):
            found.add_listed(Path(parent, name), folder)
    return nested


def _collect_glob(found: _Collection, pattern: str) -> None:
    base = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts[:-1]))
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
    files = [match for match in matches if os.path.isfile(match)]
    for match in files:
        found.add_listed(match, base)
    if not files:
        found.fail(pattern, "matches no file")
