"""Questions to the Hugging Face Hub. What a server answers is data of a stranger: checked, and of bounded size.

The session, its proxies, the token and the addresses are those of huggingface_hub, which honours HF_ENDPOINT, HF_TOKEN
and the rest. Its own functions are not asked: they trust an ETag as the name of a file, and read answers of any size.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from threading import Thread
from typing import Any, BinaryIO
from urllib.parse import quote, urljoin, urlsplit

from gdq_cli.errors import WeightsError, mebibytes
from gdq_cli.models.hub.names import HubName

MAX_FILE = 1 << 29
"""Larger files than this are no checkpoint that gdq reads."""

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")

_MAX_ANSWER = 4 << 20  # bytes of an answer that is no file
_PATIENCE = 60.0  # seconds: for the head of an answer, for an answer that is no file, for the least part of one
_LEAST_PART = 1 << 14  # bytes
_MAX_REDIRECTS = 5
_MAX_TRIES, _MAX_FRUITLESS = 50, 5  # connections for one file; in a row, and nothing comes
_CLIENT_PACKAGES = ("huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2", "h11")


@dataclass(frozen=True)
class FileFacts:
    """What the Hub says about a file.

    Attributes:
        commit: 40 hex digits.
        sha256: of the content, as the Hub's store of large files (LFS, Xet) has it; None where it says none.
        size: in bytes, 1 to ``MAX_FILE``.
    """

    commit: str
    sha256: str | None
    size: int


def file_url(name: HubName, file: str, revision: str) -> str:
    """Address of a file."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{name.repo}/resolve/{quote(revision, safe='')}/{quote(file)}"


def ask_files(name: HubName) -> list[str]:
    """Paths of the files of a repository.

    Raises:
        WeightsError: if the Hub refuses or cannot be reached, or its answer is none.
    """
    from huggingface_hub import constants

    url = f"{constants.ENDPOINT}/api/models/{name.repo}/revision/{quote(name.revision, safe='')}"
    text, end = b"", time.monotonic() + _PATIENCE
    with _problems(name), _request(name, "GET", url, follow_redirects=True) as response:
        for part in response.iter_raw():
            text += part
            if len(text) > _MAX_ANSWER or time.monotonic() > end:
                raise _senseless(name, "a list of files without end")
    try:
        files = [sibling["rfilename"] for sibling in json.loads(text)["siblings"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _senseless(name, "no list of files") from error
    if not all(isinstance(file, str) for file in files):
        raise _senseless(name, "no list of files")
    return files


def ask_facts(name: HubName, file: str) -> FileFacts:
    """What the Hub says about one file. Errors as of ``ask_files``, also for a file that is too large."""
    url = file_url(name, file, name.revision)
    with _problems(name):
        for _ in range(_MAX_REDIRECTS):
            with _request(name, "HEAD", url, follow_redirects=False) as response:
                headers, moved = response.headers, 300 <= response.status_code < 400
            target = urljoin(url, headers.get("Location", url))
            # A redirect elsewhere leads to the bytes; the facts stand in the answer itself, and the token stays here.
            if not moved or urlsplit(target)[:2] != urlsplit(url)[:2]:
                break
            url = target
        else:
            raise _senseless(name, "redirects without end")
    commit = headers.get("X-Repo-Commit", "")
    size = headers.get("X-Linked-Size") or ("" if moved else headers.get("Content-Length", ""))
    etag = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").removeprefix("W/").strip('"')
    if not COMMIT.fullmatch(commit):
        raise _senseless(name, "a file of no commit")
    if not re.fullmatch(r"[1-9][0-9]{0,17}", size):
        raise _senseless(name, "a file without a size")
    if int(size) > MAX_FILE:
        raise WeightsError(f"{name}: {file} has {mebibytes(int(size))} MiB; a checkpoint has at most {MAX_FILE >> 20}")
    return FileFacts(commit, etag if SHA256.fullmatch(etag) else None, int(size))


def fetch(name: HubName, url: str, size: int, sink: BinaryIO, told: Callable[[int], None]) -> None:
    """Download a file; a broken connection is taken up where it broke.

    Args:
        name: for messages.
        url: of the file.
        size: in bytes; not one more is written.
        sink: gets them.
        told: called with how many have come.

    Raises:
        WeightsError: if the Hub refuses, cannot be reached, or sends another number of bytes.
    """
    done = fruitless = 0
    for _ in range(_MAX_TRIES):
        before = done
        try:
            for part in _parts(name, url, done):
                if done + len(part) > size:
                    raise _senseless(name, f"more than the {size} bytes that it announced")
                sink.write(part)
                done += len(part)
                told(done)
            if done < size:
                raise _senseless(name, f"{done} of the {size} bytes that it announced")
            return
        except Exception as error:
            fruitless = fruitless + 1 if done == before else 0
            if not _is_connection_error(error) or fruitless == _MAX_FRUITLESS:
                if isinstance(error, WeightsError | OSError):  # the latter is the disk's
                    raise
                raise WeightsError(describe_error(name, error)) from error
            time.sleep(min(fruitless, 3) / 2)
    raise _senseless(name, "one broken connection after the other")


def _parts(name: HubName, url: str, start: int) -> Iterator[bytes]:
    """The bytes of a file from ``start`` on, as they come."""
    more = {"Range": f"bytes={start}-"} if start else {}
    with _request(name, "GET", url, headers=more, follow_redirects=True) as response:
        skip = start if response.status_code != 206 else 0  # a server that knows no ranges begins again
        come, end = 0, time.monotonic() + _PATIENCE
        for part in response.iter_raw():
            come += len(part)
            if time.monotonic() > end:
                if come < _LEAST_PART:
                    raise _senseless(name, f"{come} bytes in {_PATIENCE:.0f} seconds")
                come, end = 0, time.monotonic() + _PATIENCE
            yield part[skip:]
            skip = max(0, skip - len(part))


@contextmanager
def _request(
    name: HubName, method: str, url: str, *, headers: dict[str, str] | None = None, follow_redirects: bool
) -> Iterator[Any]:
    """An answer whose body has not been read; a refusal is an error, and its body is not read at all."""
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    sent = build_hf_headers() | {"Accept-Encoding": "identity"} | (headers or {})  # nothing small that unpacks to much
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT  # of one read, of which a head that drips takes many
    stream = get_session().stream(method, url, headers=sent, timeout=timeout, follow_redirects=follow_redirects)
    with _patiently(name, stream) as response:
        if response.status_code >= 400:
            raise WeightsError(describe_status(name, response.status_code, response.headers.get("X-Error-Code")))
        yield response


@contextmanager
def _patiently(name: HubName, stream: AbstractContextManager[Any]) -> Iterator[Any]:
    """Enter a stream, which waits for the head of an answer, in a thread of its own: nothing else ends that wait."""
    head: Future[Any] = Future()

    def enter() -> None:
        try:
            head.set_result(stream.__enter__())
        except Exception as error:
            head.set_exception(error)

    Thread(target=enter, daemon=True).start()
    if not wait([head], _PATIENCE).done:
        raise _senseless(name, f"no whole head in {_PATIENCE:.0f} seconds")
    response = head.result()
    with ExitStack() as entered:
        entered.push(stream)
        yield response


@contextmanager
def bounded_answers() -> Iterator[None]:
    """Have huggingface_hub itself, which uploads, read no endless answers."""
    from huggingface_hub import get_session

    def bound(response: Any) -> None:
        base: Any = import_module(type(response).__module__.partition(".")[0]).SyncByteStream  # httpx or its successor
        stream = response.stream

        class Bounded(base):  # type: ignore[misc]
            def __iter__(self) -> Iterator[bytes]:
                read = 0
                for part in stream:
                    read += len(part)
                    if read > _MAX_ANSWER:
                        raise ConnectionError("an answer without end")
                    yield part

            def close(self) -> None:
                stream.close()

        response.stream = Bounded()

    session = get_session()
    usual = session.event_hooks
    session.event_hooks = usual | {"response": [*usual["response"], bound]}
    try:
        yield
    finally:
        session.event_hooks = usual


@contextmanager
def _problems(name: HubName) -> Iterator[None]:
    """Whatever the client raises, as one line. The catch is wide on purpose: strange answers raise strange errors in
    it, and all of them mean the same to the user."""
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(describe_error(name, error)) from error


def _is_connection_error(error: Exception) -> bool:
    package = type(error).__module__.partition(".")[0]
    return package in _CLIENT_PACKAGES or isinstance(error, ConnectionError)


def _senseless(name: HubName, what: str) -> WeightsError:
    from huggingface_hub import constants

    return WeightsError(f"{name}: {constants.ENDPOINT} answered with {what}; is it a Hugging Face Hub?")


def describe_status(name: HubName, status: int, code: str | None) -> str:
    """What a refusal means, and what to do.

    Args:
        name: that was asked for.
        status: of HTTP, 400 or more.
        code: that the Hub gives beside it.
    """
    from huggingface_hub import constants

    if code == "GatedRepo" or status == 403:
        return f"{name}: access is restricted; accept its terms at {constants.ENDPOINT}/{name.repo}, then set HF_TOKEN"
    if code == "RepoNotFound" or status == 401:
        return (
            f"{name}: no such repository at {constants.ENDPOINT}, or it is private: check the name, or set HF_TOKEN "
            "(or run hf auth login)"
        )
    if code == "RevisionNotFound":
        return f"{name}: the repository has no revision '{name.revision}'"
    if code == "EntryNotFound":
        return f"{name}: the repository has no such file"
    return f"{name}: {constants.ENDPOINT} answered with HTTP status {status}; try again later"


def describe_error(name: HubName, error: Exception) -> str:
    """What a failure of the Hub client means, and what to do."""
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    response = getattr(error, "response", None)
    if response is not None:
        return describe_status(name, response.status_code, response.headers.get("X-Error-Code"))
    if isinstance(error, hub.HFValidationError):
        return f"{name}: not a valid name on the Hub"
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"{name}: cannot download it from {constants.ENDPOINT} ({first[:160]}); check the connection"
