"""What a run writes into its outputs about their making, and what it makes of outputs that are there. No torch here."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gdq_cli.errors import ImageError, WeightsError
from gdq_cli.images import DEFAULT_QUALITY, FORMATS
from gdq_cli.images.mark import Mark, digest, fingerprint, read_mark
from gdq_cli.models.store import resolve
from gdq_cli.options import UpscaleOptions
from gdq_cli.runs.names import name_digest

if TYPE_CHECKING:
    from gdq_cli.runs.plan import Planned

Difference = Literal["input", "options", "unknown"]
"""How an output differs from the one that a run would make: another picture or another state of it went into it, it was
made with other options or another model, or it bears no mark."""


def make_mark(job: Planned, options: UpscaleOptions) -> Mark:
    """The mark of an output. Equal for outputs with equal pixels and metadata of equally named inputs.

    Args:
        job: whose output it is.
        options: of the run.

    Raises:
        ImageError: if the input cannot be read.
    """
    encoding, format = job.encoding, job.encoding.format or ""
    lossy = format in DEFAULT_QUALITY and not encoding.lossless
    facts = (
        _model_digest(job.model, job.native_scale),
        job.native_scale,
        job.out_size,
        options.bits,
        options.budget if options.prefer == "bits" else options.prefer,
        format,
        (encoding.quality or ("as the input" if format == "webp" else DEFAULT_QUALITY[format])) if lossy else None,
        encoding.lossless,
        encoding.strip_metadata,
        (options.alpha, None if FORMATS[format].alpha else encoding.background) if job.header.has_alpha else None,
    )
    try:
        source = fingerprint(job.source)
    except OSError as error:
        raise ImageError(f"{job.name}: cannot be read ({error.strerror or error})") from error
    return Mark(name_digest(job.name), source, digest(repr(facts).encode()))


def _model_digest(model: str, scale: int) -> str:
    """Of a checkpoint's content, whatever it is called; of one that is not here, of its name."""
    with suppress(WeightsError, OSError):
        path = resolve(model, scale, offline=True)
        return _file_digest(path, path.stat().st_mtime_ns)
    return digest(model.encode(errors="surrogateescape"))


@cache
def _file_digest(path: Path, changed: int) -> str:
    return fingerprint(path)


def tell_difference(target: Path, mark: Mark) -> Difference | None:
    """How the file that is there differs from the one that would bear ``mark``; None where it is the same."""
    found = read_mark(target)
    if found is None:
        return "unknown"
    if (found.name, found.source) != (mark.name, mark.source):
        return "input"
    return None if found == mark else "options"
