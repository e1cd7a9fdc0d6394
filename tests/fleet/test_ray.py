"""Runs on a Ray cluster of two nodes, from S3 to S3."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.fleet.conftest import Bucket
from tests.helpers.commands import gdq
from tests.helpers.paths import ROOT
from tests.helpers.pictures import make_picture
from tests.helpers.s3 import KEYS, listing_server, s3_environment

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


def encode(suffix: str, seed: int, side: int = 60) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(make_picture(side, side + 7, seed))
    if seed % 5 == 0 and suffix == "png":
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


def on_ray(cluster: Any, *arguments: object) -> subprocess.Popen[bytes]:
    command = ["upscale", *arguments, "-x", 2, "--ray", cluster.address]
    return subprocess.Popen(
        [sys.executable, "-m", "gdq_cli", *map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_bytes_are_those_of_a_local_run_though_a_node_is_lost(
    cluster: Any, bucket: Bucket, pictures: dict[str, bytes], model: Path, tmp_path: Path
) -> None:
    for name, content in pictures.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    gdq("upscale", tmp_path / "in", "-r", "-o", tmp_path / "out", "-x", 2, "-m", model, "--quiet", code=1)
    local = {str(file.relative_to(tmp_path / "out")): file for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert len(local) == 54

    def written() -> int:
        return sum(request.startswith("PUT /bucket/out/") for request in bucket.requests)

    with on_ray(cluster, "s3://bucket/in", "-r", "-o", "s3://bucket/out", "-m", model, "--json") as process:
        deadline = time.monotonic() + 100
        while written() < 5 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        cluster.remove_node(cluster.second, allow_graceful=False)
        before = written()
        output, errors = process.communicate(timeout=100)
    assert before < len(local), "the node was removed in the middle"
    assert process.returncode == 1, errors
    *rows, last = map(json.loads, output.splitlines())
    summary = last["summary"]
    assert (summary["ok"], summary["failed"], summary["skipped"]) == (54, 6, 0)
    failed = [row for row in rows if row["status"] == "failed"]
    assert {row["input"] for row in failed} == {f"s3://bucket/in/deep/{name}" for name in BROKEN}
    assert all(row["input"] in row["error"] for row in failed)
    assert {row["output"] for row in rows if row["status"] == "ok"} == {f"s3://bucket/out/{name}" for name in local}
    assert bucket.keys("out/") == sorted(f"out/{name}" for name in local)
    for name, file in local.items():
        assert bucket.get(f"out/{name}") == file.read_bytes(), name
    assert KEYS["AWS_SECRET_ACCESS_KEY"].encode() not in output + errors
    assert not errors.strip(), "what Ray has to say goes to its log files"


def test_a_second_run_only_skips_and_opens_nothing(cluster: Any, bucket: Bucket, pictures: dict[str, bytes]) -> None:
    """After the first; what is broken has been removed."""
    for name in BROKEN:
        bucket.client.delete_object(Bucket="bucket", Key=f"in/deep/{name}")
    before = len(bucket.requests)
    with on_ray(cluster, "s3://bucket/in", "-r", "-o", "s3://bucket/out") as process:
        output, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert b"0 upscaled, 54 skipped, 0 failed" in output
    asked = bucket.requests[before:]
    assert {request for request in asked if "?list-type" not in request} <= {"HEAD /bucket/in", "HEAD /bucket/out"}
    assert len(asked) < 10, "a listing for each folder, nothing for each picture"


def test_ten_thousand_keys_take_the_driver_seconds() -> None:
    """By the processor time of the driver, which other work on the machine and the server do not lengthen."""
    pytest.importorskip("s3fs")
    if not Path("/proc/self/status").exists():
        pytest.skip("the system does not tell the peak of a process's memory")
    names = [f"{number % 20:02}/{number:05}" for number in range(10_000)]
    keys = [f"in/{name}.png" for name in names] + [f"out/{name}_x2.png" for name in names]
    code = """if True:
        import json, sys, time
        from gdq_cli.commands.app import build_app
        build_app(["upscale"])(sys.argv[1:], standalone_mode=False)
        peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
        print(json.dumps({"seconds": time.process_time(), "mib": int(peak.split()[1]) / 1024}))
    """
    command = ["upscale", "s3://bucket/in", "-r", "-o", "s3://bucket/out", "-x", "2", "--ray", "auto"]
    with listing_server(keys) as (address, requests):
        environment = {**os.environ, **s3_environment(address), "PYTHONPATH": str(ROOT)}
        run = subprocess.run([sys.executable, "-c", code, *command], env=environment, capture_output=True, timeout=100)
    summary, used = run.stdout.splitlines()
    assert b"0 upscaled, 10000 skipped, 0 failed" in summary, run.stderr
    assert json.loads(used)["seconds"] < 5
    assert json.loads(used)["mib"] < 200
    assert len(requests) < 30
