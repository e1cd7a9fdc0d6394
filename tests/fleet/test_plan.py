"""Plans by names alone: listings are asked once, pictures not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gdq_cli.errors import ImageError, OptionsError
from gdq_cli.fleet.plan import FleetPlan, plan_fleet
from gdq_cli.places import Address
from gdq_cli.runs.plan import Failed, Skipped
from tests.helpers.runs import make_options


@pytest.fixture(autouse=True)
def unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture may be opened."""
    monkeypatch.setattr(Address, "fetch", None)


def fill(system: Any, *names: str) -> None:
    for name in names:
        system.store[f"/{name}"] = None
        system.pipe_file(f"/{name}", b"x")


def plan(*names: str, output: str | None = "memory://out", recursive: bool = False, **options: Any) -> FleetPlan:
    return plan_fleet(names, make_options(**options), output, recursive=recursive)


def targets(found: FleetPlan) -> dict[str, str]:
    return {str(entry.source): str(entry.target) for entry in found.pending}


def errors(found: FleetPlan) -> list[str]:
    return [str(job.error) for job in found.settled if isinstance(job, Failed)]


def test_folders(memory: Any) -> None:
    fill(memory, "in/a.png", "in/b.JPG", "in/notes.txt", "in/.hidden.png", "in/sub/c.webp", "in/.trash/d.png")
    assert targets(plan("memory://in")) == {
        "memory://in/a.png": "memory://out/a_x2.png",
        "memory://in/b.JPG": "memory://out/b_x2.JPG",
    }
    found = plan("memory://in", recursive=True)
    assert targets(found)["memory://in/sub/c.webp"] == "memory://out/sub/c_x2.webp"
    assert (len(found.pending), found.ignored) == (3, 3)


def test_what_is_there_is_skipped(memory: Any) -> None:
    fill(memory, "in/a.png", "in/sub/b.png", "out/sub/b_x2.png", "out/a_x4.png")
    found = plan("memory://in", recursive=True)
    assert list(targets(found)) == ["memory://in/a.png"]
    (skipped,) = found.settled
    assert isinstance(skipped, Skipped)
    assert (skipped.name, skipped.target_name) == ("memory://in/sub/b.png", "memory://out/sub/b_x2.png")
    assert len(plan("memory://in", recursive=True, overwrite=True).pending) == 2


def test_each_folder_is_listed_once(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(memory, *(f"in/{number}.png" for number in range(50)), *(f"out/{number}_x2.png" for number in range(50)))
    asked: list[str] = []
    find, info = type(memory).find, type(memory).info
    monkeypatch.setattr(type(memory), "find", lambda self, path, **more: asked.append(path) or find(self, path, **more))
    monkeypatch.setattr(type(memory), "info", lambda self, path, **more: asked.append(path) or info(self, path, **more))
    assert not plan("memory://in/", output="memory://out/").pending
    assert [path for path in asked if path.endswith(".png")] == []
    assert len(asked) <= 4


def test_outputs_below_the_input_are_no_inputs(memory: Any) -> None:
    fill(memory, "in/a.png", "in/out/a_x2.png", "in/outside/b.png")
    found = plan("memory://in", output="memory://in/out", recursive=True)
    assert targets(found) == {"memory://in/outside/b.png": "memory://in/out/outside/b_x2.png"}


def test_beside_the_inputs(memory: Any) -> None:
    fill(memory, "in/a.png", "in/a_x2.png", "in/sub/b.png")
    found = plan("memory://in", output=None, recursive=True)
    assert targets(found) == {"memory://in/sub/b.png": "memory://in/sub/b_x2.png"}
    assert (found.earlier, len(found.settled)) == (1, 1)
    again = plan("memory://in", output=None, recursive=True, overwrite=True)
    assert targets(again) == {
        "memory://in/a.png": "memory://in/a_x2.png",
        "memory://in/sub/b.png": "memory://in/sub/b_x2.png",
    }
    assert (again.earlier, again.settled) == (1, ())


def test_one_name_from_two_folders(memory: Any) -> None:
    fill(memory, "in/a.png", "other/a.png")
    found = plan("memory://in/a.png", "memory://other/a.png", output="memory://out/")
    assert not found.pending
    assert all("the folder above them" in str(failed.error) for failed in found.settled if isinstance(failed, Failed))


def test_one_file(memory: Any) -> None:
    fill(memory, "in/a.png")
    assert targets(plan("memory://in/a.png", output="memory://new/b.webp")) == {
        "memory://in/a.png": "memory://new/b.webp"
    }
    assert targets(plan("memory://in/a.png", output="memory://new/")) == {"memory://in/a.png": "memory://new/a_x2.png"}
    assert targets(plan("memory://in/a.png", output=None)) == {"memory://in/a.png": "memory://in/a_x2.png"}
    fill(memory, "new/b.webp")
    assert not plan("memory://in/a.png", output="memory://new/b.webp").pending
    with pytest.raises(OptionsError, match="no image suffix"):
        plan("memory://in/a.png", output="memory://new/b")
    with pytest.raises(OptionsError, match="no image suffix"):
        plan("memory://in/a.png", output="memory://new/b", name="fixed")


def test_globs(memory: Any) -> None:
    fill(memory, "in/a1.png", "in/a2.jpg", "in/b1.png", "in/a[1].png")
    assert list(targets(plan("memory://in/a*.png"))) == ["memory://in/a1.png", "memory://in/a[1].png"]
    there = plan("memory://in/a[1].png", output="memory://out/")
    assert list(targets(there)) == ["memory://in/a[1].png"], "what is there is meant"
    assert errors(plan("memory://in/z*.png")) == ["memory://in/z*.png: matches no file"]


def test_names_that_clash_keep_their_suffixes(memory: Any) -> None:
    """All of them, so that one that comes later takes nobody's name."""
    fill(memory, "in/a.png", "in/a.jpg", "in/b.png")
    found = plan("memory://in", format="webp")
    assert sorted(targets(found).values()) == [f"memory://out/{name}_x2.webp" for name in ("a.jpg", "a.png", "b")]
    notes = [entry.notes for entry in found.pending if entry.notes]
    assert notes[0] == ("written as a.jpg_x2.webp, because a_x2.webp would be the output of 2 pictures",)
    assert len(errors(plan("memory://in", format="webp", name="same"))) == 3


def test_what_needs_a_header(memory: Any) -> None:
    fill(memory, "in/a.gif", "in/b.png")
    found = plan("memory://in")
    assert list(targets(found)) == ["memory://in/b.png"]
    assert errors(found) == ["memory://in/a.gif: its name does not tell the format of its output; give `format`"]
    assert len(plan("memory://in", format="webp").pending) == 2
    for name in ("{stem}_{width}", "{stem}_{model}"):
        with pytest.raises(OptionsError, match="depends on what is in each file"):
            plan("memory://in", name=name)
    assert len(plan("memory://in", name="{stem}_{model}_{scale}", model="edsr", format="png").pending) == 2


def test_hostile_keys_lead_nowhere(memory: Any, tmp_path: Path) -> None:
    names = ["../up.png", "a/../../b.png", "/etc/abs.png", "a//empty.png", "./dot.png", "nul\0.png"]
    fill(memory, "in/fine\n.png")
    good = "memory://in/fine\n.png"

    def find(path: str, **_: Any) -> list[str]:
        return [f"/in/{name}" for name in [*names, "fine\n.png"]] if path == "/in" else []

    memory.find = find
    try:
        for output in ("memory://out", str(tmp_path / "out")):
            found = plan("memory://in", output=output, recursive=True)
            assert list(targets(found)) == [good]
            assert len(errors(found)) == len(names)
            assert all("could lead out of the folder" in error for error in errors(found))
    finally:
        del memory.find


def test_mixed_places(memory: Any, tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "a.png").touch()
    fill(memory, "in/b.png", "out/sub/a_x2.png")
    found = plan(str(tmp_path / "in"), "memory://in", "memory://in/b.png", recursive=True)
    assert targets(found) == {"memory://in/b.png": "memory://out/b_x2.png"}
    assert [job.name for job in found.settled] == [str(tmp_path / "in" / "sub" / "a.png")]
    found = plan("memory://in", str(tmp_path / "in"), output=str(tmp_path / "out"), recursive=True)
    assert sorted(targets(found).values()) == [f"{tmp_path}/out/b_x2.png", f"{tmp_path}/out/sub/a_x2.png"]


def test_a_glob_into_folders(memory: Any, tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "a.png").touch()
    fill(memory, "out/sub/a_x2.png")
    found = plan(f"{tmp_path}/in/*/*.png")
    assert [job.target_name for job in found.settled] == ["memory://out/sub/a_x2.png"]


def test_an_output_is_no_input(memory: Any) -> None:
    fill(memory, "in/a.png", "in/a_x2.png")
    found = plan("memory://in/a.png", output="memory://in/a.png", overwrite=True)
    assert errors(found) == ["memory://in/a.png: the output would replace the input; choose another `output` or `name`"]
    found = plan("memory://in/a.png", "memory://in/a_x2.png", output="memory://in", overwrite=True)
    assert "would replace another input" in errors(found)[0]


def test_nothing_there(memory: Any, tmp_path: Path) -> None:
    fill(memory, "in/sub/a.png")
    with pytest.raises(ImageError, match="no pictures in this folder; `recursive` looks"):
        plan("memory://in")
    assert errors(plan("memory://no/a.png")) == ["memory://no/a.png: no such file or folder"]
