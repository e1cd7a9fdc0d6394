import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gdq_cli import heatmap_report
from gdq_cli.heatmap import FP32_BITS, PALETTE
from gdq_cli.heatmap_report import html_report
from gdq_cli.patches import plan_patches

from .conftest import make_picture

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "link", "img", "input", "image", "path", "rect"}

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


class Page(HTMLParser):
    """Balanced tags, attributes by tag, and visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data


def make_report(
    height: int = 60, width: int = 80, patch_size: int = 20, scale: int = 4, **facts: Any
) -> tuple[str, NDArray[np.int64]]:
    plan = plan_patches((height, width), patch_size=patch_size)
    bit_map = np.random.default_rng(0).choice([4, 5, 6, 8], plan.grid)
    sr = make_picture(height * scale, width * scale)
    return html_report(make_picture(height, width), sr, bit_map, plan, facts, title="a <b> & 'c'"), bit_map


def decode(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])))


def test_page_is_well_formed_escaped_and_complete() -> None:
    html, bit_map = make_report(**FACTS)
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
    html = html_report(lr, sr, bit_map, plan, FACTS, title="noise")
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
    html = html_report(make_picture(40, 40), make_picture(80, 80), np.full((1, 1), FP32_BITS), plan, {}, title="x")
    text = Page(html).text
    assert "FP32" in text
    assert "4 bits" not in text
    assert "Facts" not in text


def test_what_does_not_belong_together_is_refused() -> None:
    plan = plan_patches((40, 40))
    picture = make_picture(40, 40)
    with pytest.raises(ValueError, match="plan of"):
        html_report(picture, picture, np.full((2, 2), 4), plan, {}, title="x")
    with pytest.raises(ValueError, match="plan of"):
        html_report(picture[1:], picture, np.full((1, 1), 4), plan, {}, title="x")


PROBE = """<pre id="probe"></pre><script>
addEventListener("load", () => {
  const seen = {}, side = () => getComputedStyle(document.querySelector(".side.after")).clipPath;
  const map = () => getComputedStyle(document.querySelector(".map")).opacity;
  const set = (input, value) => { input.value = value; input.dispatchEvent(new Event("input")); };
  seen.images = [...document.images].map((image) => image.naturalWidth);
  seen.start = [side(), map()];
  set(split, 20); set(fade, 80);
  seen.moved = [side(), map(), split.getAttribute("aria-valuetext"), find("fade-text").textContent];
  const box = stage.getBoundingClientRect();
  stage.setPointerCapture = () => {};
  const at = { clientX: box.left + 0.75 * box.width, clientY: box.top + 5, button: 0, buttons: 1, pointerId: 1 };
  stage.dispatchEvent(new PointerEvent("pointerdown", { ...at, pointerType: "touch" }));
  seen.dragged = [side(), split.value, document.activeElement.id];
  find("numbers").click();
  seen.numbers = getComputedStyle(find("digits")).display;
  seen.fit = box.width;
  actual.click();
  seen.actual = stage.getBoundingClientRect().width * devicePixelRatio;
  seen.overflow = document.documentElement.scrollWidth > innerWidth;
  seen.paper = getComputedStyle(document.body).backgroundColor;
  find("probe").textContent = JSON.stringify(seen);
});
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: apt-get install chromium)")
@pytest.mark.parametrize(("scheme", "width"), [("dark", 420), ("light", 1200)])
def test_report_in_chromium(tmp_path: Path, scheme: str, width: int) -> None:
    assert CHROMIUM
    html, _ = make_report(150, 200, 40, **FACTS)
    (tmp_path / "report.html").write_text(html.replace("</body>", PROBE), encoding="utf-8")
    options = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=4000 --dump-dom"
    )
    command = [CHROMIUM, *options.split(), f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]
    command += [f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"]
    command += [(tmp_path / "report.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    assert "CONSOLE" not in done.stderr, done.stderr
    probe = re.search(r'<pre id="probe">(.+)</pre>', done.stdout)
    assert probe, done.stdout[-2000:]
    seen = json.loads(probe[1])
    assert seen["images"] == [800, 800]
    assert seen["start"] == ["inset(0px 0px 0px 50%)", "0.35"]
    assert seen["moved"] == ["inset(0px 0px 0px 20%)", "0.8", "20 % bicubic, 80 % gdq", "80 %"]
    assert seen["dragged"] == ["inset(0px 0px 0px 75%)", "75", "split"]
    assert seen["numbers"] == "inline"
    assert seen["fit"] <= width
    assert seen["actual"] == pytest.approx(800, abs=1)
    assert not seen["overflow"], "the page must not scroll sideways"
    assert seen["paper"] == ("rgb(18, 17, 23)" if scheme == "dark" else "rgb(247, 246, 249)")
