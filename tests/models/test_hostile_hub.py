"""A Hub that means harm: whatever it answers is one line and exit code 4, writes nothing outside the cache, and costs
little memory and disk."""

from __future__ import annotations

import hashlib
import io
import json
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from gdq_cli.errors import OptionsError, WeightsError
from gdq_cli.models.hub.cache import CachedRepository
from gdq_cli.models.hub.client import fetch, file_url
from gdq_cli.models.hub.download import Trust, cached_file, download_file
from gdq_cli.models.hub.names import parse_hub_name
from tests.helpers.hub_server import COMMIT, HubServer, Repository, error_line, run

FILE = "small_x2.safetensors"
NAME = parse_hub_name("hf:gdq/small")
ETAGS = ("X-Linked-Etag", "ETag")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "a" / "b" / "c" / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return cache


@pytest.fixture
def server(weights: bytes, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    running = HubServer()
    running.repositories["gdq/small"] = Repository({FILE: weights})
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield running
    running.stop()


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def assert_refused(tmp_path: Path, words: str | None = None) -> None:
    start = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match=words) as caught:
            download_file(NAME, 2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    line = str(caught.value)
    assert caught.value.exit_code == 4
    assert line.startswith("hf:gdq/small")
    assert "\n" not in line
    assert len(line) < 400
    assert files(tmp_path) == []
    assert peak < 64 << 20
    assert time.perf_counter() - start < 15


@pytest.mark.parametrize(
    "etag",
    [
        '"../../../../../../owned"',
        '"/tmp/owned"',
        '"..\\\\..\\\\owned"',
        "W/",
        '""',
        '"' + "a" * 40 + '"',
        '"' + "A" * 64 + '"',
        '"' + "a" * 65 + '"',
        '"\x1b]0;owned\x07"',
        "a" * 9000,
        None,
    ],
)
def test_an_etag_is_no_path_and_no_promise(server: HubServer, tmp_path: Path, etag: str | None) -> None:
    server.headers = dict.fromkeys(ETAGS, etag)
    assert_refused(tmp_path, "nobody vouches for it")


@pytest.mark.parametrize("commit", ["../../../../owned", "main", "", None, "c0ffee", "\x1b[2J", "/" * 40])
def test_a_commit_is_no_path(server: HubServer, tmp_path: Path, commit: str | None) -> None:
    server.headers = {"X-Repo-Commit": commit}
    assert_refused(tmp_path, "of no commit")


@pytest.mark.parametrize("size", ["-1", "0", "many", "1e3", "٣", "9" * 400, str(1 << 30)])
def test_sizes(server: HubServer, tmp_path: Path, size: str) -> None:
    server.headers = {"X-Linked-Size": size.encode().decode("latin-1")}
    assert_refused(tmp_path)


def test_more_bytes_than_announced(server: HubServer, tmp_path: Path, weights: bytes) -> None:
    server.flood = True
    assert_refused(tmp_path, f"more than the {len(weights)} bytes")
    assert server.sent < 32 << 20


def test_fewer_bytes_than_announced(server: HubServer, tmp_path: Path, weights: bytes) -> None:
    server.headers = {"X-Linked-Size": str(len(weights) + 1)}
    assert_refused(tmp_path, f"{len(weights)} of the {len(weights) + 1} bytes")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 416, 429, 500, 503])
def test_refusals_without_end(server: HubServer, tmp_path: Path, status: int) -> None:
    server.error = status
    assert_refused(tmp_path)
    assert server.sent < 32 << 20


def test_a_list_of_files_without_end(server: HubServer, tmp_path: Path) -> None:
    server.listing_flood = True
    assert_refused(tmp_path, "a list of files without end")
    assert server.sent < 64 << 20


@pytest.mark.parametrize(
    "listing",
    [
        b"",
        b"<!DOCTYPE html><html><body>Sign in to the airport</body></html>",
        b"null",
        b"[]",
        b"7",
        b'"siblings"',
        b"{}",
        b'{"siblings": null}',
        b'{"siblings": {"a": 1}}',
        b'{"siblings": [null]}',
        b'{"siblings": [{"rfilename": null}]}',
        b'{"siblings": [{"rfilename": ["x_x2.safetensors"]}]}',
        b'{"siblings": [{"name": "x_x2.safetensors"}]}',
        b'{"siblings": [{"rfilename": "../../x_x2.safetensors"}]}',
        b'{"siblings": [{"rfilename": "/etc/x_x2.safetensors"}]}',
        b'{"siblings": [{"rfilename": "\\u001b]0;owned\\u0007_x2.safetensors"}]}',
        b"[" * 200_000,
        b"9" * 100_000,
        b"\xff\xfe\x00",
    ],
    ids=range(19),
)
def test_a_list_of_files_that_is_none(server: HubServer, tmp_path: Path, listing: bytes) -> None:
    server.listing = listing
    assert_refused(tmp_path)


def test_names_of_files_without_end_are_shortened(server: HubServer, tmp_path: Path) -> None:
    server.listing = json.dumps({"siblings": [{"rfilename": "a" * 100_000 + "_x4.safetensors"}]}).encode()
    assert_refused(tmp_path, "no x2 checkpoint")


@pytest.mark.parametrize("dripping", ["head", "file"])
def test_an_answer_that_drips(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dripping: str
) -> None:
    """Each byte comes in time, and the answer never ends."""
    monkeypatch.setattr("gdq_cli.models.hub.client._PATIENCE", 0.5)
    server.drip = 0.01
    if dripping == "head":
        assert_refused(tmp_path, "no whole head in")
    else:
        with pytest.raises(WeightsError, match=r"\d+ bytes in"):
            fetch(NAME, file_url(NAME, FILE, COMMIT), 1 << 20, io.BytesIO(), lambda done: None)


@pytest.mark.parametrize("target", ["", "http://[", "//[::", "file:///etc/passwd", "http://127.0.0.1:9/"])
def test_redirects_to_nowhere(server: HubServer, tmp_path: Path, target: str) -> None:
    server.headers = {"Location": target, **dict.fromkeys(ETAGS)}
    assert_refused(tmp_path)


def test_a_file_that_nobody_vouches_for(server: HubServer, home: Path, weights: bytes) -> None:
    """It takes a word of the user, and is then known by its hash."""
    server.headers = dict.fromkeys(ETAGS, '"' + "a" * 40 + '"')
    sha256, said = hashlib.sha256(weights).hexdigest(), list[str]()
    with pytest.raises(WeightsError, match="nobody vouches"):
        download_file(NAME, 2, trust=Trust())
    with pytest.raises(WeightsError, match=r"SHA-256 .*, expected 0000"):
        download_file(NAME, 2, trust=Trust(sha256="0" * 64))
    path = download_file(NAME, 2, trust=Trust(unverified=True), say=said.append)
    assert [sha256 in line for line in said] == [True]
    assert path.read_bytes() == weights
    assert cached_file(NAME, 2) == path
    path.resolve().write_bytes(b"other")
    with pytest.raises(WeightsError, match="set aside"):
        cached_file(NAME, 2)
    assert download_file(NAME, 2, trust=Trust(sha256=sha256), say=said.append).read_bytes() == weights
    assert len(said) == 1


def test_what_the_user_expects_counts_more(server: HubServer, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="the Hub has a file of the SHA-256"):
        download_file(NAME, 2, trust=Trust(sha256="0" * 64))
    assert files(tmp_path) == []
    with pytest.raises(OptionsError, match="64 digits"):
        Trust(sha256="../..")


def test_a_cached_file_of_others_without_a_hash(server: HubServer, home: Path, weights: bytes) -> None:
    """What huggingface_hub itself has put there under the hash of git, or no hash, is not taken."""
    download_file(NAME, 2)
    storage = home / "models--gdq--small"
    (blob,) = (storage / "blobs").iterdir()
    pointer = storage / "snapshots" / COMMIT / FILE
    pointer.unlink()
    pointer.symlink_to(blob.rename(blob.with_name("a" * 40)))
    with pytest.raises(WeightsError, match="nobody vouches"):
        cached_file(NAME, 2)
    assert download_file(NAME, 2).read_bytes() == weights
    assert cached_file(NAME, 2) is not None


@pytest.mark.parametrize("text", ["../../../..", "", "c0ffee", "x" * 1000, COMMIT + "/..", "\udcff"])
def test_a_reference_in_the_cache_is_no_path(home: Path, text: str) -> None:
    reference = home / "models--gdq--small" / "refs" / "main"
    reference.parent.mkdir(parents=True)
    reference.write_bytes(text.encode(errors="surrogateescape"))
    assert CachedRepository(NAME).commit() is None
    assert cached_file(NAME, 2) is None


def test_without_symbolic_links(server: HubServer, home: Path, weights: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    path = download_file(NAME, 2)
    assert not path.is_symlink()
    assert path.read_bytes() == weights
    assert cached_file(NAME, 2) == path
    path.write_bytes(b"other")
    with pytest.raises(WeightsError, match="nobody vouches"):
        cached_file(NAME, 2)


def test_the_command_line(server: HubServer, tmp_path: Path, weights: bytes) -> None:
    home = tmp_path / "deep" / "er" / "hf"
    server.headers = dict.fromkeys(ETAGS, '"../../../../../owned"')
    assert "--unverified takes" not in error_line(run(server, home, "models", "pull", "hf:gdq/small", code=4)[1])
    stdout, stderr = run(server, home, "models", "pull", "hf:gdq/small", "-x", 2, "--unverified")
    assert Path(stdout.strip()).read_bytes() == weights
    assert "note: hf:gdq/small: nobody vouches for this file" in stderr
    assert all(path.is_relative_to(home) for path in files(tmp_path))
