"""The page of gdq upscale --report: of one picture, or of all pictures of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdq_cli.commands.line.files import check_output
from gdq_cli.commands.terminal.summary import caption, skip_line
from gdq_cli.commands.terminal.wording import as_options
from gdq_cli.errors import OptionsError, memory_errors
from gdq_cli.files import path_key
from gdq_cli.runs.plan import Failed, Plan, Planned, Skipped
from gdq_cli.runs.report import Listener, Outcome
from gdq_cli.upscaling.record import PictureRecord

if TYPE_CHECKING:
    from gdq_cli.bitmaps.album import Album, Look
    from gdq_cli.bitmaps.page import Pair
    from gdq_cli.images import Picture

_LINKED = {"png", "jpg", "webp", "avif", "gif", "bmp"}
"""Formats that browsers show."""


def check_report(target: Path, plan: Plan, overwrite: bool) -> None:
    """Refuse a page that cannot be written before the work, not after it.

    Raises:
        OptionsError: if its name is not one of a page.
        FileError: as ``check_output``.
    """
    if target.suffix.lower() not in (".html", ".htm"):
        raise OptionsError(f"--report {target}: the report is an .html file")
    if plan.planned and (os.path.exists(target.parent) or not _is_made(target.parent, plan)):
        inputs = [job.source for job in plan.jobs if isinstance(job.source, Path)]
        check_output(target, *inputs, overwrite=overwrite, option="report")


def _is_made(folder: Path, plan: Plan) -> bool:
    """Whether the run makes a folder, if it is not there."""
    return path_key(folder) in map(path_key, plan.folders)


def write_page(target: Path, pair: Pair, record: PictureRecord, facts: dict[str, Any], *, overwrite: bool) -> None:
    """Write the page of one picture.

    Args:
        target: the page.
        pair: the picture before and after.
        record: of the picture.
        facts: of the record, that the page shows.
        overwrite: replace a page that is there.
    """
    from gdq_cli.bitmaps.page import html_report
    from gdq_cli.bits.patches import plan_patches
    from gdq_cli.files import atomic_file

    facts = facts | {"warnings": list(map(as_options, record.warnings))}
    with memory_errors(), atomic_file(target, overwrite=overwrite) as file:
        text = html_report(pair, record.bit_map, plan_patches(record.in_size), facts, title=Path(record.name).name)
        file.write(text.encode(errors="backslashreplace"))  # a name may not be UTF-8


@contextmanager
def open_report(target: Path | None, plan: Plan, overwrite: bool) -> Iterator[Listener]:
    """What has to be told of a run for its page, which is there when the block ends; nothing without work to do."""
    if target is None or not plan.planned:
        yield Listener()
    elif len(plan.jobs) == 1:
        yield _PageOfOne(target, overwrite)
    else:
        from gdq_cli.bitmaps.album import open_album

        if _is_made(target.parent, plan):
            target.parent.mkdir(parents=True, exist_ok=True)
        with open_album(target, overwrite=overwrite) as album:
            yield _PageOfMany(album, len(plan.planned))


class _PageOfOne(Listener):
    """The page of a picture that is alone."""

    def __init__(self, target: Path, overwrite: bool) -> None:
        self._target, self._overwrite = target, overwrite
        self._pair: Pair | None = None

    def upscaled(self, job: Planned, before: Picture, after: Picture) -> None:
        from gdq_cli.bitmaps.page import show_pair

        with memory_errors():
            self._pair = show_pair(before.rgb, after.rgb)

    def finished(self, outcome: Outcome) -> None:
        if not isinstance(outcome, PictureRecord) or self._pair is None:
            return
        write_page(self._target, self._pair, outcome, outcome.to_dict(), overwrite=self._overwrite)


class _PageOfMany(Listener):
    """A page of thumbnails, which grows as pictures come; of those in work it keeps some kilobytes."""

    def __init__(self, album: Album, pictures: int) -> None:
        self._album, self._pictures = album, pictures
        self._looks: dict[str, tuple[Planned, Look]] = {}

    def upscaled(self, job: Planned, before: Picture, after: Picture) -> None:
        from gdq_cli.bitmaps.album import is_shown, look_at

        shown = is_shown(job.source, before.size) and is_shown(job.target, after.size)
        formats = {job.header.format, job.format}
        with memory_errors():
            look = look_at(before.rgb, after.rgb, linked=shown and formats <= _LINKED, pictures=self._pictures)
        self._looks[job.name] = job, look

    def finished(self, outcome: Outcome) -> None:
        job, look = self._looks.pop(outcome.name, (None, None))
        if isinstance(outcome, PictureRecord) and job is not None and look is not None:
            files, sizes = (job.source, job.target), (outcome.in_size, outcome.out_size)
            facts = as_options("; ".join([caption(outcome), *outcome.warnings]))
            name = Path(outcome.name).name
            self._album.add(name, files, look, bit_map=outcome.bit_map, sizes=sizes, facts=facts)
        elif isinstance(outcome, Skipped):
            self._album.skip(outcome.name, (outcome.source, outcome.target), skip_line(outcome))
        elif isinstance(outcome, Failed):
            self._album.fail(as_options(str(outcome.error)))
