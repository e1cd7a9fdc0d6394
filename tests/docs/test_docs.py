"""Documentation that a program can check: generated pages, links, paths, commands and options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from gdq_cli.errors import GdqError
from tests.helpers.pages import prose
from tests.helpers.paths import ROOT, SHARED
from tests.helpers.scripts import load_script

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
GROUP_OPTIONS = {"--help", "--version", "--install-completion", "--show-completion"}


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    return load_script(ROOT / "docs" / "generate_cli.py")


def test_command_pages_are_what_the_generator_writes(generator: ModuleType) -> None:
    wanted = generator.pages()
    found = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "cli").glob("*.md")}
    stale = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    assert not stale, f"run python docs/generate_cli.py; these pages are out of date: {stale}"


def test_every_option_says_what_it_does(generator: ModuleType) -> None:
    for path, function in generator.list_commands(generator.build_app(), ("gdq",)):
        assert function.__doc__, path
        for name, _, _, info, _ in generator.parameters(function):
            assert info.help, f"{' '.join(path)}: {name} has no help"


def test_the_generator_reads_declarations(generator: ModuleType) -> None:
    page = generator.pages()["bench.md"]
    assert "gdq bench [OPTIONS] [INPUT]" in page
    assert "| `-x`, `-s`, `--scale` N | Native scale of the model: 2, 3 or 4. | `4` |" in page
    assert "| `--json` | One JSON object per line on stdout instead of text. |  |" in page
    assert "--heatmap/--no-heatmap" in generator.pages()["upscale.md"]
    assert "`--engine`" not in generator.pages()["upscale.md"], "a hidden option is shown"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" not in target and not target.startswith(("#", "mailto:")):
            assert (page.parent / target.partition("#")[0]).exists(), f"{target} does not exist"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_files_exist(page: Path) -> None:
    for name in re.findall(r"`((?:tests|benchmarks|gdq_cli|docs|weights|examples)/[\w./]*)`", prose(page)):
        assert (ROOT / name).exists(), f"{name} does not exist"


def commands_in(page: Path) -> list[str]:
    """Lines of fenced blocks and inline code that call gdq."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`(gdq [^`]+)`", prose(page))
    calls = (match for line in lines if (match := re.search(r"(?:^|&& |\| )(gdq .*)", line)))
    return [match[1].partition(" #")[0].partition(" | ")[0].partition(" > ")[0] for match in calls] + inline


def test_commands_of_the_documentation_exist(generator: ModuleType) -> None:
    known: dict[tuple[str, ...], set[str]] = {}
    for path, function in generator.list_commands(generator.build_app(), ("gdq",)):
        flags = {"--help", "-h", "[OPTIONS]"}
        for name, kind, _, info, _ in generator.parameters(function):
            if isinstance(info, generator.OptionInfo):
                flags |= set(re.findall(r"-[-\w]+", generator.option_cell(name, kind, info)))
        known[path] = flags
    checked = 0
    for page in PAGES:
        for call in commands_in(page):
            words = shlex.split(call.replace("'", ""))
            if len(words) < 2 or words[1] == "COMMAND" or words[1] in GROUP_OPTIONS:
                continue
            path = next((tuple(words[:n]) for n in (3, 2) if tuple(words[:n]) in known), None)
            group = any(path[:2] == tuple(words[:2]) for path in known)
            assert path is not None or (group and len(words) == 2), f"{page.name}: {call}: no such command"
            for word in words[len(path or ()) :]:
                if path is not None and re.fullmatch(r"--?[a-zA-Z][-\w]*", word):
                    assert word in known[path], f"{page.name}: {call}: {word} is no option of it"
                    checked += 1
    assert checked >= 10


def test_exit_codes_are_documented() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for error in GdqError.__subclasses__():
        assert re.search(rf"^\| {error.exit_code} \| \w", text, flags=re.MULTILINE), error


def test_the_licence_is_whole() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_shared_is_outside_the_repository() -> None:
    """Tests that skip without ../shared must not find it inside: those files may not be distributed."""
    assert ROOT not in SHARED.parents
