// Pages that stay true while they are open: parts arrive as server-sent events and are morphed into place.
// A hidden page asks for nothing.
"use strict";

const MORPH = {
  morphStyle: "innerHTML",
  callbacks: {
    // What people opened stays open.
    beforeAttributeUpdated: (name) => name !== "open",
  },
};
const place = document.querySelector("[data-live]");
let source = null;

function follow() {
  if (source || document.hidden) return;
  source = new EventSource(place.dataset.live);
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

document.addEventListener("visibilitychange", () => (document.hidden ? pause() : follow()));
addEventListener("pagehide", pause);
addEventListener("pageshow", follow);
follow();

// What a dialog was opened for is done; the page behind it shows it by itself.
document.addEventListener("dialog-done", () => document.getElementById("dialog").close());
