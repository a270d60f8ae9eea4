// One conversation: what its frames have told so far, and how it is shown.

const AGAIN = new Set(["store_unavailable", "overloaded", "draining", "rate_limited", "queue_full"]);
const GONE = { session_closed: "deleted", session_expired: "expired" };
const NOTES = { waiting: "Waiting for its turn …", cancelled: "Stopped.", sending: "" };

export const newId = () =>
  // Browsers have randomUUID on https and on this machine only.
  crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

export class Chat {
  #send;
  #changed = new Set();
  #nodes = new Map();
  #painting = false;
  #doing = "";

  // `kept` is what `keep` gave, or only {agent}; `send` puts a frame on the line.
  constructor(kept, send) {
    this.agent = kept.agent;
    this.session = kept.session ?? newId();
    this.cursor = kept.cursor ?? null;
    this.turns = kept.turns ?? [];
    this.ended = kept.ended ?? "";
    this.#send = send;
    this.#build();
    this.#paintAll();
  }

  get pending() {
    return this.turns.filter((turn) => turn.status === "sending");
  }

  keep() {
    const { agent, session, cursor, turns, ended } = this;
    return { agent, session, cursor, turns, ended };
  }

  // ── What goes to the gateway ──

  get target() {
    const { session, agent, cursor } = this;
    // Only what was never seen is made: a conversation that was deleted elsewhere stays deleted.
    return { session_id: session, agent, history: 50, ...(cursor === null ? { create: true } : { cursor }) };
  }

  say(content, replaces = undefined) {
    if (this.ended) this.restart();
    const turn = { turn_id: newId(), content, replaces, status: "sending", text: "", tools: [] };
    this.turns.push(turn);
    this.#post(turn);
    this.#touch(turn);
    this.#toEnd();
  }

  resend() {
    this.pending.forEach((turn) => this.#post(turn));
  }

  stop() {
    this.#send({ type: "cancel", session_id: this.session, agent: this.agent, ref: "cancel" });
  }

  restart() {
    this.#send({ type: "detach", session_ids: [this.session] });
    Object.assign(this, { session: newId(), cursor: null, turns: [], ended: "" });
    this.#doing = "";
    this.#paintAll();
    this.#attach();
  }

  #attach() {
    this.#send({ type: "attach", sessions: [this.target] });
  }

  #post({ turn_id, content, replaces }) {
    // The same turn_id every time: however often it is sent, it runs once.
    this.#send({ type: "message", session_id: this.session, agent: this.agent, turn_id, content, replaces, ref: turn_id });
  }

  // ── What comes from it ──

  take(frame) {
    if (frame.cursor) this.cursor = frame.cursor;
    switch (frame.type) {
      case "attached":
        return this.#attached(frame);
      case "ok":
        return this.#accepted(frame);
      case "message":
        return this.#message(frame);
      case "text_delta":
        return this.#change(frame, (turn) => ((turn.text += frame.content), (turn.status = "running")));
      case "tool_call":
        return this.#change(frame, (turn) => turn.tools.push({ id: frame.tool_call_id, name: frame.name }));
      case "tool_result":
        return this.#change(frame, (turn) => {
          const tool = turn.tools.findLast(({ id }) => id === frame.tool_call_id);
          if (tool) tool.done = frame.is_error ? "failed" : "done";
        });
      case "typing":
        return this.#typing(frame);
      case "response":
        return this.#change(frame, (turn) => Object.assign(turn, { text: frame.content, status: frame.status }));
      case "error":
        return frame.cursor ? this.#failed(frame) : this.#refused(frame);
      case "session":
        return GONE[`session_${frame.status}`] && this.#end(GONE[`session_${frame.status}`]);
    }
  }

  #attached({ mode, messages = [], status, turn_id, queued }) {
    if (mode === "snapshot") {
      const pending = this.pending;
      this.turns = [];
      for (const message of messages) {
        const turn = this.#turn(message.turn_id);
        if (message.role === "user") turn.content = message.content;
        else Object.assign(turn, told(message));
      }
      // What was not acknowledged, and is not in the log either, is still to be sent.
      this.turns.push(...pending.filter((turn) => !this.turns.some((known) => known.turn_id === turn.turn_id)));
    }
    if (status === "running") this.#turn(turn_id).status = "running";
    queued.forEach((id) => (this.#turn(id).status = "waiting"));
    this.#doing = "";
    this.#paintAll();
  }

  #accepted({ turn_id, status }) {
    const turn = this.turns.find((known) => known.turn_id === turn_id);
    if (turn?.status !== "sending" || !status) return;
    turn.status = status === "started" ? "running" : "waiting";
    this.#touch(turn);
  }

  #message({ turn_id, content, replaces }) {
    const turn = this.#turn(turn_id);
    turn.content = content;
    if (turn.status === "sending") turn.status = "waiting";
    const from = this.turns.findIndex((known) => known.turn_id === replaces);
    if (from >= 0) {
      // That turn and all after it no longer count.
      this.turns = [...this.turns.slice(0, from), turn, ...this.pending.filter((other) => other !== turn)];
      this.#paintAll();
    }
    this.#touch(turn);
    this.#toEnd();
  }

  #typing({ author, state, turn_id }) {
    if (author === "agent" && state === "start") this.#change({ turn_id }, (turn) => (turn.status = "running"));
    const who = author === "agent" ? `${this.agent} is typing …` : "You are typing elsewhere …";
    this.#doing = state === "start" ? who : "";
    this.#paint();
  }

  #failed(frame) {
    this.#change(frame, (turn) =>
      Object.assign(turn, { text: frame.partial, status: "failed", reason: frame.content, retryable: frame.retryable }),
    );
  }

  #refused({ ref, code, content, retry_after_ms }) {
    const turn = this.turns.find((known) => known.turn_id === ref);
    if (code in GONE) return this.#end(GONE[code]);
    if (turn?.status === "sending" && AGAIN.has(code)) {
      setTimeout(() => turn.status === "sending" && this.#post(turn), retry_after_ms ?? 1_000);
    } else if (turn) {
      Object.assign(turn, { status: "refused", reason: content });
      this.#touch(turn);
    } else if (code === "session_not_found") {
      this.cursor = null; // the gateway has forgotten it: begin again under the same name
      this.#attach();
      this.resend();
    } else {
      this.#doing = content;
      this.#paint();
    }
  }

  #end(how) {
    this.ended = how;
    this.pending.forEach((turn) => Object.assign(turn, { status: "refused", reason: "It was not sent." }));
    this.#doing = "";
    this.#paintAll();
  }

  #turn(turn_id) {
    let turn = this.turns.find((known) => known.turn_id === turn_id);
    if (!turn) this.turns.push((turn = { turn_id, content: "", status: "waiting", text: "", tools: [] }));
    return turn;
  }

  #change({ turn_id }, change) {
    const turn = this.#turn(turn_id);
    change(turn);
    this.#touch(turn);
  }

  // ── How it is shown ──

  #build() {
    this.element = copy("chat");
    const field = (this.field = this.element.querySelector("textarea"));
    this.element.querySelector(".agent").textContent = this.agent;
    this.element.setAttribute("aria-label", `Conversation with ${this.agent}`);
    this.log = this.element.querySelector(".log");
    this.log.setAttribute("aria-label", `What you and ${this.agent} said`);
    this.log.dataset.empty = `Say something to ${this.agent}.`;
    field.placeholder = `Message to ${this.agent}`;
    field.setAttribute("aria-label", field.placeholder);
    field.addEventListener("input", () => {
      field.style.height = "auto";
      field.style.height = `${field.scrollHeight + 2}px`;
    });
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      field.form.requestSubmit();
    });
    field.form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!field.value.trim()) return;
      this.say(field.value);
      field.value = "";
      field.dispatchEvent(new Event("input"));
    });
    this.element.querySelector(".stop").addEventListener("click", () => this.stop());
    this.element.querySelector(".new").addEventListener("click", () => {
      this.restart();
      field.focus();
    });
  }

  #touch(turn) {
    this.#changed.add(turn);
    this.#paint();
  }

  #paint() {
    // Once per picture, however many frames came.
    if (this.#painting) return;
    this.#painting = true;
    requestAnimationFrame(() => {
      this.#painting = false;
      const atEnd = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 48;
      this.#changed.forEach((turn) => this.turns.includes(turn) && this.#paintTurn(turn));
      this.#changed.clear();
      this.#paintRest();
      if (atEnd) this.#toEnd();
    });
  }

  #paintAll() {
    this.log.replaceChildren();
    this.#nodes.clear();
    this.turns.forEach((turn) => this.#paintTurn(turn));
    this.#paintRest();
    this.#toEnd();
  }

  #paintRest() {
    const running = this.turns.some((turn) => turn.status === "running");
    this.element.querySelector(".session").textContent = this.session.slice(0, 8);
    this.element.querySelector(".doing").textContent = this.ended ? `This conversation was ${this.ended}.` : this.#doing;
    this.element.querySelector(".stop").hidden = !running;
    this.log.setAttribute("aria-busy", String(running));
    const last = this.turns.at(-1);
    for (const [turn_id, { retry, turn }] of this.#nodes) {
      const may = turn.status === "refused" || (turn.status === "failed" && turn.retryable);
      retry.hidden = !may || turn_id !== last?.turn_id || Boolean(this.ended);
    }
  }

  #paintTurn(turn) {
    const node = this.#node(turn);
    node.turn = turn;
    node.root.dataset.status = turn.status;
    node.said.textContent = turn.content;
    node.said.hidden = !turn.content;
    const shown = node.text.data;
    if (turn.text.startsWith(shown)) node.text.appendData(turn.text.slice(shown.length));
    else node.text.data = turn.text;
    node.tools.replaceChildren(...turn.tools.map(toolItem));
    node.tools.hidden = turn.tools.length === 0;
    const note = turn.reason ?? NOTES[turn.status] ?? "";
    node.note.textContent = note;
    node.note.parentElement.hidden = !note;
  }

  #node(turn) {
    const known = this.#nodes.get(turn.turn_id);
    if (known) return known;
    const root = copy("turn");
    const text = document.createTextNode("");
    root.querySelector(".text").append(text);
    const retry = root.querySelector(".retry");
    const node = { root, text, retry, turn };
    for (const name of ["said", "tools"]) node[name] = root.querySelector(`.${name}`);
    node.note = root.querySelector(".note span");
    retry.addEventListener("click", () => this.#again(node.turn));
    this.#nodes.set(turn.turn_id, node);
    this.log.append(root);
    return node;
  }

  #again(turn) {
    if (turn.status === "failed") return this.say(turn.content, turn.turn_id);
    // It never was in the log: there is nothing to replace.
    this.turns = this.turns.filter((other) => other !== turn);
    this.#paintAll();
    return this.say(turn.content, turn.replaces);
  }

  #toEnd() {
    this.log.scrollTop = this.log.scrollHeight;
  }
}

// An agent's message of the history, as what is known of its turn.
const told = ({ content, status, code, tools = [] }) => ({
  text: content,
  status,
  reason: status === "failed" ? `It failed (${code}).` : undefined,
  retryable: status === "failed",
  tools: tools.map(({ tool_call_id, name, is_error }) => ({ id: tool_call_id, name, done: is_error ? "failed" : "done" })),
});

const copy = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

const toolItem = ({ name, done }) =>
  Object.assign(document.createElement("li"), { textContent: `${name}: ${done ?? "working …"}` });
