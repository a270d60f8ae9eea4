// What is to be known of the line: nothing while it is well.

import { el, put } from "./dom.js";

const PATIENCE_MS = 1_200; // a line that comes at once needs no words

export class LineBar {
  #gateway;
  #words;
  #since = performance.now();
  #retry = { at: null, due: 0 };
  #timer = 0;

  node = el("p", { class: "line", part: "line", role: "status", dir: "auto", hidden: true });

  constructor(gateway, words) {
    [this.#gateway, this.#words] = [gateway, words];
    this.#timer = setInterval(() => this.show(), 1_000);
  }

  show() {
    const { status, retryAt, reason } = this.#gateway.state;
    if (status === "connected") this.#since = performance.now();
    const soon = status === "connecting" && performance.now() - this.#since < PATIENCE_MS;
    const well = navigator.onLine && (status === "connected" || soon);
    this.node.hidden = well;
    this.node.dataset.state = status;
    if (!well) put(this.node, this.#text(status, retryAt, reason));
  }

  close() {
    clearInterval(this.#timer);
  }

  #text(status, retryAt, reason) {
    const { line } = this.#words;
    if (status === "closed") return line.closed(reason);
    if (!navigator.onLine) return line.offline;
    if (status === "connecting") return line.connecting;
    return line.waiting(Math.max(1, Math.ceil(this.#left(retryAt) / 1_000)));
  }

  /** Milliseconds until then, also if the clock was set since that was said. */
  #left(retryAt) {
    if (retryAt !== this.#retry.at) {
      this.#retry = { at: retryAt, due: performance.now() + ((retryAt ?? 0) - Date.now()) };
    }
    return this.#retry.due - performance.now();
  }
}
