// One WebSocket that is kept open: it comes back with back-off, and says what state it is in.

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 20_000;
// After these a client must not come back: the same would happen again.
const FINAL = new Map([
  [1003, "The gateway takes text only."],
  [1007, "The gateway could not read what this page sent."],
  [1009, "A message was too large for the gateway."],
  [4400, "The gateway did not understand this page."],
  [4401, "The gateway wants a token, which this page has not got."],
  [4403, "The gateway does not talk to this page."],
  [4404, "The gateway has no such agent."],
]);

export class Line extends EventTarget {
  // Events: "ready" when frames may be sent, "frame" with each one (`event.frame`), "state" when `state` or
  // `words` changed.
  state = "connecting";
  words = "Connecting …";
  frames = 0;
  #url;
  #socket = null;
  #attempt = 0;
  #goaway = null;
  #heartbeat = 20_000;
  #heardAt = 0;
  #timer = 0;

  constructor(url) {
    super();
    this.#url = url;
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.#hurry());
    setInterval(() => this.#watch(), 1_000);
  }

  open() {
    clearTimeout(this.#timer);
    this.#tell("connecting", "Connecting …");
    const socket = (this.#socket = new WebSocket(this.#url, "gateway.v1"));
    this.#heardAt = performance.now();
    socket.onopen = () => socket.send(JSON.stringify({ type: "hello", batch: true, client: "page", ref: "hello" }));
    socket.onmessage = ({ data }) => this.#hear(data);
    socket.onclose = ({ code }) => this.#gone(socket, code);
  }

  send(frame) {
    // What cannot be sent now is sent again when the line is back, by whoever wanted it sent.
    if (this.state === "connected") this.#socket.send(JSON.stringify(frame));
  }

  #hear(data) {
    this.#heardAt = performance.now();
    for (const text of data.split("\n")) {
      const frame = JSON.parse(text);
      this.frames += 1;
      if (frame.type === "connected") {
        this.#heartbeat = frame.heartbeat_ms;
        if (frame.ref !== "hello") continue;
        this.#attempt = 0;
        this.#goaway = null;
        this.#tell("connected", "Connected");
        this.dispatchEvent(new Event("ready"));
      } else if (frame.type === "goaway") {
        this.#goaway = frame.reconnect_after_ms;
      } else {
        this.dispatchEvent(Object.assign(new Event("frame"), { frame }));
      }
    }
  }

  #gone(socket, code) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    if (FINAL.has(code)) {
      this.#tell("refused", FINAL.get(code));
      return;
    }
    const most = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#attempt++);
    const delay = (this.#goaway ?? 0) + Math.random() * most;
    this.#goaway = null;
    this.#tell("waiting", `Connection lost; trying again in ${Math.max(1, Math.round(delay / 1000))} s`);
    this.#timer = setTimeout(() => this.open(), delay);
  }

  #hurry() {
    if (this.state === "waiting") this.open();
  }

  #watch() {
    // A line that died silently tells nobody: what is not heard for two heartbeats is dead.
    const socket = this.#socket;
    if (socket === null || performance.now() - this.#heardAt < 2 * this.#heartbeat) return;
    socket.close();
    this.#gone(socket, 1006);
  }

  #tell(state, words) {
    this.state = state;
    this.words = words;
    this.dispatchEvent(new Event("state"));
  }
}
