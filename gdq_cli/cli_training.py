"""Commands that make checkpoints: gdq calibrate."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from gdq_cli.errors import OptionsError, WeightsError

FolderArgument = Annotated[Path, typer.Argument(metavar="HR_DIR", help="Folder of HR pictures to learn from.")]


def calibrate(
    folder: FolderArgument,
    source: Annotated[Path, typer.Option("--from", help="float32 checkpoint to quantize.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Checkpoint to write: NAME_xN.safetensors.")],
    scale: Annotated[
        int | None, typer.Option("--scale", "-x", "-s", help="Of plain EDSR weights without metadata.")
    ] = None,
    target_fab: Annotated[float, typer.Option("--fab", help="Average bit-width that the controller aims at.")] = 4.9,
    descriptor: Annotated[str, typer.Option("--descriptor", help="band_energy, or mean as in the release.")] = (
        "band_energy"
    ),
    seed: Annotated[int, typer.Option("--seed", help="Of every random draw.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing checkpoint.")] = False,
) -> None:
    """Quantize a float32 network by statistics of some pictures, without training."""
    if output.suffix != ".safetensors":
        raise OptionsError(f"--output {output}: a checkpoint's name ends with .safetensors")
    if output.exists() and not overwrite:
        raise WeightsError(f"{output}: exists already; --overwrite replaces it")
    if not 4 <= target_fab <= 8:
        raise OptionsError(f"--fab must be between 4 and 8 bits, not {target_fab:g}")
    if descriptor not in ("band_energy", "mean"):
        raise OptionsError(f"--descriptor must be band_energy or mean, not {descriptor}")
    from gdq_cli.checkpoint import write_checkpoint
    from gdq_cli.training.calibrate import calibrate_checkpoint
    from gdq_cli.training.data import list_images, load_pairs, split_validation
    from gdq_cli.training.start import read_start

    start = time.perf_counter()
    network, facts = read_start(source, scale)
    training, validation = split_validation(list_images(folder))
    typer.echo(f"{len(training)} training images, {len(validation)} held out for validation", err=True)
    checkpoint = calibrate_checkpoint(
        network,
        load_pairs(training, network.config.scale),
        name=output.stem.rpartition("_x")[0] or output.stem,
        target_fab=target_fab,
        descriptor="mean" if descriptor == "mean" else "band_energy",
        facts=facts,
        seed=seed,
        progress=lambda what: typer.echo(f"{time.perf_counter() - start:6.1f} s  {what}", err=True),
    )
    write_checkpoint(output, checkpoint)
    typer.echo(f"{output}: calibrated in {time.perf_counter() - start:.0f} s")
