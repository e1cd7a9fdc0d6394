"""From a model name to a local file: bundled weights, GDQ_MODEL_DIR, the local Hub cache, the Hugging Face Hub."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from gdq_cli.errors import WeightsError
from gdq_cli.files import user_path, why_missing
from gdq_cli.models.digests import check_sha256
from gdq_cli.models.hub.download import Trust, Watch, cached_file, download_file, is_offline
from gdq_cli.models.hub.names import PREFIX, HubName, parse_hub_name
from gdq_cli.options import AUTO_MODEL

MODEL_DIR = "GDQ_MODEL_DIR"
"""Environment variable: a folder of the user's own checkpoints, named ``{model}_x{scale}.safetensors``."""

_PACKAGE = Path(__file__).resolve().parents[1]
_FILE_NAME = re.compile(r"(?P<model>.+)_x(?P<scale>\d)\.safetensors")


@dataclass(frozen=True)
class LocalModel:
    """A model that can be asked for by name.

    Attributes:
        name, scale: what to ask for.
        place: ``bundled`` or ``GDQ_MODEL_DIR``.
        path: of the file.
        size: in bytes.
    """

    name: str
    scale: int
    place: str
    path: Path
    size: int


def bundled_folder() -> Path:
    """Folder of the checkpoints in the box: inside the installed package, or weights/ of a source checkout."""
    installed = _PACKAGE / "weights"
    return installed if installed.is_dir() else _PACKAGE.parent / "weights"


def bundled_manifest() -> dict[str, dict[str, str | int]]:
    """File name -> {"sha256", "size"} of every checkpoint in the box."""
    return _read_manifest(bundled_folder())


@cache
def _read_manifest(folder: Path) -> dict[str, dict[str, str | int]]:
    try:
        manifest: dict[str, dict[str, str | int]] = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise WeightsError(f"the bundled weights are missing or damaged ({error}); install gdq-cli again") from error
    return manifest


def resolve(model: str, scale: int, *, offline: bool = False, watch: Watch | None = None) -> Path:
    """Find the checkpoint of a model at a native scale; download it if it is not here.

    Args:
        model: a bare name (``edsr``), ``hf:owner/repo[@revision][/file]``, or the path of a .safetensors file.
        scale: 2, 3 or 4; a file's own scale is checked when it is read.
        offline: never touch the network (as HF_HUB_OFFLINE does).
        watch: told about a download.

    Returns:
        Path of a local file. Files from the Hub have been checked by SHA-256; bundled ones are checked when they are
        read (``expected_sha256``).

    Raises:
        WeightsError: if there is no such model, or it cannot be had.
    """
    if model.startswith(PREFIX):
        return _from_hub(parse_hub_name(model), scale, offline, watch)
    if _looks_like_path(model):
        path = user_path(model)
        if not os.path.isfile(path):
            raise WeightsError(f"{model}: {_why_no_file(model)}")
        return path
    if os.path.isfile(model):
        raise WeightsError(
            f"{model}: not a .safetensors file; gdq models convert makes one of another project's weights"
        )
    local = _find_local(model, scale)
    if local is not None:
        return local
    found = list_models()
    folder = os.environ.get(MODEL_DIR)
    places = f" (bundled, or in {MODEL_DIR}={folder})" if folder else ""
    near = get_close_matches(model.lower(), {other.name for other in found} - {model}, 1)
    guess = f", did you mean {near[0]}?" if near else ";"
    if model == AUTO_MODEL:
        guess = ", which chooses by a picture's file; here a model is to be named;"
    known = ", ".join(sorted({f"{other.name} x{other.scale}" for other in found}))
    raise WeightsError(f"no model '{model}' at x{scale}{places}{guess} there are: {known}")


def native_scale(model: str, wanted: int) -> int:
    """The scale to run for a wanted one: the next larger where a model known by name has no checkpoint for it.

    Any other model, and one without a larger scale, is left as it is: ``resolve`` says what is wrong with it.
    """
    if model.startswith(PREFIX) or _looks_like_path(model) or _find_local(model, wanted):
        return wanted
    scales = [found.scale for found in list_models() if found.name == model]
    return min((scale for scale in scales if scale >= wanted), default=wanted)


def pull(
    model: str,
    scale: int,
    *,
    watch: Watch | None = None,
    trust: Trust | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Bring a file up to date with the Hub; any other model is simply found.

    Args:
        model, scale, watch: as of ``resolve``.
        trust: who vouches for the file beside the Hub.
        say: told of a file for which nobody does.

    Raises:
        WeightsError: as ``resolve``; also if the network is out of bounds.
    """
    if not model.startswith(PREFIX):
        path = resolve(model, scale, watch=watch)
        if trust is not None and trust.sha256 is not None:
            check_sha256(path, trust.sha256)
        return path
    name = parse_hub_name(model)
    if is_offline():
        raise WeightsError(f"{name}: HF_HUB_OFFLINE is set, so nothing is downloaded; unset it to pull")
    return download_file(name, scale, watch, trust, say)


def list_models() -> list[LocalModel]:
    """All models that have a name: bundled ones and those of GDQ_MODEL_DIR."""
    found: dict[tuple[str, int], LocalModel] = {}
    folders = [("bundled", bundled_folder(), sorted(bundled_manifest()))]
    own = _model_dir()
    if own is not None:
        folders.append((MODEL_DIR, own, sorted(path.name for path in own.glob("*_x?.safetensors"))))
    for place, folder, files in folders:
        for file in files:
            match = _FILE_NAME.fullmatch(file)
            if match and (folder / file).is_file():
                key = match["model"], int(match["scale"])
                found.setdefault(key, LocalModel(*key, place, folder / file, (folder / file).stat().st_size))
    return [found[key] for key in sorted(found)]


def expected_sha256(path: Path) -> str | None:
    """SHA-256 a bundled file must have, by whatever path it is named; None for a file of the user's own."""
    if path.parent.resolve() != bundled_folder().resolve():
        return None
    entry = bundled_manifest().get(path.name)
    return str(entry["sha256"]) if entry else None


def _why_no_file(model: str) -> str:
    """What to say of a path without a file: half of a name on the Hub, or its address, looks like one."""
    if os.path.isdir(user_path(model)):
        return "is a folder; a model is one file in it"
    on_hub = re.fullmatch(r"(?:https?://huggingface\.co/)?([\w.-]+/[\w.-]+)/?", model)
    if on_hub and not model.endswith(".safetensors"):
        return f"no such checkpoint file; on the Hugging Face Hub it would be {PREFIX}{on_hub[1]}"
    return why_missing(model, "no such checkpoint file")


def names_file(model: str) -> bool:
    """Whether a model is named by one file, here or on the Hub, and so has one scale.

    Raises:
        WeightsError: for a malformed name.
    """
    if model.startswith(PREFIX):
        return parse_hub_name(model).file is not None
    return _looks_like_path(model)


def must_download(model: str, scale: int) -> bool:
    """Whether ``resolve`` would ask the Hub for the checkpoint. Raises WeightsError for a malformed name."""
    return model.startswith(PREFIX) and cached_file(parse_hub_name(model), scale) is None


def _looks_like_path(model: str) -> bool:
    return model.endswith(".safetensors") or os.sep in model or (os.altsep or os.sep) in model


def _model_dir() -> Path | None:
    folder = os.environ.get(MODEL_DIR)
    return user_path(folder) if folder else None


def _find_local(model: str, scale: int) -> Path | None:
    """A bundled file, or one of GDQ_MODEL_DIR."""
    file = f"{model}_x{scale}.safetensors"
    if file in bundled_manifest():
        return bundled_folder() / file
    own = _model_dir()
    return own / file if own is not None and os.path.isfile(own / file) else None


def _from_hub(name: HubName, scale: int, offline: bool, watch: Watch | None) -> Path:
    """From the local cache, or downloaded."""
    cached = cached_file(name, scale)
    if cached is not None:
        return cached
    if is_offline(offline):
        raise WeightsError(f"{name} is not in the local cache, and offline nothing is downloaded; run gdq models pull")
    return download_file(name, scale, watch)
