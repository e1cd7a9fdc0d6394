"""Warnings of training pictures that are not clean."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from gdq_cli.errors import ImageError
from gdq_cli.models.checkpoint import Checkpoint, write_checkpoint
from gdq_cli.training import cleanliness
from gdq_cli.training.cleanliness import find_artefacts
from tests.helpers.commands import gdq
from tests.helpers.networks import make_network
from tests.helpers.pictures import make_picture


def save(folder: Path, index: int, quality: int | None) -> Path:
    path = folder / f"{index:03}.{'png' if quality is None else 'jpg'}"
    Image.fromarray(make_picture(64, 64, index)).save(path, **({} if quality is None else {"quality": quality}))
    return path


@pytest.mark.parametrize(
    ("qualities", "share"),
    [
        ([None] * 9 + [40], None),
        ([None] * 8 + [40, 89], "20%"),
        ([90, 95, 100, None], None),
        ([75], "100%"),
        ([], None),
    ],
)
def test_more_than_a_tenth_of_low_quality(tmp_path: Path, qualities: list[int | None], share: str | None) -> None:
    warning = find_artefacts([save(tmp_path, index, quality) for index, quality in enumerate(qualities)])
    if share is None:
        assert warning is None
    else:
        assert warning is not None
        assert warning.startswith(f"{share} of the pictures are JPEGs of a quality below 90")
        assert "\n" not in warning


def test_a_sample_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [save(tmp_path, 0, None)] * 300 + [save(tmp_path, 1, 50)] * 101
    probed: list[Path] = []
    monkeypatch.setattr(cleanliness, "probe_image", lambda file: probed.append(file) or probe(file))
    warning = find_artefacts(files)
    assert len(probed) == 134
    assert warning is not None
    assert warning.startswith("25%")


probe = cleanliness.probe_image


def test_unreadable_pictures_are_an_error(tmp_path: Path) -> None:
    damaged = tmp_path / "a.jpg"
    damaged.write_bytes(b"no picture")
    with pytest.raises(ImageError):
        find_artefacts([damaged])


def test_calibrate_warns_on_one_line(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "plain_x2.safetensors", Checkpoint(make_network(2), None))
    folder = tmp_path / "hr"
    folder.mkdir()
    for index in range(6):
        save(folder, index, 60)
    output = gdq(
        "calibrate", folder, "--from", tmp_path / "plain_x2.safetensors", "-o", tmp_path / "out_x2.safetensors"
    )
    assert [line.startswith(f"note: {folder}: 100% of") for line in output.splitlines()].count(True) == 1
