"""The local cache of the Hugging Face Hub, laid out as huggingface_hub does: ``blobs/{hash}`` holds contents,
``snapshots/{commit}/{file}`` links to them, ``refs/{revision}`` holds a commit.

A file is used if there is a blob that is called by the SHA-256 that the file has: files get there with the hash that
the Hub or the user vouched for.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gdq_cli.errors import WeightsError, system_errors
from gdq_cli.files import atomic_file
from gdq_cli.models.digests import file_sha256
from gdq_cli.models.hub.client import COMMIT, SHA256
from gdq_cli.models.hub.names import HubName

UNVOUCHED = "nobody vouches for it; to use it all the same: gdq models pull, with `sha256` or `unverified`"


@dataclass(frozen=True)
class CachedRepository:
    """What is here of a repository, be it nothing.

    Args:
        name: of the repository, revision included.
    """

    name: HubName

    @property
    def _folder(self) -> Path:
        from huggingface_hub import constants

        return Path(constants.HF_HUB_CACHE) / f"models--{self.name.repo.replace('/', '--')}"

    def commit(self) -> str | None:
        """The commit of the revision, as far as is known here."""
        if COMMIT.fullmatch(self.name.revision):
            return self.name.revision
        try:
            with (self._folder / "refs" / self.name.revision).open("rb") as file:
                text = file.read(64).decode("ascii").strip()
        except (OSError, ValueError):
            return None
        return text if COMMIT.fullmatch(text) else None

    def files(self, commit: str) -> list[str]:
        """Checkpoints of a commit."""
        snapshot = self._folder / "snapshots" / commit
        return [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*.safetensors") if path.is_file()]

    def find(self, file: str, commit: str) -> Path | None:
        """A file of a commit, checked; None if it is not here.

        Raises:
            WeightsError: if it is damaged (it is set aside), or nobody vouched for it.
        """
        path = self._folder / "snapshots" / commit / file
        if not path.is_file():
            return None
        sha256, blob = file_sha256(path), path.resolve()
        if (self._folder / "blobs" / sha256).is_file():
            return path
        if SHA256.fullmatch(blob.name):
            raise WeightsError(self._set_aside(path, blob, sha256))
        raise WeightsError(f"{self.name}: the file in the cache is not called by its SHA-256, so {UNVOUCHED}")

    def _set_aside(self, path: Path, blob: Path, sha256: str) -> str:
        """Take a damaged file away; what to say about it."""
        aside = blob.with_name(f"{blob.name}.damaged")
        try:
            os.replace(blob, aside)
            path.unlink(missing_ok=True)
        except OSError as error:
            return f"{path}: damaged, and it cannot be set aside ({error.strerror}); delete it"
        return (
            f"{self.name}: the file in the cache has the SHA-256 {sha256[:12]}..., expected {blob.name[:12]}...; "
            f"it was set aside as {aside} and will be downloaded again next time"
        )

    def add(self, file: str, commit: str, sha256: str | None, write: Callable[[BinaryIO], None]) -> Path:
        """Put a file into the cache.

        Args:
            file: its path in the repository.
            commit: that has it, and that the revision now stands for.
            sha256: that it must have; None takes what comes.
            write: writes it; not called where the content is here already.

        Raises:
            WeightsError: whatever ``write`` raises; if the file has another hash; if the cache cannot be written.
        """
        blobs, path = self._folder / "blobs", self._folder / "snapshots" / commit / file
        with system_errors(WeightsError, f"{self.name}: cannot be written to the cache {self._folder}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            blobs.mkdir(parents=True, exist_ok=True)
            if sha256 is None or not (blobs / sha256).is_file() or file_sha256(blobs / sha256) != sha256:
                sha256 = _write_blob(blobs, sha256, write, str(self.name))
            _link(blobs / sha256, path)
            if self.name.revision != commit:
                reference = self._folder / "refs" / self.name.revision
                reference.parent.mkdir(parents=True, exist_ok=True)
                with atomic_file(reference, overwrite=True) as stream:
                    stream.write(commit.encode())
        return path


def _write_blob(blobs: Path, sha256: str | None, write: Callable[[BinaryIO], None], name: str) -> str:
    """A new content, under its hash; nothing stays of one that has another hash."""
    part = blobs / f"{os.urandom(16).hex()}.incomplete"
    try:
        with part.open("xb") as stream:
            write(stream)
        found = file_sha256(part)
        if sha256 is not None and sha256 != found:
            raise WeightsError(
                f"{name}: what came has the SHA-256 {found[:12]}..., expected {sha256[:12]}...; it was not kept"
            )
        os.replace(part, blobs / found)
    finally:
        part.unlink(missing_ok=True)
    return found


def _link(blob: Path, path: Path) -> None:
    """Have a path lead to a content, in one step; where there are no links, by a copy."""
    part = path.with_name(f".{os.urandom(6).hex()}.incomplete")
    try:
        try:
            part.symlink_to(os.path.relpath(blob, path.parent))
        except (OSError, NotImplementedError):
            shutil.copyfile(blob, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
