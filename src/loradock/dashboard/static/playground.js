// The playground: one prompt to every model that is ticked; the answers stream in side by side.
"use strict";

const form = document.getElementById("playground");
if (form) {
  const prompt = document.getElementById("prompt");
  const answers = document.getElementById("answers");
  const stop = document.getElementById("stop");
  const send = document.getElementById("send");
  const NUMBERS = ["temperature", "top_p", "max_tokens", "seed"];
  let running = null;

  const ticked = () => [...form.querySelectorAll('input[name="model"]:checked')];
  const element = (name, classes, text = "") => Object.assign(document.createElement(name), { className: classes, textContent: text });

  function requestBody(model) {
    const fields = new FormData(form);
    const system = fields.get("system").trim();
    const messages = system ? [{ role: "system", content: system }] : [];
    const body = { model, messages: [...messages, { role: "user", content: prompt.value }], stream: true };
    body.stream_options = { include_usage: true };
    for (const name of NUMBERS) if (fields.get(name) !== "") body[name] = Number(fields.get(name));
    return body;
  }

  // One answer: its name, how it stands, its text, and its figures.
  class Column {
    constructor(box) {
      this.root = element("section", "card answer");
      this.root.setAttribute("aria-label", box.dataset.label);
      this.state = element("span", "badge busy");
      const head = element("div", "card-head");
      head.append(element("h3", "", box.dataset.label), this.state);
      this.text = element("div", "answer-text");
      this.text.tabIndex = 0;
      this.figures = element("dl", "figures");
      this.root.append(head, this.text, this.figures);
      this.say("waiting", "busy");
      this.show({});
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

  async function stream(column, model, signal) {
    const began = performance.now();
    const seen = { first: null, tokens: 0 };
    let firstAt = 0;
    const response = await fetch(`${ROOT}/ui/api/v1/chat/completions`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": csrfToken() },
      body: JSON.stringify(requestBody(model)),
      signal,
    });
    if (!response.ok) throw new Error((await response.json()).message);
    column.say("answering", "busy");
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      const text = event.choices?.[0]?.delta?.content;
      if (text) {
        if (seen.first === null) {
          firstAt = performance.now();
          seen.first = firstAt - began;
        }
        seen.tokens += 1;
        column.text.append(text);
      }
      if (event.usage) Object.assign(seen, { prompt: event.usage.prompt_tokens, tokens: event.usage.completion_tokens });
      const seconds = (performance.now() - firstAt) / 1000;
      if (seen.first !== null && seen.tokens > 1 && !event.usage) seen.speed = (seen.tokens - 1) / seconds;
      column.show(seen);
    }
    if (!column.text.textContent) column.text.append(element("span", "muted", "an empty answer"));
    column.say("done", "good");
  }

  async function answer(box, signal) {
    const column = new Column(box);
    answers.append(column.root);
    try {
      await stream(column, box.value, signal);
    } catch (error) {
      if (error.name === "AbortError") column.say("stopped", "idle");
      else column.fail(error instanceof TypeError ? "The server does not answer." : error.message);
    }
  }

  async function ask() {
    const chosen = ticked();
    document.getElementById("none-chosen").hidden = chosen.length > 0;
    if (running || !chosen.length || !prompt.value.trim() || !form.reportValidity()) return;
    running = new AbortController();
    stop.disabled = false;
    send.disabled = true;
    answers.replaceChildren();
    await Promise.all(chosen.map((box) => answer(box, running.signal)));
    document.getElementById("summary").textContent = `${chosen.length} answers are complete`;
    running = null;
    stop.disabled = true;
    send.disabled = false;
  }

  // The address carries what is chosen, so that it can be shared.
  function remember() {
    const chosen = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (!["csrf", "prompt"].includes(name) && value !== "") chosen.append(name, value);
    history.replaceState(null, "", `?${chosen}`);
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  stop.addEventListener("click", () => running?.abort());
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
