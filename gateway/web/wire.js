// The drawer that shows frames as they go over the wire. All text is put in as text, never as markup.

import { el } from "./widget/dom.js";

const MOST = 300; // frames kept
const SHORT = 120; // characters of a frame in its line
const ARROWS = { in: ["↓", "received"], out: ["↑", "sent"] };

const LESS = ["ref", "cursor", "turn_id", "session_id"]; // what a line of a frame ends with

const clock = new Intl.DateTimeFormat(undefined, {
  ...{ hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" },
});

export class Wire {
  paused = false;
  #list;
  #sum;
  #shown = false;
  #kept = [];
  #counts = { in: 0, out: 0 };
  #frame = 0;

  constructor(list, sum) {
    [this.#list, this.#sum] = [list, sum];
  }

  /** Is the drawer open? While it is not, nothing is drawn. */
  set shown(shown) {
    this.#shown = shown;
    this.#due();
  }

  /** The next frame: `{direction, frame, at}`. */
  take({ direction, frame, at }) {
    this.#counts[direction] += 1;
    if (!this.paused) {
      this.#kept.push({ direction, frame, at });
      if (this.#kept.length > MOST) this.#kept.shift();
    }
    this.#due();
  }

  clear() {
    this.#kept = [];
    this.#list.replaceChildren();
    this.#due();
  }

  #due() {
    if (this.#shown && !this.#frame) this.#frame = requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    this.#frame = 0;
    const atEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 40;
    const fresh = this.#kept.splice(0);
    this.#list.append(...fresh.map(line));
    while (this.#list.childElementCount > MOST) this.#list.firstChild.remove();
    this.#sum.textContent = `${this.#counts.in.toLocaleString()} received, ${this.#counts.out.toLocaleString()} sent`;
    if (atEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }
}

function line({ direction, frame, at }) {
  const { type, ...rest } = frame;
  const [arrow, word] = ARROWS[direction];
  const whole = el("pre");
  const details = el(
    "details",
    { class: direction, ontoggle: () => (whole.textContent ||= JSON.stringify(hidden(frame), null, 2)) },
    el(
      "summary",
      {},
      el("span", { class: "arrow", role: "img", "aria-label": word }, arrow),
      el("time", {}, clock.format(at)),
      el("b", {}, type),
      el("span", { class: "rest", dir: "ltr" }, short(hidden(rest))),
    ),
    whole,
  );
  return el("li", {}, details);
}

/** A token is nothing to show, not even to its owner's neighbour. */
const hidden = (frame) => (frame.token ? { ...frame, token: "…" } : frame);

const cut = (value) => (typeof value === "string" ? value.slice(0, SHORT) : value);

function short(rest) {
  const weight = (name) => (name === "content" ? -1 : LESS.indexOf(name) + 1);
  const names = Object.keys(rest)
    .filter((name) => rest[name] !== undefined)
    .sort((one, other) => weight(one) - weight(other));
  const text = names.map((name) => `${name} ${JSON.stringify(cut(rest[name]))}`).join("  ");
  return text.slice(0, SHORT);
}
