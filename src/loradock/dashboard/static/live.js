// Pages that stay true while they are open: parts arrive as server-sent events and are morphed into place.
// A hidden page asks for nothing.
"use strict";

const MORPH = {
  morphStyle: "innerHTML",
  callbacks: {
    // What people opened stays open, what they ticked stays ticked.
    beforeAttributeUpdated: (name) => name !== "open" && name !== "checked",
  },
};
const place = document.querySelector("[data-live]");
let source = null;

// The words of the address say which part of a long list is shown; the stream tells of that part.
function follow() {
  if (source || document.hidden) return;
  source = new EventSource(place.dataset.live + location.search);
  for (const part of document.querySelectorAll("[data-live-part]")) {
    source.addEventListener(part.dataset.livePart, (event) => {
      Idiomorph.morph(part, event.data, MORPH);
      part.dispatchEvent(new CustomEvent("live-part", { bubbles: true }));
    });
  }
  source.addEventListener("error", () => {
    if (source?.readyState !== EventSource.CLOSED) return; // else the browser tries again by itself
    source = null;
    toast("This page is no longer live: it was deleted, or you are signed out. Reload it.", "bad");
  });
}

function pause() {
  source?.close();
  source = null;
}

// Another page, sort or search of the list: the stream begins anew with it.
function look(address) {
  history.replaceState(null, "", address);
  pause();
  follow();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-live-link]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  look(link.href);
});

function search(form) {
  const words = new URLSearchParams(location.search);
  for (const [name, word] of new FormData(form)) word ? words.set(name, word) : words.delete(name);
  words.delete("page");
  look(words.size ? `?${words}` : location.pathname);
}

let typing = 0;
for (const form of document.querySelectorAll("form[data-live-form]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    search(form);
  });
  form.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => search(form), 250);
  });
}

document.addEventListener("visibilitychange", () => (document.hidden ? pause() : follow()));
addEventListener("pagehide", pause);
addEventListener("pageshow", follow);
follow();

// What a dialog was opened for is done; the page behind it shows it by itself.
document.addEventListener("dialog-done", () => document.getElementById("dialog").close());
