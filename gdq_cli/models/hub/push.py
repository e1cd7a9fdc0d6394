"""A folder of checkpoints -> a model repository on the Hugging Face Hub, with its model card."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdq_cli._version import __version__
from gdq_cli.errors import OptionsError, WeightsError
from gdq_cli.models.checkpoint import Checkpoint, read_checkpoint
from gdq_cli.models.hub.client import bounded_answers, describe_error
from gdq_cli.models.hub.names import HubName

CARD = "README.md"


@dataclass(frozen=True)
class Release:
    """What a push would upload.

    Attributes:
        name: repository on the Hub.
        files: checkpoints, each read and checked.
        card: text of the model card.
    """

    name: HubName
    files: tuple[Path, ...]
    card: str


def prepare_release(folder: Path, name: HubName, license: str | None = None) -> Release:
    """Check a folder's checkpoints and write the model card.

    A README.md in the folder is taken as the card's text; its front matter must then be complete.

    Args:
        folder: holds ``{model}_x{scale}.safetensors`` files.
        name: repository to push to.
        license: identifier on the Hub, such as ``apache-2.0``; by default what the checkpoints say.

    Raises:
        OptionsError: if nobody says a licence, or the folder's own card lacks a field.
        WeightsError: if the folder holds no checkpoint, or a damaged one.
    """
    if not os.path.isdir(folder):
        raise WeightsError(f"{folder}: no such folder")
    files = tuple(sorted(folder.glob("*.safetensors")))
    if not files:
        raise WeightsError(f"{folder}: holds no .safetensors checkpoint")
    checkpoints = []
    for file in files:
        checkpoint = read_checkpoint(file)
        if not file.stem.endswith(f"_x{checkpoint.scale}"):
            raise WeightsError(
                f"{file}: an x{checkpoint.scale} checkpoint must be named *_x{checkpoint.scale}.safetensors"
            )
        checkpoints.append(checkpoint)
    own = folder / CARD
    if own.is_file():
        if license is not None:
            raise OptionsError(f"{own} is the card and says the licence; leave out `license`, or remove the file")
        return Release(name, files, _checked_card(own))
    licenses = {license} if license else {str(c.facts["license"]) for c in checkpoints if "license" in c.facts}
    if len(licenses) != 1:
        raise OptionsError(f"{folder}: say the licence of these weights with `license`, for example apache-2.0")
    return Release(name, files, model_card(name, files, checkpoints, licenses.pop()))


def push_release(release: Release, *, private: bool = False) -> str:
    """Create the repository if need be, and upload all files in one commit.

    Returns:
        Address of the commit.

    Raises:
        OptionsError: if it is to be private and is there already, for all to see.
        WeightsError: if the Hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    operations = [CommitOperationAdd(file.name, str(file)) for file in release.files]
    operations.append(CommitOperationAdd(CARD, release.card.encode()))
    api = HfApi(library_name="gdq-cli", library_version=__version__)
    try:
        with bounded_answers():
            api.create_repo(release.name.repo, private=private, exist_ok=True)
            if private and not api.model_info(release.name.repo).private:
                raise OptionsError(f"{release.name} is there already and public; `private` would not hide the upload")
            commit = api.create_commit(
                release.name.repo,
                operations,
                commit_message=f"{len(release.files)} checkpoints, gdq {__version__}",
                revision=None if release.name.revision == "main" else release.name.revision,
            )
            return str(commit.commit_url)
    except OptionsError:
        raise
    except Exception as error:  # the client's errors differ by version; all of them mean: not uploaded
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            message = f"{release.name}: not allowed to push there; log in with hf auth login, or set HF_TOKEN"
        else:
            message = describe_error(release.name, error).replace("download it from", "upload it to")
        raise WeightsError(message) from error


def model_card(name: HubName, files: tuple[Path, ...], checkpoints: list[Checkpoint], license: str) -> str:
    """Text of README.md: front matter as the Hub reads it, then what a person wants to know.

    A checkpoint's facts may hold ``metrics``: data set -> {"psnr_y", "ssim_y", "fab"}.
    """
    title = name.repo.partition("/")[2]
    rows = [(c, dataset, values) for c in checkpoints for dataset, values in _metrics(c)]
    front: dict[str, Any] = {
        "library_name": "gdq-cli",
        "pipeline_tag": "image-to-image",
        "license": license,
        "tags": ["super-resolution", "quantization", "granular-dq"],
        "metrics": ["psnr", "ssim"],
    }
    if rows:
        front["model-index"] = [{"name": title, "results": [_index_entry(*row) for row in rows]}]
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in front.items()), "---", f"# {title}", ""]
    lines += [
        "Image upscaling with Granular-DQ (Wang et al., AAAI 2025): every patch gets the bit-width it deserves.",
        "",
        "```",
        f"gdq upscale picture.jpg -x {checkpoints[0].scale} -m {name}",
        "```",
        "",
        "| file | scale | network | bit-widths | SHA-256 |",
        "| --- | --- | --- | --- | --- |",
    ]
    for file, checkpoint in zip(files, checkpoints, strict=True):
        config = checkpoint.config
        widths = ", ".join(map(str, config.bit_widths)) or "float32"
        sizes = f"{config.name}, {config.sizes}"
        lines.append(f"| {file.name} | x{checkpoint.scale} | {sizes} | {widths} | `{checkpoint.sha256}` |")
    if rows:
        lines += ["", "| data | scale | PSNR (Y) | SSIM (Y) | FAB |", "| --- | --- | --- | --- | --- |"]
        for checkpoint, dataset, values in rows:
            cells = [f"{values[key]:.{digits}f}" if key in values else "" for key, digits in _DIGITS]
            lines.append(f"| {dataset} | x{checkpoint.scale} | {' | '.join(cells)} |")
    for file, checkpoint in zip(files, checkpoints, strict=True):
        known = {key: value for key, value in checkpoint.facts.items() if key not in ("metrics", "entropy_quantiles")}
        lines += ["", f"How {file.name} was made:", "", "```json", json.dumps(known, indent=1, sort_keys=True), "```"]
    return "\n".join([*lines, ""])


_DIGITS = (("psnr_y", 3), ("ssim_y", 4), ("fab", 2))


def _metrics(checkpoint: Checkpoint) -> list[tuple[str, dict[str, float]]]:
    """Data sets and their figures, as far as the facts hold such; they are free-form, so every type is checked."""
    metrics = checkpoint.facts.get("metrics")
    found = []
    for dataset, values in metrics.items() if isinstance(metrics, dict) else ():
        if isinstance(values, dict):
            known = {key: float(values[key]) for key, _ in _DIGITS if type(values.get(key)) in (int, float)}
            found.append((str(dataset), known))
    return found


def _index_entry(checkpoint: Checkpoint, dataset: str, values: dict[str, float]) -> dict[str, Any]:
    """One result in the Hub's model index."""
    return {
        "task": {"type": "image-to-image", "name": f"x{checkpoint.scale} super-resolution"},
        "dataset": {"type": dataset.lower(), "name": dataset},
        "metrics": [{"type": key.partition("_")[0], "name": key, "value": value} for key, value in values.items()],
    }


def _checked_card(path: Path) -> str:
    """The folder's own card, if its front matter says what the Hub must know."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise OptionsError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    parts = text.split("---\n", 2)
    front = parts[1] if len(parts) == 3 and not parts[0].strip() else ""
    keys = {line.partition(":")[0] for line in front.splitlines() if ":" in line and not line.startswith(" ")}
    missing = [key for key in ("library_name", "license", "pipeline_tag") if key not in keys]
    if missing:
        raise OptionsError(f"{path}: its front matter lacks {', '.join(missing)}; add it, or remove the file")
    return text
