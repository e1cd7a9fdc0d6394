"""Files from the Hugging Face Hub through its own client, which honours HF_HOME, HF_ENDPOINT, HF_TOKEN and the rest.

A file is used only after its SHA-256 was checked against the one under which the Hub itself stores it. A file with
another hash is set aside, so the next run downloads it again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from gdq_cli.errors import WeightsError
from gdq_cli.models.digests import file_sha256
from gdq_cli.models.hub_names import HubName, pick_file

MAX_FILE = 1 << 29
"""Larger files than this are no checkpoint that gdq reads."""

_CLIENT_PACKAGES = ("huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2", "hf_xet")


@dataclass(frozen=True)
class Download:
    """What is about to be downloaded: file, address of the repository, revision, and size in bytes if known."""

    file: str
    url: str
    revision: str
    size: int | None


Watch = Callable[[Download, int | None], None]
"""Called with 0 before a download, with the bytes so far during it, and with None when it is over."""


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
        WeightsError: if the cached file is damaged (it is set aside), or the repository has no checkpoint of the scale.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    file = name.file
    if file is None:
        storage = Path(constants.HF_HUB_CACHE) / f"models--{name.repo.replace('/', '--')}"
        reference = storage / "refs" / name.revision
        commit = reference.read_text().strip() if reference.is_file() else name.revision
        snapshot = storage / "snapshots" / commit
        files = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*.safetensors") if path.is_file()]
        if not any(found.endswith(f"_x{scale}.safetensors") for found in files) and len(files) != 1:
            return None
        file = pick_file(name, files, scale)
    with _client_errors(name):
        found = try_to_load_from_cache(name.repo, file, revision=name.revision)
    if not isinstance(found, str):
        return None
    _check(Path(found), name)
    return Path(found)


def download_file(name: HubName, scale: int, watch: Watch | None = None) -> Path:
    """Download a checkpoint into the local Hub cache, or find there that it is up to date.

    Args:
        name: of the file; without a file, the checkpoint of ``scale`` is looked up in the repository.
        scale: see above.
        watch: told about the download.

    Returns:
        Path of the checked file in the cache.

    Raises:
        WeightsError: if there is no such file, no access to it, no connection, or it arrives with another hash.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    with _client_errors(name):
        file = name.file or _find_file(name, scale)
        facts = get_hf_file_metadata(hf_hub_url(name.repo, file, revision=name.revision), timeout=_timeout())
        download = Download(file, f"{constants.ENDPOINT}/{name.repo}", name.revision, facts.size)
        if (facts.size or 0) > MAX_FILE:
            raise WeightsError(f"{name}: {file} has {(facts.size or 0) >> 20} MiB; a checkpoint has at most 512")
        present = _cached_copy(name.repo, file, facts.commit_hash)
        options: dict[str, Any] = {"revision": name.revision}
        if watch is not None and not present:
            watch(download, 0)
            options["tqdm_class"] = _bar_class(download, watch)
        try:
            with _small_blocks():
                path = Path(hf_hub_download(name.repo, file, **options))
        finally:
            if watch is not None and not present:
                watch(download, None)
    _check(path, name, facts.etag)
    return path


@contextmanager
def _small_blocks() -> Iterator[None]:
    """Let the client write what it has every 256 KiB: its own 10 MB are more than most checkpoints have, so a broken
    connection would start again from nothing, and the bar would jump from 0 to 100."""
    from huggingface_hub import constants

    usual = constants.DOWNLOAD_CHUNK_SIZE
    constants.DOWNLOAD_CHUNK_SIZE = min(usual, 1 << 18)
    try:
        yield
    finally:
        constants.DOWNLOAD_CHUNK_SIZE = usual


def _timeout() -> float:
    return float(os.environ.get("HF_HUB_ETAG_TIMEOUT", "10"))


def _cached_copy(repo: str, file: str, commit: str | None) -> bool:
    """Whether the cache holds this file of this commit."""
    from huggingface_hub import try_to_load_from_cache

    return commit is not None and isinstance(try_to_load_from_cache(repo, file, revision=commit), str)


def _find_file(name: HubName, scale: int) -> str:
    """The checkpoint of a scale in a repository, by its list of files."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(name.repo, revision=name.revision, timeout=_timeout())
    return pick_file(name, [sibling.rfilename for sibling in info.siblings or []], scale)


def _check(path: Path, name: HubName, etag: str | None = None) -> None:
    """The file's hash against the Hub's own, under which its client also stores the file."""
    blob = path.resolve()
    expected = next((told for told in (etag, blob.name) if told and re.fullmatch(r"[0-9a-f]{64}", told)), None)
    if expected is None:
        return
    sha256 = file_sha256(blob)
    if sha256 == expected:
        return
    aside = blob.with_name(f"{blob.name}.damaged")
    try:
        os.replace(blob, aside)
        path.unlink(missing_ok=True)
    except OSError as error:
        raise WeightsError(f"{path}: damaged, and it cannot be set aside ({error.strerror}); delete it") from error
    raise WeightsError(
        f"{name}: the downloaded file has the SHA-256 {sha256[:12]}..., expected {expected[:12]}...; "
        f"it was set aside as {aside} and will be downloaded again next time"
    )


def _bar_class(download: Download, watch: Watch) -> type:
    """What the Hub client drives in place of a tqdm bar."""

    class Bar:
        def __init__(self, *_: Any, initial: int = 0, **__: Any) -> None:
            self.n = initial

        def update(self, count: float | None = 1) -> None:
            self.n += int(count or 0)
            watch(download, self.n)

        def __enter__(self) -> Bar:
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            pass

        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *_, **__: None  # close, refresh, set_description and whatever else a bar can do

    return Bar


@contextmanager
def _client_errors(name: HubName) -> Iterator[None]:
    """Errors of the Hub client and of the libraries below it, which differ by version, as one line each."""
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] not in _CLIENT_PACKAGES:
            raise
        raise WeightsError(describe_error(name, error)) from error


def describe_error(name: HubName, error: Exception) -> str:
    """What a failure of the Hub client means, and what to do."""
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, hub.GatedRepoError) or status == 403:
        return f"{name}: access is restricted; accept its terms at {constants.ENDPOINT}/{name.repo}, then set HF_TOKEN"
    if isinstance(error, hub.RepositoryNotFoundError) or status == 401:
        return (
            f"{name}: no such repository at {constants.ENDPOINT}, or it is private: check the name, or set HF_TOKEN "
            "(or run hf auth login)"
        )
    if isinstance(error, hub.RevisionNotFoundError):
        return f"{name}: the repository has no revision '{name.revision}'"
    if isinstance(error, hub.EntryNotFoundError) and status == 404:
        return f"{name}: the repository has no such file"
    if status is not None:
        return f"{name}: {constants.ENDPOINT} answered with HTTP status {status}; try again later"
    if isinstance(error, hub.HFValidationError):
        return f"{name}: not a valid name on the Hub"
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"{name}: cannot download it from {constants.ENDPOINT} ({first[:160]}); check the connection"
