"use strict";
const find = (id) => document.getElementById(id);
const stage = find("stage"), split = find("split"), fade = find("fade"), actual = find("actual"), view = find("view");
const MAP_PERCENT = 45;  // how strong the key brings the bit map up
function showSplit(percent) {
  stage.style.setProperty("--split", percent + "%");
  const text = Math.round(percent) + " % " + stage.dataset.before + ", " + Math.round(100 - percent) + " % gdq";
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
document.addEventListener("keydown", (event) => {
  if (event.key !== "b" || event.ctrlKey || event.altKey || event.metaKey) return;
  fade.value = fade.value > 0 ? 0 : MAP_PERCENT;
  showFade();
});
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
