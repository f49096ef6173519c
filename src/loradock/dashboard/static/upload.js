// Sends chosen or dropped files to the API. Sources elsewhere are a plain form.
import { adaptersIn, baseOf } from "./upload_groups.js";
import { Many } from "./upload_many.js";
import { sendFiles, size } from "./upload_send.js";

const form = document.getElementById("upload");
const part = (id) => document.getElementById(id);
let files = []; // {path, file}
let adapters = []; // what they make
let sending = null;
const isAdapter = () => form.elements.model_type.value === "adapter";
const fromHere = () => form.elements.from.value === "here";

function fields() {
  const names = ["model_type", "description", ...(isAdapter() ? ["base_model", "lora_model"] : [])];
  return Object.fromEntries(names.map((name) => [name, form.elements[name]?.value.trim()]));
}

const many = new Many(part("many"), {
  url: form.dataset.filesTo,
  fields,
  changed: (left) => {
    adapters = left;
    show();
  },
});

async function choose(chosen) {
  files = chosen.filter(({ path }) => !path.split("/").some((name) => name.startsWith(".")));
  clearErrors();
  await sort();
}

// Into adapters, anew when it is said what kind of model they are.
async function sort() {
  const [found, leftOut] = isAdapter() ? adaptersIn(files) : [files.length ? [{ ...adaptersIn(files)[0][0], files }] : [], 0];
  adapters = await Promise.all(found.map(async (one) => ({ ...one, base: await baseOf(one) })));
  const names = (adapters[0]?.files ?? []).slice(0, 4).map(({ path }) => path.split("/").pop());
  const more = adapters[0]?.files.length > 4 ? ` and ${adapters[0].files.length - 4} more` : "";
  const bytes = adapters.flatMap((one) => one.files).reduce((sum, { file }) => sum + file.size, 0);
  const others = leftOut ? `; ${leftOut} other file${leftOut === 1 ? " belongs to none and is" : "s belong to none and are"} left out` : "";
  const what = adapters.length > 1 ? `${adapters.length} adapters (${size(bytes)})${others}` : `${names.join(", ")}${more} (${size(bytes)})${others}`;
  part("chosen").textContent = adapters.length ? what : "Nothing in there to upload.";
  many.show(adapters.length > 1 ? adapters : []);
  show();
}

// One name for one adapter; where there are more, each row has its own.
const inRows = () => fromHere() && (adapters.length > 1 || many.rows.some(({ state }) => state !== "new"));
function show() {
  const several = inRows();
  const name = part("model_name");
  if (!several && !name.value && adapters.length === 1) name.value = adapters[0].name;
  part("many").hidden = !several;
  form.querySelector('[data-field="model_name"]').hidden = several;
  name.disabled = several;
  part("submit").lastChild.textContent = several ? `Upload ${adapters.length} adapters` : "Upload";
  offer();
}

// Only endpoints that can take it: those of its base model, as far as it is known.
const plain = (base) => base.toLowerCase().replace(/-lora$/, "");
function offer() {
  const select = part("lora_model");
  if (!select) return;
  const typed = part("base_model").value.trim();
  const named = (typed ? [typed] : fromHere() ? adapters.map(({ base }) => base) : []).filter(Boolean);
  const bases = new Map(named.map((base) => [plain(base), base]));
  let fitting = 0;
  for (const option of [...select.options].filter(({ value }) => value)) {
    const fits = bases.size === 0 || bases.has(plain(option.dataset.base));
    option.hidden = option.disabled = !fits;
    fitting += fits;
    if (!fits && option.selected) select.value = "";
  }
  const several = bases.size > 1 ? " Adapters of another base model than its own will be refused by it." : "";
  part("lora_model-fits").textContent = bases.size && !fitting ? `None of your endpoints runs ${[...bases.values()].join(" or ")}.` : several.trim();
}

for (const id of ["folder", "files"]) {
  part(id).addEventListener("change", ({ target }) => {
    choose([...target.files].map((file) => ({ path: file.webkitRelativePath || file.name, file })));
  });
}
form.addEventListener("change", ({ target }) => {
  if (target.name === "model_type") sort();
  else if (target.name === "from") show();
});
part("base_model").addEventListener("input", offer);

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
  if (!fromHere()) return;
  event.preventDefault();
  clearErrors();
  if (!adapters.length) refuse("files", "Choose a folder or an archive first.");
  else if (inRows()) sendAll();
  else sendOne();
});
part("cancel").addEventListener("click", () => {
  many.stop();
  sending?.abort();
});
addEventListener("beforeunload", (event) => {
  if (!part("sending").hidden) event.preventDefault(); // what is being sent would be lost
});

async function sendOne() {
  busy(true);
  progress(0, 0);
  sending = sendFiles(form.dataset.filesTo, { ...fields(), model_name: part("model_name").value.trim() }, adapters[0].files, progress);
  const answer = await sending.answer;
  busy(false);
  if (answer.job) location.assign(`${ROOT}/ui/jobs/${answer.job}`);
  else if (!answer.aborted) refuse(answer.param, answer.message);
}

async function sendAll() {
  busy(true);
  part("sending-bar").hidden = true;
  part("many").scrollIntoView({ block: "start" });
  part("sending-text").textContent = "Sending one after the other. Stay on this page until all are sent.";
  const { ready, all } = await many.send();
  busy(false);
  part("many-done").hidden = false;
  part("submit").disabled = ready === all;
  part("submit").lastChild.textContent = ready === all ? "All uploaded" : `Try the other ${all - ready} again`;
}

function progress(done, total) {
  part("sending-bar").value = total ? done / total : 0;
  const all = total && done === total ? "Sent. The server is reading it…" : `Sending: ${size(done)} of ${size(total)}`;
  part("sending-text").textContent = total ? all : "Sending…";
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
show();
