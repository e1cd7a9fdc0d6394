"""Long checks of the batch layer, as processes a user would start. Prints one JSON object per check.

    python benchmarks/batch.py mixed kills throughput large memory start
    python benchmarks/batch.py mixed --model small_x2.safetensors -x 2      (default: the bundled checkpoint)

mixed:       200 pictures of seven formats, 20 more broken: what is written, what is named, the exit code.
kills:       a folder run killed by SIGKILL at 20 random moments and resumed each time: are its files those of a whole
             run?
throughput:  20 small pictures in one command against 20 commands.
large:       share of the time that the network is busy on large pictures.
memory:      largest resident memory for a 100-megapixel output, by format.
start:       the whole command on a 64-pixel picture against `python -c "import torch"`.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SUFFIXES = ("png", "jpg", "webp", "tiff", "bmp", "gif", "ppm")
SEED = 20251123


class Bench:
    """What the checks share.

    Args:
        folder: empty, for everything they write.
        arguments: for every ``gdq upscale``.
        scale: native scale.
    """

    def __init__(self, folder: Path, arguments: list[str], scale: int) -> None:
        self.folder, self.arguments, self.scale = folder, arguments, scale
        with Image.open(ROOT / "examples" / "coffee.jpg") as image:
            self.photo = image.convert("RGB")

    def command(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "gdq_cli", "upscale", *map(str, arguments), *self.arguments]

    def run(self, *arguments: object) -> tuple[subprocess.CompletedProcess[str], float]:
        start = time.perf_counter()
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, cwd=ROOT)
        return done, time.perf_counter() - start

    def crop(self, index: int, height: int, width: int) -> Image.Image:
        """A part of the photograph, another one for each number."""
        place = random.Random(SEED + index)
        left = place.randrange(self.photo.width - width + 1)
        top = place.randrange(self.photo.height - height + 1)
        return self.photo.crop((left, top, left + width, top + height))

    def mosaic(self, height: int, width: int) -> Image.Image:
        """The photograph, repeated and cut to a size."""
        array = np.asarray(self.photo)
        times = (-(-height // array.shape[0]), -(-width // array.shape[1]), 1)
        return Image.fromarray(np.tile(array, times)[:height, :width])


def check_mixed(bench: Bench) -> dict[str, Any]:
    folder = bench.folder / "mixed"
    folder.mkdir()
    for index in range(180):
        bench.crop(index, 20 + index % 9, 24 + index % 11).save(folder / f"{index:03d}.{SUFFIXES[index % 7]}")
    buffer = io.BytesIO()
    bench.crop(0, 90, 90).save(buffer, "png")
    png, jpg = buffer.getvalue(), (folder / "001.jpg").read_bytes()
    kinds = (b"", b"text", png[: len(png) // 2], png[:20], jpg[: len(jpg) // 3], bytes(500), b"GIF89a" + bytes(40))
    for index in range(20):
        (folder / f"{index * 9:03d}-broken.{('png', 'jpg', 'gif')[index % 3]}").write_bytes(kinds[index % 7])
    done, seconds = bench.run(folder, "-o", f"{bench.folder / 'mixed-out'}/", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    named = {Path(line["input"]).name for line in lines[:-1] if line["status"] == "failed"}
    written = list((bench.folder / "mixed-out").iterdir())
    for path in written:
        with Image.open(path) as image:
            image.load()
    return {
        "pictures": 200,
        "written": len(written),
        "failed_and_named": len(named),
        "all_of_them_broken": all("broken" in name for name in named),
        "traceback": "Traceback" in done.stderr,
        "exit_code": done.returncode,
        "seconds": seconds,
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_kills(bench: Bench) -> dict[str, Any]:
    source, whole, killed = (bench.folder / name for name in ("kill-in", "kill-whole", "kill-out"))
    for index in range(240):
        path = source / f"{index % 4}" / f"{index:03d}.{SUFFIXES[index % 7]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        bench.crop(index, 30, 30).save(path)
    start = time.perf_counter()
    subprocess.run(bench.command(source, "-r", "-o", whole), check=True, capture_output=True, cwd=ROOT)
    seconds = time.perf_counter() - start
    expected = contents(whole)
    moments, parts, half, alive = random.Random(SEED), 0, 0, 0
    for number in range(20):
        process = subprocess.Popen(
            bench.command(source, "-r", "-o", killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
        )
        if number % 2:  # at any moment of the run, its start included
            time.sleep(moments.uniform(0, seconds / 2))
        else:  # at any moment of the writing
            count = sum(1 for path in killed.rglob("*") if path.is_file()) if killed.exists() else 0
            while process.poll() is None and sum(1 for path in killed.rglob("*.*") if path.is_file()) <= count:
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.25))
        alive += process.poll() is None
        process.kill()
        process.wait()
        found = contents(killed) if killed.exists() else {}
        parts += sum(name.endswith(".part") for name in found)
        final = {name: data for name, data in found.items() if not name.endswith(".part")}
        half += sum(expected.get(name) != data for name, data in final.items())
    before = len(final)
    done, _ = bench.run(source, "-r", "-o", killed)
    return {
        "kills": 20,
        "killed_while_running": alive,
        "partial_files_under_final_names": half,
        "hidden_part_files_seen_after_kills": parts,
        "complete_before_last_run": before,
        "exit_code": done.returncode,
        "byte_equal": contents(killed) == expected,
        "files": len(expected),
    }


def check_throughput(bench: Bench) -> dict[str, Any]:
    folder = bench.folder / "small"
    folder.mkdir()
    for index in range(20):
        bench.crop(index, 96, 96).save(folder / f"{index:02d}.png")
    alone = 0.0
    for path in sorted(folder.iterdir()):
        done, seconds = bench.run(path, "-o", f"{bench.folder / 'small-alone'}/")
        done.check_returncode()
        alone += seconds
    done, together = bench.run(folder, "-o", f"{bench.folder / 'small-together'}/")
    done.check_returncode()
    equal = contents(bench.folder / "small-alone") == contents(bench.folder / "small-together")
    return {
        "pictures": 20,
        "seconds_one_by_one": alone,
        "seconds_one_run": together,
        "ratio": alone / together,
        "byte_equal": equal,
    }


def check_large(bench: Bench) -> dict[str, Any]:
    folder = bench.folder / "large"
    folder.mkdir()
    for index, suffix in enumerate(("png", "jpg", "tiff", "png")):
        bench.mosaic(700, 900 + 100 * index).save(folder / f"{index}.{suffix}")
    done, seconds = bench.run(folder, "-o", f"{bench.folder / 'large-out'}/", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    steps = {name: sum(line["seconds"][name] for line in lines[:-1]) for name in lines[0]["seconds"]}
    return {"seconds": seconds, "network_share": lines[-1]["summary"]["network_share"], "seconds_by_step": steps}


def check_memory(bench: Bench) -> dict[str, Any]:
    side = -(-10_000 // bench.scale)
    source = bench.folder / "huge.png"
    bench.mosaic(side, side).save(source)
    result: dict[str, Any] = {"output_megapixels": (side * bench.scale) ** 2 / 1e6}
    for format, more in (("png", []), ("jpg", []), ("tiff", []), ("png", ["--memory", "128M"])):
        target = bench.folder / f"huge{len(result)}.{format}"
        done, seconds = bench.run(source, "-o", target, "--json", *more)
        facts = json.loads(done.stdout.splitlines()[0])
        result[" ".join([format, *more])] = {
            "peak_rss_mib": facts["peak_rss_mib"],
            "seconds": seconds,
            "file_mib": target.stat().st_size / 2**20,
        }
    names = [bench.folder / "huge1.png", bench.folder / "huge4.png"]
    result["mapped_equals_unmapped"] = names[0].read_bytes() == names[1].read_bytes()
    return result


def check_start(bench: Bench) -> dict[str, Any]:
    source = bench.folder / "tiny.png"
    bench.crop(0, 64, 64).save(source)
    commands = {
        "torch": [sys.executable, "-c", "import torch"],
        "gdq": bench.command(source, "-o", bench.folder / "tiny-out.png", "--overwrite", "--quiet"),
    }
    wall: dict[str, list[float]] = {name: [] for name in commands}
    cpu: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(9):
        for name, command in commands.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            start = time.perf_counter()
            subprocess.run(command, check=True, cwd=ROOT)
            wall[name].append(time.perf_counter() - start)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    result: dict[str, Any] = {}
    for kind, seconds in (("wall", wall), ("cpu", cpu)):
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        result[kind] = medians | {"ratio": medians["gdq"] / medians["torch"]}
    return result


CHECKS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "mixed": check_mixed,
    "kills": check_kills,
    "throughput": check_throughput,
    "large": check_large,
    "memory": check_memory,
    "start": check_start,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="+", choices=list(CHECKS))
    parser.add_argument("--model", help="checkpoint; default: the bundled one")
    parser.add_argument("-x", "--scale", type=int, default=4)
    options = parser.parse_args()
    arguments = ["-x", str(options.scale)] + (["-m", str(Path(options.model).resolve())] if options.model else [])
    for name in options.checks:
        folder = Path(tempfile.mkdtemp(prefix="gdq-batch-"))
        try:
            result = CHECKS[name](Bench(folder, arguments, options.scale))
            print(json.dumps({"check": name} | result), flush=True)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
