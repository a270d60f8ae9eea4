// One line over HTTP, for where no WebSocket gets through: a stream of events down, a request per frame up.

import { Alarm } from "./alarm.js";
import { ANSWER, BROKEN, HEARTBEAT, OPENING, OUT_OF_TOKEN, TOKEN_REFUSED, closeOf } from "./rules.js";

const UP = new Set(["message", "cancel", "typing", "renew"]);

/**
 * Tells `to.frame(frame)` and `to.sent(frame)`; `to.late()`, if the first byte is; at the end once
 * `to.gone({code, reason, retryAfter})`. `targets()` are the sessions to follow, from where each stands.
 */
export class StreamLine {
  transport = "http";
  #env;
  #url;
  #headers;
  #targets;
  #to;
  #alarm;
  #stream = null;
  #connection = null;
  // Which sessions it follows, and is about to.
  #followed = new Set();
  #following = new Set();
  #heartbeat = HEARTBEAT;
  #ending = { code: BROKEN, reason: "The stream broke." };
  #restart = null;
  // The last request of each session: what is said in one arrives in order.
  #last = new Map();

  constructor(env, url, { token, user }, targets, to) {
    this.#env = env;
    this.#url = url;
    this.#headers = { "Content-Type": "application/json", ...(user && { "X-User-Id": user }), ...bearer(token) };
    this.#targets = targets;
    this.#to = to;
    this.#alarm = new Alarm(env, () => this.#end({ code: BROKEN, reason: "The gateway was not heard any more." }));
    this.follow();
  }

  /** The gateway takes the present token for a minute more only. */
  renew(token) {
    Object.assign(this.#headers, bearer(token));
    this.follow();
  }

  /** Other sessions are to be followed: a stream is asked for once, so this begins another. */
  follow() {
    this.#restart ??= this.#env.setTimeout(() => this.#read(), 0);
  }

  send(frame) {
    if (!UP.has(frame.type)) return;
    const before = this.#last.get(frame.session_id) ?? Promise.resolve();
    const post = before.then(() => this.#to && this.#post(frame));
    this.#last.set(frame.session_id, post);
    post.then(() => this.#last.get(frame.session_id) === post && this.#last.delete(frame.session_id));
  }

  check() {
    this.#alarm.check();
  }

  close() {
    this.#to = null;
    this.#alarm.stop();
    this.#env.clearTimeout(this.#restart);
    this.#stream?.abort();
  }

  // ── Down ──

  async #read() {
    this.#restart = null;
    this.#stream?.abort();
    const stream = (this.#stream = new AbortController());
    const late = this.#env.setTimeout(() => this.#to?.late(), OPENING);
    this.#alarm.heard(2 * this.#heartbeat);
    try {
      const sessions = this.#targets();
      this.#following = new Set(sessions.map(({ session_id }) => session_id));
      const attach = { type: "attach", sessions, ref: "attach" };
      this.#to?.sent(attach);
      const body = JSON.stringify(attach);
      const response = await this.#fetch("events", { body, signal: stream.signal });
      if (!response.ok) throw await refusal(response);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ;) {
        const { done, value } = await reader.read();
        if (stream !== this.#stream) return;
        this.#env.clearTimeout(late);
        if (done) break;
        rest = this.#hear(rest + value);
      }
      this.#end(this.#ending);
    } catch (error) {
      if (stream === this.#stream) this.#end(ended(error));
    } finally {
      this.#env.clearTimeout(late);
    }
  }

  // Takes in whole lines, and gives back the rest. A frame is one line.
  #hear(text) {
    const lines = text.split("\n");
    const rest = lines.pop();
    for (const line of lines) {
      if (this.#to !== null && line.startsWith("data: ")) this.#take(JSON.parse(line.slice(6)));
    }
    if (this.#to !== null) this.#alarm.heard(2 * this.#heartbeat);
    return rest;
  }

  #take(frame) {
    if (frame.type === "connected") {
      this.#connection = frame.connection_id;
      this.#followed = this.#following;
      this.#heartbeat = frame.heartbeat_ms;
    } else if (frame.type === "goaway") {
      this.#ending = { code: 1001, reason: frame.reason };
    } else if (OUT_OF_TOKEN.has(frame.code) && frame.session_id === undefined) {
      this.#ending = { code: TOKEN_REFUSED, reason: frame.content };
    }
    this.#to.frame(frame);
  }

  // ── Up ──

  async #post(frame) {
    this.#to?.sent(frame);
    const request = new AbortController();
    const timer = this.#env.setTimeout(() => request.abort(), ANSWER);
    // To a line that does not follow the session yet, a message would bring it without its history.
    const headers = this.#followed.has(frame.session_id) ? { "X-Connection-Id": this.#connection } : {};
    try {
      const response = await this.#fetch("frames", { body: JSON.stringify(frame), signal: request.signal, headers });
      if (response.status === 401) throw await refusal(response);
      const answer = await response.json().catch((error) => ofProxy(response, error));
      this.#to?.frame(response.ok ? answer : { ...answer, ...refusalOf(frame) });
    } catch (error) {
      // Whether it arrived is not known; on the next line it is sent again.
      this.#end(ended(error));
    } finally {
      this.#env.clearTimeout(timer);
    }
  }

  #fetch(path, { headers, ...options }) {
    const all = { ...this.#headers, ...headers };
    return this.#env.fetch(new URL(path, this.#url).href, {
      ...{ method: "POST", headers: all, cache: "no-store", credentials: "same-origin" },
      ...options,
    });
  }

  #end(how) {
    const to = this.#to;
    this.close();
    to?.gone(how);
  }
}

const bearer = (token) => (token ? { Authorization: `Bearer ${token}` } : {});

async function refusal(response) {
  const { content, retry_after_ms: retryAfter } = await response.json().catch(() => ({}));
  const reason = content ?? `The gateway was not reached (HTTP status ${response.status}).`;
  return Object.assign(new Error(reason), { how: { code: closeOf(response.status), reason, retryAfter } });
}

// Who is refused before the frame was read, is not told which it was.
const refusalOf = ({ ref, session_id }) => ({ type: "error", ref, session_id });

// What is said again after any other answer that is not the gateway's would be refused for its size again.
function ofProxy({ status }, error) {
  if (status !== 413) throw error;
  return { code: "frame_too_large", content: "Something before the gateway refuses it for its size.", retryable: false };
}

const ended = (error) => error.how ?? { code: BROKEN, reason: "The gateway was not reached." };
