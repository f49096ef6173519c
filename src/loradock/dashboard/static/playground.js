// The playground: one prompt to every model that is ticked; the answers stream in side by side, turn after turn.
"use strict";

const form = document.getElementById("playground");
if (form) {
  const prompt = document.getElementById("prompt");
  const answers = document.getElementById("answers");
  const stop = document.getElementById("stop");
  const send = document.getElementById("send");
  const anew = document.getElementById("anew");
  const NUMBERS = ["temperature", "top_p", "max_tokens", "seed"];
  const NOT_SHARED = ["csrf", "prompt", "history", "picked", "q"];
  const columns = new Map(); // by model
  let running = null;

  const ticked = () => [...form.querySelectorAll('input[name="model"]:checked')];
  const element = (name, classes, text = "") => Object.assign(document.createElement(name), { className: classes, textContent: text });

  function requestBody(model, messages) {
    const fields = new FormData(form);
    const system = fields.get("system").trim();
    const body = { model, messages: system ? [{ role: "system", content: system }, ...messages] : messages, stream: true };
    body.stream_options = { include_usage: true };
    for (const name of NUMBERS) if (fields.get(name) !== "") body[name] = Number(fields.get(name));
    return body;
  }

  // One model's conversation: its name, how it stands, what was said, and the figures of the last answer.
  class Column {
    constructor(box) {
      this.model = box.value;
      this.messages = []; // what was asked and answered in full
      this.root = element("section", "card answer");
      this.root.setAttribute("aria-label", box.dataset.label);
      this.state = element("span", "badge busy");
      const head = element("div", "card-head");
      head.append(element("h3", "", box.dataset.label), this.state);
      this.turns = element("div", "turns");
      this.turns.tabIndex = 0;
      this.turns.setAttribute("role", "log");
      this.turns.setAttribute("aria-label", `Conversation with ${box.dataset.label}`);
      this.figures = element("dl", "figures");
      this.root.append(head, this.turns, this.figures);
    }

    // A next turn begins: what is asked, and room for the answer.
    ask(question) {
      this.root.querySelector(".field-error")?.remove();
      this.question = { role: "user", content: question };
      this.text = element("div", "answer-text");
      this.turns.append(element("div", "asked", question), this.text);
      this.say("waiting", "busy");
      this.show({});
      this.turns.scrollTop = this.turns.scrollHeight;
    }

    append(text) {
      const atEnd = this.turns.scrollHeight - this.turns.scrollTop - this.turns.clientHeight < 40;
      this.text.append(text);
      if (atEnd) this.turns.scrollTop = this.turns.scrollHeight;
    }

    // The turn is over: it can be copied, and what follows knows of it.
    keep() {
      const said = this.text.textContent;
      if (!said) return this.text.append(element("span", "muted", "an empty answer"));
      this.messages.push(this.question, { role: "assistant", content: said });
      const copy = Object.assign(element("button", "quiet-button copy", "Copy"), { type: "button" });
      copy.dataset.copy = said;
      copy.setAttribute("aria-label", `Copy the answer of ${this.root.getAttribute("aria-label")}`);
      this.text.after(copy);
      this.turns.scrollTop += copy.offsetHeight; // it is seen where the answer's end was
    }

    say(word, tone) {
      this.state.className = `badge ${tone}`;
      this.state.replaceChildren(element("span", "dot"), word);
    }

    show({ first, speed, prompt: asked, tokens }) {
      const figures = {
        "First token": first == null ? "–" : `${Math.round(first)} ms`,
        Speed: speed == null ? "–" : `${speed.toFixed(1)} tokens/s`,
        Tokens: tokens == null ? "–" : asked == null ? `${tokens}` : `${asked} + ${tokens}`,
      };
      this.figures.replaceChildren(
        ...Object.entries(figures).map(([name, value]) => {
          const pair = element("div", "");
          pair.append(element("dt", "", name), element("dd", "", value));
          return pair;
        }),
      );
    }

    fail(message) {
      this.say("failed", "bad");
      this.root.append(Object.assign(element("p", "field-error", message), { role: "alert" }));
    }
  }

  async function* events(response) {
    const decoder = new TextDecoder();
    let rest = "";
    for (const reader = response.body.getReader(); ; ) {
      const { value, done } = await reader.read();
      rest += decoder.decode(value, { stream: !done });
      const lines = rest.split("\n");
      rest = lines.pop();
      for (const line of lines) if (line.startsWith("data: ") && line !== "data: [DONE]") yield JSON.parse(line.slice(6));
      if (done) return;
    }
  }

  async function stream(column, signal) {
    const began = performance.now();
    const seen = { first: null, tokens: 0 };
    let firstAt = 0;
    let reason = null;
    const response = await fetch(`${ROOT}/ui/api/v1/chat/completions`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": csrfToken() },
      body: JSON.stringify(requestBody(column.model, [...column.messages, column.question])),
      signal,
    });
    if (!response.ok) throw new Error((await response.json()).message);
    column.say("answering", "busy");
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      const text = event.choices?.[0]?.delta?.content;
      reason = event.choices?.[0]?.finish_reason ?? reason;
      if (text) {
        if (seen.first === null) {
          firstAt = performance.now();
          seen.first = firstAt - began;
        }
        seen.tokens += 1;
        column.append(text);
      }
      if (event.usage) Object.assign(seen, { prompt: event.usage.prompt_tokens, tokens: event.usage.completion_tokens });
      const seconds = (performance.now() - firstAt) / 1000;
      if (seen.first !== null && seen.tokens > 1 && !event.usage) seen.speed = (seen.tokens - 1) / seconds;
      column.show(seen);
    }
    column.keep();
    if (reason === "length") column.say("done: cut at max tokens", "busy still");
    else column.say("done", "good");
  }

  async function answer(column, question, signal) {
    column.ask(question);
    answers.append(column.root);
    try {
      await stream(column, signal);
    } catch (error) {
      if (error.name === "AbortError") {
        column.keep();
        column.say("stopped", "idle");
      } else column.fail(error instanceof TypeError ? "The server does not answer." : error.message);
    }
  }

  // The conversations of what is ticked; what is not ticked any more goes.
  function conversations(chosen) {
    for (const [model, column] of columns)
      if (!chosen.some((box) => box.value === model)) {
        column.root.remove();
        columns.delete(model);
      }
    return chosen.map((box) => {
      if (!columns.has(box.value)) columns.set(box.value, new Column(box));
      return columns.get(box.value);
    });
  }

  async function ask() {
    const chosen = ticked();
    const question = prompt.value;
    document.getElementById("none-chosen").hidden = chosen.length > 0;
    if (running || !chosen.length || !question.trim() || !form.reportValidity()) return;
    running = new AbortController();
    stop.disabled = anew.disabled = false;
    send.disabled = true;
    prompt.value = "";
    prompt.placeholder = "Say something more";
    await Promise.all(conversations(chosen).map((column) => answer(column, question, running.signal)));
    document.getElementById("summary").textContent = `${chosen.length} answers are complete`;
    running = null;
    stop.disabled = true;
    send.disabled = false;
    tellCode();
  }

  // The code below makes the request that would come next: with the conversation of the first adapter so far.
  function tellCode() {
    const told = [...columns.values()].find((column) => column.root.getAttribute("aria-label") !== "Base model") ?? [...columns.values()][0];
    form.elements.history.value = told?.messages.length ? JSON.stringify(told.messages) : "";
    form.elements.history.dispatchEvent(new Event("change", { bubbles: true }));
  }

  function beginAnew() {
    running?.abort();
    const first = [...columns.values()].map((column) => column.messages[0]?.content).find(Boolean);
    columns.clear();
    answers.replaceChildren();
    if (!prompt.value && first) prompt.value = first;
    prompt.placeholder = "Say something";
    anew.disabled = true;
    prompt.focus();
    tellCode();
  }

  // The address carries what is chosen, so that it can be shared.
  function remember() {
    const chosen = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (!NOT_SHARED.includes(name) && value !== "") chosen.append(name, value);
    history.replaceState(null, "", `?${chosen}`);
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  stop.addEventListener("click", () => running?.abort());
  anew.addEventListener("click", beginAnew);
  addEventListener("pagehide", () => running?.abort());
  form.addEventListener("change", (event) => {
    if (event.target.name === "endpoint") location.assign(`${ROOT}/ui/playground?endpoint=${event.target.value}`);
    else if (event.target.name !== "language") remember();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      ask();
    }
  });
}
