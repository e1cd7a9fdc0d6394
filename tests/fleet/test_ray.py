"""Runs on a Ray cluster of two nodes, from S3 to S3."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.fleet.conftest import Bucket
from tests.helpers.commands import gdq, run_process
from tests.helpers.paths import ROOT
from tests.helpers.pictures import make_picture

pytestmark = pytest.mark.ray

BROKEN = {
    "empty.png": b"",
    "text.jpg": b"no picture at all",
    "cut.png": 400,
    "cut.jpg": 300,
    "riff.webp": b"RIFF\x10\0\0\0WEBPVP8 ",
    "page.tif": b"II*\0\x08\0\0\0\xff\xff",
}
"""By name: content, or how much is left of a whole picture."""


def encode(suffix: str, seed: int, side: int = 24) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(make_picture(side, side + 7, seed))
    if suffix == "gif":
        image = image.quantize(32)
    elif seed % 5 == 0 and suffix == "png":
        image.putalpha(120)
    image.save(stream, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()))
    return stream.getvalue()


def mixed_pictures() -> dict[str, bytes]:
    """60 of several formats, in folders; 6 of them broken."""
    suffixes = ("png", "jpg", "webp", "tif", "bmp", "ppm")
    files = {
        f"{'deep/er/' * (number % 3 == 0)}{number:02} ü.{suffixes[number % 6]}": encode(suffixes[number % 6], number)
        for number in range(54)
    }
    for name, content in BROKEN.items():
        files[f"deep/{name}"] = encode(name[-3:], 1)[:content] if isinstance(content, int) else content
    return files


@pytest.fixture(scope="module")
def pictures(bucket: Bucket) -> dict[str, bytes]:
    files = mixed_pictures()
    for name, content in files.items():
        bucket.put(f"in/{name}", content)
    return files


def on_ray(cluster: Any, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    return run_process("upscale", *arguments, "-x", 2, "--ray", cluster.address, cwd=ROOT)


def test_bytes_are_those_of_a_local_run(
    cluster: Any, bucket: Bucket, pictures: dict[str, bytes], model: Path, tmp_path: Path
) -> None:
    for name, content in pictures.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    gdq("upscale", tmp_path / "in", "-r", "-o", tmp_path / "out", "-x", 2, "-m", model, "--quiet", code=1)
    local = {str(file.relative_to(tmp_path / "out")): file for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert len(local) == 54

    result = on_ray(cluster, "s3://bucket/in", "-r", "-o", "s3://bucket/out", "-m", model, "--json")
    assert result.returncode == 1, result.stderr
    *rows, last = map(json.loads, result.stdout.splitlines())
    summary = last["summary"]
    assert (summary["ok"], summary["failed"], summary["skipped"]) == (54, 6, 0)
    assert {row["input"] for row in rows if row["status"] == "failed"} == {f"s3://bucket/in/deep/{name}" for name in BROKEN}
    assert all(row["input"] in row["error"] for row in rows if row["status"] == "failed")
    assert {row["output"] for row in rows if row["status"] == "ok"} == {f"s3://bucket/out/{name}" for name in local}
    assert bucket.keys("out/") == sorted(f"out/{name}" for name in local)
    for name, file in local.items():
        assert bucket.get(f"out/{name}") == file.read_bytes(), name
    puts = [request for request in bucket.requests if request.startswith("PUT /bucket/out/")]
    assert len(puts) == len(local)  # one each
    assert b"secret-of-the-tests" not in result.stdout + result.stderr
    assert not result.stderr.strip(), "Ray's own talk is left out"


def test_a_second_run_only_skips_and_opens_nothing(cluster: Any, bucket: Bucket, pictures: dict[str, bytes]) -> None:
    """After the first; what is broken has been removed."""
    for name in BROKEN:
        bucket.client.delete_object(Bucket="bucket", Key=f"in/deep/{name}")
    before = len(bucket.requests)
    result = on_ray(cluster, "s3://bucket/in", "-r", "-o", "s3://bucket/out")
    assert result.returncode == 0, result.stderr
    assert b"0 upscaled, 54 skipped, 0 failed" in result.stdout
    opened = [request for request in bucket.requests[before:] if "?list-type" not in request]
    assert all(request.startswith("HEAD /bucket/") and "." not in request for request in opened), opened


def test_a_node_is_lost(cluster: Any, bucket: Bucket, model: Path) -> None:
    names = [f"{number:02}.png" for number in range(40)]
    for number, name in enumerate(names):
        bucket.put(f"lost/in/{name}", encode("png", number, 160))
    command = [sys.executable, "-m", "gdq_cli", "upscale", "s3://bucket/lost/in", "-o", "s3://bucket/lost/out"]
    with subprocess.Popen(
        [*command, "-x", "2", "-m", str(model), "--json", "--ray", cluster.address],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        started = time.monotonic()
        deadline = time.monotonic() + 100
        while len(bucket.keys("lost/out/")) < 6:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        print("first pictures after", time.monotonic() - started)
        cluster.remove_node(cluster.second, allow_graceful=False)
        done = len(bucket.keys("lost/out/"))
        output, errors = process.communicate(timeout=100)
    print("done after", time.monotonic() - started)
    assert done < len(names), "the node was removed in the middle"
    assert process.returncode == 0, errors
    *rows, last = map(json.loads, output.splitlines())
    assert last["summary"]["ok"] == len(names)
    assert sorted(row["input"] for row in rows) == [f"s3://bucket/lost/in/{name}" for name in names]
    assert bucket.keys("lost/out/") == [f"lost/out/{name[:2]}_x2.png" for name in names]
    for name in names:
        Image.open(io.BytesIO(bucket.get(f"lost/out/{name[:2]}_x2.png"))).load()
