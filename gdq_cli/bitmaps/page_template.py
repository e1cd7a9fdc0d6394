"""The HTML report's page: markup, style and script with ``$places`` that page.py fills."""

from string import Template

_STYLE = """
:root { --paper: #f7f6f9; --card: #fff; --ink: #1d1b26; --dim: #666273; --line: #e2dfe9; --accent: #4338a8;
  --track: #d9d5e3; color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #121117; --card: #1b1a22; --ink: #ecebf0; --dim: #a09daf; --line: #302e3b; --accent: #a79ff5;
    --track: #3b3848; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 48px; display: grid; gap: 20px;
  grid-template-columns: minmax(0, 1fr); }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; letter-spacing: -0.01em; }
h2 { font-size: 1rem; margin: 0 0 12px; }
.lede { margin: 6px 0 0; color: var(--dim); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 18px; }
.view { overflow: auto; border-radius: 8px; }
.view.actual { max-height: 70vh; }
.stage { position: relative; margin: 0 auto; overflow: hidden; border-radius: 8px; cursor: ew-resize; user-select: none;
  -webkit-user-select: none; touch-action: pan-y; background: #17161d; min-width: 32px; min-height: 32px;
  max-height: 85vh; }
.actual .stage { max-height: none; touch-action: auto; }
.stage img, .stage svg, .side { position: absolute; inset: 0; width: 100%; height: 100%; }
.stage img { filter: saturate(calc(1 - var(--map))); pointer-events: none; }
.side.before { clip-path: inset(0 calc(100% - var(--split)) 0 0); }
.side.after { clip-path: inset(0 0 0 var(--split)); }
.tag { position: absolute; bottom: 10px; padding: 2px 10px; border-radius: 99px; font-size: 0.8rem;
  color: #fff; background: rgb(15 14 20 / 0.72); }
.before .tag { left: 10px; } .after .tag { right: 10px; }
.stage svg { pointer-events: none; }
.stage svg image { image-rendering: pixelated; }
.map { opacity: var(--map); }
.digits text { font-weight: 600; text-anchor: middle; dominant-baseline: central; font-family: inherit; }
.lines { fill: none; stroke: #fff; stroke-opacity: 0.45; stroke-width: 1px; vector-effect: non-scaling-stroke; }
.divider { position: absolute; top: 0; bottom: 0; left: var(--split); width: 2px; margin-left: -1px; background: #fff;
  box-shadow: 0 0 0 1px rgb(0 0 0 / 0.35); pointer-events: none; }
.divider::after { content: ""; position: absolute; top: 50%; left: 50%; width: 34px; height: 34px;
  transform: translate(-50%, -50%); border-radius: 50%; background: #fff; box-shadow: 0 1px 6px rgb(0 0 0 / 0.45);
  clip-path: none; }
.divider::before { content: "\\2039\\2002\\203a"; position: absolute; z-index: 1; top: 50%; left: 50%;
  transform: translate(-50%, -54%); color: #1d1b26; font: 700 18px/1 system-ui, sans-serif; white-space: nowrap; }
.controls { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(360px, 100%), 1fr)); gap: 14px 28px;
  margin-top: 16px; }
.control label { display: flex; justify-content: space-between; gap: 12px; font-weight: 600; font-size: 0.92rem; }
output { color: var(--dim); font-weight: 400; }
input[type="range"] { width: 100%; height: 32px; margin: 4px 0 0; accent-color: var(--accent); cursor: pointer; }
.checks { display: flex; flex-wrap: wrap; gap: 8px 24px; align-items: center; grid-column: 1 / -1; }
.checks label { display: flex; gap: 8px; align-items: center; min-height: 32px; cursor: pointer; font-size: 0.92rem; }
input[type="checkbox"] { width: 18px; height: 18px; margin: 0; accent-color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 0; border-radius: 6px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(180px, 100%), 1fr)); gap: 12px; margin: 0; }
.cards div { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 14px 18px; }
.cards dt { color: var(--dim); font-size: 0.85rem; }
.cards dd { margin: 0; font-size: 1.6rem; font-weight: 650; line-height: 1.25; letter-spacing: -0.01em; }
.cards dd small { display: block; font-size: 0.85rem; font-weight: 400; color: var(--dim); letter-spacing: 0; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(380px, 100%), 1fr)); gap: 20px;
  align-items: start; }
table { width: 100%; border-collapse: collapse; font-size: 0.94rem; }
th, td { text-align: left; padding: 7px 0; border-top: 1px solid var(--line); vertical-align: top; }
tr:first-child > * { border-top: 0; }
th { font-weight: 400; color: var(--dim); padding-right: 16px; }
td { overflow-wrap: anywhere; }
.histogram th { white-space: nowrap; color: var(--ink); width: 1%; }
.histogram td { vertical-align: middle; }
.histogram .number { text-align: right; white-space: nowrap; padding-left: 16px; width: 1%; }
.histogram .bar { height: 16px; border-radius: 4px; min-width: 2px; }
.swatch { display: inline-block; width: 14px; height: 14px; border-radius: 4px; margin-right: 8px;
  vertical-align: -2px; }
.facts th { width: 40%; }
footer { color: var(--dim); font-size: 0.85rem; }
"""

_SCRIPT = """
"use strict";
const find = (id) => document.getElementById(id);
const stage = find("stage"), split = find("split"), fade = find("fade"), actual = find("actual"), view = find("view");
function showSplit(percent) {
  stage.style.setProperty("--split", percent + "%");
  const text = Math.round(percent) + " % bicubic, " + Math.round(100 - percent) + " % gdq";
  find("split-text").textContent = text;
  split.setAttribute("aria-valuetext", text);
}
function showFade() {
  stage.style.setProperty("--map", fade.value / 100);
  find("fade-text").textContent = fade.value + " %";
  fade.setAttribute("aria-valuetext", fade.value + " %");
}
function showSize() {
  stage.style.width = actual.checked ? stage.dataset.width / window.devicePixelRatio + "px" : stage.dataset.fit;
  view.classList.toggle("actual", actual.checked);
  view.tabIndex = actual.checked ? 0 : -1;  // scrolls by arrow keys
  view.scrollLeft = split.value / 100 * stage.offsetWidth - view.clientWidth / 2;  // what is compared stays in sight
  view.scrollTop = (stage.offsetHeight - view.clientHeight) / 2;
}
function drag(event) {
  if (event.buttons === 0 || (actual.checked && event.pointerType === "touch")) return;
  const box = stage.getBoundingClientRect();
  const percent = Math.min(100, Math.max(0, 100 * (event.clientX - box.left) / box.width));
  split.value = percent;
  showSplit(percent);
}
split.addEventListener("input", () => showSplit(Number(split.value)));
fade.addEventListener("input", showFade);
actual.addEventListener("change", showSize);
find("numbers")?.addEventListener("change", (event) => {
  find("digits").style.display = event.target.checked ? "" : "none";
});
stage.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  if (!(actual.checked && event.pointerType === "touch")) stage.setPointerCapture(event.pointerId);
  split.focus({ preventScroll: true, focusVisible: false });
  drag(event);
});
stage.addEventListener("pointermove", drag);
stage.addEventListener("mousedown", (event) => event.preventDefault());  // it would take the focus from the slider
showSplit(Number(split.value));
showFade();
showSize();
"""

PAGE = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>$title</title>
<style>"""
    + _STYLE
    + """</style>
</head>
<body>
<main>
<header>
<h1>$title</h1>
<p class="lede">$lede</p>
</header>
<section aria-label="Comparison of bicubic enlargement and result">
<div class="view" id="view" role="group" aria-label="Picture">
<div class="stage" id="stage" data-width="$width" data-fit="$fit"
 style="aspect-ratio: $width / $height; width: $fit; --split: 50%; --map: $map_opacity">
<div class="side before"><img src="$before" alt="Bicubic enlargement"></div>
<div class="side after"><img src="$after" alt="Result of gdq"></div>
<svg viewBox="0 0 $lr_width $lr_height" preserveAspectRatio="none" aria-hidden="true">
<g class="map"><image href="$map" width="$lr_width" height="$lr_height" preserveAspectRatio="none"/>
<path class="lines" d="$lines"/></g>
<g class="digits" id="digits" style="display: none">$digits</g>
</svg>
<div class="side before"><span class="tag">Bicubic</span></div>
<div class="side after"><span class="tag">gdq</span></div>
<div class="divider"></div>
</div>
</div>
<div class="controls">
<div class="control"><label for="split">Compare <output id="split-text" for="split"></output></label>
<input type="range" id="split" min="0" max="100" value="50"></div>
<div class="control"><label for="fade">Bit map <output id="fade-text" for="fade"></output></label>
<input type="range" id="fade" min="0" max="100" value="$map_percent"></div>
<div class="checks">$numbers_check<label><input type="checkbox" id="actual"> Actual pixels</label></div>
</div>
</section>
<dl class="cards">$cards</dl>
<div class="columns">
<section><h2>Patches per bit-width</h2><table class="histogram"><tbody>$histogram</tbody></table></section>
$facts
</div>
<footer>$footer</footer>
</main>
<script>"""
    + _SCRIPT
    + """</script>
</body>
</html>
"""
)
