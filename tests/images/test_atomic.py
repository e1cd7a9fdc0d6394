"""Files appear complete or not at all, and nothing is replaced unasked."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from PIL import Image

from gdq_cli.errors import FileError, ImageError
from gdq_cli.files import OutputExistsError, atomic_file, check_target, remove_stale_parts
from gdq_cli.images import Picture, read_image, write_image
from gdq_cli.images.writing import writer
from gdq_cli.options import Encoding
from tests.helpers.image_samples import photo

RGB = photo(24, 33)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


FAILURES: list[tuple[BaseException, type[BaseException], str]] = [
    (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
    (SystemExit(1), SystemExit, "^1$"),
    (MemoryError("full"), MemoryError, "full"),
    (RuntimeError("a bug"), RuntimeError, "a bug"),
    (OSError(errno.ENOSPC, "No space left on device"), FileError, "cannot be written .the disk is full"),
    (OSError("encoder error -2"), ImageError, "the encoder failed .encoder error -2"),
]


@pytest.mark.parametrize(("failure", "expected", "words"), FAILURES)
@pytest.mark.parametrize("existing", [None, b"the file before"])
def test_a_failing_encoder_leaves_no_file_and_no_damage(
    failure: BaseException,
    expected: type[BaseException],
    words: str,
    existing: bytes | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = tmp_path / "out.png"
    if existing is not None:
        target.write_bytes(existing)
    seen: list[list[str]] = []

    def encode(stream: BinaryIO, *rest: Any) -> None:
        stream.write(b"half of it")
        stream.flush()
        seen.append(names(tmp_path))
        raise failure

    monkeypatch.setattr(writer, "encode_png", encode)
    with pytest.raises(expected, match=words):
        write_image(target, Picture(RGB), overwrite=True)
    assert any(name.startswith(".out.png.") and name.endswith(".part") for name in seen[0])
    assert names(tmp_path) == ([] if existing is None else ["out.png"])
    if existing is not None:
        assert target.read_bytes() == existing


def test_a_failing_encoder_gives_a_stream_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def encode(stream: BinaryIO, *rest: Any) -> None:
        stream.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "encode_png", encode)
    with (tmp_path / "stream").open("wb") as stream, pytest.raises(KeyboardInterrupt):
        write_image(stream, Picture(RGB), Encoding(format="png"))
    assert (tmp_path / "stream").read_bytes() == b""


def test_an_existing_file_stays_unless_told_otherwise(tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    target.write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match=r"out\.png: exists already; `overwrite` replaces it"):
        write_image(target, Picture(RGB))
    assert target.read_bytes() == b"precious"
    write_image(target, Picture(RGB), overwrite=True)
    np.testing.assert_array_equal(read_image(target).rgb, RGB)
    assert names(tmp_path) == ["out.png"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_while_writing_stays(links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:
        monkeypatch.setattr(os, "link", refuse_links)
    target = tmp_path / "out.bin"
    with pytest.raises(OutputExistsError), atomic_file(target) as stream:  # noqa: PT012
        stream.write(b"ours")
        target.write_bytes(b"theirs")
    assert target.read_bytes() == b"theirs"
    assert names(tmp_path) == ["out.bin"]


def refuse_links(*args: object, **options: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("in_one_step", [True, False])
def test_file_systems_without_links(in_one_step: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse_links)
    if not in_one_step:
        monkeypatch.setattr("ctypes.CDLL", refuse_links)
    target = tmp_path / "out.png"
    write_image(target, Picture(RGB))
    np.testing.assert_array_equal(read_image(target).rgb, RGB)
    assert names(tmp_path) == ["out.png"]

    with pytest.raises(OutputExistsError):
        write_image(target, Picture(RGB))

    def fail(*args: object) -> None:
        assert not (tmp_path / "second.png").exists()  # a kill now must not leave an empty file under that name
        raise KeyboardInterrupt

    monkeypatch.setattr("ctypes.CDLL", refuse_links)
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(KeyboardInterrupt):
        write_image(tmp_path / "second.png", Picture(RGB))
    assert names(tmp_path) == ["out.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_follows_the_umask(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_image(tmp_path / "out.png", Picture(RGB))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.png").stat().st_mode) == mode


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
def test_a_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    target.write_bytes(b"")
    target.chmod(0o640)
    write_image(target, Picture(RGB), overwrite=True)
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    for name in ("old.png", "new.png"):
        (tmp_path / name).symlink_to(tmp_path / "real" / name)
    (tmp_path / "real" / "old.png").write_bytes(b"old")
    for name in ("old.png", "new.png"):
        write_image(tmp_path / name, Picture(RGB), overwrite=True)
        assert (tmp_path / name).is_symlink()
        np.testing.assert_array_equal(read_image(tmp_path / "real" / name).rgb, RGB)


@pytest.mark.parametrize("name", ["выход.png", "出力 画像.png", "q'\"%s.png", "ü" * 120 + ".png"])
def test_any_file_name_can_be_written(name: str, tmp_path: Path) -> None:
    write_image(tmp_path / name, Picture(RGB))
    assert names(tmp_path) == [name]
    np.testing.assert_array_equal(read_image(tmp_path / name).rgb, RGB)


def test_targets_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    table = {
        tmp_path / "none" / "out.png": "there is no folder",
        tmp_path / "file" / "out.png": "there is no folder",
        tmp_path / ("x" * 300 + ".png"): "the name is too long",
    }
    (tmp_path / "folder.png").mkdir()
    table[tmp_path / "folder.png"] = "is a folder"
    for target, words in table.items():
        for call in (
            lambda target: write_image(target, Picture(RGB)),
            lambda target: check_target(target, overwrite=True),
        ):
            with pytest.raises(FileError, match=words) as caught:
                call(target)
            assert str(caught.value).startswith(f"{target}: cannot be written (")
    assert names(tmp_path) == ["file", "folder.png"]


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *args, **options: False)
    with pytest.raises(FileError, match="no permission to write to"):
        write_image(tmp_path / "out.png", Picture(RGB))
    monkeypatch.undo()

    def refuse(*args: object, **options: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(FileError, match="no permission"):
        write_image(tmp_path / "out.png", Picture(RGB))


@pytest.mark.skipif(sys.platform == "win32", reason="needs file locks")
def test_stale_parts_are_removed_and_living_ones_stay(tmp_path: Path) -> None:
    (tmp_path / ".old.png.0123456789ab.part").write_bytes(b"half")
    for name in ("mine.part", ".mine.part", ".a.0123456789ab.png"):
        (tmp_path / name).write_bytes(b"not one of ours")
    with atomic_file(tmp_path / "out.bin") as stream:
        stream.write(b"ours")
        assert remove_stale_parts(tmp_path) == 1
    assert names(tmp_path) == [".a.0123456789ab.png", ".mine.part", "mine.part", "out.bin"]


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_a_killed_run_leaves_no_file_under_the_final_name(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from gdq_cli.files import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as stream:\n"
        "    stream.write(b'half'); stream.flush(); print('writing', flush=True); time.sleep(60)\n"
    )
    target = tmp_path / "out.bin"
    with subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(signal.SIGKILL)
    assert not target.exists()
    assert remove_stale_parts(tmp_path) == 1
    assert names(tmp_path) == []


def test_threads_write_side_by_side(tmp_path: Path) -> None:
    """Many writers of one name: one wins, the others are told, and the file is whole."""
    results: list[str] = []

    def write(seed: int) -> None:
        try:
            write_image(tmp_path / "one.png", Picture(photo(24, 33, seed)))
            results.append("written")
        except OutputExistsError:
            results.append("exists")

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    assert sorted(results) == ["exists"] * 7 + ["written"]
    assert names(tmp_path) == ["one.png"]
    with Image.open(tmp_path / "one.png") as image:
        image.load()
