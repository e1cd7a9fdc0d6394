"""Which pictures a command works on, and where each result goes."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

from gdq_cli.errors import ImageError
from gdq_cli.images import is_image_name
from gdq_cli.jobs import choose_target
from gdq_cli.options import UpscaleOptions


@dataclass(frozen=True)
class Inputs:
    """Pictures found for the inputs of a command.

    Attributes:
        files: in order, without repetition.
        ignored: files in the given folders that are hidden or not pictures.
        missing: what was named and is not there.
    """

    files: tuple[Path, ...]
    ignored: int
    missing: tuple[str, ...]


def collect_inputs(names: list[str], *, recursive: bool = False) -> Inputs:
    """Turn files, folders and globs into a list of pictures.

    Args:
        names: as given. A file is taken whatever its name, a folder gives the pictures in it, a glob what it matches.
        recursive: also look into folders below.

    Raises:
        ImageError: if a folder holds no pictures and nothing else was named.
    """
    files: dict[Path, None] = {}
    missing: list[str] = []
    ignored = 0
    for name in names:
        path = Path(name).expanduser()
        if path.is_dir():
            found = sorted(p for p in (path.rglob("*") if recursive else path.iterdir()) if p.is_file())
            pictures = [p for p in found if is_image_name(p)]
            ignored += len(found) - len(pictures)
            files.update(dict.fromkeys(pictures))
        elif path.exists():
            files[path] = None
        elif glob.has_magic(name):
            matches = [Path(match) for match in sorted(glob.glob(name, recursive=True)) if Path(match).is_file()]
            files.update(dict.fromkeys(matches))
            if not matches:
                missing.append(name)
        else:
            missing.append(name)
    if not files and not missing:
        raise ImageError(f"{', '.join(names)}: no pictures in this folder")
    return Inputs(tuple(files), ignored, tuple(missing))


def plan_targets(files: tuple[Path, ...], options: UpscaleOptions, output: Path | None) -> list[tuple[Path, Path]]:
    """Pair every picture with the file its result goes to.

    Raises:
        ImageError: if several pictures would go to one file.
        OptionsError: if the output's suffix is not one that gdq writes.
    """
    pairs = [(file, choose_target(file, options, output)) for file in files]
    seen: dict[Path, Path] = {}
    for source, target in pairs:
        if target in seen:
            raise ImageError(
                f"{target}: both {seen[target]} and {source} would be written there; give --output a folder"
            )
        seen[target] = source
    return pairs
