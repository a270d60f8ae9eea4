// <trunkline-chat>: one conversation, or several, on any page.
//
//   <script type="module" src="https://gateway.example/widget.js"></script>
//   <trunkline-chat agent="support"></trunkline-chat>
//
// Attributes: `src` (the gateway; where this script came from), `agent`, `session` or `sessions`
// ("[agent/]id[=label], …"), `user`, `token` (or the property: a string, or a function that gets one), `shared`,
// `on-busy`, `heading`, `theme` (light · dark), `layout` (tabs · columns), `dir`. Colours, fonts and
// roundness are CSS variables, at the top of widget/widget.css; every piece has a `part`.
// Events: "unread" (`detail`: how many messages), "session" (`detail`: {agent, session}, when another is shown).

import { LineBar } from "./widget/bar.js";
import { action, el } from "./widget/dom.js";
import { acquire, release } from "./widget/lines.js";
import { hasMarkdown } from "./widget/markdown.js";
import { Panel } from "./widget/panel.js";
import { OwnIds, entries } from "./widget/sessions.js";
import { Tabs } from "./widget/tabs.js";
import { Unshown } from "./widget/unshown.js";
import { worded } from "./widget/words.js";

const HERE = new URL(".", import.meta.url);
const STYLE = new URL("widget/widget.css", HERE).href;
const LONGEST_MESSAGE = 65_536; // characters, unless the gateway names another number
const COLUMN = 240; // pixels that a conversation needs to stand beside others

export class TrunklineChat extends HTMLElement {
  static observedAttributes = [
    "src",
    "agent",
    "session",
    "sessions",
    "user",
    "token",
    "shared",
    "heading",
    "layout",
  ];

  #words = worded();
  #token = null;
  #line = null;
  #bar;
  #tabs;
  #own;
  #entries = [];
  #panels = [];
  #drafts = new Map(); // what was being written when a conversation was last taken down
  #caller = []; // whose they are
  #panelsNode = el("div", { class: "panels" });
  #until = null;
  #due = false;
  #unread = 0;

  constructor() {
    super();
    this.attachShadow({ mode: "open" });
    this.#upgrade();
  }

  /** What was set before this script came is the page's own, in the place of what is meant. */
  #upgrade() {
    const properties = Object.getOwnPropertyDescriptors(TrunklineChat.prototype);
    for (const [name, { set }] of Object.entries(properties)) {
      if (!Object.hasOwn(this, name)) continue;
      const value = this[name];
      delete this[name];
      set?.call(this, value);
    }
  }

  /** What gets a token: an async function, asked again when one is over. Overrides the attribute. */
  set token(token) {
    this.#token = token;
    this.#rebuild();
  }

  get token() {
    return this.#token ?? this.getAttribute("token");
  }

  /** What the widget says by itself; what is set takes the place of some of it. See widget/words.js. */
  set words(words) {
    this.#words = worded(words);
    this.#rebuild();
  }

  get words() {
    return this.#words;
  }

  /** The client library's gateway, and the session that is shown. Null while the widget is not on a page. */
  get gateway() {
    return this.#line?.gateway ?? null;
  }

  get session() {
    return this.#panels[this.#tabs?.chosen ?? 0]?.session ?? null;
  }

  /** Shows another of its conversations. */
  select(place) {
    this.#tabs.choose(place);
  }

  connectedCallback() {
    this.#build();
  }

  disconnectedCallback() {
    this.#dismantle();
  }

  attributeChangedCallback(name, before, after) {
    if (name === "layout") this.#layOut();
    else if (before !== after) this.#rebuild();
  }

  /** Once, however many attributes are set in a row. */
  #rebuild() {
    if (this.#due || !this.#line) return;
    this.#due = true;
    queueMicrotask(() => {
      this.#due = false;
      if (!this.isConnected) return;
      this.#dismantle();
      this.#build();
    });
  }

  #build() {
    if (this.#line) return;
    const url = new URL(this.getAttribute("src") ?? HERE, document.baseURI).href;
    const [agent, user] = [this.getAttribute("agent") ?? undefined, this.getAttribute("user") ?? undefined];
    this.#until = new AbortController();
    this.#own = new OwnIds(url, user ?? "", this.id);
    this.#entries = entries(
      this.getAttribute("sessions") ?? this.getAttribute("session") ?? "",
      agent ?? null,
    );
    const token = this.token ?? undefined;
    const before = this.#caller;
    this.#caller = [url, user, token];
    if (this.#caller.some((part, place) => part !== before[place])) this.#drafts.clear();
    this.#line = acquire({
      url,
      token,
      user,
      shared: this.hasAttribute("shared"),
      client: "trunkline-chat/1",
    });
    this.#bar = new LineBar(this.gateway, this.#words);
    this.gateway.addEventListener("state", () => this.#bar.show(), { signal: this.#until.signal });
    this.#tabs = new Tabs(this.#words.conversations);
    this.#tabs.addEventListener("chosen", () => this.#chosen());
    this.#panels = this.#entries.map((entry, place) => this.#panel(entry, place));
    this.#assemble();
    this.#arrange();
    this.#bar.show();
  }

  #dismantle() {
    if (!this.#line) return;
    this.#until.abort();
    this.#bar.close();
    this.#panels.forEach((panel) => this.#close(panel));
    release(this.#line);
    this.#line = null;
  }

  #assemble() {
    const heading = this.getAttribute("heading");
    const title = el(
      "h2",
      { class: heading ? "title" : "unseen", part: "title" },
      heading ?? this.#words.conversations,
    );
    const fresh = action("new", this.#words.fresh, () => this.#restart(this.#tabs.chosen), "new");
    fresh.hidden = this.#entries.every(({ id }) => id);
    const top = el(
      "header",
      { class: "top", part: "header" },
      title,
      this.#tabs.node,
      el("slot", { name: "actions" }),
      fresh,
    );
    top.classList.toggle("unseen", !heading && this.#entries.length < 2 && fresh.hidden);
    const missing = el("p", { class: "missing", part: "missing", hidden: hasMarkdown }, this.#words.plain);
    const frame = el(
      "div",
      { class: "frame", part: "frame" },
      top,
      this.#bar.node,
      this.#panelsNode,
      missing,
    );
    this.shadowRoot.replaceChildren(style(frame), frame);
    const watch = new ResizeObserver(() => this.#layOut());
    watch.observe(this);
    this.#until.signal.addEventListener("abort", () => watch.disconnect());
  }

  get #inColumns() {
    return (
      this.getAttribute("layout") === "columns" &&
      this.#entries.length > 1 &&
      this.clientWidth >= COLUMN * this.#entries.length
    );
  }

  #layOut() {
    this.shadowRoot.querySelector(".frame")?.classList.toggle("columns", this.#inColumns);
    this.#look();
  }

  /** The conversation of one entry, or why it cannot be shown. */
  #panel({ agent, id, wrong }, place) {
    if (wrong) return new Unshown(wrong);
    let session;
    try {
      session = this.#line.session(id || this.#own.get(`${agent ?? ""} ${place}`), {
        agent: agent ?? undefined,
      });
    } catch ({ message }) {
      return new Unshown(message); // another agent's conversation of that name is followed already
    }
    const panel = new Panel(session, {
      agent: this.#label(place),
      words: this.#words,
      onBusy: this.getAttribute("on-busy") ?? undefined,
      limit: () => this.gateway?.state.connected?.max_message_chars ?? LONGEST_MESSAGE,
      own: !id,
    });
    if (this.#drafts.get(session.id)) panel.draft = this.#drafts.get(session.id);
    panel.addEventListener("state", () => this.#tell(panel));
    panel.addEventListener("restart", () => this.#restart(this.#panels.indexOf(panel)));
    return panel;
  }

  #close(panel) {
    panel.close();
    if (panel.session === null) return;
    this.#drafts.set(panel.session.id, panel.draft);
    this.#line.leave(panel.session);
  }

  #label(place) {
    const { agent, id, label } = this.#entries[place];
    return label || agent || id || this.getAttribute("heading") || this.#words.agent;
  }

  #arrange() {
    const nodes = this.#panels.map(({ node }) => node);
    this.#panelsNode.replaceChildren(...nodes);
    this.#tabs.fill(
      this.#entries.map((_, place) => this.#label(place)),
      nodes,
    );
    this.#panels.forEach((panel) => this.#tell(panel));
  }

  /** A conversation anew: under another id, if the widget has its own; else the one that ended goes on. */
  #restart(place) {
    const entry = this.#entries[place];
    const before = this.#panels[place];
    if (entry.id) return before.reopen();
    this.#own.get(`${entry.agent ?? ""} ${place}`, true);
    before.close();
    this.#line.leave(before.session);
    this.#panels[place] = this.#panel(entry, place);
    this.#arrange();
    this.#panels[place].focus();
  }

  #chosen() {
    this.#look();
    const session = this.session;
    if (session)
      this.dispatchEvent(
        new CustomEvent("session", { detail: { agent: session.agent, session: session.id } }),
      );
  }

  #look() {
    const all = this.#inColumns;
    this.#panels.forEach((panel, place) => (panel.shown = all || place === this.#tabs.chosen));
  }

  #tell(panel) {
    const place = this.#panels.indexOf(panel);
    if (place < 0) return;
    const { running, unread } = panel;
    this.#tabs.tell(place, { running, unread, label: this.#words.unread(unread) });
    const all = this.#panels.reduce((sum, each) => sum + each.unread, 0);
    if (all === this.#unread) return;
    this.#unread = all;
    this.dispatchEvent(new CustomEvent("unread", { detail: all }));
  }
}

/** The style sheet; until it is there, nothing is shown that would be seen without it. */
function style(frame) {
  frame.style.visibility = "hidden";
  const show = () => (frame.style.visibility = "");
  return el("link", { rel: "stylesheet", href: STYLE, onload: show, onerror: show });
}

customElements.define("trunkline-chat", TrunklineChat);
