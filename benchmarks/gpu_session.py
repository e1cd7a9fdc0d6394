"""A quarter of an hour on a GPU in one command: is the CUDA engine exact, how fast is it, and better photo networks.

    python benchmarks/gpu_session.py prepare FOLDER [--mib 60] [--parts 1]    here: what goes to the machine
    python benchmarks/gpu_session.py run FOLDER --out OUT [--minutes 9]       there; the same command goes on
    python benchmarks/gpu_session.py finish FOLDER --out OUT                  anywhere: checkpoints of what was cut

``run`` first gives ``benchmarks/gpu.py`` its time (``--checks``), then divides what is left among the trainings of
``--shares``, in that order; time that one leaves goes to those after it, then to those that are not complete. ``pytest
-m gpu`` runs beside the trainings, as it mostly compiles. Every part is a process of its own, so that none takes the
others along. OUT holds log.txt, tests.txt, summary.json, the float checkpoints, ``quantized_xN.trained`` for ``finish``
to make checkpoints of, and a ``.state`` of each training that is not complete, written twenty times in the time planned
for it. docs/gpu.md has the command lines.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from step_sampler import StepSampler

    from gdq_cli.measure.pairs import ImagePair
    from gdq_cli.networks import Edsr
    from gdq_cli.training.stages import Stage

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = Path(__file__).resolve()

PACKAGES = ("typer", "rich", "safetensors", "pytest", "hypothesis")
"""What may be missing beside torch, Triton, NumPy and Pillow; pip adds what they need."""

SHARES = "fp32_x4=50,fp32_x2=25,quantized_x4=15,quantized_x2=10"
ENDING = 15  # seconds kept at the end, and those under which no training is started; at most a tenth of all time
GRACE = 10  # seconds between SIGTERM and SIGKILL
END = (8, 0.1)
"""What a training keeps of its time for its checkpoint: so many seconds, or such a share if that is less."""
MIB = 1 << 20


def main() -> None:
    arguments = parse()
    if arguments.verb == "prepare":
        prepare(arguments)
    elif arguments.verb == "train":
        sys.path.insert(0, str(ROOT))
        train(arguments)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        session = Session(arguments)
        if arguments.verb == "run":
            session.run()
        else:
            session.finish()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)

    one = verbs.add_parser("prepare", help="make the folder that travels")
    one.add_argument("folder", type=Path)
    one.add_argument("--tiles", type=Path, default=ROOT.parent / "shared" / "data" / "train", help="HR pictures")
    one.add_argument("--mib", type=float, default=60, help="most that a part may weigh")
    one.add_argument("--parts", type=int, default=1, help="folders FOLDER/1, FOLDER/2, ... that travel one by one")
    one.add_argument("--start", action="append", default=[], metavar="SCALE=FILE", help="other weights to start from")
    one.add_argument("--python", default="3.12", help="the other machine's, for wheels")
    one.add_argument("--no-wheels", action="store_true", help="the other machine has every package")
    one.add_argument("--no-code", action="store_true", help="this repository travels by itself")

    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("folder", type=Path, help="the prepared one")
    shared.add_argument("--out", type=Path, required=True)
    shared.add_argument("--device", default="cuda")
    shared.add_argument("--batch", type=int, default=32)
    shared.add_argument("--patch", type=int, default=40)
    shared.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2), help="that draw patches")
    shared.add_argument("--pictures", type=int, help="train on so many of them alone")
    shared.add_argument("--steps", type=int, help="of each training; by default what its time allows")
    shared.add_argument("--rate", type=float, help="of the float stage")
    shared.add_argument("--degradation", choices=("none", "photo"), default="photo")
    shared.add_argument("--upsampler", choices=("pixelshuffle", "pixelshuffledirect"), default="pixelshuffledirect")
    shared.add_argument("--fab", type=float, help="average bit-width that a controller aims at")
    shared.add_argument("--seed", type=int, default=0)

    two = verbs.add_parser("run", parents=[shared], help="checks, then trainings")
    two.add_argument("--minutes", type=float, help="wall-clock time of everything; 9, or 1 to rehearse")
    two.add_argument("--checks", type=float, default=180, help="seconds of the benchmark at most; 0: no tests either")
    two.add_argument("--shares", default=SHARES, help=f"trainings in order and their shares of the time: {SHARES}")
    two.add_argument(
        "--resume", type=Path, help="OUT of an earlier run: trainings that this OUT knows nothing of go on from there"
    )
    two.add_argument("--rehearse", action="store_true", help="a minute on the CPU with next to no work")
    verbs.add_parser("finish", parents=[shared], help="write the checkpoint of every state in OUT, without training")

    part = verbs.add_parser("train", parents=[shared], help="one training (run starts these)")
    part.add_argument("--stage", choices=("fp32", "quantized"), required=True)
    part.add_argument("--scale", type=int, required=True)
    part.add_argument("--seconds", type=float, required=True, help="0: only write the checkpoint")
    arguments = parser.parse_args()
    if arguments.verb == "run" and not arguments.rehearse:
        arguments.minutes = arguments.minutes or 9
    elif arguments.verb == "run":
        arguments.device, arguments.batch, arguments.patch, arguments.workers = "cpu", 2, 16, 1
        arguments.minutes, arguments.checks = arguments.minutes or 1, min(arguments.checks, 12)
        arguments.steps, arguments.pictures = arguments.steps or 6, 12
    return arguments


# Here: the folder


def prepare(arguments: argparse.Namespace) -> None:
    """Copy code, wheels, starting weights and as many tiles as fit.

    The pictures held out are those that ``gdq train`` holds out of the whole folder. They get a folder of their own and
    the rest is chosen from the training side, so that no choice of tiles trains on one of them.
    """
    sys.path.insert(0, str(ROOT))
    from gdq_cli.measure.pairs import list_images, split_validation

    parts: list[Path] = [arguments.folder]
    if arguments.parts > 1:
        parts = [arguments.folder / str(number + 1) for number in range(arguments.parts)]
    for part in parts:
        (part / "train").mkdir(parents=True)
    first = parts[0]
    if not arguments.no_code:
        copy_code(first / "code")
    if not arguments.no_wheels:
        download_wheels(first / "wheels", arguments.python)
    for start in arguments.start:
        scale, _, file = start.partition("=")
        (first / "start").mkdir(exist_ok=True)
        shutil.copyfile(file, first / "start" / f"x{int(scale)}.safetensors")
    training, held_out = split_validation(list_images(arguments.tiles))
    (first / "held_out").mkdir()
    for file in held_out:
        shutil.copyfile(file, first / "held_out" / file.name)
    largest = max(file.stat().st_size for file in training)  # what packing may waste or overrun
    room = [arguments.mib * MIB - weigh(part) - largest for part in parts]
    chosen = spread(training, sum(room))
    for file in chosen:
        index = max(range(len(parts)), key=room.__getitem__)
        shutil.copyfile(file, parts[index] / "train" / file.name)
        room[index] -= file.stat().st_size
    for part in parts:
        print(f"{part}: {weigh(part) / MIB:.1f} MiB, {len(list((part / 'train').iterdir()))} training pictures")
    print(f"{len(chosen)} of {len(training)} training pictures, {len(held_out)} held out")
    if not chosen or any(weigh(part) > arguments.mib * MIB for part in parts):
        sys.exit("more than --mib allows: leave out wheels or code, or allow more")


def copy_code(target: Path) -> None:
    """The package without compiled kernels, which are of one Python; its bundled weights, tests and benchmarks."""
    ignore = shutil.ignore_patterns("__pycache__", "*.so", "csrc")
    for name in ("gdq_cli", "weights", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, target / name, ignore=ignore)
    shutil.copyfile(ROOT / "pyproject.toml", target / "pyproject.toml")


def download_wheels(target: Path, python: str) -> None:
    """Wheels of :data:`PACKAGES` in the versions that are installed here, for Linux on x86-64."""
    platforms = [f"--platform=manylinux{kind}_x86_64" for kind in ("_2_28", "_2_17", "2014")]
    wanted = [f"{name}=={version(name)}" for name in PACKAGES]
    command = [sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", f"--python-version={python}"]
    subprocess.run([*command, "--implementation=cp", *platforms, f"--dest={target}", *wanted], check=True)


def spread(files: list[Path], room: float) -> list[Path]:
    """As many files as fit, evenly spread over the list."""
    sizes = [file.stat().st_size for file in files]
    for count in range(len(files), 0, -1):
        indices = [index * len(files) // count for index in range(count)]
        if sum(sizes[index] for index in indices) <= room:
            return [files[index] for index in indices]
    return []


def weigh(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


# There: the parts, one after the other


class Session:
    """One run: its folder of results, its log, its deadline."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.out = arguments, arguments.out
        self.start = time.monotonic()
        seconds = getattr(arguments, "minutes", 60) * 60
        self.ending = min(ENDING, seconds / 10)
        self.deadline = self.start + seconds - self.ending
        self.out.mkdir(parents=True, exist_ok=True)
        self.log = self.out / "log.txt"
        earlier = self.out / "summary.json"
        self.parts: list[dict[str, Any]] = json.loads(earlier.read_text())["parts"] if earlier.exists() else []
        self.environment = dict(os.environ, PYTHONUNBUFFERED="1")
        if arguments.device == "cpu":
            self.environment["TRITON_INTERPRET"] = "1"
        if getattr(arguments, "rehearse", False):
            self.environment["OMP_NUM_THREADS"] = "1"  # whatever else is running, it does not wait for a second core
        named = (share.partition("=") for share in getattr(arguments, "shares", "").split(",") if share)
        self.shares = {name: float(share) for name, _, share in named}
        self.site = tempfile.TemporaryDirectory()
        paths = [str(ROOT), self.site.name, os.environ.get("PYTHONPATH")]
        self.environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)

    def left(self) -> float:
        return self.deadline - time.monotonic()

    def say(self, text: str) -> None:
        line = f"{time.monotonic() - self.start:6.1f} s  {text}"
        print(line, flush=True)
        with self.log.open("a", encoding="utf-8") as stream:
            print(line, file=stream)

    def run(self) -> None:
        arguments, shares = self.arguments, self.shares
        if arguments.resume is not None:
            here = {file.name.partition(".")[0] for file in self.out.iterdir()}  # those have gone on since
            for file in [*arguments.resume.glob("*.safetensors*"), *arguments.resume.glob("*.trained")]:
                if file.name.partition(".")[0] not in here:
                    shutil.copyfile(file, self.out / file.name)
        self.say(f"{arguments.minutes:g} minutes, code {ROOT}, Python {sys.version.split()[0]}")
        self.install_missing()
        tests = self.check(min(arguments.checks, self.left() / 3)) if arguments.checks else None
        for index, name in enumerate(shares):
            self.train(name, self.left() * shares[name] / sum(list(shares.values())[index:]))
        for name in shares:  # again, with all that is left
            self.train(name, self.left())
        if tests is not None:
            self.end_tests(tests)
        self.summarize()
        self.say("done")

    def finish(self) -> None:
        """Write the checkpoint of everything trained in the folder, complete or not."""
        self.install_missing()
        for state in sorted([*self.out.glob("*.state"), *self.out.glob("*.trained")]):
            self.start_training(state.name.partition(".")[0], 0)
        self.summarize()

    def install_missing(self) -> None:
        """Install from the folder's wheels what this Python lacks, beside it."""
        wheels = {file.name.partition("-")[0]: file for file in self.arguments.folder.rglob("*.whl")}
        missing = [str(file) for name, file in wheels.items() if not is_installed(name)]
        if missing:
            pip = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "-q",
                "--no-index",
                "--no-deps",
                f"--target={self.site.name}",
            ]
            self.part("wheels", [*pip, *missing], self.left())

    def check(self, seconds: float) -> subprocess.Popen[bytes]:
        """The benchmark, then the tests for a GPU, which go on beside what follows."""
        benchmark = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), f"--device={self.arguments.device}"]
        self.part("benchmark", [*benchmark, "--no-compile", "--repeats=5"], seconds)
        tests = [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "-p", "no:cacheprovider"]
        with (self.out / "tests.txt").open("wb") as stream:
            return subprocess.Popen(tests, stdout=stream, stderr=subprocess.STDOUT, cwd=ROOT, env=self.environment)

    def end_tests(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the tests as long as there is time."""
        try:
            process.wait(max(self.left(), 1))
        except subprocess.TimeoutExpired:
            self.say("tests: out of time")
        stop(process)
        lines = (self.out / "tests.txt").read_text(errors="replace").split("\n")
        self.say(f"tests: {next((line for line in reversed(lines) if line.strip()), '')}")

    def train(self, name: str, seconds: float) -> None:
        """Start or go on with a training, unless there is nothing to do or no time."""
        stage, _, scale = name.partition("_")
        if self.is_complete(name) or seconds < self.ending:
            return
        teacher = f"fp32_{scale}"
        if stage == "quantized" and teacher in self.shares and not self.is_complete(teacher):
            self.say(f"{name}: waits for {teacher}")
            return
        self.start_training(name, seconds)

    def is_complete(self, name: str) -> bool:
        """As long as steps are missing, there is a state."""
        file = self.out / f"{name}.safetensors"
        trained = file.exists() or file.with_suffix(".trained").exists()
        return trained and not file.with_name(file.name + ".state").exists()

    def start_training(self, name: str, seconds: float) -> None:
        stage, _, scale = name.partition("_x")
        command = [sys.executable, str(SCRIPT), "train", str(self.arguments.folder.resolve())]
        command += [f"--out={self.out.resolve()}", f"--stage={stage}", f"--scale={scale}", f"--seconds={seconds:.0f}"]
        for option in ("device", "batch", "patch", "workers", "pictures", "steps", "rate", "fab"):
            if (value := getattr(self.arguments, option)) is not None:
                command.append(f"--{option}={value}")
        for option in ("degradation", "upsampler", "seed"):
            command.append(f"--{option}={getattr(self.arguments, option)}")
        most = min(self.left(), seconds + 30) if seconds else self.left()
        self.part(name, command, most, lambda: self.is_complete(name))

    def part(
        self, name: str, command: Sequence[str], seconds: float, is_complete: Callable[[], bool] = lambda: True
    ) -> None:
        """Run a process for so long at most; its output goes to the log, its last line to the terminal."""
        self.say(f"{name}: at most {seconds:.0f} s")
        begin, size, status = time.monotonic(), self.log.stat().st_size, "stopped"
        with self.log.open("a", encoding="utf-8") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, cwd=ROOT, env=self.environment)
        try:
            code = process.wait(max(seconds, 1))
            status = f"failed ({code})" if code else "complete" if is_complete() else "not complete"
        except subprocess.TimeoutExpired:
            status = "out of time"
        finally:
            stop(process)
            said = self.log.read_bytes()[size:].decode(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(said) if line.strip()), "")
            took = round(time.monotonic() - begin, 1)
            self.parts.append({"part": name, "status": status, "seconds": took, "last_line": last})
            self.summarize()
            self.say(f"{name}: {status} after {took:.0f} s: {last}")

    def summarize(self) -> None:
        files = {file.name: file.stat().st_size for file in sorted(self.out.iterdir()) if file.is_file()}
        seconds = round(time.monotonic() - self.start, 1)
        options = {key: str(value) if isinstance(value, Path) else value for key, value in vars(self.arguments).items()}
        summary = {"date": str(datetime.date.today()), "seconds": seconds, "options": options}
        text = json.dumps(summary | {"parts": self.parts, "files": files}, indent=1)
        (self.out / "summary.json").write_text(text + "\n", encoding="utf-8")


def is_installed(name: str) -> bool:
    try:
        version(name.replace("_", "-"))
    except PackageNotFoundError:
        return False
    return True


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process if it still runs: kindly, so that a training keeps its state, then by force."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# One training, in its own process


def train(arguments: argparse.Namespace) -> None:
    """Train or go on, and keep averaged weights at every validation and at the end."""
    start, parent = time.monotonic(), os.getppid()
    import torch
    from step_sampler import StepSampler

    from gdq_cli.commands.train import DEFAULT_RATES
    from gdq_cli.engines import choose_device
    from gdq_cli.measure.machine import cpu_name
    from gdq_cli.models.checkpoint import Checkpoint, write_checkpoint
    from gdq_cli.options import ControllerOptions
    from gdq_cli.training.calibration.calibrate import attach_controller
    from gdq_cli.training.loop import Trainer, TrainOptions, TrainProgress
    from gdq_cli.training.stages import FloatStage, QuantizedStage, fast_dtype

    def say(text: str) -> None:
        print(f"  {time.monotonic() - start:5.1f} s  {text}", flush=True)

    stage, scale, seed = arguments.stage, arguments.scale, arguments.seed
    target = arguments.out / f"{stage}_x{scale}.safetensors"
    trained = target.with_suffix(".trained")
    state_file = trained if trained.exists() else target.with_name(target.name + ".state")
    device = choose_device(arguments.device)
    device = "cuda:0" if device == "cuda" else device
    torch.backends.cudnn.benchmark = True
    device_name = torch.cuda.get_device_name(device) if device != "cpu" else cpu_name()
    say(f"{device_name}, torch {torch.__version__}")
    training, held_out = load(arguments)
    say(f"{len(training)} training pictures, {len(held_out)} held out")
    network, facts = starting(arguments)
    begun_from = facts.pop("from")
    if not state_file.exists():
        say(f"begins at {score(network, held_out, device)}")
    network.to(device)
    autocast = fast_dtype(device)

    def make_stage(network: Edsr) -> Stage:
        if stage == "fp32":
            return FloatStage(network, autocast)
        return QuantizedStage(network, seed=seed, autocast=autocast)

    sampler = StepSampler(
        training,
        arguments.patch,
        seed,
        workers=arguments.workers,
        device=device,
        vary=stage == "fp32",
        raise_contrast=stage == "quantized",
        degradation=arguments.degradation,
    )
    rate = arguments.rate if stage == "fp32" and arguments.rate else DEFAULT_RATES[stage]

    def options(steps: int) -> TrainOptions:
        every = max(1, steps // 20)
        return TrainOptions(steps, arguments.batch, rate, seed=seed, save_every=every, validate_every=5 * every)

    most, share = END
    end = start + arguments.seconds - min(most, share * arguments.seconds)
    steps = kept_steps(state_file) or arguments.steps
    if not steps:
        per_step = time_step(make_stage(copy.deepcopy(network)), sampler, options, device, 0.05 * arguments.seconds)
        steps = max(20, round(0.92 * (end - time.monotonic()) / per_step))
        say(f"{per_step * 1e3:.1f} ms a step, so {steps} steps")
    trainer = Trainer(make_stage(network), sampler, options(steps), state_file, device)
    begun = trainer.step
    if begun:
        say(f"goes on from step {begun} of {steps}")

    def checkpoint(network: Edsr) -> Checkpoint:
        entry = {
            "from": begun_from,
            "stage": stage,
            "steps": trainer.step,
            "batch": arguments.batch,
            "patch": arguments.patch,
            "varied": stage == "fp32",
            "contrast_raised": stage == "quantized",
            "degradation": arguments.degradation,
            "images": len(training),
            "rate": rate,
            "device": device_name,
        }
        history = {**facts, "training": [*facts.get("training", []), entry]}
        average = copy.deepcopy(network).cpu().eval()
        made = Checkpoint(average, None, history, "photo")
        if stage == "fp32":
            return made
        return attach_controller(made, training, ControllerOptions(arguments.fab or ControllerOptions.fab, seed=seed))

    said = time.monotonic()

    def report(progress: TrainProgress) -> None:
        nonlocal said
        if os.getppid() != parent:  # killed: nobody waits any more, and a later run may own the files soon
            os.kill(os.getpid(), signal.SIGTERM)
        if time.monotonic() - said > 5 or progress.step == steps:
            said = time.monotonic()
            speed = f"{progress.seconds_per_step * 1e3:.1f} ms a step"
            say(f"step {progress.step}/{steps}, loss {progress.loss:.4f}, {speed}")

    def keep(step: int, average: Edsr) -> None:
        if stage == "fp32":
            write_checkpoint(target, checkpoint(average))
            say(f"step {step}, {score(average, held_out, device)}")

    complete = trainer.step >= steps
    if not complete and arguments.seconds:
        complete = trainer.run(report, keep, end - time.monotonic())
    say(f"step {trainer.step} of {steps}, {trainer.step - begun} of them now")
    if stage == "quantized" and arguments.seconds:  # a controller is fitted where no GPU waits for it
        if complete:
            state_file.replace(trained)
        return
    finished = checkpoint(trainer.average)
    write_checkpoint(target, finished)
    if complete:
        state_file.unlink(missing_ok=True)
    say(f"{target.name} at step {trainer.step} of {steps}, {score(finished.network, held_out, device)}")


def load(arguments: argparse.Namespace) -> tuple[list[ImagePair], list[ImagePair]]:
    """Training and held-out pictures of the prepared folder.

    Training makes every LR patch itself and does without degraded LR, which takes longest; a controller needs it.
    """
    from gdq_cli.measure.pairs import load_pairs

    training, held_out = find(arguments)
    scale, degradation = arguments.scale, arguments.degradation
    kind = "none" if arguments.seconds else degradation
    return load_pairs(training, scale, kind), load_pairs(held_out, scale, degradation, seed=1)


def find(arguments: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    """Files to train on, and files held out."""
    from gdq_cli.measure.pairs import list_images

    files = list_images(arguments.folder)
    training, held_out = ([file for file in files if file.parent.name == name] for name in ("train", "held_out"))
    return training[: arguments.pictures], held_out[: arguments.pictures and max(1, arguments.pictures // 4)]


def starting(arguments: argparse.Namespace) -> tuple[Edsr, dict[str, Any]]:
    """The float network to start from, calibrated for the quantized stage, and its facts."""
    from gdq_cli.measure.pairs import load_pairs
    from gdq_cli.training.calibration.calibrate import quantized_copy
    from gdq_cli.training.calibration.steps import SEARCH_PATCHES, calibrate_steps, draw_evenly
    from gdq_cli.training.start import read_start, reshaped

    trained = arguments.out / f"fp32_x{arguments.scale}.safetensors"
    given = [path for path in arguments.folder.rglob(f"x{arguments.scale}.safetensors") if path.parent.name == "start"]
    bundled = [ROOT / "weights" / f"{kind}_x{arguments.scale}.safetensors" for kind in ("photo", "edsr")]
    choices = [*([trained] if arguments.stage == "quantized" else []), *given, *bundled]
    source = next(path for path in choices if path.exists())
    print(f"from {source}")
    network, facts = read_start(source, arguments.scale)
    facts = {**facts, "from": source.name}
    network = reshaped(network, arguments.scale, arguments.upsampler)
    if arguments.stage == "quantized":  # found again exactly when a run goes on
        network = quantized_copy(network)
        files, _ = find(arguments)
        pairs = load_pairs(files[:: max(1, len(files) // SEARCH_PATCHES)], arguments.scale, arguments.degradation)
        calibrate_steps(network, draw_evenly(pairs, arguments.seed), patches=min(SEARCH_PATCHES, len(pairs)))
    return network, facts


def kept_steps(state_file: Path) -> int | None:
    """How long the run that a state is of was to be."""
    import torch

    if not state_file.exists():
        return None
    return int(torch.load(state_file, map_location="cpu", weights_only=True)["identity"]["steps"])


def time_step(stage: Stage, sampler: StepSampler, options: Callable[[int], Any], device: str, seconds: float) -> float:
    """Seconds per step, in the second half of a trial on a copy: patches drawn ahead are used up by then."""
    from gdq_cli.training.loop import Trainer

    with tempfile.TemporaryDirectory() as folder:
        trial = Trainer(stage, sampler, options(10**6), Path(folder) / "trial.state", device)
        trial.run(lambda _: None, seconds=seconds / 2)
        before, begin = trial.step, time.monotonic()
        trial.run(lambda _: None, seconds=seconds / 2)
        per_step = (time.monotonic() - begin) / (trial.step - before)
    sampler.state = {"step": 0}
    return per_step


def score(network: Edsr, held_out: list[ImagePair], device: str) -> str:
    """Mean PSNR of every width on the held-out pictures, by the reference engine on a GPU; for people only."""
    from gdq_cli.bits.widths import FP32_BITS
    from gdq_cli.engines import choose_engine
    from gdq_cli.engines.reference import ReferenceEngine
    from gdq_cli.measure.metrics import psnr_y

    network = copy.deepcopy(network).cpu().eval()
    said = []
    try:
        engine = choose_engine(network).engine if device == "cpu" else ReferenceEngine(network, device)
        for bit_width in (FP32_BITS, *network.config.bit_widths):
            total = 0.0
            for pair in held_out:
                sr = engine.run_windows(pair.lr[None], bit_width)[0]
                total += psnr_y(sr, pair.hr, network.config.scale)
            said.append(f"{'fp32' if bit_width == FP32_BITS else bit_width} {total / len(held_out):.3f}")
    except Exception as error:  # a score that fails must not end the training
        said.append(f"not measured: {error}")
    return f"PSNR {', '.join(said)}"


if __name__ == "__main__":
    main()
