// Text that grows without its browser laying out all of it again for every piece.

import { el } from "./dom.js";

const LONGEST_NODE = 2_000; // characters of a text node; a changed one is measured as a whole
const LINES = 4_000; // characters of a block of lines
const LONGEST_LINE = 16_000; // a block without the end of a line is cut all the same

const LETTER = /\p{L}/u;
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdfd\ufe70-\ufefc\u{10800}-\u{10fff}\u{1e800}-\u{1eeff}]/u;

/** "rtl" or "ltr", by the first letter; "" while there is none. */
// `dir="auto"` would have the browser look again, at all of the text, after every piece.
export function directionOf(text) {
  const letter = LETTER.exec(text)?.[0] ?? "";
  return letter && (RIGHT_TO_LEFT.test(letter) ? "rtl" : "ltr");
}

/** Appends text to a node: to its last text node, while that is short. */
export function grow(node, text) {
  const last = node.lastChild;
  if (last?.nodeType === Node.TEXT_NODE && last.length < LONGEST_NODE) last.appendData(text);
  else if (text) node.append(text);
}

/** Text as it was written, code for example, in blocks of some lines each. */
export class Lines {
  #node;
  #block = null;
  #length = 0;

  constructor(node) {
    this.#node = node;
  }

  append(text) {
    for (let rest = text; rest;) {
      const length = this.#room(rest);
      if (length > 0) this.#put(rest.slice(0, length));
      else this.#block = null;
      rest = rest.slice(length);
    }
  }

  /** How much of the text still goes into this block. */
  #room(text) {
    if (this.#block === null || this.#length < LINES) return Math.min(text.length, LINES);
    const end = text.indexOf("\n") + 1;
    if (this.#full) return 0;
    return end || Math.max(0, Math.min(text.length, LONGEST_LINE - this.#length));
  }

  get #full() {
    return this.#length >= LONGEST_LINE || this.#block.lastChild.data.endsWith("\n");
  }

  #put(text) {
    if (this.#block === null) {
      this.#block = this.#node.appendChild(el("span", { class: "lines" }));
      this.#length = 0;
    }
    this.#length += text.length;
    grow(this.#block, text);
  }
}
