// The messages of one conversation: painted once per picture, kept at the end while one reads there.

import { el, put } from "./dom.js";
import { AgentView, UserView, over } from "./message.js";

const BUDGET_MS = 10; // of one picture, for nodes and their layout
const FIRST_STEPS = 16; // of writing in one picture, while nothing is known of what they cost
const AT_END = 48; // pixels from the end that still count as there
const NEAR_TOP = 300;
const PAUSE_MS = 1_000; // without text while an answer is written

/** Events: "top" when earlier messages should be there soon, "seen" when the end is reached or left. */
export class MessageList extends EventTarget {
  #views = new Map();
  #arranged = { messages: null, unread: null };
  // A message that is whole settles: it keeps its height, and is skipped while it is out of sight. So first it has to
  // have one, which in a tab that is not shown takes a while; and then to leave, as nothing may flicker that is seen.
  #whole = new ResizeObserver((entries) => entries.forEach(({ target }) => this.#leave(target)));
  #leaving;
  #pausing = 0;
  #stale = new Set();
  #does;
  #words;
  #agent;
  #session;
  #mark;
  #unread = null;
  #following = true;
  #frame = 0;
  #steps = FIRST_STEPS; // that a picture has time for, as the ones before it tell

  /** `does`: what the buttons of messages do, `{ edit, resend, cancel, again }`. */
  constructor(session, agent, words, does) {
    super();
    [this.#session, this.#agent, this.#words, this.#does] = [session, agent, words, does];
    this.#mark = el("div", { class: "mark", part: "unread-mark", role: "separator" }, words.unreadMark);
    this.list = el("div", { class: "messages" });
    this.earlier = el("p", { class: "earlier", hidden: true });
    this.waiting = el(
      "p",
      { class: "waiting", part: "typing", hidden: true },
      el("span", { class: "dots" }),
      el("span", { class: "unseen" }),
    );
    // What is read out is said elsewhere, in sentences: here it would be tokens.
    this.node = el(
      "div",
      {
        class: "log",
        part: "log",
        role: "log",
        "aria-label": words.messages(agent),
        "aria-live": "off",
        tabindex: "0",
        onscroll: () => this.#scrolled(),
      },
      this.earlier,
      this.list,
      this.waiting,
    );
    this.#leaving = new IntersectionObserver((entries) => entries.forEach((entry) => this.#settle(entry)), {
      root: this.node,
    });
    new ResizeObserver(() => this.#following && this.toEnd()).observe(this.node);
  }

  /** Does one read at the end? */
  get following() {
    return this.#following;
  }

  /** Something about this message changed, or about all of them. */
  touch(message = null) {
    if (message === null) this.#session.messages.forEach((each) => this.#stale.add(each));
    else this.#stale.add(message);
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#paint());
  }

  toEnd() {
    this.node.scrollTop = this.node.scrollHeight;
    this.#follow(true);
  }

  /** Marks where what was not seen begins; null takes the mark away. */
  markFrom(message) {
    this.#unread = message;
    this.touch(message ?? undefined);
  }

  /** Where the view of a message stands, for the keyboard. */
  nodeOf(message) {
    return this.#views.get(message)?.node;
  }

  #paint() {
    this.#frame = 0;
    const start = performance.now();
    let steps = 0;
    const late = () => steps++ >= this.#steps || performance.now() - start > BUDGET_MS;
    const fromEnd = this.node.scrollHeight - this.node.scrollTop;
    const first = this.list.firstChild;
    this.#arrange();
    const standing = this.#standings();
    for (const message of this.#stale) {
      const view = this.#views.get(message);
      if (!view || view.paint(standing(message), late)) this.#painted(message, view);
      if (late()) break;
    }
    this.#wait();
    this.#expectMore();
    const { scrollHeight } = this.node; // lays out what is about to be anyway
    this.#learn(steps, performance.now() - start);
    if (this.#following) this.toEnd();
    else if (first && this.list.firstChild !== first && first.isConnected)
      this.node.scrollTop = scrollHeight - fromEnd;
    if (this.#stale.size > 0) this.#frame = requestAnimationFrame(() => this.#paint());
  }

  #painted(message, view) {
    this.#stale.delete(message);
    if (view && over(message) && !view.node.classList.contains("settled")) this.#whole.observe(view.node);
  }

  #leave(node) {
    this.#whole.unobserve(node);
    this.#leaving.observe(node);
  }

  #settle({ target, isIntersecting }) {
    if (isIntersecting) return;
    this.#leaving.unobserve(target);
    target.classList.add("settled");
  }

  /** If the answer that is being written pauses, it is to be seen that it is not over. */
  #expectMore() {
    clearTimeout(this.#pausing);
    const answer = this.#answer;
    if (answer?.content) this.#pausing = setTimeout(() => this.#pause(answer), PAUSE_MS);
  }

  #pause(answer) {
    this.#views.get(answer)?.pause();
    if (this.#following) this.toEnd();
  }

  /** The one that is being written. */
  get #answer() {
    return this.#session.messages.findLast(({ role, status }) => role === "agent" && status === "running");
  }

  /** Text is laid out long after it is written: only a picture as a whole tells what a step costs. */
  #learn(steps, took) {
    if (steps < this.#steps && took < BUDGET_MS) return; // all there was
    this.#steps = Math.max(1, this.#steps * Math.min(2, BUDGET_MS / took));
  }

  #arrange() {
    const { messages } = this.#session;
    const before = this.#arranged;
    if (messages === before.messages && this.#unread === before.unread) return;
    this.#arranged = { messages, unread: this.#unread };
    const nodes = messages.flatMap((message) => {
      const { node } = this.#view(message);
      return message === this.#unread ? [this.#mark, node] : [node];
    });
    arrange(this.list, nodes);
    if (this.#views.size === messages.length) return;
    const there = new Set(messages);
    for (const message of this.#views.keys()) if (!there.has(message)) this.#views.delete(message);
  }

  #view(message) {
    let view = this.#views.get(message);
    if (view) return view;
    view =
      message.role === "user"
        ? new UserView(message, this.#words, this.#does)
        : new AgentView(message, this.#words, this.#does, this.#agent);
    this.#views.set(message, view);
    this.#stale.add(message);
    return view;
  }

  /** How a message stands among the others. */
  #standings() {
    const { messages, state } = this.#session;
    const answers = messages.filter((message) => message.role === "agent" && over(message));
    const answered = new Set(answers.map(({ turnId }) => turnId));
    return ({ turnId }) => ({
      ended: Boolean(state.ended),
      last: turnId === messages.at(-1)?.turnId,
      answered: answered.has(turnId),
    });
  }

  #wait() {
    const { state } = this.#session;
    const agent = state.status === "running" && !this.#answer?.content;
    this.waiting.hidden = !agent && !state.typing;
    if (this.waiting.hidden) return;
    put(this.waiting.lastChild, agent ? this.#words.typing(this.#agent) : this.#words.typingElsewhere);
    this.waiting.classList.toggle("elsewhere", !agent);
  }

  #follow(following) {
    if (this.#following === following) return;
    this.#following = following;
    this.dispatchEvent(new Event("seen"));
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.node;
    this.#follow(scrollHeight - scrollTop - clientHeight < AT_END);
    if (scrollTop < NEAR_TOP) this.dispatchEvent(new Event("top"));
  }
}

/** Makes `nodes` the children of `parent`; those that stay in order are not moved. */
function arrange(parent, nodes) {
  const wanted = new Set(nodes);
  for (const node of [...parent.childNodes]) if (!wanted.has(node)) node.remove();
  let place = parent.firstChild;
  for (const node of nodes) {
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  }
}
