// A gateway that a test owns: logs, cursors and readers as the protocol has them, and an agent that speaks when it is
// told to. Nothing reaches anybody before the test lets it.

import { attached, connected, message, ok, refused } from "./fakes.mjs";

const points = (text) => [...text].length;
const userOf = (token) => (token ? JSON.parse(atob(token.split(".")[1])).sub : "user");
const cut = (text, from, to) => [...text].slice(from, to).join("");

/** The log of one session: its records are frames without a cursor, `seq` is their place, from 1. */
class Log {
  records = [];
  turns = new Map();
  running = null;
  queue = [];
  // Which turn ran after each record.
  #ran = [null];

  constructor(id, epoch) {
    Object.assign(this, { id, epoch });
  }

  get head() {
    return this.records.length;
  }

  accept({ turn_id: turnId, content, replaces }) {
    const known = this.turns.get(turnId);
    if (known) return { status: known.status, duplicate: true };
    const turn = { turnId, content, text: "", status: "queued", tools: [], end: null, startedAt: null };
    this.turns.set(turnId, turn);
    this.queue.push(turn);
    const { type, created_at } = message(this.id, "", turnId, content);
    this.#record({ type, session_id: this.id, turn_id: turnId, content, created_at, ...(replaces && { replaces }) });
    return { status: turn.status === "running" ? "started" : "queued" };
  }

  write(text) {
    this.running.text += text;
  }

  call(id) {
    const { turnId: turn_id, text } = this.running;
    const at = points(text);
    this.#record({ type: "tool_call", session_id: this.id, turn_id, tool_call_id: id, name: "look", input: {}, at });
  }

  cancel(turnId) {
    const turn = turnId === undefined ? this.running : this.turns.get(turnId);
    if (turn && turn.end === null) this.end(turn, "cancelled");
  }

  end(turn, status) {
    turn.status = status;
    this.queue = this.queue.filter((waiting) => waiting !== turn);
    if (this.running === turn) this.running = null;
    const of = { session_id: this.id, turn_id: turn.turnId };
    turn.end =
      status === "failed"
        ? { type: "error", ...of, code: "agent_failed", content: "It broke.", retryable: true, partial: turn.text }
        : { type: "response", ...of, content: turn.text, status, created_at: 2, timing: {} };
    this.#record(turn.end);
  }

  #record(record) {
    this.records.push(record);
    if (this.running === null && this.queue.length > 0) {
      this.running = this.queue.shift();
      Object.assign(this.running, { status: "running", startedAt: this.head });
    }
    this.#ran.push(this.running);
  }

  /** Where a reader goes on, and what it is told of that. */
  from({ cursor, history = 50 }) {
    const { running, queue } = this;
    const [epoch, seq, offset] = (cursor ?? "").split(".");
    const told = { agent: "bot", status: running ? "running" : "idle", queued: queue.map(({ turnId }) => turnId) };
    if (running) told.turn_id = running.turnId;
    if (epoch === this.epoch && Number(seq) <= this.head) {
      const same = running !== null && this.#ran[Number(seq)] === running;
      const place = { seq: Number(seq), offset: same ? Number(offset) : 0 };
      return [place, attached(this.id, { ...told, mode: "replay", cursor: this.at(place) })];
    }
    const place = { seq: running ? running.startedAt : this.head, offset: 0 };
    const all = this.#messages(place.seq);
    const messages = history === 0 ? [] : all.slice(-history);
    const has_more = messages.length < all.length;
    return [place, attached(this.id, { ...told, cursor: this.at(place), messages, has_more })];
  }

  at({ seq, offset }) {
    return `${this.epoch}.${seq}.${offset}`;
  }

  #messages(until) {
    const told = [];
    for (const { type, turn_id, content, replaces } of this.records.slice(0, until)) {
      if (type === "message") {
        const replaced = told.findIndex((said) => said.turn_id === replaces);
        if (replaced >= 0) told.length = replaced;
        told.push({ role: "user", turn_id, content, created_at: 1 });
      } else if (type !== "tool_call" && told.some((said) => said.turn_id === turn_id)) {
        const { text, status } = this.turns.get(turn_id);
        told.push({ role: "agent", turn_id, content: text, created_at: 2, status });
      }
    }
    return told;
  }

  /** The next frame of a reader at `place`, which it moves; null if there is none. */
  next(place, most) {
    const record = this.records[place.seq];
    const until = record === undefined ? undefined : this.#textBefore(record);
    const { running } = this;
    if (running && until !== null && place.seq >= running.startedAt) {
      const content = cut(running.text, place.offset, Math.min(until ?? Infinity, place.offset + most));
      if (content) {
        place.offset += points(content);
        return { type: "text_delta", session_id: this.id, turn_id: running.turnId, cursor: this.at(place), content };
      }
    }
    if (record === undefined) return null;
    place.seq += 1;
    if (record.type === "response" || record.type === "error") place.offset = this.#offsetAfter(record, place);
    return { ...record, cursor: this.at(place) };
  }

  // How much text a reader is to have before that record; null: none.
  #textBefore({ type, turn_id, at }) {
    return type === "tool_call" && this.running?.turnId === turn_id ? at : null;
  }

  // A waiting turn that is cancelled does not end the text of the one that runs.
  #offsetAfter({ turn_id }, { seq, offset }) {
    return this.#ran[seq - 1]?.turnId === turn_id ? 0 : offset;
  }

  /** What is to be seen of it in the end: each answer after what it answers. */
  get shown() {
    return [...this.turns.values()].flatMap(({ content, text, status }) => [
      `user ${content} ${status}`,
      `agent ${text} ${status}`,
    ]);
  }
}

/** One line of a page. `tell(frames)` gets frames to it; `answer(frame)` what is asked. */
class Line {
  out = [];
  follows = new Map();

  constructor(gateway, tell, user) {
    Object.assign(this, { gateway, tell, user });
  }

  attach(target) {
    if (!this.gateway.busy()) this.follow(target);
    else this.out.push(refused({ session_id: target.session_id }, "overloaded", { retry_after_ms: 100 }));
  }

  follow(target) {
    const log = this.gateway.log(target, this.user);
    if (log === null) {
      this.out.push(refused({ session_id: target.session_id }, "session_not_found"));
      return;
    }
    const [place, told] = log.from(target);
    this.follows.set(target.session_id, place);
    this.out.push(told);
  }

  take(frame) {
    const { type, ref } = frame;
    if (type === "hello") this.user ??= userOf(frame.token);
    if (type === "attach") frame.sessions.forEach((target) => this.attach(target));
    else if (type === "detach") frame.session_ids.forEach((id) => this.follows.delete(id));
    if (type === "hello") this.out.push(connected({ ref, user_id: this.user }));
    else if (type === "ping") this.out.push({ type: "pong" });
    else this.out.push(this.gateway.answer(frame, this.user, this));
  }

  /** Some of what there is to be told, once it is time. */
  pump(most) {
    for (const [id, place] of this.follows) {
      const frame = this.gateway.logOf(this.user, id).next(place, most);
      if (frame !== null) this.out.push(frame);
    }
  }

  deliver(count) {
    const frames = this.out.splice(0, count);
    if (frames.length > 0) this.tell(frames);
  }
}

export class FakeGateway {
  /** By user and id. */
  logs = new Map();
  /** Is it too much right now? */
  busy = () => false;
  #lines = new Map();
  #connections = 0;
  #streams = new Map();

  logOf(user, id) {
    return this.logs.get(`${user} ${id}`);
  }

  log({ session_id: id, cursor, create }, user) {
    const known = this.logOf(user, id);
    if (known || cursor !== undefined || !create) return known ?? null;
    const log = new Log(id, `e${this.logs.size}`);
    this.logs.set(`${user} ${id}`, log);
    return log;
  }

  answer(frame, user, line) {
    if (frame.type === "message") {
      if (this.busy()) return refused(frame, "overloaded", { retry_after_ms: 100 });
      const log = this.log({ ...frame, create: true }, user);
      if (line && !line.follows.has(log.id)) line.follow({ session_id: log.id, history: 0 });
      const { status, ...more } = log.accept(frame);
      return ok(frame, status, more);
    }
    if (frame.type === "cancel") this.logOf(user, frame.session_id)?.cancel(frame.turn_id);
    return ok(frame, undefined);
  }

  get lines() {
    return [...this.#lines.values()];
  }

  /** The sockets of a page that are not open yet. */
  opening({ sockets }) {
    return sockets.filter((socket) => socket.readyState === 0);
  }

  open(socket) {
    this.#lines.set(socket, new Line(this, (frames) => socket.say(...frames)));
    socket.open();
  }

  /** Those that are. */
  sockets({ sockets }) {
    return sockets.filter((socket) => socket.readyState === 1);
  }

  hear(socket) {
    const frame = socket.sent.shift();
    if (frame) this.#lines.get(socket).take(frame);
  }

  drop(socket) {
    this.#lines.delete(socket);
  }

  /** The requests of a page that nothing was said to. */
  asked({ requests }) {
    return requests.filter((request) => !request.aborted && !request.heard);
  }

  stream(request) {
    request.heard = true;
    request.stream();
    const id = `c${(this.#connections += 1)}`;
    const user = userOf(request.headers.Authorization);
    const line = new Line(this, (frames) => request.aborted || request.say(...frames), user);
    this.#lines.set(request, line);
    this.#streams.set(id, line);
    line.out.push(connected({ connection_id: id, user_id: user }));
    line.take(request.body);
  }

  post(request) {
    request.heard = true;
    const line = this.#streams.get(request.headers["X-Connection-Id"]);
    const user = userOf(request.headers.Authorization);
    return this.answer(request.body, user, this.lines.includes(line) ? line : null);
  }
}
