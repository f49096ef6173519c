// The end of an engine's log, fetched anew while it is followed; scrolling up or marking text lets it stand.
"use strict";

const LOOK_MS = 2000;
const follow = document.getElementById("follow");
const engineLog = () => document.getElementById("engine-log");
const toEnd = () => (engineLog().scrollTop = engineLog().scrollHeight);

if (follow) {
  setInterval(() => {
    if (follow.checked && !document.hidden && !getSelection().toString()) htmx.trigger(engineLog(), "look");
  }, LOOK_MS);
  document.addEventListener("htmx:afterSwap", () => follow.checked && toEnd());
  follow.addEventListener("change", () => follow.checked && toEnd());
  document.addEventListener("wheel", (event) => {
    if (event.deltaY < 0 && engineLog().contains(event.target)) follow.checked = false;
  });
  toEnd();
}
