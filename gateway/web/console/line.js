// The console's socket: shows the service key, comes back by itself, and says what state it is in.

const KEY = "trunkline console key";
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 20_000;
const CHECK_MS = 1_000;

// After these it must not come back by itself. `key`: another key would help.
const FINAL = new Map([
  [1009, { words: "The gateway did not take what this page sent." }],
  [4400, { words: "The gateway did not understand this page." }],
  [4401, { words: "A service key is needed.", key: true }],
  [4403, { words: "The gateway does not let this page or this key in.", key: true }],
  [4404, { words: "There is no console here." }],
]);

/**
 * Events: "open" when it may be asked, "frame" with each frame (`event.frame`), "state" when `state` or `words`
 * changed. `state` is connecting, connected, waiting, key (a key is wanted) or refused.
 */
export class Line extends EventTarget {
  state = "connecting";
  words = "Connecting …";
  /** What the gateway said against the last key; "" if it was shown none. */
  refusal = "";
  #url;
  #socket = null;
  #attempt = 0;
  #timer = 0;
  #heartbeat = 20_000;
  #heardAt = 0;
  #asked = new Map();
  #number = 0;

  /** @param {URL} url the WebSocket's */
  constructor(url) {
    super();
    this.#url = url;
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.#hurry());
    setInterval(() => this.#check(), CHECK_MS);
  }

  get hasKey() {
    return sessionStorage.getItem(KEY) !== null;
  }

  /** Open it again with that service key, kept as long as this tab unless it is refused; null forgets it. */
  show(key) {
    if (key === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, key);
    this.open();
  }

  open() {
    clearTimeout(this.#timer);
    this.#socket?.close();
    this.#tell("connecting", "Connecting …");
    this.refusal = "";
    const socket = (this.#socket = new WebSocket(this.#url));
    this.#heardAt = performance.now();
    const token = sessionStorage.getItem(KEY) ?? undefined;
    socket.onopen = () => socket.send(JSON.stringify({ type: "hello", batch: true, token, ref: "hello" }));
    socket.onmessage = ({ data }) => socket === this.#socket && this.#hear(data);
    socket.onclose = ({ code }) => socket === this.#socket && this.#gone(code);
  }

  /**
   * Ask for something.
   * @returns {Promise<object>} the answer; rejects with the gateway's sentence, or if the line goes
   */
  ask(frame) {
    if (this.state !== "connected") return Promise.reject(new Error("The console is not connected."));
    const ref = `c${++this.#number}`;
    this.#socket.send(JSON.stringify({ ...frame, ref }));
    return new Promise((resolve, reject) => this.#asked.set(ref, { resolve, reject }));
  }

  #hear(data) {
    this.#heardAt = performance.now();
    for (const text of data.split("\n")) this.#take(JSON.parse(text));
  }

  #take(frame) {
    const asked = this.#asked.get(frame.ref);
    if (asked) {
      this.#asked.delete(frame.ref);
      if (frame.type === "error") asked.reject(new Error(frame.content));
      else asked.resolve(frame);
    } else if (frame.type === "connected") {
      this.#heartbeat = frame.heartbeat_ms;
      if (frame.ref !== "hello") return; // it comes once more, when it has heard who this is
      this.#attempt = 0;
      this.#tell("connected", "Connected");
      this.dispatchEvent(new Event("open"));
    } else {
      if (frame.type === "error") this.refusal = frame.content;
      this.dispatchEvent(Object.assign(new Event("frame"), { frame }));
    }
  }

  #gone(code) {
    this.#socket = null;
    for (const { reject } of this.#asked.values()) reject(new Error("The line to the gateway was lost."));
    this.#asked.clear();
    const final = FINAL.get(code);
    if (final) {
      if (!this.hasKey) this.refusal = "";
      if (final.key) sessionStorage.removeItem(KEY);
      this.#tell(final.key ? "key" : "refused", this.refusal || final.words);
      return;
    }
    const delay = Math.random() * Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** ++this.#attempt);
    this.#tell("waiting", `Connection lost; trying again in ${Math.max(1, Math.round(delay / 1000))} s`);
    this.#timer = setTimeout(() => this.open(), delay);
  }

  #hurry() {
    if (this.state === "waiting") this.open();
  }

  #check() {
    // A line that died silently tells nobody: figures come every second, and pongs if nothing else.
    if (this.#socket === null || performance.now() - this.#heardAt < 2 * this.#heartbeat) return;
    this.#socket.close();
    this.#gone(1006);
  }

  #tell(state, words) {
    this.state = state;
    this.words = words;
    this.dispatchEvent(new Event("state"));
  }
}
