"""Groups of options in the help, and options that several commands have."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from gdq_cli.commands.line.completion import complete_bits, complete_device, complete_picture_model
from gdq_cli.options import Prefer, UpscaleOptions


def _check_max_pixels(max_pixels: int) -> int:
    """The limit that is given. Raises OptionsError for one that no picture keeps."""
    return UpscaleOptions(max_pixels=max_pixels).max_pixels


# Makers of options, by the group of the help that they stand in.
input_option = partial(typer.Option, rich_help_panel="Input")
output_option = partial(typer.Option, rich_help_panel="Output")
model_option = partial(typer.Option, rich_help_panel="Model and bits")
metadata_option = partial(typer.Option, rich_help_panel="Metadata")
training_option = partial(typer.Option, rich_help_panel="Training")
controller_option = partial(typer.Option, rich_help_panel="Controller")
speed_option = partial(typer.Option, rich_help_panel="Speed")
messages_option = partial(typer.Option, rich_help_panel="Messages")

InputArgument = Annotated[
    list[str],
    typer.Argument(metavar="INPUT...", help="Files, folders or globs, of paths or addresses (s3://); - is stdin."),
]
ModelOption = Annotated[
    str,
    model_option(
        "--model",
        "-m",
        help="Model name, or a .safetensors checkpoint; auto: photo for lossy pictures such as JPEG, edsr for others.",
        autocompletion=complete_picture_model,
    ),
]
NativeScaleOption = Annotated[
    int, model_option("--scale", "-x", "-s", min=2, max=4, help="Native scale of the model: 2, 3 or 4.")
]
DeviceOption = Annotated[
    str, speed_option("--device", "-d", help="auto, cpu, cuda, cuda:N or mps.", autocompletion=complete_device)
]
ThreadsOption = Annotated[int | None, speed_option("--threads", "-j", help="CPU threads; default: all cores.")]
EngineOption = Annotated[str, speed_option("--engine", help="Insist on one engine; see gdq doctor.", hidden=True)]
BitsOption = Annotated[
    str,
    model_option("--bits", "-b", help="auto, or force 4, 5, 6, 8 or fp32 everywhere.", autocompletion=complete_bits),
]
BudgetOption = Annotated[float | None, model_option("--budget", help="Spend at most this average bit-width (4 to 8).")]
PreferOption = Annotated[
    Prefer,
    model_option(
        "--prefer", metavar="KIND", help="What auto saves: bits, or time (more bits where they take no longer here)."
    ),
]
MaxPixelsOption = Annotated[
    int,
    input_option("--max-pixels", callback=_check_max_pixels, help="Refuse larger inputs, judged by their header."),
]
OfflineOption = Annotated[bool, model_option("--offline", help="Never touch the network; use what is here.")]
OverwriteOption = Annotated[bool, output_option("--overwrite", help="Replace an existing output.")]
JsonOption = Annotated[bool, messages_option("--json", help="One JSON object per line on stdout instead of text.")]
QuietOption = Annotated[bool, messages_option("--quiet", help="Print nothing but errors.")]
