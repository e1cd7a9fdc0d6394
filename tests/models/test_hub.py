"""Models from anywhere, against a Hub on loopback with the real client: what arrives, what is refused, what is said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from gdq_cli.errors import WeightsError
from gdq_cli.models import store as hub
from gdq_cli.models.hub.names import HubName, parse_hub_name, pick_file
from tests.helpers.hub_server import COMMIT, HubServer, Repository, error_line, run
from tests.helpers.pictures import make_picture

FILE = "small_x2.safetensors"


@pytest.fixture
def server(weights: bytes) -> Iterator[HubServer]:
    running = HubServer()
    running.repositories["gdq/small"] = Repository({FILE: weights, "README.md": b"# small\n"})
    yield running
    running.stop()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "hf"


def blobs(home: Path) -> list[str]:
    return sorted(path.name for path in home.rglob("blobs/*"))


def test_a_cold_upscale_downloads_the_model_and_says_so(server: HubServer, home: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.png"
    Image.fromarray(make_picture(20, 24)).save(source)
    _, stderr = run(server, home, "upscale", source, "-x", 2, "-m", "hf:gdq/small")
    assert Image.open(tmp_path / "in_x2.png").size == (48, 40)
    size = len(server.repositories["gdq/small"].files[FILE]) / 1e6
    assert f"downloading {FILE} from {server.url}/gdq/small (revision main, {size:.1f} MB)" in stderr
    assert stderr.count("downloading") == 1


def test_pull_then_everything_without_the_network(server: HubServer, home: Path, weights: bytes) -> None:
    stdout, stderr = run(server, home, "models", "pull", f"hf:gdq/small@{COMMIT}", "-x", 2)
    assert Path(stdout.strip()).read_bytes() == weights
    assert "downloading" in stderr
    stdout, stderr = run(server, home, "models", "pull", "hf:gdq/small", "-x", 2)
    assert "downloading" not in stderr  # the same commit is here already
    asked = len(server.requests)
    for arguments, environment in (
        (("models", "path", "hf:gdq/small", "-x", 2), {}),
        (("models", "path", f"hf:gdq/small/{FILE}", "-x", 2), {"HF_HUB_OFFLINE": "1"}),
        (("models", "path", f"hf:gdq/small@{COMMIT}", "-x", 2), {"HF_HUB_OFFLINE": "1"}),
    ):
        run(server, home, *arguments, **environment)
    assert len(server.requests) == asked
    server.stop()
    stdout, _ = run(server, home, "models", "info", "hf:gdq/small", "-x", 2, "--json")  # the warm cache comes first
    assert json.loads(stdout)["sha256"] == hashlib.sha256(weights).hexdigest()
    line = error_line(run(server, home, "models", "pull", "hf:gdq/small", "-x", 2, code=4)[1])
    assert "cannot download it from" in line
    assert "check the connection" in line


def test_offline_and_not_here(server: HubServer, home: Path) -> None:
    for arguments, environment in (
        (("models", "path", "hf:gdq/small"), {}),
        (("models", "info", "hf:gdq/small", "--offline"), {}),
        (("models", "info", "hf:gdq/small"), {"HF_HUB_OFFLINE": "1"}),
        (("models", "pull", "hf:gdq/small"), {"HF_HUB_OFFLINE": "1"}),
    ):
        assert "offline" in error_line(run(server, home, *arguments, code=4, **environment)[1]).lower()
    assert server.requests == []


@pytest.mark.parametrize(
    ("name", "scale", "message"),
    [
        ("hf:gdq/absent", 2, "no such repository"),
        ("hf:gdq/small@nightly", 2, "no revision 'nightly'"),
        ("hf:gdq/small/other_x2.safetensors", 2, "no such file"),
        ("hf:gdq/small", 4, f"no x4 checkpoint; it has {FILE}"),
        ("hf:gdq/private", 2, "private: check the name, or set HF_TOKEN"),
        ("hf:gdq/gated", 2, "accept its terms"),
    ],
)
def test_what_the_hub_refuses(server: HubServer, home: Path, name: str, scale: int, message: str) -> None:
    server.repositories["gdq/private"] = Repository({FILE: b"x"}, token="hf_right")
    server.repositories["gdq/gated"] = Repository({FILE: b"x"}, gated=True)
    assert message in error_line(run(server, home, "models", "pull", name, "-x", scale, code=4)[1])
    assert blobs(home) == []


def test_a_token_opens_a_private_repository(server: HubServer, home: Path, weights: bytes) -> None:
    server.repositories["gdq/private"] = Repository({FILE: weights}, token="hf_right")
    stdout, _ = run(server, home, "models", "pull", "hf:gdq/private", "-x", 2, HF_TOKEN="hf_right")
    assert Path(stdout.strip()).read_bytes() == weights


def test_a_cut_connection_is_resumed(server: HubServer, home: Path, weights: bytes) -> None:
    server.cut = 1
    stdout, _ = run(server, home, "models", "pull", "hf:gdq/small", "-x", 2)
    assert Path(stdout.strip()).read_bytes() == weights
    ranges = [asked for method, path, asked in server.requests if method == "GET" and "resolve" in path]
    assert ranges[0] is None
    assert ranges[1] is not None
    start = int(ranges[1].removeprefix("bytes=").removesuffix("-"))
    assert len(weights) // 4 < start <= len(weights) // 2


def test_corrupted_bytes_are_not_kept(server: HubServer, home: Path, weights: bytes) -> None:
    server.corrupt = True
    digest = hashlib.sha256(weights).hexdigest()
    line = error_line(run(server, home, "models", "pull", "hf:gdq/small", "-x", 2, code=4)[1])
    assert f"expected {digest[:12]}" in line
    assert "not kept" in line
    assert blobs(home) == []
    assert "offline" in error_line(run(server, home, "models", "path", "hf:gdq/small", "-x", 2, code=4)[1])
    server.corrupt = False
    stdout, _ = run(server, home, "models", "pull", "hf:gdq/small", "-x", 2)
    assert Path(stdout.strip()).read_bytes() == weights


def test_a_cached_file_that_rots_is_set_aside(server: HubServer, home: Path) -> None:
    path = Path(run(server, home, "models", "pull", "hf:gdq/small", "-x", 2)[0].strip())
    path.resolve().write_bytes(path.read_bytes()[:-1] + b"?")
    assert "set aside" in error_line(run(server, home, "models", "path", "hf:gdq/small", "-x", 2, code=4)[1])
    assert "downloading" in run(server, home, "models", "pull", "hf:gdq/small", "-x", 2)[1]
    run(server, home, "models", "path", "hf:gdq/small", "-x", 2)


def test_the_users_own_folder(tmp_path: Path, weights: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_x2.safetensors").write_bytes(weights)
    monkeypatch.setenv("GDQ_MODEL_DIR", str(tmp_path))
    assert hub.resolve("mine", 2) == tmp_path / "mine_x2.safetensors"
    assert hub.resolve("edsr", 4).parent == hub.bundled_folder()  # bundled ones come first
    assert ("mine", 2, "GDQ_MODEL_DIR") in [(m.name, m.scale, m.place) for m in hub.list_models()]
    with pytest.raises(WeightsError, match=r"no model 'mine' at x3.*mine x2"):
        hub.resolve("mine", 3)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hf:a/b", HubName("a/b")),
        ("hf:a/b@v1.0", HubName("a/b", "v1.0")),
        ("hf:a/b@refs/pr/3", HubName("a/b", "refs/pr/3")),
        ("hf:a/b/c_x4.safetensors", HubName("a/b", file="c_x4.safetensors")),
        ("hf:a/b@v1/deep/c_x4.safetensors", HubName("a/b", "v1", "deep/c_x4.safetensors")),
    ],
)
def test_names(text: str, name: HubName) -> None:
    assert parse_hub_name(text) == name
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    [
        "hf:",
        "hf:a",
        "hf:../../etc/passwd",
        "hf:a/..",
        "hf:a/b/../../x.safetensors",
        "hf:a/b//x.safetensors",
        "hf:a/b/x.pth",
        "hf:a/b@../main",
        "hf:a/b@-x",
        "hf:a/b\n",
        "hf:a/\x1b[2J",
        "hf:a/b?x=y",
    ],
)
def test_names_with_tricks(text: str) -> None:
    with pytest.raises(WeightsError) as caught:
        hub.resolve(text, 2)
    assert "\x1b" not in str(caught.value)


def test_pick_file() -> None:
    name = HubName("a/b")
    assert pick_file(name, ["x_x2.safetensors", "x_x4.safetensors", "README.md"], 4) == "x_x4.safetensors"
    assert pick_file(name, ["model.safetensors", "config.json"], 4) == "model.safetensors"
    for files, message in (
        ([], "no .safetensors file"),
        (["x_x2.safetensors"], "it has x_x2"),
        (["a_x4.safetensors", "b_x4.safetensors"], "several"),
    ):
        with pytest.raises(WeightsError, match=message):
            pick_file(name, files, 4)
