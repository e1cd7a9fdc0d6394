"""Looking over an installation: what is here, what runs, what is wrong, and what to do about it. Returns facts only."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import features

from gdq_cli._version import __version__
from gdq_cli.engines import choose_device, choose_engine, kernels
from gdq_cli.engines.measured import cpu_flags, cpu_name
from gdq_cli.engines.threads import usable_cores
from gdq_cli.errors import GdqError
from gdq_cli.measure.benchmark import find_engines
from gdq_cli.models import store as hub
from gdq_cli.models.checkpoint import Checkpoint, read_checkpoint

PACKAGES = ("torch", "numpy", "pillow", "typer", "rich", "safetensors", "huggingface-hub")
ENVIRONMENT = (
    "GDQ_MODEL_DIR",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_ENDPOINT",
    "OMP_NUM_THREADS",
    "NO_COLOR",
)
SPEED_FEATURES = ("avx512_vnni", "avx_vnni", "avx2", "asimddp")
"""Flags of /proc/cpuinfo that decide which kernels can run, fastest first."""

LOW_DISK = 2**30
"""Bytes below which free disk space is a problem: a 192-megapixel PNG can take half of it."""

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
        level: ``error`` if upscaling does not work, ``warning`` if it works less well than it could.
        what: is wrong.
        remedy: what to do about it.
    """

    level: Level
    what: str
    remedy: str


@dataclass
class Diagnosis:
    """Everything ``gdq doctor`` says: facts by section, and problems."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def works(self) -> bool:
        """Whether upscaling works, well or less well."""
        return all(problem.level != "error" for problem in self.problems)

    def add(self, level: Level, what: str, remedy: str) -> None:
        self.problems.append(Problem(level, what, remedy))

    def to_dict(self) -> dict[str, Any]:
        """The object of ``gdq doctor --json``."""
        return {**self.facts, "works": self.works, "problems": [vars(problem) for problem in self.problems]}


def diagnose(device: str = "auto") -> Diagnosis:
    """Look at everything; no network is used and nothing is written but an empty temporary file.

    Args:
        device: as of ``--device``.
    """
    found = Diagnosis()
    found.facts["versions"] = _versions()
    found.facts["torch"] = _torch_build(found)
    found.facts["cpu"] = _cpu()
    found.facts["devices"] = _devices(found)
    found.facts["kernels"] = _kernels(found)
    checkpoints, found.facts["weights"] = _weights(found)
    found.facts["engines"] = list(_engines(found, checkpoints, device))
    found.facts["formats"] = _formats(found)
    found.facts["disk"] = _disk(found)
    found.facts["environment"] = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    found.facts["stdout"] = _stdout()
    return found


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"gdq": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions | {"system": platform.platform()}


def _torch_build(found: Diagnosis) -> dict[str, Any]:
    threads, cores = torch.get_num_threads(), usable_cores()
    if threads < cores:
        found.add(
            "warning",
            f"torch uses {threads} of {cores} usable cores",
            "unset OMP_NUM_THREADS, or give `threads`",
        )
    return {
        "version": torch.__version__,
        "cuda_build": torch.version.cuda,
        "onednn": torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
        "openmp": torch.backends.openmp.is_available(),  # type: ignore[no-untyped-call]
        "threads": threads,
    }


def _cpu() -> dict[str, Any]:
    flags = cpu_flags()
    return {
        "name": cpu_name(),
        "cores": usable_cores(),
        "machine": platform.machine(),
        "features": [name for name in SPEED_FEATURES if name in flags],
    }


def _devices(found: Diagnosis) -> list[dict[str, Any]]:
    """What the argument ``device`` may name here."""
    devices: list[dict[str, Any]] = [{"device": "cpu", "name": cpu_name()}]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        memory = properties.total_memory / 2**30
        devices.append({"device": f"cuda:{index}", "name": properties.name, "memory_gib": round(memory, 1)})
    if torch.backends.mps.is_available():
        devices.append({"device": "mps", "name": platform.processor() or "Apple GPU"})
    if not torch.cuda.is_available() and (Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi")):
        if torch.version.cuda is None:
            what, remedy = "this torch is built without CUDA", "install a CUDA build of torch, see https://pytorch.org"
        else:
            what, remedy = "torch cannot use it", "check the driver with nvidia-smi; it must suit torch's CUDA version"
        found.add("warning", f"there is an NVIDIA GPU, but {what}", remedy)
    return devices


def _kernels(found: Diagnosis) -> dict[str, Any]:
    """The compiled extension: built or not, what its instruction sets say of themselves."""
    report = kernels.report()
    if not report.built:
        found.add(
            "warning",
            f"the compiled kernels are not available ({report.problem}), so few bits are not faster than 8",
            "install a C++17 compiler (Debian: apt install g++), and then gdq again from its source: "
            "pip install --force-reinstall --no-deps --no-cache-dir FOLDER",
        )
    for isa in report.isas:
        if isa.problem:
            found.add(
                "warning",
                f"the {isa.name} kernels fail their self-test ({isa.problem}) and are not used",
                "please report it with the output of gdq doctor --json",
            )
    if report.built and report.chosen is None:
        found.add(
            "warning", "no compiled kernel suits this processor", "nothing to do: another engine runs, more slowly"
        )
    return {
        "built": report.built,
        "problem": report.problem,
        "chosen": report.chosen,
        "cpu_features": list(report.cpu_features),
        "instruction_sets": [vars(isa) | {"self_test": _verdict(isa)} for isa in report.isas],
    }


def _verdict(isa: kernels.IsaReport) -> str:
    return "not runnable" if not isa.runnable else "failed" if isa.problem else "passed"


def _weights(found: Diagnosis) -> tuple[list[Checkpoint], dict[str, Any]]:
    """Bundled checkpoints, each read and checked against its hash, and where others with a name lie."""
    remedy = "install gdq again from its source: pip install --force-reinstall --no-deps FOLDER"
    facts: dict[str, Any] = {"folder": str(hub.bundled_folder()), "files": []}
    try:
        manifest = hub.bundled_manifest()
    except GdqError as error:
        found.add("error", str(error), remedy)
        return [], facts
    checkpoints = []
    for name, entry in sorted(manifest.items()):
        path = hub.bundled_folder() / name
        line: dict[str, Any] = {"file": name, "ok": False, "size": path.stat().st_size if path.is_file() else None}
        facts["files"].append(line)
        try:
            checkpoint = read_checkpoint(path, expected_sha256=str(entry["sha256"]))
        except GdqError as error:
            found.add("error", str(error), remedy)
            continue
        line |= {
            "ok": True,
            "sha256": checkpoint.sha256,
            "scale": checkpoint.scale,
            "quantized": checkpoint.is_quantized,
        }
        checkpoints.append(checkpoint)
    named = [model for model in hub.list_models() if model.place != "bundled"]
    facts["others"] = [
        {"model": f"{model.name} x{model.scale}", "place": model.place, "path": str(model.path), "size": model.size}
        for model in named
    ]
    if not manifest:
        found.add("error", f"{hub.bundled_folder()}: no weights in the box", remedy)
    return checkpoints, facts


def _engines(found: Diagnosis, checkpoints: list[Checkpoint], device: str) -> Iterator[dict[str, Any]]:
    """Per checkpoint the engine that is chosen, after its self-test, and why no faster one is.

    Every other engine is tested on the first checkpoint only: it takes a second or two.
    """
    try:
        place = choose_device(device)
    except GdqError as error:
        found.add("error", str(error), "give `device=cpu`, or auto")
        return
    for index, checkpoint in enumerate(checkpoints):
        name = f"{checkpoint.name} x{checkpoint.scale}"
        try:
            choice = choose_engine(checkpoint.parameters, place)
        except GdqError as error:
            found.add("error", f"{name}: {error}", "give `device=cpu`, or install torch again")
            continue
        chosen = choice.engine.name
        exact = chosen == "reference"
        yield {
            "model": name,
            "device": place,
            "chosen": chosen,
            "instruction_set": getattr(choice.engine, "isa", None),
            "self_test": "the reference itself" if place == "cpu" and exact else "passed",
            "rejected": list(choice.rejected),
            "others": [] if index else [other for other in find_engines(checkpoint, place)[0] if other != chosen],
        }
        if place == "cpu" and exact and checkpoint.is_quantized:
            found.add(
                "warning",
                f"{name} runs on the reference engine, which is exact but slow ({'; '.join(choice.rejected)})",
                "see the lines about kernels and torch",
            )


def _formats(found: Diagnosis) -> dict[str, bool]:
    """Optional parts of Pillow that decide which files can be read and written."""
    names = {"jpg": "jpg", "zlib": "png", "libtiff": "tiff", "webp": "webp", "avif": "avif", "littlecms2": "icc"}
    formats = {label: bool(features.check(name)) for name, label in names.items()}
    absent = [label for label in ("jpg", "png", "webp") if not formats[label]]
    if absent:
        found.add(
            "warning",
            f"this Pillow cannot handle {', '.join(absent)}",
            "install Pillow's own wheel: pip install --force-reinstall --only-binary :all: pillow",
        )
    return formats


def _disk(found: Diagnosis) -> list[dict[str, Any]]:
    """Free space where downloads, temporary files and results go."""
    from huggingface_hub import constants

    places = {
        "cache": Path(constants.HF_HUB_CACHE),
        "temporary": Path(tempfile.gettempdir()),
        "here": Path.cwd(),
    }
    lines = []
    for use, path in places.items():
        existing = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        lines.append({"use": use, "path": str(path), "free_gib": round(free / 2**30, 1)})
        if free < LOW_DISK:
            found.add("warning", f"{path}: only {free / 2**20:.0f} MiB free", "free some space, or work elsewhere")
        if not os.access(existing, os.W_OK) and use != "here":
            found.add("warning", f"{path}: not writable", f"set {'HF_HUB_CACHE' if use == 'cache' else 'TMPDIR'}")
    return lines


def _stdout() -> dict[str, Any]:
    """What standard output is, as it bears on the heat map."""
    if sys.stdout is None:
        return {"encoding": None, "terminal": False}
    return {"encoding": sys.stdout.encoding, "terminal": sys.stdout.isatty()}
