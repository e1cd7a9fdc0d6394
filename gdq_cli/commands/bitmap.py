"""The command gdq bitmap."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gdq_cli.commands.line.files import check_output, hold_pipe
from gdq_cli.commands.line.flags import (
    BitsOption,
    BudgetOption,
    DeviceOption,
    EngineOption,
    JsonOption,
    MaxPixelsOption,
    ModelOption,
    OfflineOption,
    OverwriteOption,
    ThreadsOption,
    model_option,
    output_option,
)
from gdq_cli.commands.line.usage import given
from gdq_cli.commands.terminal.console import print_map
from gdq_cli.commands.terminal.progress import show_progress, watch_downloads
from gdq_cli.commands.terminal.wording import print_json, say, tell, to_json
from gdq_cli.errors import OptionsError
from gdq_cli.options import NATIVE_SCALES, Encoding, UpscaleOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gdq_cli.bitmaps.table import DecidedBy
    from gdq_cli.upscaling.upscaler import UpscaleResult

OUTPUTS = {
    ".png": "the bit map over the picture",
    ".html": "a page to open in a browser",
    ".csv": "a line per patch",
    ".json": "the object of --json",
}


def bitmap(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A picture.")],
    output: Annotated[
        Path | None,
        output_option("--output", "-o", help="Also write it: .png (overlay), .csv, .json or .html (upscales, too)."),
    ] = None,
    scale: Annotated[int, model_option("--scale", "-x", "-s", help="Native scale of the model: 2, 3 or 4.")] = 4,
    model: ModelOption = UpscaleOptions.model,
    bits: BitsOption = UpscaleOptions.bits,
    budget: BudgetOption = None,
    device: DeviceOption = UpscaleOptions.device,
    threads: ThreadsOption = None,
    engine: EngineOption = "auto",
    numbers: Annotated[bool, output_option("--numbers", help="Write each patch's bits into the overlay.")] = False,
    overwrite: OverwriteOption = False,
    max_pixels: MaxPixelsOption = UpscaleOptions.max_pixels,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show which patch of a picture gets how many bits, and why. Only a report.html needs the picture upscaled."""
    options = UpscaleOptions(
        model=model, device=device, threads=threads, bits=bits, budget=budget, max_pixels=max_pixels
    )
    kind = "" if output is None else output.suffix.lower()
    if output is not None and kind not in OUTPUTS:
        raise OptionsError(f"--output {output}: the bit map is written as .png, .html, .csv or .json")
    if numbers and kind != ".png":
        raise OptionsError("--numbers belongs to the overlay: give -o FILE.png, too")
    for option in given(context, "--device", "--engine") if kind != ".html" else ():
        say(f"{option} has no effect: only for a report.html the network runs")
    if scale not in NATIVE_SCALES:
        raise OptionsError(f"--scale of a bit map must be 2, 3 or 4, not {scale}")
    from gdq_cli.bitmaps.page import show_pair
    from gdq_cli.bitmaps.table import bit_map_csv, bit_map_dict
    from gdq_cli.bits.patches import PATCH_SIZE
    from gdq_cli.commands.report import write_page
    from gdq_cli.commands.terminal.summary import describe_model, plan_line
    from gdq_cli.engines.threads import set_thread_count
    from gdq_cli.files import atomic_file
    from gdq_cli.images import bleed_colour, probe_image, read_image
    from gdq_cli.models.choice import choose_model, describe_lack
    from gdq_cli.models.store import native_scale
    from gdq_cli.upscaling.pool import UpscalerPool, load_checkpoint
    from gdq_cli.upscaling.upscaler import Upscaler

    check_output(output, source, overwrite=overwrite)
    result: UpscaleResult | None = None
    watch = watch_downloads(shown=True)
    with show_progress(source.name, shown=not as_json) as progress:
        start = time.perf_counter()
        file = hold_pipe(source)
        header = probe_image(file, max_pixels=max_pixels)
        picture = read_image(file, max_pixels=max_pixels)
        rgb = picture.rgb if picture.alpha is None else bleed_colour(picture.rgb, picture.alpha)
        model, reason = choose_model(model, header.compression)
        seconds = {"read": time.perf_counter() - start}
        native = native_scale(model, scale)
        start = time.perf_counter()
        if kind == ".html":
            upscaler = UpscalerPool(model, device, threads, engine, offline=offline, watch=watch).get(native)
            seconds["load"] = time.perf_counter() - start
            result = upscaler.upscale(rgb, bits=bits, budget=budget, progress=progress)
            plan = result.plan
        else:  # controller and entropy need no engine, so none is prepared and tested
            if threads is not None:
                set_thread_count(threads)
            upscaler = Upscaler(load_checkpoint(model, native, offline=offline, watch=watch), None)
            plan = upscaler.plan_bits(rgb, bits=options.bits, budget=budget, progress=progress)
    notes: tuple[str, ...] = () if native == scale else (describe_lack(model, scale, native),)
    if header.frames > 1:
        notes += (f"this is the first of {header.frames} frames or pages",)
    for note in notes:
        say(f"{source}: {note}")
    decided_by: DecidedBy | None = "budget" if budget is not None else "forced" if bits != "auto" else None
    facts = bit_map_dict(
        plan.bit_map,
        plan.patches,
        plan.choices,
        input_name=str(source),
        scale=native,
        patch_size=PATCH_SIZE,
        decided_by=decided_by,
    )
    facts |= {"model": upscaler.checkpoint.name, "model_reason": reason}
    if as_json:
        print_json(facts)
    else:
        print_map(plan.bit_map, picture.size)
        name = describe_model(f"{upscaler.checkpoint.name} x{native}", reason)
        tell(plan_line(str(source), plan, name, decided_by))
    if output is None:
        return
    with show_progress(f"writing {output.name}", shown=not as_json):
        if kind == ".png":
            write_overlay(output, picture.rgb, plan.bit_map, overwrite=overwrite, numbers=numbers)
        elif result is not None:
            record = replace(
                result.record,
                name=str(source),
                target_name=str(output),
                model_reason=reason,
                seconds={**seconds, **result.record.seconds},
                warnings=notes,
            )
            shown = record.to_dict() | {"scale": native}
            for trivial in ("output", "frames"):  # the page itself, and 1
                del shown[trivial]
            write_page(output, show_pair(rgb, result.image), record, shown, overwrite=overwrite)
        else:
            csv = bit_map_csv(plan.bit_map, plan.patches, plan.choices, decided_by=decided_by)
            text = csv if kind == ".csv" else to_json(facts) + "\n"
            with atomic_file(output, overwrite=overwrite) as stream:
                stream.write(text.encode(errors="backslashreplace"))  # a name may not be UTF-8
    if not as_json:
        tell(f"{output}: {OUTPUTS[kind]}")


def write_overlay(
    target: Path, rgb: NDArray[np.uint8], bit_map: NDArray[np.int64], *, overwrite: bool, numbers: bool = False
) -> None:
    """Write the bit map over the picture it belongs to, (H, W, 3)."""
    from gdq_cli.bitmaps.overlay import overlay_image
    from gdq_cli.bits.patches import plan_patches
    from gdq_cli.images import Picture, write_image

    overlay = overlay_image(rgb, bit_map, plan_patches(rgb.shape[:2]), numbers=numbers)
    write_image(target, Picture(overlay), Encoding(format="png"), overwrite=overwrite)
