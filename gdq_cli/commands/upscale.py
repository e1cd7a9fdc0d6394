"""The command gdq upscale."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, cast

import typer

from gdq_cli.commands.line.completion import complete_format
from gdq_cli.commands.line.files import check_output
from gdq_cli.commands.line.flags import (
    BitsOption,
    BudgetOption,
    DeviceOption,
    EngineOption,
    InputArgument,
    JsonOption,
    MaxPixelsOption,
    ModelOption,
    OfflineOption,
    PreferOption,
    QuietOption,
    ThreadsOption,
    input_option,
    messages_option,
    metadata_option,
    output_option,
    speed_option,
)
from gdq_cli.commands.terminal.progress import Bar, watch_downloads
from gdq_cli.commands.terminal.wording import say
from gdq_cli.errors import FileError, ImageError, OptionsError
from gdq_cli.options import Encoding, TargetSize, UpscaleOptions

if TYPE_CHECKING:
    from gdq_cli.runs.plan import Plan, Planned
    from gdq_cli.runs.report import RunSummary
    from gdq_cli.upscaling.pool import UpscalerPool


_STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def upscale(
    inputs: InputArgument,
    scale: Annotated[
        float | None,
        output_option(
            "--scale", "-x", "-s", help="Factor, 1 to 64. 2, 3, 4 are native, others are resampled. Default 4."
        ),
    ] = None,
    output: Annotated[
        str | None,
        output_option(
            "--output",
            "-o",
            help="File, folder (made if need be), address, or - for stdout (text and --json then go to stderr).",
        ),
    ] = None,
    width: Annotated[int | None, output_option("--width", help="Target width in pixels; aspect kept.")] = None,
    height: Annotated[int | None, output_option("--height", help="Target height in pixels; aspect kept.")] = None,
    longest: Annotated[int | None, output_option("--longest", help="Target longest side; aspect kept.")] = None,
    model: ModelOption = UpscaleOptions.model,
    device: DeviceOption = UpscaleOptions.device,
    threads: ThreadsOption = None,
    engine: EngineOption = "auto",
    bits: BitsOption = UpscaleOptions.bits,
    budget: BudgetOption = None,
    prefer: PreferOption = UpscaleOptions.prefer,
    format: Annotated[
        str,
        output_option(
            "--format",
            "-f",
            help="auto (as the input), png, jpg, webp, tiff, avif, bmp or ppm.",
            autocompletion=complete_format,
        ),
    ] = "auto",
    quality: Annotated[int | None, output_option("--quality", "-q", help="1 to 100, for jpg, webp and avif.")] = None,
    lossless: Annotated[
        bool, output_option("--lossless", help="Lossless webp; png, tiff, bmp and ppm always are.")
    ] = False,
    background: Annotated[
        str, metadata_option("--background", help="Behind transparent pixels in formats without transparency.")
    ] = "white",
    overwrite: Annotated[bool, output_option("--overwrite", help="Replace outputs; default: skip them.")] = False,
    strip_metadata: Annotated[
        bool,
        metadata_option(
            "--strip-metadata",
            help="Write no EXIF, XMP, captions, resolution or sRGB profile; one of other colours stays.",
        ),
    ] = False,
    alpha: Annotated[
        str, metadata_option("--alpha", help="Upscale transparency by lanczos or network, or drop it.")
    ] = UpscaleOptions.alpha,
    max_pixels: MaxPixelsOption = UpscaleOptions.max_pixels,
    recursive: Annotated[bool, input_option("--recursive", "-r", help="Look into folders below.")] = False,
    name: Annotated[
        str | None,
        output_option(
            "--name", help="Names of outputs, from {stem} {name} {ext} {scale} {width} {height} {model} {bits}."
        ),
    ] = None,
    suffix: Annotated[str | None, output_option("--suffix", help='The same as --name "{stem}SUFFIX".')] = None,
    memory: Annotated[
        str | None,
        speed_option(
            "--memory", help="Budget for pictures, such as 2GiB; larger ones go through files. Default: half."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        messages_option(
            "--dry-run",
            help="Try all but the network: options, model, and every picture decoded; say what would be done.",
        ),
    ] = False,
    heatmap: Annotated[
        bool | None, messages_option("--heatmap/--no-heatmap", help="Draw the bit map; default: for a single picture.")
    ] = None,
    bitmap_file: Annotated[
        Path | None, output_option("--bitmap", help="Also write the bit map over the input picture, as PNG.")
    ] = None,
    report_file: Annotated[
        Path | None,
        output_option(
            "--report", help="Also write an .html page: before and after of every picture, with its bit map."
        ),
    ] = None,
    ray: Annotated[
        str | None,
        speed_option(
            "--ray", metavar="ADDRESS", help="Run on Ray: local starts it here, auto finds it, or its address."
        ),
    ] = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: Annotated[bool, messages_option("--verbose", "-v", help="Also tell where the time went.")] = False,
) -> None:
    """Upscale pictures and show which patch got how many bits."""
    from gdq_cli.commands.bitmap import write_overlay
    from gdq_cli.commands.terminal.printer import Manner, RunPrinter, print_plan
    from gdq_cli.images import parse_colour, read_image  # not at the top: gdq --help needs neither numpy nor Pillow
    from gdq_cli.places import is_address
    from gdq_cli.runs.memory import parse_size

    encoding = Encoding(
        format=None if format == "auto" else format,
        quality=quality,
        lossless=lossless,
        background=parse_colour(background),
        strip_metadata=strip_metadata,
    )
    options = UpscaleOptions(
        size=TargetSize(scale, width, height, longest),
        encoding=encoding,
        model=model,
        device=device,
        threads=threads,
        bits=bits,
        budget=budget,
        prefer=prefer,
        overwrite=overwrite,
        alpha=cast(Any, alpha),
        max_pixels=max_pixels,
        name=name,
        suffix=suffix,
        memory=None if memory is None else parse_size(memory),
    )
    manner = Manner(as_json, quiet, verbose, heatmap, err=output in _STDOUT)
    _check_meant(inputs, output)

    def make_pool() -> UpscalerPool:
        from gdq_cli.upscaling.pool import UpscalerPool

        watch = watch_downloads(shown=not quiet)
        return UpscalerPool(options.model, options.device, options.threads, engine, offline=offline, watch=watch)

    if ray is not None or any(map(is_address, [*inputs, output or ""])):
        from gdq_cli.commands.fleet import check_fleet, upscale_fleet

        check_fleet(inputs, manner.err, {"--bitmap": bitmap_file, "--report": report_file})
        fleet = upscale_fleet(inputs, options, output, recursive, ray, make_pool, engine, offline, dry_run, manner)
        raise typer.Exit(_exit_code(fleet))

    from gdq_cli.commands.report import check_report, open_report
    from gdq_cli.runs.pipeline import run_batch

    plan = _plan_run(inputs, options, output, recursive)
    if bitmap_file is not None:
        _check_overlay(bitmap_file, plan, overwrite)
    if report_file is not None:
        check_report(report_file, plan, overwrite)
    if not quiet:
        _say_without_effect(plan, options, inputs, recursive)
    if dry_run:
        plan = _rehearse(plan, options, make_pool, quiet)
        print_plan(plan, manner, [file for file in (bitmap_file, report_file) if file is not None])
        raise typer.Exit(_exit_code(plan))

    with open_report(report_file, plan, overwrite) as report:
        printer = RunPrinter(manner, len(plan.jobs), plan.planned, report)
        with printer.watching():
            summary = run_batch(plan, options, make_pool, printer)
    if report_file is not None and not plan.planned and not quiet:
        say(f"{report_file} is not written: there was nothing to upscale")
    if bitmap_file is not None and printer.bit_map is not None:
        source = plan.jobs[0].source
        if not isinstance(source, Path):
            source.seek(0)
        write_overlay(bitmap_file, read_image(source, max_pixels=max_pixels).rgb, printer.bit_map, overwrite=overwrite)
    elif bitmap_file is not None and not plan.planned and not quiet and not summary.failures:
        say(f"{bitmap_file} is not written: the picture was skipped; gdq bitmap makes it alone")
    printer.print_summary(summary)
    raise typer.Exit(_exit_code(summary))


def _exit_code(done: Plan | RunSummary) -> int:
    """Of a run, or of one that was tried: that of its only picture's error, or of the error that ended it, else 1."""
    from gdq_cli.runs.plan import Failed, Plan

    if isinstance(done, Plan):
        failures, fatal = [job for job in done.jobs if isinstance(job, Failed)], None
        pictures = len(done.jobs)
    else:
        failures, fatal = done.failures, done.fatal
        pictures = done.ok + done.skipped + done.failed
    if fatal is None and failures and pictures == 1:
        fatal = failures[0].error
    return fatal.exit_code if fatal is not None else 1 if failures else 0


def _check_meant(names: list[str], output: str | None) -> None:
    """Refuse ``IN OUT`` and ``IN 4x``, as other programs take them: one of them would be upscaled, to another name."""
    from gdq_cli.files import user_path, why_missing

    if output is not None or len(names) != 2 or glob.has_magic(names[1]):
        return
    first, second = map(user_path, names)
    missing = "no such file or folder"
    if not os.path.exists(first) or os.path.exists(second) or why_missing(names[1], missing) != missing:
        return
    factor = re.fullmatch(r"x?(\d+(?:\.\d+)?)x?", names[1])
    meant = f"a factor is given as --scale {factor[1]}" if factor else f"an output is given as --output {names[1]}"
    raise OptionsError(f"{names[1]}: {missing}; {meant}")


def _say_without_effect(plan: Plan, options: UpscaleOptions, names: list[str], recursive: bool) -> None:
    """A note for every option that was given in vain."""
    from gdq_cli.files import user_path
    from gdq_cli.runs.report import without_effect

    for text in without_effect(plan, options):
        say(text)
    if recursive and plan.planned and not any(os.path.isdir(user_path(name)) for name in names):
        say("--recursive has no effect: no input is a folder")


def _rehearse(plan: Plan, options: UpscaleOptions, make_pool: Callable[[], UpscalerPool], quiet: bool) -> Plan:
    """The plan after all has been tried that takes no network; models that would be downloaded are only named."""
    from gdq_cli.runs.rehearsal import rehearse

    def show(job: Planned, done: int, total: int) -> None:
        bar.update(Path(job.name).name, done, total)

    with Bar(shown=not quiet) as bar:
        return rehearse(plan, options, make_pool, show, say)


def _plan_run(names: list[str], options: UpscaleOptions, output: str | None, recursive: bool) -> Plan:
    """What to read and where to write."""
    from gdq_cli.files import announced, user_path
    from gdq_cli.runs.inputs import collect_inputs, read_stdin
    from gdq_cli.runs.names import choose_destination
    from gdq_cli.runs.plan import plan_batch

    if output in _STDOUT:
        output = "-"
        if sys.stdout is None:
            raise FileError("standard output: is closed")
        if sys.stdout.isatty():
            raise OptionsError(
                "--output - writes image bytes, and stdout is a terminal; redirect it to a file or a pipe"
            )
    stdout = cast(BinaryIO, getattr(sys.stdout, "buffer", None))
    if "-" in names:
        if len(names) != 1:
            raise OptionsError("- (stdin) is one picture; it cannot be mixed with other inputs")
        if output is None:
            raise OptionsError("- (stdin) needs --output: a file, a folder, or - for stdout")
        if sys.stdin is None:
            raise ImageError("standard input: is closed")
        if sys.stdin.isatty():
            raise OptionsError("- (stdin) is a terminal; name a picture, or pipe one in")
        with announced(say, "waiting for all that goes into standard input"):
            inputs = read_stdin(sys.stdin.buffer)
    else:
        exclude = None if output is None or output == "-" else user_path(output)
        inputs = collect_inputs(names, recursive=recursive, exclude=exclude, say=say)
    return plan_batch(inputs, options, choose_destination(output, stdout, inputs, say))


def _check_overlay(target: Path, plan: Plan, overwrite: bool) -> None:
    """Refuse a --bitmap that cannot be written before the work, not after it."""
    from gdq_cli.files import path_key

    if target.suffix.lower() != ".png":
        raise OptionsError(
            f"--bitmap {target}: the bit map over the picture is a .png file; "
            "gdq bitmap PICTURE --output writes .csv, .json and .html"
        )
    if len(plan.jobs) != 1:
        raise OptionsError("--bitmap names one file, so it needs exactly one input")
    for job in plan.planned:
        if isinstance(job.target, Path) and path_key(job.target) == path_key(target):
            raise OptionsError(f"--bitmap {target} is the output itself; choose another name")
        inputs = [job.source] if isinstance(job.source, Path) else []
        check_output(target, *inputs, overwrite=overwrite, option="bitmap")
