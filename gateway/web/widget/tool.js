// One tool that the agent used: folded to its name and how it went.

import { drawn, el, put } from "./dom.js";

const LONGEST = 20_000; // characters shown of what went in or came out

export class ToolView {
  #words;
  #state = el("span", { class: "state" });
  #input = el("pre", { tabindex: "0" });
  #output = el("pre", { tabindex: "0" });
  #result;

  constructor(tool, words) {
    this.#words = words;
    this.#result = el("div", { hidden: true }, el("p", { class: "label" }, words.output), this.#output);
    this.node = el(
      "details",
      { class: "fold tool", part: "tool" },
      el("summary", {}, drawn("fold"), el("bdi", { class: "name" }, tool.name), this.#state),
      el("div", {}, el("p", { class: "label" }, words.input), this.#input),
      this.#result,
    );
    put(this.#input, shown(tool.input));
    this.update(tool);
  }

  update({ done, isError, content }) {
    const state = !done ? "running" : isError ? "failed" : "done";
    if (this.node.dataset.state === state) return;
    this.node.dataset.state = state;
    put(this.#state, this.#words.tool[state]);
    this.#result.hidden = !done;
    if (done) put(this.#output, shown(content));
  }
}

function shown(value) {
  const text = typeof value === "string" ? value : (JSON.stringify(value, null, 2) ?? "");
  return text.length > LONGEST ? `${text.slice(0, LONGEST)} …` : text;
}
