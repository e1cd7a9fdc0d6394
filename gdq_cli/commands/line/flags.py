"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from gdq_cli.commands.line.completion import complete_bits, complete_device, complete_picture_model
from gdq_cli.commands.line.help import INPUT, MESSAGES, MODEL, SPEED
from gdq_cli.options import Prefer

InputArgument = Annotated[
    list[str],
    typer.Argument(metavar="INPUT...", help="Files, folders or globs, of paths or addresses (s3://); - is stdin."),
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Model name, or a .safetensors checkpoint; auto: photo for lossy pictures such as JPEG, edsr for others.",
        rich_help_panel=MODEL,
        autocompletion=complete_picture_model,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device", "-d", help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=SPEED, autocompletion=complete_device
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", "-j", help="CPU threads; default: all cores.", rich_help_panel=SPEED)
]
EngineOption = Annotated[
    str, typer.Option("--engine", help="Insist on one engine; see gdq doctor.", hidden=True, rich_help_panel=SPEED)
]
BitsOption = Annotated[
    str,
    typer.Option(
        "--bits",
        "-b",
        help="auto, or force 4, 5, 6, 8 or fp32 everywhere.",
        rich_help_panel=MODEL,
        autocompletion=complete_bits,
    ),
]
BudgetOption = Annotated[
    float | None, typer.Option("--budget", help="Spend at most this average bit-width (4 to 8).", rich_help_panel=MODEL)
]
PreferOption = Annotated[
    Prefer,
    typer.Option(
        "--prefer",
        metavar="KIND",
        help="What auto saves: bits, or time (more bits where they take no longer here).",
        rich_help_panel=MODEL,
    ),
]
MaxPixelsOption = Annotated[
    int, typer.Option("--max-pixels", help="Refuse larger inputs, judged by their header.", rich_help_panel=INPUT)
]
OfflineOption = Annotated[
    bool, typer.Option("--offline", help="Never touch the network; use what is here.", rich_help_panel=MODEL)
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON object per line on stdout instead of text.", rich_help_panel=MESSAGES)
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.", rich_help_panel=MESSAGES)]
