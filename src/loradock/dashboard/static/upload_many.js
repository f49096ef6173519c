// Several adapters sent one after the other, each row with its own bar and result.
import { sendFiles, size } from "./upload_send.js";

const LOOK_MS = 800;
const element = (name, classes, text = "") => Object.assign(document.createElement(name), { className: classes, textContent: text });

export class Many {
  // `fields()`: what is sent with each; `changed()`: told when rows go.
  constructor(root, { url, fields, changed }) {
    Object.assign(this, { root, url, fields, changed, rows: [], stopped: false });
    this.list = root.querySelector("ul");
    this.summary = root.querySelector("[data-summary]");
  }

  show(adapters) {
    this.rows = adapters.map((adapter) => this.row(adapter));
    this.list.replaceChildren(...this.rows.map((row) => row.root));
    this.root.hidden = adapters.length < 2;
    this.count();
  }

  row(adapter) {
    const row = { adapter, state: "new", root: element("li", "many-row") };
    const id = `many-${Math.random().toString(36).slice(2)}`;
    const bytes = adapter.files.reduce((sum, { file }) => sum + file.size, 0);
    const label = element("label", "visually-hidden", `Name of ${adapter.name || "this adapter"}`);
    label.htmlFor = id;
    row.name = Object.assign(element("input", ""), { id, value: adapter.name, maxLength: 160, autocomplete: "off", spellcheck: false });
    row.note = element("span", "small muted", `${adapter.files.length} file${adapter.files.length === 1 ? "" : "s"}, ${size(bytes)}${adapter.base ? ` · ${adapter.base}` : ""}`);
    row.bar = Object.assign(element("progress", ""), { max: 1, value: 0, hidden: true });
    row.bar.setAttribute("aria-label", `Sent of ${adapter.name}`);
    row.badge = element("span", "badge", "");
    row.badge.hidden = true;
    row.drop = Object.assign(element("button", "quiet-button", "Leave out"), { type: "button" });
    row.drop.setAttribute("aria-label", `Leave out ${adapter.name}`);
    row.drop.addEventListener("click", () => {
      this.rows = this.rows.filter((other) => other !== row);
      row.root.remove();
      this.count();
      this.changed(this.rows.map((other) => other.adapter));
    });
    const middle = element("div", "grow");
    middle.append(label, row.name, row.note, row.bar);
    row.root.append(middle, row.badge, row.drop);
    return row;
  }

  say(row, state, word, tone, note) {
    row.state = state;
    row.badge.hidden = false;
    row.badge.className = `badge ${tone}`;
    row.badge.replaceChildren(element("span", "dot"), word);
    if (note !== undefined) {
      row.note.textContent = note;
      row.note.className = tone === "bad" ? "small bad-text" : "small muted";
    }
    this.count();
  }

  count() {
    const of = (state) => this.rows.filter((row) => row.state === state).length;
    const words = [`${this.rows.length} adapters`];
    if (of("sending") || of("checking")) words.push(`${of("sending") + of("checking")} under way`);
    if (of("ready")) words.push(`${of("ready")} ready`);
    if (of("refused")) words.push(`${of("refused")} refused`);
    this.summary.textContent = words.join(", ");
  }

  // Those that are not there yet; what was refused before is tried again.
  async send() {
    this.stopped = false;
    const checks = [];
    for (const row of this.rows.filter(({ state }) => state === "new" || state === "refused")) {
      if (this.stopped) break;
      row.drop.hidden = true;
      const job = await this.sendOne(row);
      if (job) checks.push(this.follow(row, job));
    }
    await Promise.all(checks);
    for (const row of this.rows) row.drop.hidden = row.state === "ready";
    return { ready: this.rows.filter(({ state }) => state === "ready").length, all: this.rows.length };
  }

  stop() {
    this.stopped = true;
    this.request?.abort();
  }

  async sendOne(row) {
    row.name.classList.remove("wrong");
    this.say(row, "sending", "sending", "busy", "");
    row.bar.hidden = false;
    const sending = sendFiles(this.url, { ...this.fields(), model_name: row.name.value.trim() }, row.adapter.files, (done, total) => {
      row.bar.value = total ? done / total : 0;
    });
    this.request = sending;
    const answer = await sending.answer;
    row.bar.hidden = true;
    if (answer.job) {
      row.name.readOnly = true;
      this.say(row, "checking", "checking", "busy", "sent");
      return answer.job;
    }
    if (answer.aborted) this.say(row, "new", "not sent", "idle", "");
    else this.say(row, "refused", "refused", "bad", answer.message);
    return null;
  }

  async follow(row, job) {
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      try {
        const response = await fetch(`${ROOT}/ui/api/v1/jobs/${job}`, { headers: { "X-CSRF-Token": csrfToken() } });
        const body = await response.json();
        if (!response.ok) throw new Error(body.message);
        const said = body.status_updates.at(-1)?.message ?? "";
        if (body.status === "Complete") return this.ready(row, job, said, body.args?.loraModel);
        if (body.status === "Failed") {
          row.name.readOnly = false;
          return this.say(row, "refused", "refused", "bad", said);
        }
        row.note.textContent = said;
      } catch (error) {
        if (error instanceof TypeError) continue; // the server does not answer now
        return this.say(row, "refused", "unknown", "bad", error.message);
      }
    }
  }

  // What was to be attached, too, and is not, is told apart.
  ready(row, job, said, endpoint) {
    if (endpoint && !said.endsWith(`attached to ${endpoint}`)) this.say(row, "ready", "not attached", "bad", said);
    else this.say(row, "ready", "ready", "good", said);
    const link = Object.assign(element("a", "small", "Steps"), { href: `${ROOT}/ui/jobs/${job}` });
    row.root.append(link);
  }
}
