// One conversation: its messages, what is to be known of it, and where one writes.

import { Composer } from "./composer.js";
import { action, el, put } from "./dom.js";
import { MessageList } from "./list.js";
import { over, reason } from "./message.js";
import { Speech } from "./speech.js";

const SPEAK_EVERY_MS = 400;
const PAGE = 50;
const TICK_MS = 15_000; // how often "ends in … min" is counted anew

/** Events: "state" when what a tab shows of it changed, "restart" when one asks for a conversation anew. */
export class Panel extends EventTarget {
  unread = 0;
  #session;
  #words;
  #options;
  #list;
  #composer;
  #speech = new Speech();
  #notice = el("div", { class: "notice", part: "notice", role: "status", hidden: true });
  #name = el("h3");
  #jump;
  #shown = false;
  #heard = new WeakSet();
  #reading = new WeakSet(); // what comes here, and is read out until it ends
  #unspoken = new Set();
  #speaking = 0;
  #loading = false;
  #reopened = false;
  #tick = 0;
  #until = new AbortController();

  /** `options`: `{ agent, onBusy, words, limit(), own }`; `own`: it can be begun anew at any time. */
  constructor(session, options) {
    super();
    const { words, agent } = options;
    [this.#session, this.#words, this.#options] = [session, words, options];
    const edit = (message) => this.#composer.edit(message);
    const again = ({ turnId }) => this.#again(turnId);
    this.#list = new MessageList(session, agent, words, {
      edit,
      again,
      resend: (message) => this.#resend(message),
      cancel: ({ turnId }) => session.cancel(turnId),
    });
    this.#composer = new Composer(agent, words, {
      send: (text, replaces) => this.#send(text, { replaces }),
      stop: () => session.cancel(),
      typing: (on) => session.typing(on),
      draft: (text) => (session.draft = text),
      limit: options.limit,
      editLast: () => this.#editLast(),
    });
    this.#jump = el("button", {
      type: "button",
      class: "jump",
      part: "jump",
      hidden: true,
      onclick: () => this.#list.toEnd(),
    });
    this.node = el(
      "section",
      { class: "panel", part: "panel" },
      // In the order of the Tab key; where they stand says the style sheet.
      this.#head(),
      this.#composer.node,
      this.#notice,
      this.#list.node,
      el("div", { class: "over" }, this.#jump),
      this.#speech.node,
    );
    put(this.#name, agent);
    this.#composer.draft = session.draft;
    this.#listen();
    session.messages.forEach((message) => this.#heard.add(message));
    this.#list.touch();
    this.#show();
  }

  /** Shown where several stand side by side; elsewhere the tab says it. */
  #head() {
    const fresh = () => this.dispatchEvent(new Event("restart"));
    const anew = this.#options.own ? [action("new", this.#words.fresh, fresh, "new")] : [];
    return el("header", { class: "name" }, this.#name, ...anew);
  }

  get session() {
    return this.#session;
  }

  /** What is being written. */
  get draft() {
    return this.#composer.draft;
  }

  set draft(text) {
    this.#session.draft = this.#composer.draft = text;
  }

  get running() {
    return this.#session.state.status === "running";
  }

  /** Is it what one looks at? */
  set shown(shown) {
    this.#shown = shown;
    if (shown) this.#see();
    if (shown && this.#list.following) this.#list.toEnd();
  }

  /** It ended, and is to go on under its name: the next message makes it anew. */
  reopen() {
    this.#reopened = true;
    this.#show();
    this.focus();
  }

  focus() {
    this.#composer.field.focus();
  }

  close() {
    this.#until.abort();
    clearInterval(this.#tick);
    clearTimeout(this.#speaking);
  }

  // ── What one does ──

  #send(text, { replaces, turnId } = {}) {
    this.#list.markFrom(null);
    this.#list.toEnd();
    const turn = this.#session.send(text, { onBusy: this.#options.onBusy, replaces, turnId });
    turn.then?.(undefined, () => {}); // how it ended stands in the messages
  }

  #again(turnId) {
    const said = this.#session.messages.find(
      (message) => message.turnId === turnId && message.role === "user",
    );
    if (said) this.#send(said.content, { replaces: turnId });
  }

  #resend({ turnId, content, replaces }) {
    // A refused message does not use up its turn.
    this.#send(content, { turnId, replaces });
  }

  #editLast() {
    const { messages } = this.#session;
    const answered = messages.filter((message) => message.role === "agent" && over(message));
    const ended = new Set(answered.map(({ turnId }) => turnId));
    const last = messages.findLast(({ role, turnId }) => role === "user" && ended.has(turnId));
    if (last) this.#composer.edit(last);
  }

  // ── What comes ──

  #listen() {
    const { signal } = this.#until;
    const on = (target, name, what) => target.addEventListener(name, what, { signal });
    on(this.#session, "change", ({ detail }) => this.#changed(detail?.message ?? null));
    on(this.#session, "restored", () => (this.#composer.draft = this.#session.draft));
    for (const name of ["expiring", "renewed", "ended"]) on(this.#session, name, () => this.#show());
    on(this.#list, "seen", () => this.#see());
    on(this.#list, "top", () => this.#earlier());
    on(document, "visibilitychange", () => this.#see());
    this.#tick = setInterval(() => this.#show(), TICK_MS);
  }

  #changed(message) {
    this.#list.touch(message);
    if (message === null) this.#hear();
    else if (message.role === "agent") this.#grew(message);
    this.#show();
  }

  #grew(message) {
    if (!this.#heard.has(message)) this.#arrived(message);
    this.#reading.add(message);
    this.#speak(message);
  }

  /** Answers that came as a whole, or ended. What was there at first, or is earlier than that, is not new. */
  #hear() {
    const { messages } = this.#session;
    const first = messages.findIndex((message) => this.#heard.has(message));
    for (const [place, message] of messages.entries()) {
      if (message.role === "agent" && !over(message)) continue;
      if (first >= 0 && place > first && isNews(message) && !this.#heard.has(message)) this.#grew(message);
      this.#heard.add(message);
      if (this.#reading.delete(message)) this.#speak(message);
    }
  }

  get #seen() {
    return this.#shown && !document.hidden && this.#list.following;
  }

  #arrived(message) {
    this.#heard.add(message);
    if (this.#seen) return;
    if (this.unread === 0) this.#list.markFrom(message);
    this.unread += 1;
  }

  #see() {
    if (this.#seen) this.unread = 0;
    this.#show();
  }

  #speak(message) {
    if (!this.#shown) return;
    this.#unspoken.add(message);
    this.#speaking ||= setTimeout(() => this.#speakUp(), SPEAK_EVERY_MS);
  }

  #speakUp() {
    this.#speaking = 0;
    for (const message of this.#unspoken) {
      this.#speech.follow(message, over(message));
      this.#speech.say(reason(message, this.#words));
    }
    this.#unspoken.clear();
  }

  async #earlier() {
    if (this.#loading || !this.#session.state.hasMore) return;
    this.#loading = true;
    put(this.#list.earlier, this.#words.earlier);
    this.#list.earlier.hidden = false;
    try {
      await this.#session.more(PAGE);
      this.#list.earlier.hidden = true;
    } catch {
      put(this.#list.earlier, this.#words.earlierFailed);
    } finally {
      this.#loading = false;
    }
    this.#list.touch();
  }

  // ── How it stands ──

  #show() {
    const { state } = this.#session;
    this.#composer.running = this.running;
    if (!state.ended) this.#reopened = false;
    this.#composer.node.hidden = Boolean(state.ended) && !this.#reopened;
    this.node.classList.toggle("running", this.running);
    this.#list.node.setAttribute("aria-busy", String(this.running));
    this.#list.node.dataset.empty = this.#session.messages.length
      ? ""
      : this.#words.empty(this.#options.agent);
    this.#jump.hidden = this.#list.following;
    put(this.#jump, this.unread ? this.#words.unread(this.unread) : this.#words.jump);
    this.#tell(notice(this.#reopened ? { ...state, ended: "" } : state, this.#words));
    this.dispatchEvent(new Event("state"));
  }

  #tell({ text, label, does }) {
    this.#notice.hidden = !text;
    if (this.#notice.dataset.text === text) return;
    this.#notice.dataset.text = text;
    const act = {
      renew: () => this.#session.renew(),
      restart: () => this.dispatchEvent(new Event("restart")),
    }[does];
    const button = act
      ? [el("button", { type: "button", class: "choice", part: does, onclick: act }, label)]
      : [];
    this.#notice.replaceChildren(el("span", { dir: "auto" }, text), ...button);
  }
}

const isNews = ({ role, status }) => role === "agent" && status !== "cancelled";

/** What is to be known of a conversation, and what one can do about it. */
function notice({ ended, expiring, minutesRemaining, error }, words) {
  if (ended) return { text: words.ended[ended], label: words.restart, does: "restart" };
  if (error) return { text: error.content, label: "", does: "" };
  if (!expiring) return { text: "", label: "", does: "" };
  return { text: words.expiring(Math.floor(minutesRemaining)), label: words.renew, does: "renew" };
}
