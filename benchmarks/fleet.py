"""What fleets cost and gain: pictures per core-hour, two workers against one, a listing of 10,000 keys.

    python benchmarks/fleet.py [cost] [workers] [listing]

Prints the figures of docs/fleet.md; needs Ray and s3fs. Rates of workers are counted from the first finished picture
to the last, by the times of the outputs: how long Ray takes to start is told apart.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.helpers.pictures import make_picture  # noqa: E402
from tests.helpers.s3 import listing_server, s3_environment  # noqa: E402

PICTURES, SIDES, TURNS = 60, (180, 240), 2
COST_PICTURES, COST_SIDES = 4, (800, 1200)
PHOTO_PIXELS = 12_000_000
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}


def make_folder(folder: Path, count: int, sides: tuple[int, int]) -> Path:
    """A folder of JPEG pictures, (H, W)."""
    folder.mkdir()
    for number in range(count):
        Image.fromarray(make_picture(*sides, number)).save(folder / f"{number:03}.jpg", quality=90)
    return folder


def upscale(*arguments: object, **environment: str) -> tuple[float, float]:
    """Seconds and processor seconds of a run of gdq and what it starts itself."""
    command = [sys.executable, "-m", "gdq_cli", "upscale", *map(str, arguments), "-x", "2", "--quiet"]
    used, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, env={**ENVIRONMENT, **environment}, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.perf_counter() - start
    return seconds, after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime


def measure_cost(folder: Path) -> None:
    """Processor time, which other work on the machine lengthens less than seconds."""
    many = make_folder(folder / "many", COST_PICTURES, COST_SIDES)
    one = make_folder(folder / "one", 1, (16, 16))
    rows = []
    for model in ("photo", "edsr"):
        _, start = upscale(one, "-o", folder / f"{model}-one", "-m", model, "-j", 1)
        _, spent = upscale(many, "-o", folder / f"{model}-many", "-m", model, "-j", 1)
        rows.append((model, (spent - start) / COST_PICTURES))
    pixels = COST_SIDES[0] * COST_SIDES[1]
    print(f"cost: x2, one thread, JPEG of {pixels / 1e6:.2f} MP; 12 MP and a million by arithmetic from it")
    for model, seconds in rows:
        photo = seconds * PHOTO_PIXELS / pixels
        print(
            f"  {model}: {seconds:.2f} processor seconds a picture, {3600 / seconds:.0f} per core-hour; "
            f"of 12 MP {3600 / photo:.1f} per core-hour, a million {photo * 1e6 / 3600:.0f} core-hours"
        )


def measure_workers(folder: Path) -> None:
    """One and two nodes of one CPU each, in turns."""
    from ray.cluster_utils import Cluster

    pictures = make_folder(folder / "pictures", PICTURES, SIDES)
    os.environ.update(ENVIRONMENT)
    rates: dict[int, list[float]] = {1: [], 2: []}
    starts: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(TURNS):
        for workers in rates:
            node = {"num_cpus": 1, "object_store_memory": 80 << 20}
            cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
            for _ in range(workers - 1):
                cluster.add_node(**node)
            cluster.wait_for_nodes()
            output, begin = folder / f"{turn}-{workers}", time.time()
            upscale(pictures, "-o", output, "-m", "photo", "--ray", cluster.address)
            cluster.shutdown()
            times = sorted(file.stat().st_mtime for file in output.iterdir())
            assert len(times) == PICTURES
            rates[workers].append((PICTURES - 1) / (times[-1] - times[0]))
            starts[workers].append(times[0] - begin)
    one, two = statistics.median(rates[1]), statistics.median(rates[2])
    print(f"workers: {PICTURES} pictures of {SIDES[1]}x{SIDES[0]}, medians of {TURNS} runs in turns")
    for workers in rates:
        every = ", ".join(f"{rate:.2f}" for rate in rates[workers])
        print(
            f"  {workers}: {statistics.median(rates[workers]):.2f} pictures/s ({every}), "
            f"the first after {statistics.median(starts[workers]):.1f} s"
        )
    print(f"  two are {two / one:.2f} times one; turn by turn", end=" ")
    print(", ".join(f"{b / a:.2f}" for a, b in zip(rates[1], rates[2], strict=True)))


def measure_listing() -> None:
    """10,000 inputs and as many outputs, on a server that answers at once."""
    names = [f"{number % 20:02}/{number:05}" for number in range(10_000)]
    keys = [f"in/{name}.png" for name in names] + [f"out/{name}_x2.png" for name in names]
    code = (
        "import sys, time; from gdq_cli.commands.app import build_app\n"
        "build_app(['upscale'])(sys.argv[1:], standalone_mode=False)\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(f'{time.process_time():.1f} processor seconds, {int(peak.split()[1]) / 1024:.0f} MiB')"
    )
    command = ["upscale", "s3://bucket/in", "-r", "-o", "s3://bucket/out", "-x", "2", "--ray", "auto", "--quiet"]
    with listing_server(keys) as (address, requests):
        environment = {**ENVIRONMENT, **s3_environment(address)}
        start = time.perf_counter()
        run = subprocess.run([sys.executable, "-c", code, *command], env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - start
    print(
        f"listing: 10,000 keys planned and skipped in {seconds:.1f} s, {run.stdout.strip()}, {len(requests)} requests"
    )


def main() -> None:
    wanted = sys.argv[1:] or ["cost", "workers", "listing"]
    with tempfile.TemporaryDirectory() as name:
        if "cost" in wanted:
            measure_cost(Path(name))
        if "workers" in wanted:
            measure_workers(Path(name))
        if "listing" in wanted:
            measure_listing()


if __name__ == "__main__":
    main()
