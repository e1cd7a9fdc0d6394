"""What a run over any places will do, decided by listings and names: no picture is opened.

An output is taken for that of its input because of its name, not of what it was made of, so names must not depend on
what else is there: of inputs whose outputs would have one name, all keep their suffix.
"""

from __future__ import annotations

import glob
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from gdq_cli.errors import ImageError, OptionsError
from gdq_cli.images import ImageHeader, is_image_name
from gdq_cli.options import UpscaleOptions
from gdq_cli.places import LocalPlace, Place, is_address, is_plain, parse_place
from gdq_cli.runs.inputs import collect_inputs
from gdq_cli.runs.names import Destination, OutputNames, choose_format, is_folder
from gdq_cli.runs.plan import Failed, Job, Skipped


@dataclass(frozen=True)
class Pending:
    """A picture to upscale, of which only names are known.

    Attributes:
        source, target: where it is, and where its output goes.
        notes: for the user, about the choice of the name.
    """

    source: Place
    target: Place
    notes: tuple[str, ...] = ()

    def job(self, source: Path = Path(), target: Path = Path()) -> Job:
        """The same with files of this machine, which messages do not show."""
        return Job(source, str(self.source), target, self.notes, str(self.target))


@dataclass(frozen=True)
class FleetPlan:
    """All of a run.

    Attributes:
        pending: what there is to do, in order.
        settled: what needs nothing to be done: outputs that are there, and inputs of which nothing can come.
        ignored: hidden files and files that are no pictures, in the folders given.
        earlier: pictures in these folders that are outputs of other pictures in them.
    """

    pending: tuple[Pending, ...]
    settled: tuple[Skipped | Failed, ...]
    ignored: int = 0
    earlier: int = 0


@dataclass(frozen=True)
class _Input:
    """A picture, its folder below the one that was named, and that one where the picture was found in it."""

    place: Place
    below: str = ""
    base: Place | None = None


class _Inputs:
    """What was found for the names of a command line."""

    def __init__(self) -> None:
        self.files: dict[str, _Input] = {}
        self.failures: list[Failed] = []
        self.ignored = 0
        self.listings: dict[str, set[str]] = {}
        """Of folders at addresses, by their keys: the files in them, as deep as this run looks."""

    def add(self, place: Place, below: str = "", base: Place | None = None) -> None:
        self.files.setdefault(place.key, _Input(place, below, base))

    def fail(self, place: Place | str, reason: str) -> None:
        self.failures.append(Job(Path(), str(place), Path()).failed(ImageError(f"{place}: {reason}")))

    def add_listed(self, base: Place, names: Sequence[str]) -> None:
        for name in names:
            below, _, last = name.rpartition("/")
            if not is_image_name(last) or any(part[:1] == "." and part not in (".", "..") for part in below.split("/")):
                self.ignored += 1
            elif not is_plain(name):
                self.fail(base / name, "its name could lead out of the folder of outputs; rename it")
            else:
                self.add(base / name, below, base)


def plan_fleet(
    names: Sequence[str],
    options: UpscaleOptions,
    output: str | None,
    *,
    recursive: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> FleetPlan:
    """List inputs and outputs once each, decide names, find clashes, and leave out what is done.

    Args:
        names: of files, folders and globs, paths or addresses.
        options: of the run.
        output: a file or folder, path or address; None for beside the inputs.
        recursive: also look into folders below, hidden ones excepted.
        say: told what is being waited for.

    Raises:
        OptionsError: if options are wrong for any picture: names that depend on what is in a file, for one.
        ImageError: if a folder cannot be listed, or holds no pictures and nothing else was named.
    """
    target = None if output is None else parse_place(output)
    goals = [parse_place(name) for name in names if is_address(name)] if target is None else [target]
    for goal in goals:  # there, or beside it
        goal.check_writable()
    inputs = _collect(names, recursive, target, say)
    folder, file = target, None
    count = len(inputs.files) + len(inputs.failures)
    one_file = len(names) == 1 and all(item.base is None for item in inputs.files.values())
    if target is not None and not is_folder(target, output or "", count, one_file=one_file):
        folder, file = None, target
    if file is not None and inputs.files:
        choose_format(options.encoding.format, PurePath(file.name).suffix, file)
    namer = OutputNames(options, Destination(file=None if file is None else Path(file.name)))
    entries, failures = _name_outputs(inputs, folder, file, namer)
    exists = _existence(inputs, recursive)
    made = {entry.target.key: entry.source.key for entry in entries}
    pending: list[Pending] = []
    settled: list[Skipped | Failed] = [*inputs.failures, *failures]
    earlier = {
        key for key, item in inputs.files.items() if item.base is not None and made.get(key, key) != key
    }  # outputs that were found in the folders of their inputs
    for entry in entries:
        source, place = entry.source.key, entry.target.key
        base = inputs.files[source].base
        if source in earlier:
            continue
        if place == source or (options.overwrite and place in inputs.files and place not in earlier):
            what = "the input" if place == source else "another input"
            error = ImageError(f"{entry.target}: the output would replace {what}; choose another `output` or `name`")
            settled.append(entry.job().failed(error))
        elif not options.overwrite and exists(entry.target, None if file is not None else folder or base):
            settled.append(entry.job().skipped())
        else:
            pending.append(entry)
    return FleetPlan(tuple(pending), tuple(settled), inputs.ignored, len(earlier))


def _collect(names: Sequence[str], recursive: bool, target: Place | None, say: Callable[[str], None]) -> _Inputs:
    found = _Inputs()
    local = [name for name in names if not is_address(name)]
    if local:
        exclude = target.path if isinstance(target, LocalPlace) else None
        inputs = collect_inputs(local, recursive=recursive, exclude=exclude, say=say)
        found.ignored += inputs.ignored
        found.failures += [Failed(Path(), name, Path(), error=error) for name, error in inputs.problems]
        for file in inputs.files:
            if file.stream is not None:
                found.fail(str(file.path), "is a pipe, which works with paths on one machine only")
            else:
                base = None if file.base is None else LocalPlace(file.base)
                found.add(LocalPlace(file.path), file.below.as_posix(), base)
    for name in names:
        if is_address(name):
            _collect_address(found, name, recursive, target)
    if not found.files and not found.failures:
        hint = "" if recursive else "; `recursive` looks into the folders below"
        raise ImageError(f"{', '.join(str(parse_place(name)) for name in names)}: no pictures in this folder{hint}")
    return found


def _collect_address(found: _Inputs, name: str, recursive: bool, target: Place | None) -> None:
    """Add what an address leads to: a file, the pictures of a folder, or what a glob matches."""
    place = parse_place(name)
    kind = place.kind()
    if kind == "file":
        found.add(place)
        return
    pattern = ""
    if kind is None:
        plain, _, pattern = name.rpartition("/")
        if not glob.has_magic(pattern) or glob.has_magic(plain):
            found.fail(place, "no such file or folder")
            return
        place = parse_place(plain + "/")
    listed = place.files(recursive=recursive and not pattern)
    if not (pattern and recursive):
        found.listings[place.key] = set(listed)
    if pattern:
        listed = [name for name in listed if PurePosixPath(name).match(pattern)]
        if not listed:
            found.fail(parse_place(name), "matches no file")
    if target is not None and target.key.startswith(place.key + "/"):  # outputs are no inputs
        own = target.key[len(place.key) + 1 :] + "/"
        listed = [name for name in listed if not name.startswith(own)]
    found.add_listed(place, listed)


def _name_output(item: _Input, folder: Place | None, namer: OutputNames, *, keep_suffix: bool = False) -> Place:
    """Where the output of an input goes, by names alone. ImageError if it depends on what is in the file."""

    def no_header() -> ImageHeader:
        raise ImageError(f"{item.place}: its name does not tell the format of its output; give `format`")

    made = namer.name(PurePosixPath(item.place.name), no_header, keep_suffix=keep_suffix)
    if folder is None:
        return item.place.parent / made
    return folder / (made if item.below in ("", ".") else f"{item.below}/{made}")


def _name_outputs(
    inputs: _Inputs, folder: Place | None, file: Place | None, namer: OutputNames
) -> tuple[list[Pending], list[Failed]]:
    """Inputs with their outputs, all different, and those that can have none."""
    if namer.needs_header:
        raise OptionsError(
            f"`name` {namer.template.text!r} depends on what is in each file; with addresses and `ray` it may not"
        )
    entries: dict[str, Pending] = {}
    failures: list[Failed] = []
    for key, item in inputs.files.items():
        try:
            entries[key] = Pending(item.place, file if file is not None else _name_output(item, folder, namer))
        except ImageError as error:
            failures.append(Job(Path(), str(item.place), Path()).failed(error))
    for keys in _clashes(entries):
        for key in keys:
            entry, item = entries[key], inputs.files[key]
            place = _name_output(item, folder, namer, keep_suffix=True)
            note = f"written as {place.name}, because {entry.target.name} would be the output of {len(keys)} pictures"
            entries[key] = Pending(item.place, place, (note,))
    for keys in _clashes(entries):
        for key in keys:
            entry = entries.pop(key)
            alike = inputs.files[keys[0]].place.name == inputs.files[keys[-1]].place.name
            remedy = "give the folder above them, with `recursive`" if alike else "choose another `name`"
            reason = f"{entry.target} would be the output of {len(keys)} pictures; {remedy}"
            failures.append(entry.job().failed(ImageError(f"{entry.source}: {reason}")))
    return list(entries.values()), failures


def _clashes(entries: dict[str, Pending]) -> list[list[str]]:
    """Keys of entries that have one output, group by group."""
    groups: dict[str, list[str]] = defaultdict(list)
    for key, entry in entries.items():
        groups[entry.target.key].append(key)
    return [keys for keys in groups.values() if len(keys) > 1]


def _existence(inputs: _Inputs, recursive: bool) -> Callable[[Place, Place | None], bool]:
    """Whether an output is there: told by one listing of the folder that it goes to or below, else by a look."""
    deep = recursive or any(item.below not in ("", ".") for item in inputs.files.values())  # as a glob may find them
    listings = inputs.listings if deep == recursive else {}

    def exists(place: Place, base: Place | None) -> bool:
        if base is None:
            return place.kind() == "file"
        if base.key not in listings:
            listings[base.key] = set(base.files(recursive=deep))
        return place.key[len(base.key) :].lstrip("/") in listings[base.key]

    return exists
