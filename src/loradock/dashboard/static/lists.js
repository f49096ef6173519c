// Rows that can be ticked. A tick holds as long as its row is seen: what a search or another page takes away is not
// ticked any more, so that nothing is chosen that nobody sees. "All that match" is said in words, with their number.
"use strict";

const bulk = {
  form: () => document.querySelector("form[data-bulk]"),
  boxes: () => [...document.querySelectorAll("input[data-tick]")],
  all: false, // also those on other pages

  show() {
    const form = bulk.form();
    if (!form) return;
    const boxes = bulk.boxes();
    const ticked = boxes.filter((box) => box.checked).length;
    const complete = boxes.length > 0 && ticked === boxes.length;
    const total = Number(form.dataset.total);
    if (!complete) bulk.all = false;
    form.querySelector("[data-bulk-count]").textContent = bulk.all ? `All ${total} that match` : `${ticked} selected`;
    form.querySelectorAll("button[type=submit]").forEach((button) => (button.disabled = !ticked));
    const more = form.querySelector("[data-bulk-all]");
    if (more) more.hidden = bulk.all || !complete || total <= boxes.length;
    const word = form.querySelector('[name="all"]');
    if (word) word.disabled = !bulk.all;
    const head = document.querySelector("input[data-tick-all]");
    if (head) {
      head.checked = complete;
      head.indeterminate = ticked > 0 && !complete;
    }
  },
};

document.addEventListener("change", ({ target }) => {
  if (target.matches("[data-tick-all]")) bulk.boxes().forEach((box) => (box.checked = target.checked));
  if (target.matches("[data-tick-all], [data-tick]")) {
    bulk.all = false;
    bulk.show();
  }
});

// A form of boxes says how many of them are ticked.
function countTicks() {
  for (const form of document.querySelectorAll("form[data-counted]")) {
    const ticked = form.querySelectorAll('input[name="adapter"]:checked').length;
    form.querySelector("[data-count-note]").textContent = ticked ? `${ticked} selected` : "Nothing selected";
  }
}
document.addEventListener("change", ({ target }) => {
  if (target.dataset.tickWithin)
    document.querySelectorAll(`${target.dataset.tickWithin} input`).forEach((box) => (box.checked = target.checked));
  countTicks();
});

// Shift and a click tick everything from the last one to this one.
let lastTicked = null;
document.addEventListener("click", (event) => {
  const box = event.target;
  if (box.matches("[data-bulk-all]")) {
    bulk.all = true;
    bulk.show();
  }
  if (!box.matches("input[data-tick]")) return;
  const boxes = bulk.boxes();
  const [from, to] = [boxes.indexOf(lastTicked), boxes.indexOf(box)].sort((a, b) => a - b);
  if (event.shiftKey && from >= 0) boxes.slice(from, to + 1).forEach((other) => (other.checked = box.checked));
  lastTicked = box;
  bulk.show();
});

// What is asked about the ticked rows comes in the page's dialog.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.dialogForm === undefined) return;
  event.preventDefault();
  const words = new FormData(form, event.submitter);
  if (bulk.all) words.delete("adapter");
  openDialog(`${form.getAttribute("action")}?${new URLSearchParams(words)}`);
});

// A list that is fetched anew keeps its ticks, and a list of results the place it was scrolled to.
let kept = new Set();
let scrolled = 0;
document.addEventListener("htmx:beforeSwap", () => {
  kept = new Set(bulk.boxes().filter((box) => box.checked).map((box) => box.value));
  scrolled = document.getElementById("results")?.scrollTop ?? 0;
});
document.addEventListener("htmx:afterSwap", () => {
  bulk.boxes().forEach((box) => (box.checked ||= kept.has(box.value)));
  bulk.show();
  countTicks();
  const results = document.getElementById("results");
  if (results) results.scrollTop = scrolled;
});
document.addEventListener("live-part", bulk.show);
addEventListener("pageshow", bulk.show);
