"""Names of files on the Hugging Face Hub: ``hf:owner/repo[@revision][/file]``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gdq_cli.errors import WeightsError

PREFIX = "hf:"

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_SYNTAX = re.compile(
    rf"hf:(?P<repo>{_PART}/{_PART})(?:@(?P<revision>refs/pr/\d+|[A-Za-z0-9][A-Za-z0-9._-]{{0,99}}))?(?:/(?P<file>.+))?"
)
_FILE = re.compile(r"(?=.{1,200}\Z)(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)*[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors")


@dataclass(frozen=True)
class HubName:
    """Where a checkpoint lies on the Hub.

    Attributes:
        repo: ``owner/repo``.
        revision: branch, tag or commit.
        file: path in the repository; None to choose the checkpoint of the scale.
    """

    repo: str
    revision: str = "main"
    file: str | None = None

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
