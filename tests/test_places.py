"""Places: one noun for paths and addresses."""

from __future__ import annotations

import http.server
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

from gdq_cli.errors import FileError, ImageError, OptionsError
from gdq_cli.files import OutputExistsError
from gdq_cli.places import Address, LocalPlace, is_address, is_plain, parse_place

fsspec = pytest.importorskip("fsspec")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/in", True),
        ("HTTPS://host/a.png", True),
        ("memory://a", True),
        ("a/b.png", False),
        ("s3:/bucket", False),
        ("C://folder", False),
        ("file:///tmp/a.png", False),
        ("", False),
    ],
)
def test_addresses_are_told_from_paths(text: str, expected: bool) -> None:
    assert is_address(text) is expected
    assert isinstance(parse_place(text), Address if expected else LocalPlace)


@pytest.mark.parametrize(
    ("address", "shown", "name"),
    [
        ("s3://bucket/in/a b.png", "s3://bucket/in/a b.png", "a b.png"),
        ("s3://bucket/who@where/a.png", "s3://bucket/who@where/a.png", "a.png"),
        ("s3://bucket/a?b.png", "s3://bucket/a?b.png", "a?b.png"),
        ("https://me:word@host/a%20b.png?sig=abc#x", "https://***@host/a%20b.png", "a b.png"),
        ("sftp://me:word@host/in/", "sftp://***@host/in/", "in"),
        ("abfs://box@account.dfs.core.windows.net/a.png", "abfs://box@account.dfs.core.windows.net/a.png", "a.png"),
    ],
)
def test_secrets_are_not_shown(address: str, shown: str, name: str) -> None:
    place = parse_place(address)
    assert (str(place), place.name) == (shown, name)
    assert "word" not in repr(place)
    assert pickle.loads(pickle.dumps(place)) == place


def test_a_file_system_that_tells_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages of libraries hold addresses, and those of signed requests."""

    def fail(self: Address) -> None:
        raise RuntimeError(f"GET {self.base} failed: https://x:y@host/b?X-Amz-Signature=1234\nand more")

    monkeypatch.setattr(Address, "_open", fail)
    with pytest.raises(ImageError) as caught:
        Address("https://me:word@host/a.png?token=5678").fetch(Path("unused"))
    message = str(caught.value)
    assert message.startswith("https://***@host/a.png: cannot be read (GET https://***@host/a.png failed")
    assert not any(secret in message for secret in ("word", "5678", "1234", "x:y", "\n"))


def test_a_library_that_repeats_parts_of_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """As botocore does with what it takes for the name of a bucket."""

    def fail(self: Address) -> None:
        raise ValueError("Invalid bucket name 'me:sesa%6de@b', user me:sesame, password sesa%6de or sesame")

    monkeypatch.setattr(Address, "_open", fail)
    with pytest.raises(ImageError) as caught:
        Address("s3://me:sesa%6de@b/in?.png").fetch(Path("unused"))
    assert str(caught.value) == (
        "s3://***@b/in?.png: cannot be read (Invalid bucket name '***@b', user ***, password *** or ***)"
    )


def test_parts_and_parents() -> None:
    place = parse_place("s3://bucket/in/")
    below = place / "deep/a.png"
    assert str(below) == "s3://bucket/in/deep/a.png"
    assert below.key == parse_place("s3a://bucket/in/deep/a.png").key
    assert str(below.parent / "b.png") == "s3://bucket/in/deep/b.png"
    assert str(parse_place("s3://bucket/in/a.png").parent / "b.png") == "s3://bucket/in/b.png"


def test_what_lies_below_is_never_an_address(memory: Any, tmp_path: Path) -> None:
    """fsspec would take ``::`` for a chain of file systems, and ``*`` for a pattern."""
    memory.pipe_file("/in/a::file:///etc/*.png", b"123")
    (name,) = parse_place("memory://in").files(recursive=True)
    assert (parse_place("memory://in") / name).fetch(tmp_path / "copy").read_bytes() == b"123"


def test_listing(memory: Any) -> None:
    for name in ("b.png", "a.png", "sub/c.png", "sub/deep/d.png"):
        memory.pipe_file(f"/in/{name}", b"")
    place = parse_place("memory://in")
    assert place.kind() == "folder"
    assert place.files() == ["a.png", "b.png"]
    assert place.files(recursive=True) == ["a.png", "b.png", "sub/c.png", "sub/deep/d.png"]
    assert (place / "a.png").kind() == "file"
    assert (place / "x.png").kind() is None
    assert parse_place("memory://nothing").files(recursive=True) == []


def test_a_listing_that_leads_elsewhere(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(memory), "find", lambda self, path, **_: ["/other/a.png"])
    with pytest.raises(ImageError, match="lies elsewhere"):
        parse_place("memory://in").files()


@pytest.mark.parametrize("base", ["memory://out", "local"])
def test_put(memory: Any, tmp_path: Path, base: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"one")
    target = parse_place(str(tmp_path / "out") if base == "local" else base) / "deep/a.png"
    target.put(source)
    source.write_bytes(b"two")
    with pytest.raises(OutputExistsError):
        target.put(source)
    assert target.fetch(tmp_path / "copy").read_bytes() == b"one"
    target.put(source, overwrite=True)
    assert target.fetch(tmp_path / "copy").read_bytes() == b"two"
    assert target.parent.files() == ["a.png"]


def test_put_without_a_store_takes_the_name_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file system on which a half-written file can be seen: here fsspec's own of this machine."""
    from fsspec.implementations.local import LocalFileSystem

    seen: list[list[str]] = []

    class Disk(LocalFileSystem):
        protocol = "disk"
        fails = False

        def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
            super().put_file(lpath, rpath)
            seen.append(sorted(path.name for path in (tmp_path / "out").iterdir()))
            if self.fails:
                raise OSError("the line is cut")

    fsspec.register_implementation("disk", Disk, clobber=True)
    source = tmp_path / "source"
    source.write_bytes(b"one")
    target = parse_place(f"disk://{tmp_path}/out") / "a.png"
    target.put(source)
    assert len(seen[0]) == 1
    assert seen[0][0].startswith(".a.png.")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
    monkeypatch.setattr(Disk, "fails", True)
    with pytest.raises(FileError, match=r"disk://.*/b.png: cannot be written \(the line is cut\)"):
        (target.parent / "b.png").put(source)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_a_link_leads_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "source").write_bytes(b"x")
    with pytest.raises(FileError, match="leads out of"):
        (parse_place(str(tmp_path / "out")) / "sub/a.png").put(tmp_path / "source")
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a.png", True),
        ("a/b c/d::e.png", True),
        ("a\nb.png", True),
        ("../a.png", False),
        ("a/../../b.png", False),
        ("/etc/a.png", False),
        ("a//b.png", False),
        ("./a.png", False),
        ("a\0.png", False),
        ("", False),
    ],
)
def test_names_that_stay_below(name: str, plain: bool) -> None:
    assert is_plain(name) is plain


def test_wrong_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="there are no addresses nope://"):
        parse_place("nope://a").kind()
    with pytest.raises(OptionsError, match="nothing can be written to https://"):
        parse_place("https://host/a.png").check_writable()

    def missing(scheme: str) -> None:
        raise ImportError("Install s3fs")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(OptionsError, match=r"s3://bucket: a package is missing .*pip install '.\[s3\]'"):
        parse_place("s3://bucket").kind()


def test_https(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    (tmp_path / "a b.png").write_bytes(b"123")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert parse_place(f"{address}/a%20b.png?x=1").fetch(tmp_path / "copy").read_bytes() == b"123"
        with pytest.raises(ImageError, match=r"/no.png: cannot be read \(no such file or folder\)"):
            parse_place(f"{address}/no.png").fetch(tmp_path / "copy")
        server.shutdown()
