// Progressive enhancement for every page: theme, menu, copying, dialogs, toasts. Pages read well without it.
"use strict";

// Where the dashboard lies: "" or the path of a proxy before it, as in the address of this very script.
const ROOT = new URL(document.currentScript.src).pathname.replace(/\/ui\/static\/.*$/, "");

const csrfToken = () => document.querySelector('meta[name="csrf-token"]')?.content ?? "";

document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-CSRF-Token"] = csrfToken();
});

// Answers that refuse a form come back as the form with its errors: show them.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr } = event.detail;
  if (xhr.status === 422) {
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  } else if (xhr.status >= 400) {
    toast(xhr.responseText.slice(0, 300) || "That did not work", "bad");
  }
});
document.addEventListener("htmx:sendError", () => toast("The server does not answer", "bad"));

function toast(text, tone = "good") {
  const note = document.createElement("div");
  note.className = `toast ${tone}`;
  note.textContent = text;
  const toasts = document.getElementById("toasts");
  toasts.append(note);
  // Above an open dialog, which everything else lies beneath.
  if (toasts.showPopover) {
    if (toasts.matches(":popover-open")) toasts.hidePopover();
    toasts.showPopover();
  }
  setTimeout(() => note.remove(), tone === "bad" ? 9000 : 4000);
}

// Over plain http from another machine, which is usual at home, browsers have the old way only.
async function copied(button) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(button.dataset.copy);
    return true;
  }
  const text = document.createElement("textarea");
  text.value = button.dataset.copy;
  button.after(text); // in the open dialog, if there is one: nothing outside takes the focus
  text.select();
  const done = document.execCommand("copy");
  text.remove();
  button.focus();
  return done;
}

// Dialogs: a link or button with data-dialog="URL" loads its content into the one <dialog>; without scripts the link
// leads to the same content as a page.
async function openDialog(url) {
  const dialog = document.getElementById("dialog");
  const body = document.getElementById("dialog-body");
  body.innerHTML = '<p class="loading">Loading…</p>';
  if (!dialog.open) dialog.showModal();
  await htmx.ajax("GET", url, { target: body, swap: "innerHTML" });
  if (body.querySelector(".loading")) dialog.close(); // it is gone or the server is: a toast says so
}

document.addEventListener("click", async (event) => {
  const target = event.target.closest("[data-dialog],[data-close-dialog],[data-copy],[data-toggle],[data-theme-toggle]");
  const open = document.querySelectorAll("details.menu[open]");
  open.forEach((menu) => menu.contains(event.target) || menu.removeAttribute("open"));
  if (!target) return;
  if (target.dataset.dialog !== undefined) {
    event.preventDefault();
    const menu = target.closest("details.menu");
    menu?.removeAttribute("open");
    menu?.querySelector("summary").focus(); // where the focus returns to when the dialog closes
    await openDialog(target.dataset.dialog || target.href);
  } else if (target.dataset.closeDialog !== undefined) {
    const dialog = target.closest("dialog");
    if (dialog) {
      event.preventDefault();
      dialog.close();
    }
  } else if (target.dataset.copy !== undefined) {
    (await copied(target)) ? toast("Copied") : toast("Your browser does not let this page copy: select it by hand", "bad");
  } else if (target.dataset.toggle) {
    const shown = document.querySelector(target.dataset.toggle).classList.toggle("open");
    target.setAttribute("aria-expanded", String(shown));
  } else {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
    document.dispatchEvent(new CustomEvent("theme-changed"));
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.dataset?.noSubmit !== undefined) event.preventDefault();
  if (event.key === "Escape")
    document.querySelectorAll("details.menu[open]").forEach((menu) => {
      menu.removeAttribute("open");
      menu.querySelector("summary").focus();
    });
  if (event.key === "/" && !/INPUT|TEXTAREA|SELECT/.test(document.activeElement.tagName)) {
    const search = document.querySelector('input[type="search"]');
    if (search) {
      event.preventDefault();
      search.focus();
    }
  }
});

// A click beside the dialog closes it. Where something was changed in it (`HX-Trigger: changed`), the page behind is old.
const theDialog = document.getElementById("dialog");
theDialog.addEventListener("click", (event) => {
  if (event.target === theDialog) theDialog.close();
});
let oldBehind = false;
theDialog.addEventListener("close", () => {
  document.getElementById("dialog-body").replaceChildren(); // what asks again and again ends
  if (oldBehind && !document.querySelector("[data-live]")) location.reload();
  oldBehind = false;
});
document.addEventListener("changed", () => (oldBehind = true));

// A list that is filtered in place keeps its filter in the address, for reloading and sharing.
document.addEventListener("htmx:afterRequest", ({ detail }) => {
  const asked = detail.requestConfig.elt; // it may be gone by now
  if (!asked.matches("[data-keep-address]") || !detail.successful) return;
  const [path, query = ""] = detail.pathInfo.finalRequestPath.split("?");
  const said = new URLSearchParams([...new URLSearchParams(query)].filter(([, word]) => word !== ""));
  history.replaceState(null, "", said.size ? `${path}?${said}` : path);
});
