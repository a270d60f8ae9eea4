// One message as nodes: what the user said, or the agent's answer while it grows.

import { copyText } from "./copy.js";
import { action, drawn, el, put } from "./dom.js";
import { Text } from "./markdown.js";
import { spans } from "./spans.js";
import { ToolView } from "./tool.js";

const OVER = new Set(["completed", "cancelled", "failed", "refused"]);
const INTERRUPTED = new Set(["turn_interrupted", "upstream_truncated"]);

/** Is there nothing more to come of it? */
export const over = (message) => OVER.has(message.status);

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const calendar = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** What both have below: a note on how it went, choices that are due, what may be done at any time, and when. */
class MessageView {
  note = el("span", { class: "why", dir: "auto" });
  actions = el("div", { class: "actions" });
  time = el("time", { dir: "auto" });

  constructor(message, words) {
    this.message = message;
    this.words = words;
  }

  /** What may be done now: the ones that are `[button, whether]` appear without moving anything. */
  offer(...offers) {
    for (const [button, may] of offers) button.hidden = !may;
  }

  tell(text) {
    put(this.note, text);
    this.node.dataset.status = this.message.status;
    const { createdAt } = this.message;
    if (!createdAt || this.time.dateTime) return;
    const at = new Date(createdAt);
    this.time.dateTime = at.toISOString();
    this.time.title = calendar.format(at);
    this.time.textContent = clock.format(at);
  }
}

export class UserView extends MessageView {
  #body = el("div", { class: "body plain", dir: "auto", part: "bubble" });
  #edit;
  #resend;
  #withdraw;

  constructor(message, words, does) {
    super(message, words);
    this.#edit = action("edit", words.edit, () => does.edit(this.message));
    const copy = action("copy", words.copy, () => copyText(this.message.content, copy, words));
    this.#resend = choice(words.resend, "retry", () => does.resend(this.message));
    this.#withdraw = choice(words.withdraw, "withdraw", () => does.cancel(this.message));
    this.actions.append(copy, this.#edit);
    const foot = el("footer", {}, this.time, this.actions, this.note, this.#withdraw, this.#resend);
    this.node = el(
      "article",
      { class: "message user", part: "message user", "aria-label": words.you },
      this.#body,
      foot,
    );
  }

  paint({ ended, answered }) {
    const { content, status, error } = this.message;
    put(this.#body, content);
    this.tell(
      status === "refused"
        ? (error ?? this.words.status.refused)
        : (this.words.status[statusWord(status)] ?? ""),
    );
    this.offer(
      [this.#edit, answered && !ended],
      [this.#resend, status === "refused" && !ended],
      [this.#withdraw, status === "queued" && !ended],
    );
    return true;
  }
}

const statusWord = (status) => (status === "sending" || status === "queued" ? status : "");

export class AgentView extends MessageView {
  #content = el("div", { class: "content" });
  #parts = [];
  #thought;
  #caret = null;
  #again;
  #retry;

  constructor(message, words, does, agent) {
    super(message, words);
    const copy = action("copy", words.copy, () => copyText(this.message.content, copy, words));
    this.#again = action("again", words.again, () => does.again(this.message), "regenerate");
    this.#retry = choice(words.retry, "retry", () => does.again(this.message));
    this.actions.append(copy, this.#again);
    const foot = el("footer", {}, this.note, this.#retry, this.actions, this.time);
    this.node = el(
      "article",
      { class: "message agent", part: "message agent", "aria-label": agent },
      this.#content,
      foot,
    );
  }

  /** Shows as much as there is time for. Is all of it shown? */
  paint({ ended, last }, late) {
    const { message, words } = this;
    this.#unmark();
    this.#think(message);
    const whole = this.#write(spans(message.content, message.tools), over(message), late);
    this.tell(reason(message, words));
    const mayRetry = message.status === "failed" && message.retryable !== false;
    this.offer([this.#again, last && !ended && !mayRetry], [this.#retry, last && !ended && mayRetry]);
    return whole;
  }

  /** Nothing came for a while: marks where it will go on, until it is painted again. */
  pause() {
    this.#unmark();
    if (this.message.tools.at(-1)?.done === false) return; // that tells it already
    this.#caret = endOf(this.#content);
    this.#caret.classList.add("caret");
    this.#caret.dataset.held = this.#parts.at(-1).held;
  }

  #unmark() {
    this.#caret?.classList.remove("caret");
    this.#caret = null;
  }

  #write(found, ended, late) {
    const as = (span) => (span.tool ? ToolView : TextView);
    const fits = this.#parts.every((part, place) => found[place] && part instanceof as(found[place]));
    if (!fits) this.#content.replaceChildren(...(this.#parts = []));
    for (const [place, span] of found.entries()) {
      const part = (this.#parts[place] ??= this.#added(span));
      if (span.tool) part.update(span.tool);
      else if (!part.write(span.text, ended || place < found.length - 1, late)) return false;
    }
    return true;
  }

  #added(span) {
    const part = span.tool ? new ToolView(span.tool, this.words) : new TextView(this.words);
    this.#content.append(part.node);
    return part;
  }

  #think({ thought, content, status }) {
    if (!thought) return;
    this.#thought ??= this.#thinking();
    const thinking = !content && status === "running";
    put(this.#thought.title, thinking ? this.words.thought : this.words.thoughtDone);
    this.#thought.node.dataset.state = thinking ? "running" : "done";
    if (this.#thought.node.open) put(this.#thought.text, thought);
  }

  #thinking() {
    const title = el("span", { class: "name" });
    const text = el("div", { class: "thoughts plain", dir: "auto" });
    const unfold = () => put(text, this.message.thought);
    const node = el(
      "details",
      { class: "fold thought", part: "thought", ontoggle: unfold },
      el("summary", {}, drawn("fold"), title),
      text,
    );
    this.#content.before(node);
    return { node, title, text };
  }
}

/** The innermost node at whose end the text goes on. */
function endOf(content) {
  let end = content.lastElementChild;
  if (!end.hasChildNodes()) return content;
  while (end.lastChild instanceof Element && !end.lastChild.matches("br, hr")) end = end.lastChild;
  return end;
}

class TextView extends Text {
  constructor(words) {
    const node = el("div", { class: "body" });
    super(node, words);
    this.node = node;
  }
}

function choice(label, part, onclick) {
  return el("button", { type: "button", class: "choice", part, onclick }, label);
}

/** Why there is no more of it, if that is to be told. */
export function reason({ status, code, error }, { status: words }) {
  if (status === "cancelled") return words.cancelled;
  if (status !== "failed") return "";
  return INTERRUPTED.has(code) ? words.interrupted : (error ?? words.failed);
}
