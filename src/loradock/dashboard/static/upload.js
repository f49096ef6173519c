// Sends chosen or dropped files to the API, with a bar of bytes. Sources elsewhere are a plain form.
const form = document.getElementById("upload");
const part = (id) => document.getElementById(id);
let chosen = []; // {path, file}
let request = null;

const size = (bytes) => {
  const unit = Math.min(4, Math.max(0, Math.floor(Math.log10(Math.max(bytes, 1)) / 3)));
  return `${(bytes / 1000 ** unit).toFixed(unit ? 1 : 0)} ${["B", "kB", "MB", "GB", "TB"][unit]}`;
};

function choose(files) {
  chosen = files.filter(({ path }) => !path.split("/").some((name) => name.startsWith(".")));
  const bytes = chosen.reduce((sum, { file }) => sum + file.size, 0);
  const names = chosen.slice(0, 4).map(({ path }) => path.split("/").pop()).join(", ");
  const more = chosen.length > 4 ? ` and ${chosen.length - 4} more` : "";
  part("chosen").textContent = chosen.length ? `${names}${more} (${size(bytes)})` : "Nothing in there to upload.";
  clearErrors();
  const name = part("model_name");
  if (!name.value && chosen.length) name.value = suggest(chosen[0].path);
}

// "My adapter/adapter_config.json" → "My-adapter", "pirate.tar.gz" → "pirate"
const suggest = (path) => {
  const top = path.includes("/") ? path.split("/")[0] : path.replace(/\.(zip|tar|tgz|tar\.gz)$/i, "");
  if (!path.includes("/") && top === path) return "";
  return top.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 96);
};

for (const id of ["folder", "files"]) {
  part(id).addEventListener("change", ({ target }) => {
    choose([...target.files].map((file) => ({ path: file.webkitRelativePath || file.name, file })));
  });
}

const zone = part("dropzone");
for (const kind of ["dragenter", "dragover"]) {
  zone.addEventListener(kind, (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
}
zone.addEventListener("dragleave", () => zone.classList.remove("over"));
zone.addEventListener("drop", async (event) => {
  event.preventDefault();
  zone.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  // What was not dropped from a file system, e.g. out of another program, has no entries.
  const loose = [...event.dataTransfer.files].map((file) => ({ path: file.name, file }));
  choose(entries.length ? (await Promise.all(entries.map(walk))).flat() : loose);
});

async function walk(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ path: entry.fullPath.slice(1), file }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // A reader gives a hundred entries at a time.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    found.push(...(await Promise.all(some.map(walk))).flat());
  }
}

form.addEventListener("submit", (event) => {
  if (form.elements.from.value !== "here") return;
  event.preventDefault();
  clearErrors();
  if (!chosen.length) return refuse("files", "Choose a folder or an archive first.");
  send();
});
part("cancel").addEventListener("click", () => request?.abort());

function send() {
  const values = new FormData();
  const adapter = form.elements.model_type.value === "adapter";
  for (const name of ["model_name", "model_type", "description", ...(adapter ? ["base_model", "lora_model"] : [])]) {
    const value = form.elements[name]?.value.trim();
    if (value) values.append(name, value);
  }
  for (const { path, file } of chosen) values.append("files", file, path);
  request = new XMLHttpRequest();
  request.open("POST", form.dataset.filesTo);
  request.setRequestHeader("X-CSRF-Token", csrfToken());
  request.upload.addEventListener("progress", ({ loaded, total }) => show(loaded, total));
  request.addEventListener("load", answered);
  request.addEventListener("error", () => stop("The connection broke before everything was sent. Try again."));
  request.addEventListener("abort", () => stop(""));
  busy(true);
  show(0, 0);
  request.send(values);
}

function show(done, total) {
  part("sending-bar").value = total ? done / total : 0;
  const all = total && done === total ? "Sent. The server is reading it…" : `Sending: ${size(done)} of ${size(total)}`;
  part("sending-text").textContent = total ? all : "Sending…";
}

function answered() {
  let body = {};
  try {
    body = JSON.parse(request.responseText);
  } catch {
    // A proxy in between answered.
  }
  if (request.status === 200) {
    location.assign(`${ROOT}/ui/jobs/${body.data.job_id}`);
  } else {
    busy(false);
    refuse(body.error?.param, body.message ?? `The server answered with status ${request.status}.`);
  }
}

function stop(message) {
  busy(false);
  if (message) refuse(null, message);
}

function busy(on) {
  part("sending").hidden = !on;
  part("submit").disabled = on;
}

// The message goes beside the field that caused it, if there is one.
function refuse(field, message) {
  const input = field && form.elements[field];
  const place = form.querySelector(`[data-field="${field}"]`) ?? input?.closest?.(".field");
  if (!place) {
    part("upload-error").textContent = message;
    part("upload-error").hidden = false;
    return;
  }
  place.classList.add("wrong");
  const note = document.createElement("p");
  note.className = "field-error";
  note.setAttribute("role", "alert");
  note.textContent = message;
  place.append(note);
  input?.focus?.();
}

function clearErrors() {
  form.querySelectorAll(".field-error").forEach((note) => note.remove());
  form.querySelectorAll(".wrong").forEach((field) => field.classList.remove("wrong"));
  part("upload-error").hidden = true;
}
