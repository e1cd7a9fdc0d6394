"""What torch.save writes, looked at before torch.load takes any memory for it: a zip archive of stored records."""

from __future__ import annotations

import zipfile
from pathlib import Path

from gdq_cli.errors import WeightsError

MAX_RECORDS = 1 << 16
"""More are no network: each is a tensor."""

MAX_PICKLE = 1 << 26
"""Bytes of the record that names the tensors; of large networks it has less than one MiB."""

_DIRECTORY_END = b"PK\5\6"
_NEAR = (1 << 16) + 22  # where it begins, at most so far from the end


def check_archive(path: Path) -> None:
    """Refuse an archive whose records unpack to more than the file holds; a file that is no archive passes.

    Raises:
        WeightsError: if it is such a file.
        OSError, ValueError, zipfile.BadZipFile, NotImplementedError: if it cannot be read as what it begins as.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\3\4":
            return
        size = file.seek(0, 2)
        file.seek(max(0, size - _NEAR))
        tail = file.read()
    at = tail.rfind(_DIRECTORY_END)
    count = int.from_bytes(tail[at + 10 : at + 12], "little") if at >= 0 else 0
    directory = int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0
    if count >= MAX_RECORDS - 1 or directory > MAX_PICKLE:
        raise WeightsError(f"{path}: an archive of {count} records; no network has so many tensors")
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
    unpacked = sum(record.file_size for record in records)
    if unpacked > size:
        raise WeightsError(f"{path}: its records unpack to {unpacked >> 20} MiB, more than the file has")
    if any(record.file_size > MAX_PICKLE for record in records if record.filename.endswith(".pkl")):
        raise WeightsError(f"{path}: the list of its tensors has more than {MAX_PICKLE >> 20} MiB")
