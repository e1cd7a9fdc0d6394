"""The commands gdq models list, pull, info, verify, convert, path and push."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from gdq_cli.commands.line.completion import complete_model
from gdq_cli.commands.line.files import check_checkpoint, check_scale, model_name
from gdq_cli.commands.line.flags import JsonOption, NativeScaleOption, OfflineOption, OverwriteOption, output_option
from gdq_cli.commands.line.help import PlainCommand, PlainGroup, examples
from gdq_cli.commands.line.usage import given
from gdq_cli.commands.terminal.progress import watch_downloads
from gdq_cli.commands.terminal.wording import print_error, print_json, say, tell, to_json
from gdq_cli.errors import OptionsError, WeightsError

models = typer.Typer(
    cls=PlainGroup,
    help="Checkpoints: what is here, what the Hub has, what a file says about itself.",
    no_args_is_help=True,
)

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        autocompletion=complete_model,
        help="Model name, hf:owner/repo, hf:owner/repo@revision/file, or a .safetensors file.",
    ),
]


def _say_of_files(context: typer.Context, *names: str) -> None:
    """A note where no model of these is found by its scale."""
    from gdq_cli.models.store import names_file

    if given(context, "--scale") and all(map(names_file, names)):
        say("--scale has no effect: a file has one scale" if names else "--scale has no effect without a model's name")


@models.command("list", cls=PlainCommand)
def list_(as_json: JsonOption = False) -> None:
    """Models that have a name: bundled, and in GDQ_MODEL_DIR."""
    from gdq_cli.models.store import list_models

    found = list_models()
    if as_json:
        print_json([asdict(model) | {"path": str(model.path)} for model in found])
        return
    for model in found:
        tell(f"{model.name:<16} x{model.scale}  {model.size / 1e6:6.1f} MB  {model.place:<13} {model.path}")


@models.command(cls=PlainCommand, epilog=examples("models pull"))
def pull(
    context: typer.Context,
    model: ModelArgument,
    scale: NativeScaleOption = 4,
    sha256: Annotated[str | None, typer.Option("--sha256", help="SHA-256 that the file must have.")] = None,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Take a file whose SHA-256 the Hub does not tell.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print where it lies and errors, nothing else.")] = False,
) -> None:
    """Download a model, or bring it up to date; prints where it lies."""
    from gdq_cli.models import store as hub
    from gdq_cli.models.hub.download import Trust

    if unverified and sha256 is not None:
        raise OptionsError("--unverified and --sha256 contradict each other; give one of them")
    if not quiet:
        _say_of_files(context, model)
        if unverified and not model.startswith("hf:"):
            say("--unverified has no effect: nothing is downloaded")
    trust = Trust(sha256, unverified)
    told: Callable[[str], None] = (lambda text: None) if quiet else say
    tell(hub.pull(model, scale, watch=watch_downloads(shown=not quiet), trust=trust, say=told))


@models.command(cls=PlainCommand)
def path(context: typer.Context, model: ModelArgument, scale: NativeScaleOption = 4) -> None:
    """Print where a model lies on this machine; never downloads."""
    from gdq_cli.models import store as hub

    _say_of_files(context, model)
    tell(hub.resolve(model, scale, offline=True))


@models.command(cls=PlainCommand)
def info(
    context: typer.Context,
    model: ModelArgument,
    scale: NativeScaleOption = 4,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """What a checkpoint is: network, bit-widths, controller, and how it was made."""
    from gdq_cli.models import store as hub

    _say_of_files(context, model)
    file = hub.resolve(model, scale, offline=offline, watch=watch_downloads(shown=True))

    from gdq_cli.models.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(file, expected_sha256=hub.expected_sha256(file))
    config = checkpoint.config
    controller = checkpoint.controller
    values: dict[str, Any] = {
        "path": str(file),
        "sha256": checkpoint.sha256,
        "size": file.stat().st_size,
        "name": checkpoint.name,
        "network": config.name,
        **config.to_dict(),
        "parameters": checkpoint.parameters.count,
        "static_bits": list(config.static_bits),
        "halo": checkpoint.halo,
        "controller": None
        if controller is None
        else {"descriptor": controller.descriptor, "thresholds": list(controller.thresholds)},
        "facts": checkpoint.facts,
    }
    if as_json:
        print_json(values)
        return
    for key, value in values.items():
        if key != "facts":
            tell(f"{key:<13} {value if isinstance(value, str) else to_json(value)}")
    for key, value in sorted(checkpoint.facts.items()):  # foreign text: escaped, and of bounded length
        text = to_json(value)
        tell(f"{ascii(key)[1:-1][:40]}: {text if len(text) <= 200 else text[:197] + '...'}")


@models.command(cls=PlainCommand)
def verify(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL|FILE...", help="Default: all models that are here.")
    ] = None,
    scale: NativeScaleOption = 4,
) -> None:
    """Check hashes, contents and integer ranges of checkpoints; exit code 4 if one is not right."""
    from gdq_cli.models import store as hub

    failures = 0
    _say_of_files(context, *names or ())
    if names:
        wanted = [(name, scale, name) for name in names]
    else:
        wanted = [(m.name, m.scale, f"{m.name} x{m.scale}") for m in hub.list_models()]
    for name, native, label in wanted:
        try:
            tell(f"ok      {label}: {_verify(hub.resolve(name, native, offline=True))}")
        except WeightsError as error:
            failures += 1
            print_error(error)
    if failures:
        raise typer.Exit(WeightsError.exit_code)


def _verify(file: Path) -> str:
    """Read one checkpoint and lower it to integers; what was found out."""
    from gdq_cli.models import store as hub
    from gdq_cli.models.checkpoint import read_checkpoint

    expected = hub.expected_sha256(file)
    checkpoint = read_checkpoint(file, expected_sha256=expected)
    if checkpoint.is_quantized:
        _ = checkpoint.parameters.program  # checks every range
    vouched = "hash as in the manifest" if expected else f"SHA-256 {checkpoint.sha256[:12]}..., nobody vouches for it"
    return f"{file}, {vouched}"


@models.command(cls=PlainCommand, epilog=examples("models convert"))
def convert(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A .pth, .pth.tar, .pt or .safetensors file.")],
    output: Annotated[Path, output_option("--output", "-o", help="Checkpoint to write, *.safetensors.")],
    residual_scale: Annotated[
        float | None, typer.Option("--residual-scale", help="EDSR's factor on residuals; default 1, or 0.1 when wide.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Turn a checkpoint of Granular-DQ's release, or float32 EDSR or Compact weights, into a gdq checkpoint."""
    from gdq_cli.models.checkpoint import write_checkpoint
    from gdq_cli.models.convert import convert_file

    check_checkpoint(output, source, overwrite=overwrite)
    checkpoint = convert_file(source, model_name(output), residual_scale=residual_scale)
    check_scale(output, checkpoint.scale)
    write_checkpoint(output, checkpoint, overwrite=overwrite)
    config = checkpoint.config
    kind = f"{config.name} x{checkpoint.scale}, {config.sizes}"
    if checkpoint.is_quantized:
        tell(f"{output}: {kind}; run it with gdq upscale -x {checkpoint.scale} -m {output}")
    else:
        tell(f"{output}: {kind}, float32; quantize it with gdq calibrate FOLDER --from {output}")


@models.command(cls=PlainCommand, epilog=examples("models push"))
def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of *_xN.safetensors checkpoints.")],
    repository: Annotated[str, typer.Argument(metavar="hf:owner/repo", help="Where to; created if it is not there.")],
    license: Annotated[
        str | None, typer.Option("--license", help="Licence of the weights, as the Hub names it.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Create a private repository.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the model card and what would be uploaded.")
    ] = False,
) -> None:
    """Upload checkpoints with their model card to the Hugging Face Hub."""
    from gdq_cli.models.hub.download import check_push_allowed
    from gdq_cli.models.hub.names import parse_hub_name

    name = parse_hub_name(repository)
    if name.file is not None:
        raise OptionsError(f"{repository}: name the repository alone, without a file")
    if not dry_run:
        check_push_allowed()
    from gdq_cli.models.hub.push import prepare_release, push_release

    release = prepare_release(folder, name, license)
    if dry_run:
        for file in release.files:
            tell(f"would upload {file} ({file.stat().st_size / 1e6:.1f} MB) to {name}", err=True)
        tell(*release.card.split("\n"))
        return
    tell(push_release(release, private=private))
