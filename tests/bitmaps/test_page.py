import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gdq_cli.bitmaps import page as heatmap_report
from gdq_cli.bitmaps.page import html_report, show_pair
from gdq_cli.bitmaps.terminal import FP32_BITS, PALETTE
from gdq_cli.bits.patches import plan_patches
from tests.helpers.chromium import Chromium
from tests.helpers.pages import HtmlPage as Page
from tests.helpers.pictures import make_picture

FACTS: dict[str, Any] = {
    "input": '<script>alert("x")</script> & co.png',
    "status": "ok",
    "error": None,
    "model": "edsr",
    "scale": 4,
    "in_size": [60, 80],
    "fab": 5.0,
    "bitops_g": 812.345,
    "bitops_fp32_g": 11234.5,
    "seconds": {"read": 0.0123, "network": 1.2345, "total": 1.39},
    "output_mp_per_s": 0.543,
    "warnings": [],
    "something_new": 12345,
}


def make_report(
    height: int = 60, width: int = 80, patch_size: int = 20, scale: int = 4
) -> tuple[str, NDArray[np.int64]]:
    plan = plan_patches((height, width), patch_size=patch_size)
    bit_map = np.random.default_rng(0).choice([4, 5, 6, 8], plan.grid)
    sr = make_picture(height * scale, width * scale)
    pair = show_pair(make_picture(height, width), sr)
    return html_report(pair, bit_map, plan, FACTS, title="a <b> & 'c'"), bit_map


def decode(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def test_page_is_well_formed_escaped_and_complete() -> None:
    html, bit_map = make_report()
    page = Page(html)
    assert "<script>alert" not in html
    assert html.count("<script>") == 1
    for text in (
        "a <b> & 'c'",
        '<script>alert("x")</script> & co.png',
        "80 \u00d7 60 to 320 \u00d7 240 pixels, 12 patches",
        f"{bit_map.mean():.2f} bits",
        "812 G",
        "7.2 % of FP32",
        "1.39 s",
        "Seconds, network",
        "60 high, 80 wide",
        "Something new",
        "12,345",
    ):
        assert text in page.text
    for bits in (4, 5, 6, 8):
        assert f"{bits} bits{int((bit_map == bits).sum())}" in page.text
    for unsaid in ("Status", "Error", "Warnings", "None"):
        assert unsaid not in page.text


def test_nothing_is_loaded_from_elsewhere() -> None:
    html, _ = make_report()
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"base64,[^\"]*", "", html), re.I)
    for tag, attributes in Page(html).tags:
        for name in ("src", "href"):
            if name in attributes:
                assert (attributes[name] or "").startswith("data:"), tag
    assert "default-src 'none'" in html


def test_controls_are_labelled() -> None:
    tags = Page(make_report()[0]).tags
    labels = {attributes.get("for") for tag, attributes in tags if tag == "label"}
    ranges = {attributes["id"] for tag, attributes in tags if attributes.get("type") == "range"}
    assert ranges == {"split", "fade"}
    assert ranges <= labels
    assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")


def test_small_pictures_are_embedded_without_loss() -> None:
    html, bit_map = make_report()
    uris = re.findall(r'(?:src|href)="(data:image/[^"]+)"', html)
    before, after, bits = map(decode, uris)
    np.testing.assert_array_equal(np.asarray(after.convert("RGB")), make_picture(240, 320))
    bicubic = Image.fromarray(make_picture(60, 80)).resize((320, 240), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(np.asarray(before.convert("RGB")), np.asarray(bicubic))
    assert "lossless" in html
    colors = np.array([[PALETTE[int(value)] for value in row] for row in bit_map])
    np.testing.assert_array_equal(np.asarray(bits.convert("RGB")), colors.repeat(20, 0).repeat(20, 1))


def test_a_megapixel_of_noise_stays_under_two_megabytes() -> None:
    rng = np.random.default_rng(0)
    lr, sr = (rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (250, 1000))
    plan = plan_patches((250, 250), patch_size=9)
    bit_map = rng.choice([4, 5, 6, 8], plan.grid)
    html = html_report(show_pair(lr, sr), bit_map, plan, FACTS, title="noise")
    assert len(plan) > 700
    assert len(html.encode()) < 2_000_000
    assert re.search(r"WebP of quality \d+", html)


def test_large_results_are_reduced_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heatmap_report, "MAX_PIXELS", 240 * 320 // 4)
    html, _ = make_report()
    assert "shown at 50 % of its size" in html
    after = decode(re.findall(r'src="(data:image/[^"]+)"', html)[1])
    assert after.size == (160, 120)


def test_jpeg_stands_in_where_pillow_has_no_webp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.features.check", lambda name: False)
    html, _ = make_report()
    assert "JPEG of quality" in html
    assert decode(re.findall(r'src="(data:image/[^"]+)"', html)[0]).format == "JPEG"


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (130, 130)])
def test_extreme_grids(size: tuple[int, int]) -> None:
    html, bit_map = make_report(*size, patch_size=1, scale=2)
    page = Page(html)
    assert ("1 patch" if bit_map.size == 1 else f"{bit_map.size:,} patches") in page.text
    assert ("numbers" in {attributes.get("id") for _, attributes in page.tags}) == (bit_map.size <= 900)


def test_fp32_report() -> None:
    plan = plan_patches((40, 40))
    html = html_report(
        show_pair(make_picture(40, 40), make_picture(80, 80)), np.full((1, 1), FP32_BITS), plan, FACTS, title="x"
    )
    text = Page(html).text
    assert "FP32" in text
    assert "4 bits" not in text


def test_the_picture_is_seen_first_and_the_map_is_explained() -> None:
    plan = plan_patches((40, 40), patch_size=20)
    pair = show_pair(make_picture(40, 40), make_picture(80, 80))
    for bit_map, sentence in (
        (np.full((2, 2), 6), "all parts of this picture with 6 bits"),
        (np.full((2, 2), FP32_BITS), "in floating point"),
        (np.array([[4, 6], [6, 6]]), "few bits where it judges that nobody sees a difference"),
    ):
        page = Page(html_report(pair, bit_map, plan, FACTS, title="x"))
        fade = next(attributes for _, attributes in page.tags if attributes.get("id") == "fade")
        stage = next(attributes for _, attributes in page.tags if attributes.get("id") == "stage")
        assert fade["value"] == "0"
        assert "--map: 0" in (stage["style"] or "")
        assert sentence in page.text


def test_a_large_result_is_reduced_in_bands_as_it_would_be_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heatmap_report, "MAX_PIXELS", 70 * 50)
    lr, sr = make_picture(200, 280), make_picture(800, 1120)
    pair = show_pair(lr, sr)
    assert (pair.before.size, pair.after.size) == ((70, 50), (70, 50))
    whole = Image.fromarray(sr).reduce(8).resize((70, 50), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(np.asarray(pair.after), np.asarray(whole))
    assert pair.reduced == 1 / 16


def test_what_does_not_belong_together_is_refused() -> None:
    plan = plan_patches((40, 40))
    picture = make_picture(40, 40)
    with pytest.raises(ValueError, match="plan of"):
        html_report(show_pair(picture, picture), np.full((2, 2), 4), plan, FACTS, title="x")
    with pytest.raises(ValueError, match="plan of"):
        html_report(show_pair(picture[1:], picture), np.full((1, 1), 4), plan, FACTS, title="x")


@pytest.mark.parametrize(("dark", "width"), [(True, 400), (False, 400), (True, 1400), (False, 1400)])
def test_report_by_keyboard_and_pointer(browser: Chromium, tmp_path: Path, dark: bool, width: int) -> None:
    touch = width < 500
    page = tmp_path / "report.html"
    page.write_text(make_report(150, 200, 40)[0], encoding="utf-8")
    browser.complaints.clear()
    browser.requests.clear()
    browser.open(page, width, dark=dark, touch=touch)

    def seen() -> tuple[str, float, str]:
        """What the sliders show, and which control has the focus."""
        style = "getComputedStyle(document.querySelector('.{}')).{}"
        clip = browser.ask(style.format("side.after", "clipPath"))
        opacity = float(browser.ask(style.format("map", "opacity")))
        return re.findall(r"[\d.]+%|0px(?=\)$)", clip)[-1], opacity, browser.ask("document.activeElement.id")

    assert browser.ask("[...document.images].map((image) => image.naturalWidth)") == [800, 800]
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == (
        "rgb(18, 17, 23)" if dark else "rgb(247, 246, 249)"
    )
    assert seen() == ("50%", 0, ""), "the picture is not dimmed"
    browser.press("b")
    assert seen() == ("50%", 0.45, "")
    browser.press("b")
    browser.press("Tab", "ArrowRight", "ArrowRight", "ArrowRight")
    assert seen() == ("53%", 0, "split")
    assert browser.ask("split.getAttribute('aria-valuetext')") == "53 % bicubic, 47 % gdq"
    browser.press("End")
    assert seen()[0] == "100%"
    browser.press("Tab", "Home", "ArrowRight")
    assert seen()[1:] == (0.01, "fade")
    assert browser.ask("find('fade-text').textContent") == "1 %"
    assert browser.ask("getComputedStyle(find('digits')).display") == "none"
    browser.press("Tab", " ")
    assert browser.ask("getComputedStyle(find('digits')).display") == "inline"

    left, shown, top, height = browser.ask(
        "(({ left, width, top, height }) => [left, width, top, height])(stage.getBoundingClientRect())"
    )
    assert shown <= width
    middle = top + height / 2
    browser.drag((left + 0.1 * shown, middle), (left + 0.75 * shown, middle), touch=touch)
    assert seen() == ("75%", 0.01, "split")
    browser.press("ArrowLeft")
    assert seen()[0] == "74%", "the slider goes on from where the pointer left it"

    browser.ask("actual.focus()")
    browser.press(" ")
    assert browser.ask("stage.getBoundingClientRect().width") == pytest.approx(800, abs=1)
    line = browser.ask(
        "(({ left, width }) => left + width / 2)(document.querySelector('.divider').getBoundingClientRect())"
    )
    assert 0 < line < width, "what is compared is in view"
    assert browser.ask("view.clientHeight") <= 0.7 * 900
    assert browser.ask("view.tabIndex") == 0
    assert not browser.ask("document.documentElement.scrollWidth > innerWidth"), "the page scrolls sideways"
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]
