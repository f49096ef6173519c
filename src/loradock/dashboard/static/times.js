// One time zone for everything that tells a time: this computer's own or UTC, as chosen at the side; charts ask it, too.
// The server writes UTC, which is what stays without scripts.
"use strict";

const times = {
  get zone() {
    return localStorage.getItem("zone") === "utc" ? "utc" : "local";
  },

  // 2026-11-27 10:41:13 UTC, or with the distance from it: 2026-11-27 11:41:13 +01:00
  exact(moment) {
    const two = (number) => String(Math.trunc(number)).padStart(2, "0");
    const ahead = times.zone === "utc" ? 0 : -moment.getTimezoneOffset();
    const [day, hours] = new Date(moment.getTime() + ahead * 60_000).toISOString().split(/[T.]/);
    const offset = `${ahead < 0 ? "-" : "+"}${two(Math.abs(ahead) / 60)}:${two(Math.abs(ahead) % 60)}`;
    return `${day} ${hours} ${times.zone === "utc" ? "UTC" : offset}`;
  },

  write(root = document) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const moment = new Date(time.dateTime);
      if (Number.isNaN(moment.getTime())) continue;
      const exact = times.exact(moment);
      if (time.dataset.exact === undefined) time.title = exact;
      else if (time.textContent !== exact) time.textContent = exact;
    }
  },
};

document.addEventListener("DOMContentLoaded", () => {
  const choices = document.querySelectorAll("[data-zone]");
  const press = () => choices.forEach((choice) => choice.setAttribute("aria-pressed", String(choice.dataset.zone === times.zone)));
  times.write();
  press();
  for (const choice of choices) {
    if (choice.dataset.zone === "local") choice.title = Intl.DateTimeFormat().resolvedOptions().timeZone;
    choice.addEventListener("click", () => {
      localStorage.setItem("zone", choice.dataset.zone);
      press();
      times.write();
      document.dispatchEvent(new CustomEvent("zone-changed"));
    });
  }
});
// What arrives later: fragments, and parts of a page that is kept true.
document.addEventListener("htmx:load", (event) => times.write(event.target.parentElement ?? event.target));
document.addEventListener("live-part", (event) => times.write(event.target));
