"""SHA-256 of files: whether a file is the one somebody vouched for. No torch here."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gdq_cli.errors import WeightsError, system_errors


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file.

    Raises:
        WeightsError: if it cannot be read.
    """
    digest = hashlib.sha256()
    with system_errors(WeightsError, f"{path}: cannot read the checkpoint"), path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_sha256(path: Path, expected: str) -> str:
    """The SHA-256 of a file, which must be the expected one.

    Raises:
        WeightsError: if it is another, or the file cannot be read.
    """
    sha256 = file_sha256(path)
    if sha256 != expected:
        raise WeightsError(f"{path}: its SHA-256 is {sha256[:12]}..., expected {expected[:12]}...: damaged file")
    return sha256
