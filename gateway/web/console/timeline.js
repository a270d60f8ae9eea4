// One session's frames as they go by, newest last. What was said is put in as text, or hidden by the gateway.

import { clock, count, duration } from "./format.js";

const MOST = 500; // frames in the list
const LONGEST = 400; // characters of a content

const DELTAS = new Set(["text_delta", "thought_delta"]);

/** What is told of a frame beside its kind: [what, value] each; null is left out. */
const FACTS = {
  attached: (f) => [["", f.status], ["from", f.mode], ["queued", f.queued?.length || null]],
  message: (f) => [["", f.content], ["replaces", f.replaces]],
  typing: (f) => [["", `${f.author} ${f.state}`]],
  tool_call: (f) => [["", f.name], ["input", f.input]],
  tool_result: (f) => [["", f.content], ["", f.is_error ? "failed" : null]],
  response: (f) => [
    ["", f.status === "completed" ? null : f.status],
    ["", f.content],
    ["first after", ms(f.timing?.first_delta_ms)],
    ["in all", ms(f.timing?.total_ms)],
    ["tokens", f.input_tokens || f.output_tokens ? `${f.input_tokens} in, ${f.output_tokens} out` : null],
  ],
  error: (f) => [["", f.code], ["", f.content], ["partial", f.partial]],
  session: (f) => [["", f.status], ["renewals", f.renewal_count || null]],
};

/** Events: "ended" when the session is over. */
export class Timeline extends EventTarget {
  #list;
  #scroll;
  #note;
  #last = null;
  #held = [];
  #seen = 0;
  paused = false;

  constructor({ list, scroll, note }) {
    super();
    this.#list = list;
    this.#scroll = scroll;
    this.#note = note;
  }

  clear() {
    this.#list.replaceChildren();
    this.#held = [];
    this.#last = null;
    this.#seen = 0;
    this.#note.textContent = "";
  }

  take(frame, at = Date.now()) {
    this.#seen += 1;
    if (this.paused) {
      this.#held.push([frame, at]);
      if (this.#held.length > MOST) this.#held.shift();
    } else {
      this.#show(frame, at);
    }
    this.#tell();
    if (frame.type === "session" && ["closed", "expired"].includes(frame.status)) {
      this.dispatchEvent(new Event("ended"));
    }
  }

  pause(paused) {
    this.paused = paused;
    if (!paused) this.#held.splice(0).forEach(([frame, at]) => this.#show(frame, at));
    this.#tell();
  }

  #tell() {
    const frames = `${count(this.#seen)} frame${this.#seen === 1 ? "" : "s"}`;
    this.#note.textContent = this.#held.length ? `${frames}, ${count(this.#held.length)} behind the pause` : frames;
  }

  #show(frame, at) {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
    const atEnd = scrollHeight - scrollTop - clientHeight < 24;
    if (!this.#joined(frame)) this.#add(frame, at);
    if (atEnd) this.#scroll.scrollTop = this.#scroll.scrollHeight;
  }

  /** Deltas of one turn that follow each other are one line which counts. */
  #joined(frame) {
    const last = this.#last;
    if (!DELTAS.has(frame.type) || last?.type !== frame.type || last.turn !== frame.turn_id) return false;
    last.frames += 1;
    last.characters += lengthOf(frame.content);
    if (typeof frame.content === "string") last.text = (last.text + frame.content).slice(-LONGEST);
    last.facts.replaceChildren(...deltas(last));
    return true;
  }

  #add(frame, at) {
    const line = document.createElement("li");
    line.dataset.kind = frame.type;
    const facts = piece("span", "facts");
    line.append(
      piece("time", "at", clock(frame.created_at ? frame.created_at * 1_000 : at)),
      piece("span", "kind", frame.type.replace("_", " ")),
      facts,
      piece("span", "turn", frame.turn_id?.slice(0, 8) ?? ""),
    );
    this.#last = null;
    if (DELTAS.has(frame.type)) {
      const text = typeof frame.content === "string" ? frame.content : "";
      this.#last = { type: frame.type, turn: frame.turn_id, frames: 1, characters: lengthOf(frame.content), text, facts };
      facts.append(...deltas(this.#last));
    } else {
      facts.append(...factsOf(frame));
    }
    this.#list.append(line);
    if (this.#list.childElementCount > MOST) this.#list.firstChild.remove();
  }
}

function deltas({ frames, characters, text }) {
  const told = [piece("span", "fact", `${count(frames)} ×, ${count(characters)} characters`)];
  if (text) told.push(piece("q", "content", text));
  return told;
}

function factsOf(frame) {
  const facts = FACTS[frame.type]?.(frame) ?? [];
  return facts.filter(([, value]) => value !== null && value !== undefined).map(([what, value]) => fact(what, value));
}

function fact(what, value) {
  const before = what ? `${what} ` : "";
  if (value?.hidden !== undefined) return piece("span", "hidden", `${before}${count(value.hidden)} hidden`);
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return piece("span", "fact", before + (text.length > LONGEST ? `${text.slice(0, LONGEST)} …` : text));
}

function lengthOf(content) {
  return content?.hidden ?? content?.length ?? 0;
}

function ms(milliseconds) {
  return milliseconds === null || milliseconds === undefined ? null : duration(milliseconds / 1_000);
}

function piece(name, className, text = "") {
  return Object.assign(document.createElement(name), { className, textContent: text });
}
