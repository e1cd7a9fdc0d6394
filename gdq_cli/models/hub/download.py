"""Files from the Hugging Face Hub, found in its local cache or downloaded into it.

A file is used only if somebody vouches for its SHA-256: the Hub, by the record under which it stores large files, or
the user.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gdq_cli.errors import OptionsError, WeightsError
from gdq_cli.models.hub.cache import UNVOUCHED, CachedRepository
from gdq_cli.models.hub.client import SHA256, FileFacts, ask_facts, ask_files, fetch, file_url
from gdq_cli.models.hub.names import HubName, pick_file


@dataclass(frozen=True)
class Download:
    """What is about to be downloaded: file, address of the repository, revision, and size in bytes."""

    file: str
    url: str
    revision: str
    size: int


Watch = Callable[[Download, int | None], None]
"""Called with 0 before a download, with the bytes so far during it, and with None when it is over."""


@dataclass(frozen=True)
class Trust:
    """Who vouches for a file, if the Hub does not or shall not alone.

    Attributes:
        sha256: 64 hex digits, that it must have, as the user knows it.
        unverified: take what comes where nobody vouches for it; it is then known by the hash that it has.

    Raises:
        OptionsError: if ``sha256`` is no such number.
    """

    sha256: str | None = None
    unverified: bool = False

    def __post_init__(self) -> None:
        if self.sha256 is not None and not SHA256.fullmatch(self.sha256):
            raise OptionsError(f"`sha256` is 64 digits, 0 to 9 and a to f, not {self.sha256}")


def is_offline(offline: bool = False) -> bool:
    """Whether the network is out of bounds, by option or by HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    return offline or bool(constants.HF_HUB_OFFLINE)


def check_push_allowed() -> None:
    """Say at once, before any work, what would stop an upload.

    Raises:
        WeightsError: if the network is out of bounds, or there is no token.
    """
    from huggingface_hub import get_token

    if is_offline():
        raise WeightsError("HF_HUB_OFFLINE is set, so nothing is uploaded; unset it to push")
    if not get_token():
        raise WeightsError("there is no token to push with; log in with hf auth login, or set HF_TOKEN")


def cached_file(name: HubName, scale: int) -> Path | None:
    """A file that the local Hub cache already holds, checked; None if it has none. Never touches the network.

    Raises:
        WeightsError: if the cached file is damaged (it is set aside) or nobody vouched for it, or the repository has no
            checkpoint of the scale.
    """
    cache = CachedRepository(name)
    commit = cache.commit()
    if commit is None:
        return None
    file = name.file
    if file is None:
        files = cache.files(commit)
        if not any(found.endswith(f"_x{scale}.safetensors") for found in files) and len(files) != 1:
            return None
        file = pick_file(name, files, scale)
    return cache.find(file, commit)


def download_file(
    name: HubName,
    scale: int,
    watch: Watch | None = None,
    trust: Trust | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Download a checkpoint into the local Hub cache, or find there that it is up to date.

    Args:
        name: of the file; without a file, the checkpoint of ``scale`` is looked up in the repository.
        scale: see above.
        watch: told about the download.
        trust: who else vouches for it.
        say: told of a file for which nobody does.

    Returns:
        Path of the checked file in the cache.

    Raises:
        WeightsError: if there is no such file, no access to it, no connection; if the Hub's answers make no sense, the
            file arrives with another hash, or nobody vouches for it.
    """
    from huggingface_hub import constants

    file = name.file or pick_file(name, ask_files(name), scale)
    facts = ask_facts(name, file)
    expected = _expected(name, facts, trust or Trust())
    download = Download(file, f"{constants.ENDPOINT}/{name.repo}", name.revision, facts.size)
    tell = watch or (lambda download, done: None)

    def write(stream: BinaryIO) -> None:
        tell(download, 0)
        try:
            url = file_url(name, file, facts.commit)
            fetch(name, url, facts.size, stream, lambda done: tell(download, done))
        finally:
            tell(download, None)

    path = CachedRepository(name).add(file, facts.commit, expected, write)
    if expected is None:
        say(f"{name}: nobody vouches for this file, whose SHA-256 is {path.resolve().name}")
    return path


def _expected(name: HubName, facts: FileFacts, trust: Trust) -> str | None:
    """The SHA-256 that a file must have; None where the user does without."""
    if trust.sha256 and facts.sha256 and trust.sha256 != facts.sha256:
        raise WeightsError(
            f"{name}: the Hub has a file of the SHA-256 {facts.sha256[:12]}..., not {trust.sha256[:12]}..."
        )
    expected = trust.sha256 or facts.sha256
    if expected is None and not trust.unverified:
        raise WeightsError(f"{name}: the Hub does not tell the SHA-256 of this file, so {UNVOUCHED}")
    return expected
