"""The command gdq upscale."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any, BinaryIO, cast

import typer

from gdq_cli.cli_common import (
    BitsOption,
    BudgetOption,
    DeviceOption,
    EngineOption,
    InputArgument,
    JsonOption,
    MaxPixelsOption,
    ModelOption,
    QuietOption,
    ThreadsOption,
    memory_errors,
    print_error,
    print_map,
    show_progress,
    write_overlay,
)
from gdq_cli.errors import GdqError, ImageError, OptionsError
from gdq_cli.options import Bits, TargetSize, UpscaleOptions


def upscale(
    inputs: InputArgument,
    scale: Annotated[
        float | None,
        typer.Option(
            "--scale", "-x", "-s", help="Factor, 1 to 64. 2, 3, 4 are native, others are resampled. Default 4."
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="File, existing folder, or - for stdout.")
    ] = None,
    width: Annotated[int | None, typer.Option("--width", help="Target width in pixels; aspect kept.")] = None,
    height: Annotated[int | None, typer.Option("--height", help="Target height in pixels; aspect kept.")] = None,
    longest: Annotated[int | None, typer.Option("--longest", help="Target longest side; aspect kept.")] = None,
    model: ModelOption = UpscaleOptions.model,
    device: DeviceOption = UpscaleOptions.device,
    threads: ThreadsOption = None,
    engine: EngineOption = "auto",
    bits: BitsOption = UpscaleOptions.bits,
    budget: BudgetOption = None,
    format: Annotated[str, typer.Option("--format", "-f", help="auto, png, jpg, webp, tiff, bmp or ppm.")] = "auto",
    quality: Annotated[int | None, typer.Option("--quality", "-q", help="1 to 100, for jpg and webp.")] = None,
    lossless: Annotated[bool, typer.Option("--lossless", help="Lossless webp.")] = False,
    background: Annotated[
        str, typer.Option("--background", help="Behind transparent pixels in formats without transparency.")
    ] = UpscaleOptions.background,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs; default: skip them.")] = False,
    strip_metadata: Annotated[
        bool, typer.Option("--strip-metadata", help="Write no EXIF, colour profile, XMP or resolution.")
    ] = False,
    alpha: Annotated[str, typer.Option("--alpha", help="Upscale transparency by lanczos or network, or drop it.")] = (
        UpscaleOptions.alpha
    ),
    max_pixels: MaxPixelsOption = UpscaleOptions.max_pixels,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Look into folders below.")] = False,
    heatmap: Annotated[
        bool | None, typer.Option("--heatmap/--no-heatmap", help="Draw the bit map; default: for a single picture.")
    ] = None,
    bitmap_file: Annotated[
        Path | None, typer.Option("--bitmap", help="Also write the bit map over the input picture, as PNG.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Upscale pictures and show which patch got how many bits."""
    options = UpscaleOptions(
        size=TargetSize(scale, width, height, longest),
        model=model,
        device=device,
        threads=threads,
        bits=cast(Bits, bits),
        budget=budget,
        format=format,
        quality=quality,
        lossless=lossless,
        background=background,
        overwrite=overwrite,
        strip_metadata=strip_metadata,
        alpha=cast(Any, alpha),
        max_pixels=max_pixels,
    )
    if quiet and as_json:
        raise OptionsError("--quiet and --json contradict each other; give one of them")
    start = time.perf_counter()
    pairs, missing = _plan_run(inputs, options, output, recursive)
    if bitmap_file is not None and len(pairs) != 1:
        raise OptionsError("--bitmap names one file, so it needs exactly one input")

    from gdq_cli.images import OutputExistsError
    from gdq_cli.jobs import upscale_file
    from gdq_cli.models import UpscalerPool

    pool = UpscalerPool(options.model, options.device, options.threads, engine)
    counts = {"ok": 0, "skipped": 0, "failed": 0}
    failures: list[GdqError] = []
    if heatmap is None:
        heatmap = len(pairs) == 1
    to_stdout = output == "-"
    for error in missing:
        counts["failed"] += 1
        failures.append(error)
        _report_failure(error, str(error).partition(":")[0], as_json)
    for source, target in pairs:
        name = str(source) if isinstance(source, Path) else "standard input"
        try:
            with show_progress(name, shown=not quiet) as progress, memory_errors():
                report = upscale_file(source, target, pool, options, progress)
        except OutputExistsError as error:
            counts["skipped"] += 1
            if as_json:
                typer.echo(json.dumps({"input": name, "output": str(target), "status": "skipped", "error": None}))
            elif not quiet:
                typer.echo(f"skipped: {error}", err=True)
            continue
        except GdqError as error:
            counts["failed"] += 1
            failures.append(error)
            _report_failure(error, name, as_json)
            continue
        counts["ok"] += 1
        if bitmap_file is not None:
            write_overlay(bitmap_file, cast(Path, source), report.result.plan.bit_map, overwrite, max_pixels)
        if as_json:
            typer.echo(json.dumps(report.to_dict()), err=to_stdout)
        elif not quiet:
            from gdq_cli.summary import summary_lines

            if heatmap:
                print_map(report.result.bit_map, report.in_size, err=to_stdout)
            for warning in report.warnings:
                typer.echo(f"note: {name}: {warning}", err=True)
            typer.echo(summary_lines(report), err=to_stdout)
    if as_json:
        summary = counts | {"seconds": time.perf_counter() - start}
        typer.echo(json.dumps({"summary": summary}), err=to_stdout)
    elif len(pairs) + len(missing) > 1 and not quiet:
        seconds = time.perf_counter() - start
        typer.echo(
            f"{counts['ok']} upscaled, {counts['skipped']} skipped, {counts['failed']} failed in {seconds:.1f} s"
        )
    if failures:
        only_one = len(pairs) + len(missing) == 1
        raise typer.Exit(failures[0].exit_code if only_one else 1)


def _plan_run(
    names: list[str], options: UpscaleOptions, output: str | None, recursive: bool
) -> tuple[list[tuple[Path | BinaryIO, Path | BinaryIO]], list[ImageError]]:
    """What to read and where to write; names that lead nowhere are errors of their own."""
    from gdq_cli.batch import collect_inputs, plan_targets

    if "-" in names:
        if len(names) != 1:
            raise OptionsError("- (stdin) is one picture; it cannot be mixed with other inputs")
        if output is None:
            raise OptionsError("- (stdin) needs --output: a file, or - for stdout")
        return [(sys.stdin.buffer, sys.stdout.buffer if output == "-" else Path(output))], []
    inputs = collect_inputs(names, recursive=recursive)
    missing = [ImageError(f"{name}: no such file or folder") for name in inputs.missing]
    if output == "-":
        if len(inputs.files) + len(missing) != 1:
            raise OptionsError("--output - is one picture; give exactly one input")
        return [(file, sys.stdout.buffer) for file in inputs.files], missing
    folder = None if output is None else Path(output).expanduser()
    if folder is not None and len(inputs.files) > 1 and not folder.is_dir():
        raise OptionsError(f"--output {output} is not an existing folder, but there are {len(inputs.files)} inputs")
    return list(plan_targets(inputs.files, options, folder)), missing


def _report_failure(error: GdqError, name: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"input": name, "output": None, "status": "failed", "error": str(error)}))
    print_error(error)
