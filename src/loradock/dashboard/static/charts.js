// Charts of the history, drawn by uPlot from a page's /series and kept up to date while the page is seen.
"use strict";

const REFRESH_MS = { hour: 10_000 };
const REFRESH_REST_MS = 60_000;
const SERIES_COLOURS = ["--series-1", "--series-2", "--series-3", "--series-4"];
const sheet = document.querySelector("[data-charts]");
let plots = [];
let drawnFrom = null;
let timer = 0;

// As rgb(): a custom property's own text may be a function that a canvas does not know.
function colour(name, opacity = 1) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  sheet.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found.replace("rgb(", "rgba(").replace(")", `, ${opacity})`);
}

function shown(value) {
  if (value == null) return "\u2013";
  return value >= 100 ? Math.round(value).toLocaleString("en").replaceAll(",", "\u202f") : String(Number(value.toFixed(value < 1 ? 2 : 1)));
}

function seriesOf(names) {
  return Object.values(names).map((label, n) => ({
    label,
    stroke: colour(SERIES_COLOURS[n]),
    width: 1.75,
    fill: n === 0 ? colour(SERIES_COLOURS[n], 0.12) : undefined,
    value: (_, value) => shown(value),
    points: { size: 4 },
  }));
}

function axes() {
  const common = { stroke: colour("--muted"), font: "11px system-ui, sans-serif", grid: { stroke: colour("--line"), width: 1 } };
  const ticks = { show: false };
  return [
    { ...common, ticks, grid: { show: false }, size: 26, space: 70, values: ["week", "month"].includes(sheet.dataset.span) ? "{D} {MMM}" : "{HH}:{mm}" },
    { ...common, ticks, size: 46, space: 32, values: (_, splits) => splits.map(shown) },
  ];
}

function draw(figure, data) {
  const canvas = figure.querySelector(".chart-canvas");
  const names = Object.fromEntries(JSON.parse(figure.dataset.series)); // in the legend's order
  const columns = [data.at, ...Object.keys(names).map((field) => data[field])];
  const values = columns.slice(1).flat().filter((value) => value != null);
  const options = {
    width: canvas.clientWidth,
    height: canvas.clientHeight - 26, // the legend stands below
    tzDate: (seconds) => (times.zone === "utc" ? uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC") : new Date(seconds * 1000)),
    series: [{}, ...seriesOf(names)],
    axes: axes(),
    scales: { y: { range: (_, low, high) => [0, Math.max(high ?? 1, 0.1) * 1.08] } },
    cursor: { y: false, points: { size: 7 }, sync: { key: "history" }, drag: { x: false, y: false } },
    legend: { markers: { width: 0, fill: (_, n) => colour(SERIES_COLOURS[n - 1]) } },
  };
  canvas.replaceChildren();
  const plot = new uPlot(options, columns, canvas);
  const latest = () => plot.setLegend({ idx: data.at.length - 1 }); // while nothing is pointed at
  plot.over.addEventListener("mouseleave", latest);
  setTimeout(latest); // its first drawing, soon, would take them away again
  if (values.length === 0) {
    const note = document.createElement("div");
    note.className = "chart-none";
    note.textContent = "Nothing measured yet";
    canvas.append(note);
  }
  const last = columns.slice(1).map((column) => shown(column.at(-1)));
  const told = Object.values(names).map((label, n) => `${label} ${last[n]}`);
  const highest = values.length ? `, highest ${shown(Math.max(...values))}` : ", nothing measured yet";
  canvas.setAttribute("aria-label", `${figure.querySelector("figcaption").innerText}: now ${told.join(", ")}${highest}`);
  return plot;
}

function drawAll() {
  plots.forEach((plot) => plot.destroy());
  plots = drawnFrom ? [...sheet.querySelectorAll(".chart")].map((figure) => draw(figure, drawnFrom)) : [];
}

async function refresh() {
  clearTimeout(timer);
  timer = setTimeout(refresh, REFRESH_MS[sheet.dataset.span] ?? REFRESH_REST_MS);
  if (document.hidden) return;
  try {
    const response = await fetch(`${sheet.dataset.charts}?span=${sheet.dataset.span}`);
    if (!response.ok || response.redirected) return;
    drawnFrom = await response.json();
    drawAll();
  } catch {
    // The server does not answer now; the next round asks again.
  }
}

let width = sheet.clientWidth;
new ResizeObserver(() => {
  if (sheet.clientWidth === width) return;
  width = sheet.clientWidth;
  drawAll();
}).observe(sheet);
document.addEventListener("theme-changed", drawAll);
document.addEventListener("zone-changed", drawAll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
document.addEventListener("visibilitychange", () => document.hidden || refresh());

// Switching the span needs no reload.
document.querySelectorAll("[data-span]:not([data-charts])").forEach((link) =>
  link.addEventListener("click", (event) => {
    event.preventDefault();
    sheet.dataset.span = link.dataset.span;
    document.querySelectorAll(".segments [data-span]").forEach((other) =>
      other === link ? other.setAttribute("aria-current", "true") : other.removeAttribute("aria-current"),
    );
    const words = new URLSearchParams(location.search);
    words.set("span", link.dataset.span);
    history.replaceState(null, "", `?${words}`);
    refresh();
  }),
);
refresh();
