"""Files that a command line names: what can be wrong with one to be written, said before the work; and pipes."""

from __future__ import annotations

import io
import os
import re
from contextlib import suppress
from functools import partial
from pathlib import Path

from gdq_cli.commands.terminal.wording import say, tell
from gdq_cli.errors import FileError, ImageError, OptionsError, system_errors


def check_output(target: Path | None, *inputs: Path, overwrite: bool, option: str = "output") -> None:
    """Refuse a file that cannot be written, or that is an input; where none is to be written, ``overwrite`` is in vain.

    Raises:
        FileError: as ``gdq_cli.files.check_target``, and for an input.
    """
    if target is None:
        if overwrite:
            say(f"`overwrite` has no effect: nothing is written without `{option}`")
        return
    from gdq_cli.files import check_target  # not at the top: gdq --help needs no files

    for other in inputs:
        with suppress(OSError):
            if os.path.samefile(target, other):
                raise FileError(f"{target}: the output would replace an input; choose another `{option}`")
    check_target(target, overwrite=overwrite)


def check_checkpoint(target: Path, *inputs: Path | None, overwrite: bool) -> None:
    """The same for a checkpoint, whose name tells the model's.

    Raises:
        OptionsError: if its name is not one of a checkpoint.
        FileError: as ``check_output``.
    """
    from gdq_cli.models.schema import NAME_PATTERN

    if target.suffix != ".safetensors":
        raise OptionsError(f"`output` {target}: a checkpoint's name ends with .safetensors")
    if not NAME_PATTERN.fullmatch(model_name(target)):
        raise OptionsError(f"`output` {target}: its name may have letters, digits, '.', '_' and '-' only")
    check_output(target, *(other for other in inputs if other is not None), overwrite=overwrite)


def check_scale(target: Path, scale: int) -> None:
    """Refuse the name of a checkpoint that promises another scale. Raises OptionsError."""
    promised = re.search(r"_x(\d+)$", target.stem)
    if promised is not None and int(promised[1]) != scale:
        raise OptionsError(f"`output` {target}: its name says x{promised[1]}, but the network is x{scale}")


def model_name(target: Path) -> str:
    """What a checkpoint's file calls its model: ``photo`` of ``photo_x4.safetensors``."""
    return target.stem.rpartition("_x")[0] or target.stem


def hold_pipe(path: Path) -> Path | io.BytesIO:
    """What a pipe gives, which can be read but once, as a stream; any other path as it is.

    Raises:
        ImageError: if it cannot be read.
    """
    from gdq_cli.files import read_pipe

    with system_errors(ImageError, f"{path}: cannot be read"):
        if not path.is_fifo():
            return path
        held = read_pipe(path, partial(tell, err=True))
        held.name = str(path)  # what messages call it
        return held
