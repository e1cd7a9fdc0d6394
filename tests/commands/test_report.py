"""gdq upscale --report: a page of one picture, or of a folder."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.commands import gdq
from tests.helpers.pages import HtmlPage
from tests.helpers.pictures import make_picture


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, name in enumerate(("a.png", "b <i>.png", "c.tiff")):
        Image.fromarray(make_picture(40, 60, index)).save(folder / name)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def shots(page: Path) -> list[dict[str, str | None]]:
    tags = HtmlPage(page.read_text(encoding="utf-8")).tags
    return [attributes for _, attributes in tags if attributes.get("class") == "shot"]


def test_a_folder(photos: Path, tmp_path: Path, model: Path) -> None:
    page = tmp_path / "out" / "page.html"
    run = ("upscale", photos, "-o", page.parent, "-x", 2, "-m", model)
    gdq(*run, "--report", page, code=1)
    found = {shot["data-name"]: shot for shot in shots(page)}
    assert list(found) == ["a.png", "b <i>.png", "c.tiff"]
    assert found["b <i>.png"]["href"] == "b%20%3Ci%3E_x2.png"
    assert found["a.png"]["data-before"] == "../photos/a.png"
    assert (found["c.tiff"]["data-after"] or "").startswith("data:image/"), "no browser shows it"
    assert "60x40 to 120x80, small, " in (found["a.png"]["data-facts"] or "")
    text = HtmlPage(page.read_text(encoding="utf-8")).text
    assert "3 upscaled, 0 skipped, 1 failed" in text
    assert "broken.png: not a readable image" in text

    Image.fromarray(make_picture(30, 30)).save(photos / "later.png")
    assert "exists already" in gdq(*run, "--report", page, code=3)
    assert not (page.parent / "later_x2.png").exists(), "refused before the work"
    second = tmp_path / "second.html"
    gdq(*run, "--report", second, code=1)
    assert shots(second)[0]["data-name"] == "later.png"
    assert "1 upscaled, 3 skipped, 1 failed" in HtmlPage(second.read_text(encoding="utf-8")).text
    assert len(shots(second)) == 3, "of the skipped ones those that a browser shows"

    third = tmp_path / "third.html"
    assert "there was nothing to upscale" in gdq(*run, "--report", third, code=1)
    assert not third.exists()


def test_one_picture(photos: Path, tmp_path: Path, model: Path) -> None:
    page = tmp_path / "page.html"
    gdq("upscale", photos / "a.png", "-x", 2, "-m", model, "--report", page)
    parsed = HtmlPage(page.read_text(encoding="utf-8"))
    assert "60 \u00d7 40 to 120 \u00d7 80 pixels, 1 patch" in parsed.text
    assert "Seconds, network" in parsed.text
    assert "gdq calculates" in parsed.text
    with Image.open(photos / "a_x2.png") as output:
        expected = np.asarray(output.convert("RGB"))
    sources = [attributes["src"] or "" for tag, attributes in parsed.tags if tag == "img"]
    with Image.open(io.BytesIO(base64.b64decode(sources[1].split(",")[1]))) as after:
        np.testing.assert_array_equal(np.asarray(after.convert("RGB")), expected)


def test_a_failure_leaves_no_page(photos: Path, tmp_path: Path, model: Path) -> None:
    page = tmp_path / "page.html"
    gdq("upscale", photos / "broken.png", "-x", 2, "-m", model, "--report", page, code=3)
    assert not page.exists()
    assert not list(tmp_path.glob(".page*"))


@pytest.mark.parametrize(("name", "code", "word"), [("page.png", 2, "an .html file"), ("no/page.html", 3, "no folder")])
def test_a_page_that_cannot_be(photos: Path, tmp_path: Path, model: Path, name: str, code: int, word: str) -> None:
    assert word in gdq("upscale", photos, "-x", 2, "-m", model, "--report", tmp_path / name, code=code)
    assert not list(photos.glob("*_x2*"))
