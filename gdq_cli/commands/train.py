"""Commands that make checkpoints: gdq calibrate, gdq train and gdq refine."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from gdq_cli.bits.patches import HALO, MAX_HALO
from gdq_cli.bits.widths import BIT_WIDTHS
from gdq_cli.commands.line.completion import complete_device
from gdq_cli.commands.line.files import check_checkpoint, check_scale, model_name
from gdq_cli.commands.line.flags import (
    OverwriteOption,
    controller_option,
    input_option,
    model_option,
    output_option,
    speed_option,
    training_option,
)
from gdq_cli.commands.line.usage import given
from gdq_cli.commands.terminal.progress import Bar
from gdq_cli.commands.terminal.wording import say, tell
from gdq_cli.errors import OptionsError, WeightsError, memory_errors
from gdq_cli.options import NATIVE_SCALES, ControllerOptions, Gate

if TYPE_CHECKING:
    from gdq_cli.measure.degradation import TrainingDegradation
    from gdq_cli.measure.pairs import ImagePair
    from gdq_cli.models.checkpoint import Checkpoint
    from gdq_cli.networks import Edsr, Network, NetworkConfig
    from gdq_cli.networks.edsr.config import Upsampler
    from gdq_cli.training.loop import TrainOptions, TrainProgress

FolderArgument = Annotated[Path, typer.Argument(metavar="HR_DIR", help="Folder of HR pictures to learn from.")]
FromOption = Annotated[
    Path, input_option("--from", help="Checkpoint to start from, or another project's EDSR or Compact weights.")
]
OutputOption = Annotated[Path, output_option("--output", "-o", help="Checkpoint to write: NAME_xN.safetensors.")]
ScaleOption = Annotated[
    int | None, input_option("--scale", "-x", "-s", help="Scale that the file to start from must have.")
]
FabOption = Annotated[float, controller_option("--fab", help="Average bit-width that the controller aims at.")]
DescriptorOption = Annotated[
    Literal["band_energy", "mean"],
    controller_option("--descriptor", metavar="KIND", help="band_energy, or mean as in the release."),
]
GateOption = Annotated[
    Gate,
    controller_option("--gate", metavar="KIND", help="How the controller learns: ridge, or gumbel as in the paper."),
]
DegradationOption = Annotated[
    Literal["none", "photo"],
    input_option(
        "--degradation", help="What LR went through: none (bicubic alone), or photo (blur, noise, JPEG, ...)."
    ),
]
SeedOption = Annotated[int, training_option("--seed", min=0, max=2**63 - 1, help="Of every random draw.")]  # torch's

OF_CONTROLLER = ("--fab", "--descriptor", "--gate")

DEFAULT_GRAPHICS = {"fp32": 0.0, "quantized": 0.3}
"""Share of drawn patches in each stage where none is given."""

DEFAULT_RATES = {"fp32": 1e-3, "quantized": 4e-4}
"""Learning rate of each stage where none is given."""


@memory_errors("give fewer or smaller pictures")
def calibrate(
    folder: FolderArgument,
    source: FromOption,
    output: OutputOption,
    scale: ScaleOption = None,
    fab: FabOption = ControllerOptions.fab,
    descriptor: DescriptorOption = ControllerOptions.descriptor,
    gate: GateOption = ControllerOptions.gate,
    degradation: DegradationOption = "none",
    halo: Annotated[
        int,
        model_option(
            "--halo",
            min=0,
            max=MAX_HALO,
            help="LR pixels of context around a patch; more where a network sees farther: gdq models info photo.",
        ),
    ] = HALO,
    static_bits: Annotated[
        str | None,
        model_option(
            "--static-bits", help="Widths of body conv, upsampler convs and tail, such as 8,8,6,8; default 8."
        ),
    ] = None,
    seed: SeedOption = ControllerOptions.seed,
    overwrite: OverwriteOption = False,
) -> None:
    """Quantize a float32 network by statistics of some pictures, without training."""
    controller = ControllerOptions(fab, descriptor, gate, seed)
    check_checkpoint(output, source, overwrite=overwrite)
    from gdq_cli.models.checkpoint import write_checkpoint
    from gdq_cli.training.calibration.calibrate import calibrate_checkpoint
    from gdq_cli.training.start import read_start

    start = time.perf_counter()
    network, facts = read_start(source, scale)
    check_scale(output, network.config.scale)
    widths = _static_bits(static_bits, network.config)
    training, _ = _load(folder, network.config.scale, degradation)
    with _show_work() as progress:
        checkpoint = calibrate_checkpoint(
            network,
            training,
            controller,
            name=model_name(output),
            static_bits=widths,
            halo=halo,
            facts=facts,
            progress=progress,
        )
    write_checkpoint(output, checkpoint, overwrite=overwrite)
    tell(f"{output}: calibrated in {time.perf_counter() - start:.0f} s")


@memory_errors("give a smaller `batch` or `patch`, or fewer pictures")
def train(
    context: typer.Context,
    folder: FolderArgument,
    output: OutputOption,
    source: Annotated[
        Path | None,
        input_option("--from", help="Checkpoint to start from, or plain EDSR weights; without it from scratch."),
    ] = None,
    stage: Annotated[
        Literal["fp32", "quantized"],
        training_option("--stage", metavar="KIND", help="fp32, or quantized (from a calibrated checkpoint)."),
    ] = "fp32",
    steps: Annotated[int, training_option("--steps", help="Steps of the whole run.")] = 5000,
    batch: Annotated[int, training_option("--batch", help="Patches per step.")] = 16,
    patch: Annotated[int, training_option("--patch", min=1, help="Side of a training patch in LR pixels.")] = 32,
    vary: Annotated[
        bool | None,
        training_option(
            "--vary/--no-vary", help="Vary size, place and colours of patches; default in the fp32 stage only."
        ),
    ] = None,
    degradation: DegradationOption = "none",
    graphics: Annotated[
        float | None,
        training_option(
            "--graphics",
            min=0,
            max=1,
            help="Share of patches drawn instead: saturated colours, edges, text; default 0.3, fp32 0.",
        ),
    ] = None,
    upsampler: Annotated[
        Literal["pixelshuffle", "pixelshuffledirect"] | None,
        model_option(
            "--upsampler",
            metavar="KIND",
            help="pixelshuffle as in EDSR, or pixelshuffledirect (one convolution, faster); fp32 stage only.",
        ),
    ] = None,
    rate: Annotated[
        float | None, training_option("--rate", help="Highest learning rate; default 1e-3, quantized 4e-4.")
    ] = None,
    minutes: Annotated[
        float | None, training_option("--minutes", help="Stop after this time; the same command goes on.")
    ] = None,
    validate_every: Annotated[int, training_option("--validate-every", help="Steps between validations.")] = 500,
    scale: Annotated[
        int | None,
        input_option("--scale", "-x", "-s", help="Scale to train; from a network of another scale its body is kept."),
    ] = None,
    fab: FabOption = ControllerOptions.fab,
    descriptor: DescriptorOption = ControllerOptions.descriptor,
    gate: GateOption = ControllerOptions.gate,
    device: Annotated[
        str, speed_option("--device", "-d", help="auto, cpu, cuda or cuda:N.", autocompletion=complete_device)
    ] = "auto",
    seed: SeedOption = ControllerOptions.seed,
    overwrite: OverwriteOption = False,
) -> None:
    """Train a network; the state beside the output lets the same command go on after any interruption."""
    controller = ControllerOptions(fab, descriptor, gate, seed)
    check_checkpoint(output, source, overwrite=overwrite)
    if source is None and (stage != "fp32" or scale not in NATIVE_SCALES):
        raise OptionsError(
            "without --from, training starts from scratch: that takes --stage fp32 and --scale 2, 3 or 4"
        )
    if stage == "fp32":
        _refuse(context, OF_CONTROLLER, "--stage fp32 has none")
    if stage == "quantized" and upsampler is not None:
        raise OptionsError("--upsampler belongs to --stage fp32; a quantized network keeps its own")
    if minutes is not None and not minutes > 0:
        raise OptionsError(f"--minutes must be above 0, not {minutes:g}")
    from gdq_cli.engines import choose_device
    from gdq_cli.models.checkpoint import write_checkpoint
    from gdq_cli.networks import parameters_of
    from gdq_cli.runs.memory import keep_freed_memory
    from gdq_cli.training.calibration.steps import reach_flat_colours
    from gdq_cli.training.data import PatchSampler
    from gdq_cli.training.loop import Trainer, TrainOptions
    from gdq_cli.training.stages import FloatStage, QuantizedStage, Stage, fast_dtype

    options = TrainOptions(
        steps=steps,
        batch=batch,
        rate=DEFAULT_RATES[stage] if rate is None else rate,
        seed=seed,
        validate_every=validate_every,
    )
    chosen_device = choose_device(device)
    keep_freed_memory()
    start = _read_start(source, scale, stage, seed, upsampler)
    check_scale(output, start.scale)
    network = cast("Edsr", start.network)
    training, held_out = _load(folder, network.config.scale, degradation)
    if stage == "quantized":
        reach_flat_colours(network)
    autocast = fast_dtype(chosen_device)
    loss: Stage = (
        FloatStage(network, autocast) if stage == "fp32" else QuantizedStage(network, seed=seed, autocast=autocast)
    )
    state_file = output.with_name(output.name + ".state")
    vary = stage == "fp32" if vary is None else vary
    graphics = DEFAULT_GRAPHICS[stage] if graphics is None else graphics
    sampler = PatchSampler(
        training,
        patch,
        seed,
        vary=vary,
        raise_contrast=stage == "quantized",
        degradation=degradation,
        graphics=graphics,
    )
    trainer = Trainer(loss, sampler, options, state_file, chosen_device)
    if trainer.step:
        tell(f"going on from step {trainer.step} of {state_file}", err=True)

    bar, begun = Bar("training"), time.monotonic()

    def report(progress: TrainProgress) -> None:
        what = f"step {progress.step}/{steps}  loss {progress.loss:.4f}"
        if bar.drawn:
            bar.update(what, progress.step, steps)
            return
        seconds = (steps - progress.step) * progress.seconds_per_step
        if minutes is not None:
            seconds = max(0.0, min(seconds, begun + 60 * minutes - time.monotonic()))
        left = datetime.timedelta(seconds=round(seconds))
        speed = f"{progress.seconds_per_step:.2f} s/step, {left} left"
        tell(f"{what}  rate {progress.rate:.2e}  {speed}", err=True)

    def validate(step: int, average: Edsr) -> None:
        bar.stop()
        tell(f"step {step}  {_figures(average, start, held_out)}", err=True)

    with bar:
        complete = trainer.run(report, validate, minutes and minutes * 60)
    if not complete:
        kept = f"step {trainer.step} is kept in {state_file}"
        tell(f"{kept}; now {output} as it stands (Ctrl-C: without)", err=True)
    history = [
        *start.facts.get("training", []),
        _history(stage, source.name if source else "scratch", trainer.step, options, sampler.settings, chosen_device),
    ]
    network = trainer.average.cpu()
    facts = start.facts | {"training": history}
    finished = replace(start, parameters=parameters_of(network), name=model_name(output), facts=facts)
    if finished.is_quantized:
        finished = _fit_controller(finished, training, controller)
    write_checkpoint(output, finished, overwrite=overwrite)
    if complete:
        state_file.unlink(missing_ok=True)
        tell(f"{output}: trained for {steps} steps")
    else:
        tell(f"{output}: stopped at step {trainer.step} of {steps}; the same command with --overwrite goes on")
        if trainer.stopped_by is not None:
            raise typer.Exit(128 + trainer.stopped_by)


@memory_errors("give fewer or smaller pictures")
def refine(
    context: typer.Context,
    folder: FolderArgument,
    source: Annotated[Path, input_option("--from", help="Trained checkpoint: an EDSR.")],
    output: OutputOption,
    other: Annotated[
        Path | None, input_option("--average", help="First average it with this one, of the same network.")
    ] = None,
    share: Annotated[float, input_option("--share", min=0, max=1, help="Of the other one in the average.")] = 0.5,
    steps: Annotated[
        bool, training_option("--steps", help="Then move activation steps where the held-out pictures gain by it.")
    ] = False,
    coarse: Annotated[
        bool,
        training_option(
            "--coarse",
            help="Put the weights of 4-bit patches on the grid of the faster kernel for 4 bits, where gdq calibrate "
            "puts them. Alone it leaves the rest as it is, the controller included.",
        ),
    ] = False,
    fab: FabOption = ControllerOptions.fab,
    descriptor: DescriptorOption = ControllerOptions.descriptor,
    gate: GateOption = ControllerOptions.gate,
    degradation: DegradationOption = "none",
    seed: SeedOption = ControllerOptions.seed,
    overwrite: OverwriteOption = False,
) -> None:
    """Finish a trained checkpoint: average two runs, refine steps, and fit a quantized one's controller anew."""
    controller = ControllerOptions(fab, descriptor, gate, seed)
    check_checkpoint(output, source, other, overwrite=overwrite)
    if other is None and given(context, "--share"):
        raise OptionsError("--share is of --average; give both or neither")
    coarse_alone = coarse and other is None and not steps
    if coarse_alone:
        _refuse(context, (*OF_CONTROLLER, "--seed"), "--coarse alone leaves it as it is")
    from gdq_cli.models.checkpoint import read_checkpoint, write_checkpoint
    from gdq_cli.networks import parameters_of
    from gdq_cli.training.calibration.refine import add_coarse_grid, average_checkpoints, refine_steps

    start = read_checkpoint(source)
    if not start.is_quantized and (steps or coarse or other is None):
        raise WeightsError(f"{source}: a float32 checkpoint, which has neither steps nor a controller")
    check_scale(output, start.scale)
    if other is not None:
        start = average_checkpoints(start, read_checkpoint(other), share)
    if not start.is_quantized:
        _refuse(context, (*OF_CONTROLLER, "--seed"), f"{source} is float32 and has none")
    if coarse:
        start = add_coarse_grid(start)
    network = _trainable(source, start.network)
    training, held_out = _load(folder, start.scale, degradation)
    if steps:
        with _show_work() as progress:
            factors = refine_steps(network, held_out, progress)
        start = replace(start, facts=start.facts | {"steps_refined": factors})
    finished = replace(start, parameters=parameters_of(network), name=model_name(output))
    if finished.is_quantized and not coarse_alone:
        finished = _fit_controller(finished, training, controller)
    write_checkpoint(output, finished, overwrite=overwrite)
    tell(f"{output}: {_figures(network, finished, held_out)}")


def _fit_controller(checkpoint: Checkpoint, training: list[ImagePair], options: ControllerOptions) -> Checkpoint:
    """The checkpoint with a new controller."""
    from gdq_cli.training.calibration.calibrate import attach_controller

    with _show_work() as progress:
        return attach_controller(checkpoint, training, options, progress)


def _refuse(context: typer.Context, options: tuple[str, ...], why: str) -> None:
    """Refuse options of the controller where none is made. Raises OptionsError."""
    for option in given(context, *options):
        raise OptionsError(f"{option} is of the controller: {why}; leave it out")


@contextmanager
def _show_work() -> Iterator[Callable[[str, int, int], None]]:
    """Progress of work in several pieces: a bar for each on a terminal, else a line."""
    start, latest = time.perf_counter(), ""

    def report(what: str, done: int, total: int) -> None:
        nonlocal latest
        if what != latest and not bar.drawn:
            tell(f"{time.perf_counter() - start:6.1f} s  {what}", err=True)
        latest = what
        bar.update(f"{what} {done}/{total}", done, total)

    with Bar() as bar:
        yield report


def _static_bits(text: str | None, config: NetworkConfig) -> tuple[int, ...]:
    """Widths of the static layers from text such as 8,8,6,8."""
    if text is None:
        return ()
    count = len(replace(config, bit_widths=BIT_WIDTHS).static_bits)
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != count or not set(parts) <= set(map(str, BIT_WIDTHS)):
        raise OptionsError(f"--static-bits takes {count} widths of 4, 5, 6 or 8 at scale {config.scale}, not {text}")
    return tuple(map(int, parts))


def _load(folder: Path, scale: int, degradation: TrainingDegradation) -> tuple[list[ImagePair], list[ImagePair]]:
    """Training and validation images of a folder, with LR of one kind."""
    from gdq_cli.measure.pairs import list_images, load_pairs, split_validation
    from gdq_cli.training.cleanliness import find_artefacts

    files = list_images(folder)
    training, held_out = split_validation(files)
    if (warning := find_artefacts(files)) is not None:
        say(f"{folder}: {warning}")
    tell(f"{len(training)} training images, {len(held_out)} held out for validation", err=True)
    return load_pairs(training, scale, degradation), load_pairs(held_out, scale, degradation, seed=1)


def _read_start(
    source: Path | None, scale: int | None, stage: str, seed: int, upsampler: Upsampler | None
) -> Checkpoint:
    """What training starts from, with the network it trains."""
    from gdq_cli.models.checkpoint import Checkpoint, read_checkpoint
    from gdq_cli.networks import parameters_of
    from gdq_cli.training.start import random_start, read_start, reshaped

    if source is None:
        assert scale is not None
        return Checkpoint(
            parameters_of(random_start(scale, seed, upsampler or "pixelshuffle")), None, {"source": "random weights"}
        )
    if stage == "fp32":
        network, facts = read_start(source)
        network = reshaped(_trainable(source, network), scale, upsampler, seed)
        return Checkpoint(parameters_of(network), None, facts)
    checkpoint = read_checkpoint(source)
    if scale not in (None, checkpoint.scale):
        raise WeightsError(
            f"{source}: a network of scale x{checkpoint.scale}, not x{scale}, which --stage fp32 changes"
        )
    if not checkpoint.is_quantized:
        raise WeightsError(f"{source}: a float32 checkpoint; make a quantized one with gdq calibrate first")
    return replace(checkpoint, parameters=parameters_of(_trainable(source, checkpoint.network)))


def _trainable(source: Path, network: Network) -> Edsr:
    """The network, if training knows its kind."""
    name = network.config.name
    if name != "edsr":
        can = "run and calibrated" if name == "compact" else "run"
        raise WeightsError(f"{source}: {name} networks can be {can} but not trained")
    return cast("Edsr", network)


def _history(
    stage: str, start: str, steps: int, options: TrainOptions, drawn: dict[str, Any], device: str
) -> dict[str, Any]:
    """What the model card says about a run whose patches were drawn as ``PatchSampler.settings`` tell."""
    import torch

    from gdq_cli.measure.machine import cpu_name

    return {
        "stage": stage,
        "from": start,
        "steps": steps,
        "batch": options.batch,
        "patch": drawn["patch"],
        "varied": drawn["vary"],
        "contrast_raised": drawn["raise_contrast"],
        "degradation": drawn["degradation"],
        "graphics": drawn["graphics"],
        "rate": options.rate,
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else cpu_name(),
    }


def _figures(network: Edsr, start: Checkpoint, held_out: list[ImagePair]) -> str:
    """Validation PSNR of every width, and of the choice of the controller of ``start``."""
    if not held_out:
        return "no figures: too few pictures to hold one out"
    from gdq_cli.networks import parameters_of
    from gdq_cli.training.validate import validate_auto, validate_network

    figures = [
        f"{'fp32' if bits == 32 else bits} {psnr:.3f}" for bits, psnr in validate_network(network, held_out).items()
    ]
    if start.controller is not None:
        psnr, fab = validate_auto(replace(start, parameters=parameters_of(network)), held_out)
        figures.append(f"auto {psnr:.3f} at FAB {fab:.2f}")
    return f"validation PSNR dB: {', '.join(figures)}"
