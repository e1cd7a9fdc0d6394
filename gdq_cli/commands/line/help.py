"""How the help of a command is laid out: flags without a value, examples below; and its class."""

from __future__ import annotations

from typing import Any

import typer.core

from gdq_cli.commands.line.usage import check_words

EXAMPLES = {
    "upscale": (
        ("gdq upscale in.jpg -x 4", "in_x4.jpg beside it"),
        ("gdq upscale photos/ -r -x 2 -o out/", "a folder and those below"),
        ("gdq upscale in.png --width 1920 -f webp -q 80", "by size, to another format"),
    ),
    "bitmap": (
        ("gdq bitmap in.jpg", "in the terminal"),
        ("gdq bitmap in.jpg -o map.png --numbers", "over the picture"),
        ("gdq bitmap in.jpg -o report.html", "with a slider, before and after"),
    ),
    "eval": (
        ("gdq eval Set5/ -x 2", "every width of edsr x2"),
        ("gdq eval Set5/ -m photo -b auto --degrade light", "one width, on worse pictures"),
        ("gdq eval Set5/ -b bicubic,fp32,auto --csv set5.csv", "some rows, to a file"),
    ),
    "bench": (
        ("gdq bench", "a made picture, x4"),
        ("gdq bench in.jpg -x 2 -b 8,auto", "your picture, some widths"),
        ("gdq bench -j 1 -j 4 --repeats 9", "two numbers of threads"),
    ),
    "compare": (
        ("gdq compare a.png b.png", "PSNR, SSIM, largest difference"),
        ("gdq compare a.png b.png -o difference.png", "see where"),
        ("gdq compare a.png b.png --shave 4 --json", "for scripts"),
    ),
    "doctor": (
        ("gdq doctor", "what runs here, and why"),
        ("gdq doctor -d cuda", "what is wrong with the GPU"),
        ("gdq doctor --json", "for a bug report"),
    ),
    "calibrate": (
        ("gdq calibrate photos/ --from edsr.pt -o mine_x4.safetensors", "of another project"),
        ("gdq calibrate photos/ --from float_x2.safetensors -o mine_x2.safetensors", "trained by gdq"),
        ("gdq calibrate photos/ --from edsr.pt -o mine_x4.safetensors --fab 5", "more bits"),
    ),
    "train": (
        ("gdq train photos/ -x 2 -o float_x2.safetensors", "from scratch"),
        ("gdq train photos/ --from float_x2.safetensors -x 4 -o float_x4.safetensors", "another scale"),
        ("gdq train photos/ --from mine_x4.safetensors --stage quantized -o new_x4.safetensors", "after calibrating"),
    ),
    "refine": (
        ("gdq refine photos/ --from tuned_x4.safetensors -o new_x4.safetensors", "a new controller"),
        ("gdq refine photos/ --from a_x4.safetensors --average b_x4.safetensors -o c_x4.safetensors", "two runs"),
        ("gdq refine photos/ --from tuned_x4.safetensors --steps -o new_x4.safetensors", "better steps"),
    ),
    "models pull": (
        ("gdq models pull hf:owner/repo -x 4", "the x4 checkpoint of a repository"),
        ("gdq models pull hf:owner/repo@v1/mine_x4.safetensors", "a tag and a file"),
    ),
    "models convert": (
        ("gdq models convert edsr.pt -o mine_x4.safetensors", "then gdq calibrate"),
        ("gdq models convert release.pth.tar -o srresnet_x4.safetensors", "runs as it is"),
    ),
    "models push": (
        ("gdq models push weights/ hf:owner/repo --license mit --dry-run", "see the card first"),
        ("gdq models push weights/ hf:owner/repo --license mit", "then upload"),
    ),
}
"""Commands to copy, by the command that they show, and what each is for. Names of files are the reader's own."""


def examples(command: str) -> str | None:
    """The epilog of a command's help; None without examples."""
    lines = [f"{line}\n    {what}" for line, what in EXAMPLES.get(command, ())]
    return "\n\n".join(["Examples:", *lines]) if lines else None


def _without_types(parameters: list[Any]) -> list[Any]:
    """Have the help say what kind of value follows only where one does, and by its metavar if it has one."""
    for parameter in parameters:
        flag, word = getattr(parameter, "is_flag", False), getattr(parameter, "metavar", None)
        argument = parameter.param_type_name == "argument"
        if flag or argument or word is not None:
            shown = None if flag or argument else word
            setattr(parameter, "display_type_rich", lambda ctx, shown=shown: shown)  # noqa: B010
        if argument and word is not None:  # newer Typers put it in braces, and dots behind its own
            usage = word if parameter.required else f"[{word}]"
            setattr(parameter, "get_usage_pieces", lambda ctx, usage=usage: [usage])  # noqa: B010
    return parameters


class PlainCommand(typer.core.TyperCommand):
    """A command with a help that is short on types, which takes no empty words."""

    def get_params(self, ctx: Any) -> Any:
        return _without_types(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        values, others, given = self.make_parser(ctx).parse_args(list(args))
        if not ctx.resilient_parsing and not any(param.is_eager for param in given):
            check_words(self.name, values, given, others)
        return super().parse_args(ctx, args)


class PlainGroup(typer.core.TyperGroup):
    """A group with such a help."""

    def get_params(self, ctx: Any) -> Any:
        return _without_types(super().get_params(ctx))
