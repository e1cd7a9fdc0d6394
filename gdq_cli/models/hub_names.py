"""Names of files on the Hugging Face Hub: ``hf:owner/repo[@revision][/file]``, and the manifest of our own models.

The manifest, hub_manifest.json, maps a bare model name and a scale to what must be downloaded:
``{"models": {"edsr": {"4": {"repo", "revision", "file", "size", "sha256"}}}}``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gdq_cli.errors import WeightsError

PREFIX = "hf:"

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_SYNTAX = re.compile(
    rf"hf:(?P<repo>{_PART}/{_PART})(?:@(?P<revision>refs/pr/\d+|[A-Za-z0-9][A-Za-z0-9._-]{{0,99}}))?(?:/(?P<file>.+))?"
)
_FILE = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)*[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors")


@dataclass(frozen=True)
class HubName:
    """Where a checkpoint lies on the Hub.

    Attributes:
        repo: ``owner/repo``.
        revision: branch, tag or commit.
        file: path in the repository; None to choose the checkpoint of the scale.
        sha256: hash that the file must have; None to trust the Hub's own.
        size: in bytes, if known.
    """

    repo: str
    revision: str = "main"
    file: str | None = None
    sha256: str | None = None
    size: int | None = None

    def __str__(self) -> str:
        revision = "" if self.revision == "main" else f"@{self.revision}"
        return f"{PREFIX}{self.repo}{revision}" + (f"/{self.file}" if self.file else "")


def parse_hub_name(text: str) -> HubName:
    """Parse ``hf:owner/repo[@revision][/file]``.

    Raises:
        WeightsError: if it is not of this form, or its file is not a .safetensors file inside the repository.
    """
    match = _SYNTAX.fullmatch(text)
    if not match or ".." in text or "--" in match["repo"]:
        raise WeightsError(f"{ascii(text)[1:-1]}: write hf:owner/repo, hf:owner/repo@revision or hf:owner/repo/FILE")
    file = match["file"]
    if file is not None and not _FILE.fullmatch(file):
        raise WeightsError(
            f"{ascii(text)[1:-1]}: gdq downloads .safetensors files only; convert others with gdq models"
        )
    return HubName(match["repo"], match["revision"] or "main", file)


def pick_file(name: HubName, files: list[str], scale: int) -> str:
    """The checkpoint of a scale among a repository's files.

    Raises:
        WeightsError: if there is none, or more than one.
    """
    candidates = sorted(file for file in files if _FILE.fullmatch(file))
    of_scale = [file for file in candidates if file.endswith(f"_x{scale}.safetensors")]
    if not of_scale and len(candidates) == 1 and not re.search(r"_x\d\.safetensors$", candidates[0]):
        of_scale = candidates
    if len(of_scale) == 1:
        return of_scale[0]
    if not of_scale:
        listed = f"it has {', '.join(candidates[:5])}" if candidates else "it has no .safetensors file"
        raise WeightsError(f"{name} has no x{scale} checkpoint; {listed}")
    raise WeightsError(f"{name} has several x{scale} checkpoints; name one: {name}/{of_scale[0]}")


def hub_manifest() -> dict[tuple[str, int], HubName]:
    """(model, scale) -> file on the Hub, for the models that gdq knows by a bare name.

    Raises:
        WeightsError: if the manifest is damaged.
    """
    try:
        return parse_manifest(json.loads(manifest_path().read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{manifest_path()}: the manifest is missing or damaged ({error})") from error


def manifest_path() -> Path:
    """The manifest that is part of the package."""
    return Path(__file__).with_name("hub_manifest.json")


def parse_manifest(values: Any) -> dict[tuple[str, int], HubName]:
    """Check a manifest's fields.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: if a field is missing or of another kind.
    """
    found = {}
    for model, scales in values["models"].items():
        for scale, entry in scales.items():
            name = parse_hub_name(f"{PREFIX}{entry['repo']}@{entry['revision']}/{entry['file']}")
            if not re.fullmatch(r"[0-9a-f]{64}", entry["sha256"]) or type(entry["size"]) is not int:
                raise ValueError(f"{model} x{scale} has no proper sha256 and size")
            found[model, int(scale)] = HubName(name.repo, name.revision, name.file, entry["sha256"], entry["size"])
    return found
