"""The page of many pictures: what it holds, what it links to, and that it is whole or not there."""

import base64
import io
import time
import tracemalloc
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from gdq_cli.bitmaps import album
from gdq_cli.bitmaps.album import Album, is_shown, look_at, open_album
from gdq_cli.bitmaps.terminal import PALETTE
from gdq_cli.bits.patches import plan_patches
from tests.helpers.chromium import Chromium
from tests.helpers.pages import HtmlPage
from tests.helpers.pictures import make_picture

ODD = 'a%20"b" <i>#1?&c'
SIZES = (150, 210), (300, 420)
PLAN = plan_patches(SIZES[0])
BIT_MAP = np.random.default_rng(0).choice([4, 5, 6, 8], PLAN.grid)


def add(page: Album, folder: Path, name: str, *, linked: bool = True, pictures: int = 1) -> None:
    """A picture from one folder to another."""
    look = look_at(make_picture(*SIZES[0]), make_picture(*SIZES[1]), linked=linked, pictures=pictures)
    files = folder / "in" / name, folder / "out" / f"{name}_x2.png"
    page.add(name, files, look, bit_map=BIT_MAP, sizes=SIZES, facts="210x150 & more")


def decode(uri: str | None) -> Image.Image:
    assert uri is not None
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def test_a_page_of_links(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    target = tmp_path / "pages" / "page.html"
    with open_album(target, overwrite=False) as page:
        add(page, tmp_path, f"{ODD}.png")
        add(page, tmp_path, "javascript:alert(1).jpg")
        page.skip("old <b>.png", (tmp_path / "old <b>.png", tmp_path / "old_x2.png"), "exists already")
        page.skip("old.tiff", (tmp_path / "old.tiff", tmp_path / "old_x2.tiff"), "exists already")
        page.fail("bad<script>.jpg: not a readable image")
        assert not target.exists()
    html = target.read_text(encoding="utf-8")
    assert html.count("<script>") == 1
    parsed = HtmlPage(html)
    for text in (f"{ODD}.png", "2 upscaled, 2 skipped, 1 failed", "bad<script>.jpg: not a", "old.tiff: exists already"):
        assert text in parsed.text
    shots = [attributes for tag, attributes in parsed.tags if attributes.get("class") == "shot"]
    assert [shot["data-name"] for shot in shots] == [f"{ODD}.png", "javascript:alert(1).jpg", "old <b>.png"]
    assert unquote(shots[0]["href"] or "") == f"../out/{ODD}.png_x2.png"
    assert unquote(shots[0]["data-before"] or "") == f"../in/{ODD}.png"
    assert shots[0]["data-size"] == "420 300"
    assert shots[0]["data-box"] == "0 0 210 150"
    assert "how exactly gdq calculates" in (shots[0]["data-sentence"] or "")
    for shot in shots:
        for key in ("href", "data-before", "data-after"):
            assert set(shot[key] or "").isdisjoint('"<>#?:&'), key
    images = [attributes for tag, attributes in parsed.tags if tag == "img" and "src" in attributes]
    assert len(images) == 2, "nothing but thumbnails is loaded"
    for image in images:
        assert image["loading"] == "lazy"
        assert max(decode(image["src"]).size) == 210
    assert len(html) < 40_000


def test_the_map_is_exact_where_it_is_cut(tmp_path: Path) -> None:
    with open_album(tmp_path / "page.html", overwrite=False) as page:
        add(page, tmp_path, "a.png")
    tags = HtmlPage((tmp_path / "page.html").read_text(encoding="utf-8")).tags
    (shot,) = (attributes for _, attributes in tags if attributes.get("class") == "shot")
    width, height = map(int, (shot["data-grid"] or "").split())
    small = np.asarray(decode(shot["data-map"]).convert("RGB"))
    whole = small.repeat(height // small.shape[0], 0).repeat(width // small.shape[1], 1)[: SIZES[0][0], : SIZES[0][1]]
    for patch, bits in zip(PLAN, BIT_MAP.ravel().tolist(), strict=True):
        assert (whole[patch.core_slices] == PALETTE[bits]).all()


@pytest.mark.parametrize("pictures", [1, 2000])
def test_a_detail_stands_in_for_what_no_browser_shows(monkeypatch: pytest.MonkeyPatch, pictures: int) -> None:
    monkeypatch.setattr(album, "_DETAIL_BYTES", (6_000, 30_000))
    monkeypatch.setattr(album, "DETAILS_BYTES", 30_000)
    lr, sr = make_picture(200, 300), np.arange(600 * 900 * 3, dtype=np.uint32).astype(np.uint8).reshape(600, 900, 3)
    detail = look_at(lr, sr, linked=False, pictures=pictures).detail
    assert detail is not None
    top, left, height, width = detail.box
    assert abs((top + height / 2) - 100) <= 1
    assert abs((left + width / 2) - 150) <= 1
    assert detail.size == (3 * height, 3 * width)
    budget = 30_000 if pictures == 1 else 6_000
    assert detail.size[0] * detail.size[1] <= 1.2 * budget / 0.6
    before, after = decode(detail.before), decode(detail.after)
    assert before.size == after.size == detail.size[::-1]


def test_a_small_picture_is_its_own_detail() -> None:
    lr, sr = make_picture(20, 30), make_picture(40, 60)
    detail = look_at(lr, sr, linked=False, pictures=3).detail
    assert detail is not None
    assert detail.box == (0, 0, 20, 30)
    np.testing.assert_array_equal(np.asarray(decode(detail.after).convert("RGB")), sr)


def test_what_is_linked() -> None:
    assert is_shown(Path("a.JPG"), (3000, 4000))
    assert not is_shown(Path("a.png"), (12000, 16000)), "browsers decode it whole"
    assert not is_shown(Path("a.tiff"))
    assert not is_shown(io.BytesIO())


def test_half_a_page_is_none(tmp_path: Path) -> None:
    def stop() -> None:
        with open_album(tmp_path / "page.html", overwrite=False) as page:
            add(page, tmp_path, "a.png")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert list(tmp_path.iterdir()) == []


def test_written_pictures_take_no_memory(tmp_path: Path) -> None:
    look = look_at(make_picture(*SIZES[0]), make_picture(*SIZES[1]), linked=False, pictures=200)
    files = tmp_path / "a.tiff", tmp_path / "b.tiff"
    with open_album(tmp_path / "page.html", overwrite=False) as page:
        page.add("a", files, look, bit_map=BIT_MAP, sizes=SIZES, facts="")
        tracemalloc.start()
        for _ in range(200):
            page.add("a", files, look, bit_map=BIT_MAP, sizes=SIZES, facts="")
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (tmp_path / "page.html").stat().st_size > 20_000_000
    assert kept < 300_000


def test_in_a_browser(browser: Chromium, tmp_path: Path) -> None:
    for folder in ("in", "out"):
        (tmp_path / folder).mkdir()
    for name in (f"{ODD}.png", "b.png"):
        Image.fromarray(make_picture(*SIZES[0])).save(tmp_path / "in" / name)
        Image.fromarray(make_picture(*SIZES[1])).save(tmp_path / "out" / f"{name}_x2.png")
    target = tmp_path / "page.html"
    with open_album(target, overwrite=False) as page:
        add(page, tmp_path, f"{ODD}.png")
        add(page, tmp_path, "b.png", linked=False)
        page.skip("b.png", (tmp_path / "in" / "b.png", tmp_path / "out" / "b.png_x2.png"), "exists already")
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(target, 1200, dark=False, touch=False)
    assert [url for url in browser.requests if not url.startswith("data:")] == [target.as_uri()]

    def shown() -> list[int]:
        """Widths of both pictures in the viewer, when they are there."""
        widths: list[int] = []
        for _ in range(200):
            widths = browser.ask("['before', 'after'].map((side) => find(side).naturalWidth)")
            if all(widths):
                break
            time.sleep(0.05)
        return widths

    browser.ask("shots[0].click()")
    assert shown() == [210, 420]
    assert browser.ask("document.activeElement.id") == "split"
    assert browser.ask("getComputedStyle(document.querySelector('.map')).opacity") == "0"
    browser.press("b")
    assert browser.ask("getComputedStyle(document.querySelector('.map')).opacity") == "0.45"
    browser.press("ArrowRight", "n")
    assert browser.ask("find('split-text').textContent") == "51 % before, 49 % gdq"
    assert shown() == [420, 420], "a detail is of one size"
    browser.press("n")
    assert shown() == [210, 420]
    assert browser.ask("fade.disabled"), "nothing is known of the bits of a skipped picture"
    assert browser.ask("Math.round(100 * stage.offsetWidth / stage.offsetHeight)") == 140
    browser.press("Escape")
    assert not browser.ask("viewer.open")
    for _ in range(200):
        if browser.ask("find('after').getAttribute('src')") is None:
            break
        time.sleep(0.05)
    else:
        pytest.fail("a picture that nobody looks at stays in memory")
    assert browser.complaints == []
