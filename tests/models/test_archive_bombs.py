"""Weights files that claim more than they hold: refused before anything is taken for them."""

from __future__ import annotations

import copy
import zipfile
from pathlib import Path

import pytest
import torch

from gdq_cli.errors import WeightsError
from gdq_cli.models.archive import check_archive
from gdq_cli.models.convert import read_state


def expanded(path: Path, *, zipped: bool) -> None:
    tensors = {f"t{index}": torch.zeros(1).expand(1 << 28) for index in range(10)}
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)


def shared(path: Path) -> None:
    storage = torch.zeros(1 << 16)
    torch.save({f"t{index}": storage.view(1 << 16) for index in range(6000)}, path)


def packed(path: Path) -> None:
    torch.save({"t": torch.zeros(1 << 20)}, path.with_name("plain"))
    with zipfile.ZipFile(path.with_name("plain")) as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in plain.namelist():
            archive.writestr(name, plain.read(name))


def overlapping(path: Path) -> None:
    """Every entry of the directory leads to the same bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data/0", bytes(1 << 16))
        for index in range(1, 100):
            entry = copy.copy(archive.filelist[0])
            entry.filename = f"x/data/{index}"
            archive.filelist.append(entry)


def crowded(path: Path) -> None:
    torch.save({"t": torch.zeros(1)}, path)
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\5\6")
    data[end + 8 : end + 12] = b"\xff\xff\xff\xff"
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: expanded(path, zipped=True), "claims"),
        (lambda path: expanded(path, zipped=False), "claims"),
        (shared, "together claim more than 1 GiB"),
        (packed, "more than the file has"),
        (overlapping, "more than the file has"),
        (crowded, "no network has so many tensors"),
    ],
    ids=["expanded", "expanded, old format", "shared", "packed", "overlapping", "crowded"],
)
def test_archives_that_claim_more_than_they_hold(make: object, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    make(path)  # type: ignore[operator]
    assert path.stat().st_size < 1 << 20
    with pytest.raises(WeightsError, match=words) as caught:
        read_state(path)
    assert caught.value.exit_code == 4


def test_sound_archives_pass(tmp_path: Path) -> None:
    state = {"a": torch.zeros(100, 100), "b": torch.ones(7)}
    torch.save({"state_dict": state | {"c": state["a"]}, "epoch": 3}, tmp_path / "x.pth")
    check_archive(tmp_path / "x.pth")
    found, facts = read_state(tmp_path / "x.pth")
    assert found.keys() == {"a", "b", "c"}
    assert facts == {"epoch": 3}
