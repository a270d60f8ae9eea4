// A browser that a test owns: its clock, its sockets, its requests, its storage, its other pages.

import "./older_node.mjs";
import { Gateway } from "../../gateway/web/client.js";

/** Let everything go on that can go on without time passing. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));

/** `now` only goes on; `wall` is what is shown, and may be set. */
export class Clock {
  now = 1_000_000;
  set = 0;
  #timers = new Map();
  #count = 0;

  setTimeout(ring, after) {
    this.#timers.set((this.#count += 1), { ring, at: this.now + Math.max(0, after) });
    return this.#count;
  }

  clearTimeout(timer) {
    this.#timers.delete(timer);
  }

  get waiting() {
    return this.#timers.size;
  }

  get wall() {
    return this.now + this.set;
  }

  async pass(ms) {
    const until = this.now + ms;
    for (;;) {
      await settle();
      const due = [...this.#timers].filter(([, { at }]) => at <= until).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      const [timer, { ring, at }] = due;
      this.#timers.delete(timer);
      this.now = Math.max(this.now, at);
      ring();
    }
    this.now = until;
  }
}

/** The gateway's end of a WebSocket is the test. */
export class Socket {
  readyState = 0;
  sent = [];
  closed = null;
  onopen = null;
  onmessage = null;
  onclose = null;

  constructor(url, protocol) {
    Object.assign(this, { url, protocol });
  }

  send(data) {
    this.sent.push(JSON.parse(data));
  }

  close(code) {
    this.readyState = 3;
    this.closed = code;
  }

  open() {
    this.readyState = 1;
    this.onopen();
  }

  /** Frames, all in one message. */
  say(...frames) {
    this.onmessage?.({ data: frames.map((frame) => JSON.stringify(frame)).join("\n") });
  }

  die(code = 1006, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  /** Those of a type, since the last time. */
  took(type) {
    const taken = this.sent.filter((frame) => frame.type === type);
    this.sent = this.sent.filter((frame) => frame.type !== type);
    return taken;
  }
}

/** What one request is answered is up to the test. */
class Request {
  #answer;
  #body = null;

  constructor(url, { method, headers, body, signal }) {
    Object.assign(this, { url, method, headers, body: body && JSON.parse(body), aborted: false });
    this.answered = new Promise((resolve, reject) => {
      this.#answer = { resolve, reject };
      signal?.addEventListener("abort", () => {
        this.aborted = true;
        reject(new DOMException("aborted", "AbortError"));
        this.#body?.error(new DOMException("aborted", "AbortError"));
      });
    });
    this.answered.catch(() => {});
  }

  json(value, status = 200) {
    this.text(JSON.stringify(value), status);
  }

  text(text, status) {
    this.#answer.resolve(new Response(text, { status }));
  }

  fail() {
    this.#answer.reject(new TypeError("Failed to fetch"));
  }

  stream() {
    const body = new ReadableStream({ start: (controller) => (this.#body = controller) });
    this.#answer.resolve(new Response(body));
    this.write("retry: 1500\n\n");
  }

  write(text) {
    this.#body.enqueue(new TextEncoder().encode(text));
  }

  say(...frames) {
    this.write(frames.map((frame) => `event: ${frame.type}\ndata: ${JSON.stringify(frame)}\n\n`).join(""));
  }

  end() {
    this.#body.close();
  }
}

/** What pages of one browser have in common. */
export class Browser {
  clock = new Clock();
  #locks = new Map();
  #channels = new Set();
  pages = [];
  /** What its pages of one origin keep, over all tabs. */
  local = new Map();

  page(options) {
    const page = new Page(this, options);
    this.pages.push(page);
    return page;
  }

  locksOf(page) {
    return { request: (name, options, held) => this.#request(page, name, options, held) };
  }

  #request(page, name, { signal }, held) {
    return new Promise((resolve, reject) => {
      if (page.dead) return;
      const waiting = { page, take: () => Promise.resolve(held()).then(resolve) };
      const queue = this.#locks.get(name) ?? [];
      this.#locks.set(name, [...queue, waiting]);
      signal.addEventListener("abort", () => {
        if (this.#locks.get(name)[0] !== waiting) (this.#without(name, waiting), reject(signal.reason));
      });
      if (queue.length === 0) this.#grant(name);
    });
  }

  #grant(name) {
    const [first] = this.#locks.get(name);
    if (!first) return;
    queueMicrotask(() => first.page.dead || first.take().then(() => this.#passOn(name, first)));
  }

  #passOn(name, waiting) {
    if (this.#locks.get(name)[0] !== waiting) return;
    this.#without(name, waiting);
    this.#grant(name);
  }

  #without(name, waiting) {
    this.#locks.set(
      name,
      this.#locks.get(name).filter((other) => other !== waiting),
    );
  }

  /** The page is gone, however it went: it says nothing, and its locks pass on. */
  kill(page) {
    page.dead = true;
    this.#channels.forEach((channel) => channel.page === page && this.#channels.delete(channel));
    for (const [name, queue] of this.#locks) {
      const [first] = queue;
      this.#locks.set(
        name,
        queue.filter((waiting) => waiting.page !== page),
      );
      if (first?.page === page) this.#grant(name);
    }
  }

  channelOf(page) {
    const channels = this.#channels;
    return class {
      onmessage = null;
      page = page;

      constructor(name) {
        this.name = name;
        channels.add(this);
      }

      postMessage(message) {
        if (page.dead) return;
        const data = structuredClone(message);
        for (const other of channels) {
          if (other !== this && other.name === this.name)
            queueMicrotask(() => other.page.dead || other.onmessage?.({ data: structuredClone(data) }));
        }
      }

      close() {
        channels.delete(this);
      }
    };
  }
}

export class Page {
  sockets = [];
  requests = [];
  dead = false;
  warnings = [];
  document = Object.assign(new Listened(), { baseURI: "http://gate.test/chat/", visibilityState: "visible" });
  window = new Listened();

  constructor(browser = new Browser(), { storage = new Map(), ...env } = {}) {
    const { clock } = browser;
    const page = this;
    Object.assign(this, { browser, clock, storage });
    let ids = 0;
    this.env = {
      WebSocket: class extends Socket {
        constructor(...address) {
          super(...address);
          page.sockets.push(this);
        }
      },
      fetch: (url, options) => {
        const request = new Request(url, options);
        this.requests.push(request);
        return request.answered;
      },
      storage: storageIn(storage),
      local: storageIn(browser.local),
      now: () => clock.wall,
      elapsed: () => clock.now,
      setTimeout: (ring, after) => clock.setTimeout(() => page.dead || ring(), after),
      clearTimeout: (timer) => clock.clearTimeout(timer),
      random: () => 0.5,
      newId: () => `${browser.pages.indexOf(page)}-${(ids += 1)}`,
      document: this.document,
      window: this.window,
      navigator: { locks: browser.locksOf(page) },
      BroadcastChannel: browser.channelOf(page),
      console: { warn: (text) => this.warnings.push(text) },
      ...env,
    };
  }

  gateway(options = {}) {
    return new Gateway("", { agent: "bot", env: this.env, ...options });
  }

  /** The newest socket. */
  get socket() {
    return this.sockets.at(-1);
  }

  /** The newest request for that path. */
  request(path) {
    return this.requests.filter(({ url, aborted }) => url.includes(path) && !aborted).at(-1);
  }

  /** The next socket opens, and the gateway greets; answers that socket. */
  async connect(more) {
    await settle();
    const { socket } = this;
    socket.open();
    socket.say(connected({ ...more, ref: "hello" }));
    await settle();
    return socket;
  }

  get listeners() {
    return this.document.listening + this.window.listening;
  }
}

const storageIn = (map) => ({
  getItem: (name) => map.get(name) ?? null,
  setItem: (name, value) => map.set(name, value),
  removeItem: (name) => map.delete(name),
});

class Listened extends EventTarget {
  listening = 0;

  addEventListener(type, listener, { signal }) {
    this.listening += 1;
    super.addEventListener(type, listener);
    signal.addEventListener("abort", () => {
      this.listening -= 1;
      this.removeEventListener(type, listener);
    });
  }

  tell(type) {
    this.dispatchEvent(new Event(type));
  }
}

// ── What a gateway says ──

export const connected = (more) => ({
  ...{
    type: "connected",
    connection_id: "c1",
    protocol: 1,
    user_id: "user",
    heartbeat_ms: 20_000,
    durability: "process",
  },
  ...{ max_frame_bytes: 262_144, max_reply_bytes: 1 << 25, max_sessions: 1_000, ...more },
});

export const attached = (session_id, more) => ({
  ...{
    type: "attached",
    session_id,
    agent: "bot",
    mode: "snapshot",
    status: "idle",
    cursor: "e.0.0",
    queued: [],
    ...more,
  },
});

export const message = (session_id, cursor, turn_id, content = "hi", more = {}) => ({
  ...{ type: "message", session_id, cursor, turn_id, content, created_at: 1_000, ...more },
});

export const delta = (session_id, cursor, turn_id, content) => ({
  type: "text_delta",
  session_id,
  cursor,
  turn_id,
  content,
});

export const response = (session_id, cursor, turn_id, content, more) => ({
  ...{ type: "response", session_id, cursor, turn_id, content, status: "completed", input_tokens: 1, output_tokens: 1 },
  ...{ timing: {}, created_at: 1_001, ...more },
});

export const ok = ({ ref, session_id, turn_id }, status = "started", more = {}) => ({
  type: "ok",
  ref,
  session_id,
  turn_id,
  status,
  ...more,
});

export const refused = ({ ref, session_id }, code, more = {}) => ({
  type: "error",
  ref,
  session_id,
  code,
  content: `${code}.`,
  retryable: false,
  ...more,
});
