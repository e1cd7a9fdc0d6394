"""What a small job costs as a whole: CPU time and memory of ``gdq upscale`` on 64 x 64 pixels, and of ``gdq --help``.

``python benchmarks/start.py --against DIR`` runs another checkout (built in place) in turns with this one. Both run
from compiled bytecode, as installed packages do; ``--no-bytecode`` compiles their modules in every process.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from gdq_cli.measure.machine import cpu_name

PROGRAM = """
import resource, sys
from {module} import main
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""
HERE = Path(__file__).resolve().parents[1]


def run(checkout: Path, arguments: list[str], bytecode: Path | None) -> tuple[float, float]:
    """CPU seconds and peak resident MiB of a whole process; ``bytecode`` is the folder of the modules' bytecode."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    module = "gdq_cli.cli" if (checkout / "gdq_cli" / "cli.py").exists() else "gdq_cli.commands.app"
    command = [sys.executable, "-c", PROGRAM.format(module=module), *arguments]
    environment = os.environ | {"PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "" if bytecode else "1"}
    if bytecode:
        environment["PYTHONPYCACHEPREFIX"] = str(bytecode)
    done = subprocess.run(command, env=environment, cwd=checkout, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, float(done.stderr.split()[-1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout, built in place")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-bytecode", action="store_true")
    arguments = parser.parse_args()
    checkouts = [HERE, *([arguments.against.resolve()] if arguments.against else [])]
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "small.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(picture)
        upscale = ["upscale", str(picture), "-m", "edsr", "-o", f"{folder}/large.png", "--overwrite", "--quiet"]
        jobs = {"upscale of 64 px": upscale, "--help": ["--help"]}
        bytecode = None if arguments.no_bytecode else Path(folder) / "bytecode"
        found: dict[tuple[str, Path], list[tuple[float, float]]] = {}
        for turn in range(arguments.repeats + 1):
            for name, job in jobs.items():
                for checkout in checkouts:
                    took = run(checkout, job, bytecode)
                    if turn:  # the first fills caches
                        found.setdefault((name, checkout), []).append(took)
    print(f"{cpu_name()}, medians of {arguments.repeats} interleaved runs\n")
    print("| job | checkout | CPU seconds | peak MiB |\n| --- | --- | --- | --- |")
    for (name, checkout), results in found.items():
        seconds, memory = (statistics.median(column) for column in zip(*results, strict=True))
        print(f"| {name} | {checkout} | {seconds:.2f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
