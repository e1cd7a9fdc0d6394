"""Places of pictures: files and folders on this machine, or at addresses that fsspec knows, such as ``s3://bucket/in``.

fsspec and what it needs are imported when an address is first asked for something. Credentials are whatever the
environment gives to fsspec's file systems; those within an address are never shown.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from pathlib import Path, PurePath
from typing import Any, Literal
from urllib.parse import unquote

from gdq_cli.errors import FileError, GdqError, ImageError, OptionsError, system_errors
from gdq_cli.files import PART_SUFFIX, OutputExistsError, atomic_file, check_link, is_stream, user_path

Kind = Literal["file", "folder"]

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://(.*)", re.IGNORECASE | re.DOTALL)
_WEB = ("http", "https")  # read only; a query is no part of the name
_STORES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "s3": ({"mode": "create"}, {}),
    "gs": ({"mode": "create"}, {}),
    "az": ({"overwrite": False}, {"overwrite": True}),
    "memory": ({}, {}),
    "oss": ({}, {}),
    "oci": ({}, {}),
}
"""Stores whose objects appear when their upload is complete, with fsspec's options for one that must not replace and
for one that may; elsewhere a part file gets the name as the last step."""

_REMEDIES = {
    "s3": "pip install 'gdq-cli[s3]', or from a checkout: pip install '.[s3]'",
    "gs": "pip install gcsfs",
    "az": "pip install adlfs",
    "sftp": "pip install paramiko",
    "https": "pip install aiohttp",
}
_SAME = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az", "ssh": "sftp", "http": "https"}
_USER = re.compile(r"(://)[^/\s@]+@")
_QUERY = re.compile(r"(https?://[^\s?#'\"]*)[?#][^\s'\"),]*", re.IGNORECASE)


class Place(ABC):
    """A file or folder, there or not. Its text is what messages call it, without secrets."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Its last part."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Equal for equal places, as far as their names tell."""

    @property
    @abstractmethod
    def parent(self) -> Place:
        """The folder that it lies in."""

    @abstractmethod
    def __truediv__(self, below: str) -> Place:
        """What lies below this folder; ``below`` has a slash between its parts."""

    @abstractmethod
    def kind(self) -> Kind | None:
        """What is there; None for nothing.

        Raises:
            ImageError: if one cannot look.
        """

    @abstractmethod
    def files(self, *, recursive: bool = False) -> list[str]:
        """Names of the files in this folder, relative to it and sorted; none where it does not exist.

        Raises:
            ImageError: if it cannot be listed.
        """

    @abstractmethod
    def fetch(self, file: Path) -> Path:
        """The file as one of this machine: itself, or a copy that is made as ``file``.

        Raises:
            ImageError: if it cannot be read.
        """

    @abstractmethod
    def put(self, file: Path, *, overwrite: bool = False) -> None:
        """Have a finished file of this machine here, whole or not at all. Folders are made if need be.

        Raises:
            OutputExistsError: there is a file, and ``overwrite`` is False.
            FileError: it cannot be written.
        """

    @abstractmethod
    def check_writable(self) -> None:
        """Raises OptionsError where nothing can ever be written."""

    @abstractmethod
    def check_shared(self) -> None:
        """Raises OptionsError where no other process sees it."""


@dataclass(frozen=True)
class LocalPlace(Place):
    """On a disk of this machine.

    Attributes:
        path: as it was given.
        root: the folder that a relative path starts from.
        within: folder that the user named, which the name of an output must not lead out of.
    """

    path: Path
    root: str = field(default_factory=os.getcwd)
    within: Path | None = None

    def __str__(self) -> str:
        return str(self.path)

    @property
    def _real(self) -> Path:
        return self.root / self.path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def key(self) -> str:
        return os.path.abspath(self._real)

    @property
    def parent(self) -> LocalPlace:
        return replace(self, path=self.path.parent)

    def __truediv__(self, below: str) -> LocalPlace:
        return replace(self, path=self.path / below, within=self.within or self.path)

    def kind(self) -> Kind | None:
        return "folder" if os.path.isdir(self._real) else "file" if os.path.exists(self._real) else None

    def files(self, *, recursive: bool = False) -> list[str]:
        found: list[str] = []
        for folder, folders, names in os.walk(self._real):
            below = Path(folder).relative_to(self._real)
            found += [(below / name).as_posix() for name in names]
            if not recursive:
                folders.clear()
        return sorted(found)

    def fetch(self, file: Path) -> Path:
        return self._real

    def put(self, file: Path, *, overwrite: bool = False) -> None:
        with system_errors(FileError, f"{self}: cannot be written"):
            self._real.parent.mkdir(parents=True, exist_ok=True)
            if self.within is not None:  # a name that nobody has typed
                check_link(self._real, self.root / self.within)
            with file.open("rb") as source, atomic_file(self._real, overwrite=overwrite) as target:
                shutil.copyfileobj(source, target, 1 << 20)

    def check_writable(self) -> None:
        if is_stream(self._real):
            raise OptionsError(f"`output` {self} is a pipe or device; here it must be a file or folder")

    def check_shared(self) -> None:
        pass


@dataclass(frozen=True)
class Address(Place):
    """At an address that fsspec knows.

    Attributes:
        base: as the user gave it.
        below: what lies below it, by a listing; never read as an address, whatever characters it has.
    """

    base: str
    below: str = ""

    @property
    def scheme(self) -> str:
        """Such as ``s3``."""
        return _split(self.base)[0]

    def __str__(self) -> str:
        shown = _hide(self.base)
        return f"{shown.rstrip('/')}/{self.below}" if self.below else shown

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    @property
    def name(self) -> str:
        if self.below:
            return self.below.rpartition("/")[2]
        path = self.base.partition("://")[2]
        if self.scheme in _WEB:
            path = unquote(re.split("[?#]", path, maxsplit=1)[0])
        return path.rstrip("/").rpartition("/")[2]

    @property
    def key(self) -> str:
        key = _split(self.base)[1]
        return f"{key}/{self.below}" if self.below else key

    @property
    def parent(self) -> Address:
        if self.below:
            return Address(self.base, self.below.rpartition("/")[0])
        return Address(self.base.rstrip("/").rpartition("/")[0])

    def __truediv__(self, below: str) -> Address:
        return Address(self.base, f"{self.below}/{below}" if self.below else below)

    def _open(self) -> tuple[Any, str]:
        """The file system, and the path in it."""
        try:
            import fsspec

            system = fsspec.get_filesystem_class(self.scheme)
        except ImportError as error:
            remedy = _REMEDIES.get(
                _SAME.get(self.scheme, self.scheme), f"install what fsspec needs for {self.scheme}://"
            )
            raise OptionsError(f"{self}: a package is missing that reads such addresses: {remedy}") from error
        except ValueError as error:
            raise OptionsError(f"{self}: there are no addresses {self.scheme}://") from error
        path = str(system._strip_protocol(self.base))
        if self.below:
            path = f"{path.rstrip('/')}/{self.below}"
        options = system._get_kwargs_from_urls(self.base)
        if self.scheme in ("s3", "s3a"):
            options = {"session": _s3_session(), **options}
        return system(**options), path

    @contextmanager
    def _told(self, error: type[GdqError], what: str) -> Iterator[None]:
        """Turn whatever a file system raises into one line without secrets."""
        try:
            yield
        except GdqError:
            raise
        except FileExistsError as fault:
            raise OutputExistsError(f"{self}: exists already; `overwrite` replaces it") from fault
        except Exception as fault:  # each file system has its own
            raise error(f"{self}: {what} ({self._reason(fault)})") from fault

    def _reason(self, fault: Exception) -> str:
        if isinstance(fault, FileNotFoundError):
            return "no such file or folder"
        if isinstance(fault, PermissionError):
            return "no permission"
        text = str(fault).replace(self.base, str(self)) or type(fault).__name__
        for secret in _secrets(self.base):
            text = text.replace(secret, "***").replace(unquote(secret), "***")
        return " ".join(_QUERY.sub(r"\1", _USER.sub(r"\1***@", text)).split())[:200]

    def kind(self) -> Kind | None:
        with self._told(ImageError, "cannot be looked at"):
            system, path = self._open()
            if self.scheme in _WEB:
                return "file"
            if self.base.endswith("/") and not self.below:
                return "folder"
            try:
                return "folder" if system.info(path)["type"] == "directory" else "file"
            except FileNotFoundError:
                return None

    def files(self, *, recursive: bool = False) -> list[str]:
        with self._told(ImageError, "cannot be listed"):
            system, path = self._open()
            system.invalidate_cache()
            try:
                found = system.find(path, maxdepth=None if recursive else 1)
            except FileNotFoundError:
                return []
            system.invalidate_cache()
            folder = path.rstrip("/") + "/"
            strange = next((name for name in found if not name.startswith(folder) and name != path), None)
            if strange is not None:
                raise ImageError(f"{self}: cannot be listed (the listing holds {strange!r}, which lies elsewhere)")
            return sorted(name[len(folder) :] for name in found if name != path and not name.endswith("/"))

    def fetch(self, file: Path) -> Path:
        with self._told(ImageError, "cannot be read"):
            system, path = self._open()
            system.get_file(path, str(file))
        return file

    def put(self, file: Path, *, overwrite: bool = False) -> None:
        with self._told(FileError, "cannot be written"):
            system, path = self._open()
            if not overwrite and system.exists(path):
                raise FileExistsError
            store = _STORES.get(_SAME.get(self.scheme, self.scheme))
            if store is not None:
                _upload(system, file, path, *store, overwrite=overwrite)
                return
            folder, _, name = path.rpartition("/")
            system.makedirs(folder, exist_ok=True)
            part = f"{folder}/.{name}.{os.urandom(6).hex()}{PART_SUFFIX}"
            try:
                system.put_file(str(file), part)
                system.mv(part, path)
            except BaseException:
                with suppress(Exception):
                    system.rm_file(part)
                raise

    def check_shared(self) -> None:
        if self.scheme == "memory":
            raise OptionsError(f"{self} is in this process alone, which does not go with `ray`")

    def check_writable(self) -> None:
        if self.scheme in _WEB:
            raise OptionsError(f"{self}: nothing can be written to {self.scheme}://; give another `output`")


def _upload(
    system: Any, file: Path, path: str, create: dict[str, Any], replace: dict[str, Any], *, overwrite: bool
) -> None:
    """Upload an object, in one request or one upload of parts. FileExistsError tells of one that appears meanwhile."""
    try:
        system.put_file(str(file), path, **(replace if overwrite else create))
    except OSError as error:
        if overwrite or error.errno != errno.ENOSYS:
            raise
        system.put_file(str(file), path, **replace)  # a server that knows no conditions: the look before has to do


@cache
def _split(base: str) -> tuple[str, str]:
    """The scheme of an address, and its key."""
    scheme, _, path = base.partition("://")
    scheme = scheme.lower()
    return scheme, f"{_SAME.get(scheme, scheme)}://{path.strip('/')}"


def _secrets(base: str) -> list[str]:
    """Name and password, and the query, of an address; the whole of each before its parts."""
    scheme = _split(base)[0]
    user = None if scheme in ("abfs", "abfss") else _USER.search(base)
    query = base.partition("?")[2] if scheme in _WEB else ""
    name = user[0][3:-1] if user else ""
    return [secret for secret in (name, name.partition(":")[2], query) if secret]


@cache
def _hide(base: str) -> str:
    """An address without user and query; the user of an Azure address is a container."""
    shown = base if _split(base)[0] in ("abfs", "abfss") else _USER.sub(r"\1***@", base, count=1)
    return _QUERY.sub(r"\1", shown)


@cache
def _s3_session() -> Any:
    """What s3fs would make itself, but quick with the times of listings, on which botocore spends three quarters."""
    from aiobotocore.session import get_session
    from botocore.utils import parse_timestamp

    def parse(value: Any) -> Any:
        try:
            return datetime.fromisoformat(value.replace("Z", "+00:00"))
        except (AttributeError, ValueError):  # of other calls
            return parse_timestamp(value)

    session = get_session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse)
    return session


def is_address(text: str) -> bool:
    """Whether a text is an address, not a path; ``file://`` counts as a mistyped path."""
    found = _ADDRESS.fullmatch(text)
    return found is not None and found[1].lower() != "file"


def parse_place(text: str) -> Place:
    """The place that a user means: an address, or a path, where ``~`` is the home folder."""
    return Address(text) if is_address(text) else LocalPlace(user_path(text))


def is_plain(below: str) -> bool:
    """Whether a name from a listing stays below any folder it is put in, on every kind of file system."""
    if "\0" in below or (os.name == "nt" and re.search(r'[\\:*?"<>|]', below)):
        return False
    return all(part not in ("", ".", "..") for part in below.split("/")) and not PurePath(below).is_absolute()
