// What is read out while an answer comes: sentences, not tokens.

import { el } from "./dom.js";

const MOST_KEPT = 12;
const END = /```|[.!?…。！？]["'»”)\]]*\s+|\n+/gu;

// What is seen but not said; and the end of a line is a pause.
const UNSAID = [
  [/```[\s\S]*?(```|$)/g, "\n"],
  [/!?\[([^\]]*)\]\((?:[^()]|\([^()]*\))*\)/g, "$1"],
  [/^[\s|:-]+$/gm, ""],
  [/^\s*(?:#{1,6}|[-*+>]|\|)\s/gm, ""],
  [/[*`~|]+|\b_+|_+\b/g, ""],
  [/([^\s.!?…:;,。！？])\s*\n+/g, "$1. "],
];

/** A live region and what was put into it; `follow` a message, and it says each sentence once. */
export class Speech {
  #said = new WeakMap(); // how much of each message

  node = el("div", { class: "unseen", "aria-live": "polite", part: "live" });

  /** Says what is complete of the message's text; all of it, when it is over. */
  follow(message, over) {
    const said = this.#said.get(message) ?? 0;
    const fresh = message.content.slice(said);
    const length = over ? fresh.length : complete(fresh);
    if (length === 0) return;
    this.#said.set(message, said + length);
    this.say(spoken(fresh.slice(0, length)));
  }

  say(text) {
    if (!text) return;
    this.node.append(el("p", {}, text));
    while (this.node.childElementCount > MOST_KEPT) this.node.firstChild.remove();
  }
}

/** How much of the text is sentences that have ended; code is not cut in the middle. */
function complete(text) {
  let length = 0;
  let inCode = false;
  for (const { index, 0: end } of text.matchAll(END)) {
    if (end === "```") inCode = !inCode;
    else if (!inCode) length = index + end.length;
  }
  return length;
}

function spoken(text) {
  return UNSAID.reduce((said, [what, instead]) => said.replace(what, instead), text)
    .replace(/\s+/g, " ")
    .trim();
}
