"""Commands that measure: gdq eval, gdq bench, gdq compare."""

from __future__ import annotations

import filecmp
import io
import itertools
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gdq_cli.commands.line.completion import complete_model, complete_rows
from gdq_cli.commands.line.files import check_output, hold_pipe
from gdq_cli.commands.line.flags import (
    DeviceOption,
    EngineOption,
    JsonOption,
    MaxPixelsOption,
    NativeScaleOption,
    OfflineOption,
    OverwriteOption,
    ThreadsOption,
    input_option,
    model_option,
    output_option,
    speed_option,
)
from gdq_cli.commands.line.usage import given
from gdq_cli.commands.terminal.console import print_table
from gdq_cli.commands.terminal.progress import Bar, show_progress, watch_downloads
from gdq_cli.commands.terminal.wording import print_json, say, tell
from gdq_cli.errors import OptionsError
from gdq_cli.options import DEFAULT_MODEL, Encoding, UpscaleOptions

if TYPE_CHECKING:
    from gdq_cli.measure.evaluation import Evaluation

DEFAULT_SIZE = "256x256"


def _split_words(given: list[str] | None) -> tuple[str, ...]:
    """Words of an option that may be repeated, and may hold several with commas between them."""
    return tuple(word.strip() for text in given or () for word in text.split(","))


def eval(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="HR_DIR", help="Folder of HR pictures, the truth.")],
    lr: Annotated[
        Path | None, input_option("--lr", help="Folder of their LR pictures; default: made by antialiased bicubic.")
    ] = None,
    degrade: Annotated[
        str | None,
        input_option(
            "--degrade",
            help="Make LR worse than bicubic does: clean, jpeg90, jpeg75, jpeg45, jpeg30, noise5, noise10, light or "
            "strong; or several, separated by commas.",
        ),
    ] = None,
    seed: Annotated[int, input_option("--seed", min=0, help="Of what --degrade draws.")] = 0,
    scale: NativeScaleOption = 4,
    models: Annotated[
        list[str] | None,
        model_option(
            "--model",
            "-m",
            help="Model name or checkpoint; may be repeated. Default edsr.",
            autocompletion=complete_model,
        ),
    ] = None,
    protocol: Annotated[
        Literal["gdq", "paper"],
        model_option("--protocol", help="gdq (our patches) or paper (96 px at step 90, hard joins)."),
    ] = "gdq",
    bits: Annotated[
        list[str] | None,
        model_option(
            "--bits",
            "-b",
            help="bicubic, fp32, 8, 6, 5, 4 or auto; several with commas, or repeated. Default: all but bicubic.",
            autocompletion=complete_rows,
        ),
    ] = None,
    device: DeviceOption = UpscaleOptions.device,
    threads: ThreadsOption = None,
    engine: EngineOption = "auto",
    as_csv: Annotated[Path | None, output_option("--csv", help="Also write every figure as CSV.")] = None,
    overwrite: OverwriteOption = False,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score models against HR pictures: PSNR and SSIM on the luma, FAB, BitOPs, seconds; means over the pictures."""
    if degrade is not None:
        _check_degrade(lr, protocol)
    elif given(context, "--seed"):
        raise OptionsError("--seed is for what --degrade draws; give both or neither")
    options = UpscaleOptions(device=device, threads=threads)
    from gdq_cli.files import atomic_file, user_path
    from gdq_cli.measure.evaluation import BICUBIC, evaluate, evaluations_csv, find_pairs, parse_degradations, row_order
    from gdq_cli.upscaling.pool import UpscalerPool

    widths = _split_words(bits)
    row_order(widths, quantized=True)  # a misspelt width is said before the first model is loaded
    degradations = parse_degradations(degrade) if degrade is not None else (None,)
    pairs = find_pairs(folder, lr, scale)
    pictures = [path for pair in pairs for path in pair if path is not None]
    check_output(as_csv, *pictures, *map(user_path, models or []), overwrite=overwrite, option="csv")
    watch = watch_downloads(shown=not as_json)
    upscalers = {  # all of them before the first runs: a misspelt one must not cost the minutes of the others
        model: UpscalerPool(model, options.device, options.threads, engine, offline=offline, watch=watch).get(scale)
        for model in models or [DEFAULT_MODEL]
    }
    evaluations: list[Evaluation] = []
    work = list(itertools.product(degradations, upscalers.items()))
    with Bar(str(folder)) as bar:
        for index, (degradation, (model, upscaler)) in enumerate(work):
            what = f"{model} x{scale}" if degradation is None else f"{model} x{scale} {degradation}"
            evaluation = evaluate(
                upscaler,
                pairs,
                bits=widths,
                protocol=protocol,
                lr_source=BICUBIC if lr is None else str(lr),
                degradation=degradation,
                seed=seed,
                progress=partial(_show_part, bar, what, index, len(work)),
            )
            evaluations.append(evaluation)
            bar.stop()
            if as_json:
                print_json(evaluation.to_dict())
    if not as_json:
        from gdq_cli.commands.terminal.tables import evaluation_table

        print_table(evaluation_table(evaluations, str(folder)))
    if as_csv is not None:
        with atomic_file(as_csv, overwrite=overwrite) as file:
            file.write(evaluations_csv(evaluations).encode())


def _show_part(bar: Bar, what: str, index: int, parts: int, done: int, total: int) -> None:
    """How far all parts of some work are, in one of which ``done`` of ``total`` pictures are finished."""
    bar.update(f"{what} {done}/{total} pictures", index + done / total, parts)


def _check_degrade(lr: Path | None, protocol: str) -> None:
    """What can be wrong with --degrade beside other options."""
    if lr is not None:
        raise OptionsError("--degrade makes the LR pictures and --lr names others; give one of them")
    if protocol == "paper":
        raise OptionsError("--protocol paper is for clean LR pictures, which the paper's figures are of; not --degrade")


def bench(
    context: typer.Context,
    source: Annotated[
        Path | None, typer.Argument(metavar="INPUT", help="A picture; default: a made one of --size.")
    ] = None,
    size: Annotated[str, input_option("--size", help="WxH of the LR picture to make if none is given.")] = DEFAULT_SIZE,
    scale: NativeScaleOption = 4,
    model: Annotated[
        str,
        model_option("--model", "-m", help="Model name, or a .safetensors checkpoint.", autocompletion=complete_model),
    ] = DEFAULT_MODEL,
    bits: Annotated[
        list[str] | None,
        model_option(
            "--bits",
            "-b",
            help="fp32, 8, 6, 5, 4 or auto; several with commas, or repeated. Default: all.",
            autocompletion=complete_rows,
        ),
    ] = None,
    engines: Annotated[
        list[str] | None, speed_option("--engine", help="Engine to time; may be repeated. Default: all fast ones.")
    ] = None,
    device: DeviceOption = UpscaleOptions.device,
    threads: Annotated[
        list[int] | None,
        speed_option("--threads", "-j", min=1, max=1024, help="CPU threads; may be repeated. Default: all cores."),
    ] = None,
    repeats: Annotated[
        int, speed_option("--repeats", min=1, help="Counted runs of each row, after one to warm up.")
    ] = 5,
    max_pixels: MaxPixelsOption = UpscaleOptions.max_pixels,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Time every engine and bit-width on one picture, in turns; report medians, spread, stages, memory and energy."""
    import torch

    from gdq_cli.engines import choose_device
    from gdq_cli.images import Picture, read_image, write_image
    from gdq_cli.measure.benchmark import find_engines, natural_picture, run_benchmark, time_stages
    from gdq_cli.measure.evaluation import row_order
    from gdq_cli.measure.machine import energy_meter, machine_facts
    from gdq_cli.upscaling.pool import load_checkpoint

    if source is not None and given(context, "--size"):
        raise OptionsError("--size is of the picture that is made where no INPUT is given; give one of them")
    if source is None and given(context, "--max-pixels"):
        raise OptionsError("--max-pixels is of INPUT; give both or neither")
    widths = _split_words(bits)
    row_order(widths, quantized=True, bicubic=False)
    file = source if source is None else hold_pipe(source)
    image = natural_picture(*_parse_size(size)) if file is None else read_image(file, max_pixels=max_pixels).rgb
    checkpoint = load_checkpoint(model, scale, offline=offline, watch=watch_downloads(shown=not as_json))
    place = choose_device(device)
    upscalers, missing = find_engines(checkpoint, place, engines or ())
    energy = energy_meter(place)
    rows_to_time = row_order(widths, checkpoint.is_quantized)
    with tempfile.TemporaryDirectory() as folder:
        if not isinstance(file, Path):
            file = Path(folder) / "in.png"
            write_image(file, Picture(image), Encoding(format="png"))
        with show_progress(f"{checkpoint.name} x{scale}", "runs") as progress:
            rows = run_benchmark(
                upscalers,
                image,
                bits=rows_to_time,
                threads=threads or [torch.get_num_threads()],
                repeats=repeats,
                progress=progress,
                energy=energy,
            )
        fastest, upscaler = next(iter(upscalers.items()))
        stage_bits = "auto" if "auto" in rows_to_time else rows_to_time[-1]
        stages = time_stages(upscaler, file, bits=stage_bits, repeats=min(repeats, 3))
    facts = {
        "machine": machine_facts(),
        "network": f"{checkpoint.name} x{scale}",
        "model_sha256": checkpoint.sha256,
        "device": upscaler.engine.device,
        "picture": str(source) if source else "dead leaves",
        "in_size": list(image.shape[:2]),
        "repeats": repeats,
        "energy": energy.source if energy.available else f"not measured: {energy.missing}",
        "rows": [row.to_dict() for row in rows],
        "stages": {"engine": fastest, "bits": stage_bits, "seconds": stages},
        "missing": list(missing),
    }
    if as_json:
        print_json(facts)
        return
    from gdq_cli.commands.terminal.tables import bench_lines, bench_table

    print_table(bench_table(facts))
    tell(*bench_lines(facts))
    for line in missing:
        say(line)


def _parse_size(size: str) -> tuple[int, int]:
    """``WxH`` -> (H, W)."""
    width, _, height = size.lower().partition("x")
    digits = all(side.isascii() and side.isdigit() and len(side) < 10 for side in (width, height))
    if not digits or 0 in (int(width), int(height)):
        raise OptionsError(f"--size must be WIDTHxHEIGHT in pixels, such as 256x256, not {size}")
    if int(width) * int(height) > UpscaleOptions.max_pixels:
        raise OptionsError(f"--size {size}: more than {UpscaleOptions.max_pixels:,} pixels")
    return int(height), int(width)


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="A picture.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one of the same size and number of frames.")],
    output: Annotated[
        Path | None, output_option("--output", "-o", help="Also write the difference, brightened, as a picture.")
    ] = None,
    shave: Annotated[int, input_option("--shave", min=0, help="Pixels to leave out on each side.")] = 0,
    overwrite: OverwriteOption = False,
    max_pixels: MaxPixelsOption = UpscaleOptions.max_pixels,
    as_json: JsonOption = False,
) -> None:
    """Compare two pictures with all bits, alpha and frames: PSNR, SSIM, largest difference, difference picture."""
    from gdq_cli.commands.terminal.summary import comparison_line
    from gdq_cli.images import Picture, find_format, read_frames, write_image
    from gdq_cli.measure.comparison import compare_files, difference_picture

    if output is not None:
        if not output.suffix:
            raise OptionsError(f"--output {output}: which format? Its name should end in .png or the like")
        chosen = find_format(output.suffix)
    check_output(output, first, second, overwrite=overwrite)
    names = (str(first), str(second))
    held = (hold_pipe(first), hold_pipe(second))
    files = [read_frames(file, max_pixels=max_pixels) for file in held]
    found = compare_files(files[0], files[1], names, shave)
    result, (height, width) = found.frames[found.worst], found.pair[0].shape[:2]
    differing = [number for number, frame in enumerate(found.frames, 1) if frame.largest]
    # Where gdq read less than the files hold, only equal files are surely equal.
    equal = not differing and (not found.remarks or _same_bytes(*held))
    facts: dict[str, Any] = {
        "first": names[0],
        "second": names[1],
        "size": [height, width],
        "frames": len(found.frames),
        "shave": shave,
        "equal": equal,
        "differing_frames": differing,
        "worst_frame": found.worst + 1,
        "psnr_y": result.psnr_y,
        "ssim_y": result.ssim_y,
        "largest": result.largest,
        "peak": result.peak,
        "largest_at": list(result.where),
        "differing_share": result.share,
        "warnings": list(found.remarks),
    }
    more: list[str] = []
    if output is not None:
        picture, gain = difference_picture(*found.pair)
        write_image(output, Picture(picture), Encoding(format=chosen.name), overwrite=overwrite)
        facts |= {"output": str(output), "gain": gain}
        more = [f"{output}: the difference" + (f", {gain} times as bright" if gain > 1 else "")]
    if as_json:
        print_json(facts)
        return
    for remark in found.remarks:
        say(remark)
    tell(comparison_line(found, differing, equal), *more)


def _same_bytes(first: Path | io.BytesIO, second: Path | io.BytesIO) -> bool:
    """Whether two files, or what pipes held, are equal byte for byte."""
    if isinstance(first, Path) and isinstance(second, Path):
        return filecmp.cmp(first, second, shallow=False)
    contents = [file.read_bytes() if isinstance(file, Path) else file.getvalue() for file in (first, second)]
    return contents[0] == contents[1]
