"""The command gdq bitmap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gdq_cli.cli_common import BudgetOption, JsonOption, MaxPixelsOption, ModelOption, print_map, write_overlay
from gdq_cli.errors import OptionsError
from gdq_cli.options import UpscaleOptions


def bitmap(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A picture.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write it: .png (overlay), .csv or .json.")
    ] = None,
    scale: Annotated[int, typer.Option("--scale", "-x", "-s", help="Native scale of the model: 2, 3 or 4.")] = 4,
    model: ModelOption = UpscaleOptions.model,
    budget: BudgetOption = None,
    numbers: Annotated[bool, typer.Option("--numbers", help="Write each patch's bits into the overlay.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    max_pixels: MaxPixelsOption = UpscaleOptions.max_pixels,
    as_json: JsonOption = False,
) -> None:
    """Show which patch of a picture gets how many bits, and why, without upscaling it."""
    if output is not None and output.suffix.lower() not in (".png", ".csv", ".json"):
        raise OptionsError(f"--output {output}: the bit map is written as .png, .csv or .json")
    if scale not in (2, 3, 4):
        raise OptionsError(f"--scale of a bit map must be 2, 3 or 4, not {scale}")
    from gdq_cli.heatmap_table import bit_map_csv, bit_map_dict
    from gdq_cli.images import atomic_file, bleed_colour, check_target, read_image
    from gdq_cli.models import UpscalerPool
    from gdq_cli.patches import PATCH_SIZE
    from gdq_cli.summary import plan_line

    if output is not None:
        check_target(output, overwrite=overwrite)
    picture = read_image(source, max_pixels=max_pixels)
    upscaler = UpscalerPool(model, "cpu").get(scale)
    rgb = picture.rgb if picture.alpha is None else bleed_colour(picture.rgb, picture.alpha)
    plan = upscaler.plan_bits(rgb, budget=budget)
    decided_by: Any = None if budget is None else "budget"
    facts = bit_map_dict(
        plan.bit_map,
        plan.patches,
        plan.choices,
        input_name=str(source),
        scale=scale,
        patch_size=PATCH_SIZE,
        decided_by=decided_by,
    )
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        print_map(plan.bit_map, picture.size)
        typer.echo(plan_line(str(source), plan, upscaler.checkpoint.name, scale))
    if output is None:
        return
    if output.suffix.lower() == ".png":
        write_overlay(output, source, plan.bit_map, overwrite, max_pixels, numbers)
        return
    if output.suffix.lower() == ".csv":
        text = bit_map_csv(plan.bit_map, plan.patches, plan.choices, decided_by=decided_by)
    else:
        text = json.dumps(facts, indent=1) + "\n"
    with atomic_file(output, overwrite=overwrite) as file:
        file.write(text.encode())
