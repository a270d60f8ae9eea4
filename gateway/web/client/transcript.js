// Frames → what a person sees of one session: the same rules as `protocol/transcript.py`, line by line, and the
// same test vectors. It checks on the way what the protocol promises of the order, and throws `OutOfOrder`.
//
// Lengths and offsets are in code points, as on the wire. What is stored is never changed in place: the objects
// of a frame may be shared with other readers.

/** A frame came that the protocol rules out here: the gateway is wrong, or frames were lost on the way. */
export class OutOfOrder extends Error {
  name = "OutOfOrder";
}

const CURSOR = /^([A-Za-z0-9]{1,64})\.(0|[1-9][0-9]{0,11})\.(0|[1-9][0-9]{0,11})$/;
const OF_THE_LINE = new Set(["connected", "token", "goaway", "pong", "ok", "command_result", "tool_start", "tool_end"]);
const OVER = new Set(["completed", "cancelled", "failed"]);

/** How many code points `text` has; text of the gateway holds no lone surrogates. */
export function codePoints(text) {
  let count = text.length;
  for (let at = 0; at < text.length; at++) if ((text.charCodeAt(at) & 0xfc00) === 0xd800) count--;
  return count;
}

/** `text` without its first `points` code points. */
export function after(text, points) {
  let at = 0;
  for (; points > 0 && at < text.length; points--) at += (text.charCodeAt(at) & 0xfc00) === 0xd800 ? 2 : 1;
  return text.slice(at);
}

/** One turn as a person sees it: what the user said, and the answer so far. */
export class Turn {
  turnId;
  /** What the user said; null if that was before the oldest message shown. */
  content = null;
  createdAt = null;
  /** "waiting" until something shows that it runs; then "running", "completed", "cancelled" or "failed". */
  status = "waiting";
  /** The answer so far; the whole of it when the turn is over. */
  text = "";
  /** The code points of `text`. */
  length = 0;
  /** How much of the answer came before `text` and was not sent here: the reader resumed within it. */
  skipped = 0;
  thought = "";
  tools = [];
  /** Why it failed: a code of the error table, a sentence for people, and whether to try again. */
  code = null;
  reason = null;
  retryable = null;
  /** Where in the text the last tool record stands. */
  place = 0;
  replaces = null;
  metadata = null;
  /** When the answer was complete, and what the agent added to it. */
  answeredAt = null;
  answerMetadata = null;
  /** Its last frame, if that came while it was followed. */
  end = null;

  constructor(turnId, content = null, createdAt = null) {
    Object.assign(this, { turnId, content, createdAt });
  }

  get over() {
    return OVER.has(this.status);
  }

  toJSON() {
    return { ...this, end: null };
  }

  /** How many code points of the answer the reader was sent, here or before it resumed. */
  get shown() {
    return this.skipped + this.length;
  }

  /** The answer is this, and nothing of it is missing before. */
  become(text) {
    Object.assign(this, { text, length: codePoints(text), skipped: 0 });
  }
}

/** What one session looks like to a reader who was sent the frames applied so far. */
export class Transcript {
  sessionId;
  agent = null;
  /** What is to be shown, in the order in which the messages were accepted; replaced turns are gone. */
  turns = [];
  /** The turn that runs, as far as the frames have told. */
  running = null;
  /** The turns that wait, as accepted. */
  queue = [];
  agentTyping = false;
  /** The user is typing on another line. */
  userTyping = false;
  attached = false;
  /** "closed" or "expired". */
  ended = null;
  expiresAt = null;
  /** There are messages before the oldest one shown. */
  hasMore = false;
  #at = null;
  #known = new Map();
  // The turn whose text the cursor's offset counts: it has shown that it runs, and is not over.
  #speaker = null;
  // What becomes of a turn whose message came before anything that was sent here.
  #strangers = "refused";

  constructor(sessionId) {
    this.sessionId = sessionId;
  }

  /** Where to resume: what the next `attach` should say. Null before the first `attached`. */
  get cursor() {
    return this.#at && `${this.#at.epoch}.${this.#at.seq}.${this.#at.offset}`;
  }

  /** Which incarnation of the log this is; null before the first `attached`. */
  get epoch() {
    return this.#at && this.#at.epoch;
  }

  /** The turn whose text the cursor counts; null if none has shown that it runs. */
  get speaker() {
    return this.#speaker;
  }

  /** That turn, shown or not; undefined if no frame since the last snapshot told of it. */
  turn(turnId) {
    return this.#known.get(turnId);
  }

  /** The line is gone, or `detach` was answered: nothing more is expected before an `attached`. */
  detach() {
    this.attached = this.agentTyping = this.userTyping = false;
  }

  /** Take in the next frame. Throws `OutOfOrder`, and is then good for reading only. */
  apply(frame) {
    const { type, session_id: whose = this.sessionId } = frame;
    if (whose !== this.sessionId) {
      throw new OutOfOrder(`A frame of session ${whose} came to the transcript of ${this.sessionId}.`);
    }
    if (passes(frame)) return;
    if (type === "attached") this.#attach(frame);
    else if (!this.attached) throw new OutOfOrder(`${type} came before attached${this.#sinceItEnded()}.`);
    else if (type === "message") this.#message(frame);
    else if (type === "typing") this.#typing(frame);
    else if (type === "text_delta") this.#text(frame);
    else if (type === "thought_delta") this.#speaking(frame, frame.turn_id).thought += frame.content;
    else if (type === "tool_call" || type === "tool_result") this.#tool(frame);
    else if (type === "response" || type === "error") this.#end(frame);
    else if (type === "session") this.#session(frame);
    // Anything else is of a newer gateway: what it adds may be ignored.
  }

  #sinceItEnded() {
    return this.ended ? `, since the session had ${this.ended}` : "";
  }

  // ── Attaching ──

  #attach(frame) {
    const cursor = parsed(frame.cursor);
    if (frame.mode === "replay" && this.#at !== null) {
      // The offset counts only for the turn that ran there: it may be 0 if that one is over.
      if (!same(cursor, this.#at) && !same(cursor, { ...this.#at, offset: 0 })) {
        throw new OutOfOrder(`A replay from ${frame.cursor} came to a reader at ${this.cursor}.`);
      }
    } else {
      if (frame.mode === "snapshot" && cursor.offset !== 0) {
        throw new OutOfOrder(`A snapshot begins at offset 0, not at ${frame.cursor}.`);
      }
      this.#startOver(frame);
    }
    this.detach();
    this.#at = cursor;
    this.attached = true;
    this.ended = null;
    this.agent = frame.agent;
    this.expiresAt = frame.expires_at ?? null;
    this.running = frame.turn_id ?? null;
    this.queue = [...frame.queued];
    const running = this.#known.get(frame.turn_id);
    if (running && !running.over) running.status = "running";
  }

  #startOver(frame) {
    this.turns = [];
    this.#known = new Map();
    this.#speaker = null;
    this.#strangers = frame.mode === "snapshot" ? "refused" : "shown";
    this.hasMore = Boolean(frame.has_more);
    for (const message of frame.messages ?? []) this.#told(message);
    for (const turnId of [frame.turn_id, ...frame.queued]) {
      if (turnId !== undefined && !this.#known.has(turnId)) this.#stranger(turnId);
    }
  }

  #told(message) {
    if (message.role === "user") {
      this.#show(said(message));
    } else {
      answered(this.#known.get(message.turn_id) ?? this.#stranger(message.turn_id), message);
    }
  }

  /** Messages of the history that come before those shown; whether there are more before them. */
  prepend(messages, hasMore) {
    const before = new Map();
    for (const message of messages) {
      const { turn_id: turnId, role } = message;
      const known = this.#known.get(turnId);
      if (known) {
        if (role === "user" && known.content === null) Object.assign(known, userPart(message));
        continue;
      }
      const turn = before.get(turnId) ?? new Turn(turnId);
      before.set(turnId, turn);
      if (role === "user") Object.assign(turn, userPart(message));
      else answered(turn, message);
    }
    for (const [turnId, turn] of before) this.#known.set(turnId, turn);
    this.turns = [...before.values(), ...this.turns];
    this.hasMore = hasMore;
    return before.size;
  }

  #show(turn) {
    this.#known.set(turn.turnId, turn);
    this.turns.push(turn);
  }

  // A turn whose message was not shown: it stands before all those whose message was.
  #stranger(turnId) {
    const turn = new Turn(turnId);
    this.#known.set(turnId, turn);
    if (this.#strangers !== "hidden") {
      this.turns.splice(this.turns.filter((shown) => shown.content === null).length, 0, turn);
    }
    return turn;
  }

  // ── Turns ──

  #message(frame) {
    const { turn_id: turnId, replaces } = frame;
    const cursor = this.#record(frame);
    const known = this.#known.get(turnId);
    if (known && (known.content !== null || known.over || known === this.#speaker)) {
      throw new OutOfOrder(`message of turn ${turnId} came, which had been told of before.`);
    }
    if (replaces != null) this.#replace(replaces);
    if (known) this.turns = this.turns.filter((turn) => turn !== known);
    const turn = said(frame);
    this.#show(turn);
    this.#at = cursor;
    if (turnId === this.running) turn.status = "running";
    else if (!this.queue.includes(turnId)) this.queue.push(turnId);
  }

  // That turn and all after it leave the view; one that was never told of was before all of it.
  #replace(turnId) {
    const replaced = this.#known.get(turnId);
    if (replaced === undefined) {
      this.turns = [];
      if (this.#strangers === "shown") this.#strangers = "hidden";
    } else if (this.turns.includes(replaced)) {
      this.turns = this.turns.slice(0, this.turns.indexOf(replaced));
    } else {
      throw new OutOfOrder(`message replaces turn ${turnId}, which had been replaced before.`);
    }
  }

  #typing(frame) {
    const starts = frame.state === "start";
    if (starts && (frame.author === "agent" ? this.agentTyping : this.userTyping)) {
      throw new OutOfOrder(`typing start came, but the ${frame.author} was typing already.`);
    }
    if (frame.author === "user") {
      this.userTyping = starts;
      return;
    }
    if (frame.turn_id != null) this.#speaking(frame, frame.turn_id);
    this.agentTyping = starts;
  }

  #text(frame) {
    const turn = this.#open(frame, frame.turn_id);
    if (turn.place > turn.shown) {
      // Only a turn that is over sends its tool records ahead of its text, and then without the text.
      throw new OutOfOrder(`text_delta of turn ${turn.turnId} came after the tool record at ${turn.place}.`);
    }
    const points = codePoints(frame.content);
    const cursor = this.#moved(frame, this.#offset + points);
    this.#speaking(frame, frame.turn_id);
    if (turn.shown !== this.#offset) {
      throw new OutOfOrder(`text_delta came to ${this.cursor}, but ${turn.shown} characters were shown.`);
    }
    turn.text += frame.content;
    turn.length += points;
    this.#at = cursor;
  }

  #tool(frame) {
    const turn = this.#open(frame, frame.turn_id);
    let reached = Math.max(turn.shown, turn.place);
    if (this.#speaker === null) reached = Math.max(reached, this.#offset);
    if (frame.at < reached) {
      throw new OutOfOrder(`${frame.type} at ${frame.at} came when turn ${turn.turnId} was at ${reached}.`);
    }
    const cursor = this.#record(frame);
    this.#speaking(frame, frame.turn_id);
    this.#at = cursor;
    turn.place = frame.at;
    if (frame.type === "tool_call") {
      const { tool_call_id, name, input, at } = frame;
      turn.tools = [...turn.tools, { tool_call_id, name, input, content: null, is_error: false, at }];
    } else {
      turn.tools = turn.tools.map((use) => withResult(use, frame));
    }
  }

  #end(frame) {
    const turn = this.#open(frame, frame.turn_id);
    const cursor = this.#record(frame, turn);
    if (frame.type === "response") {
      checkWhole(turn, frame.content, frame.status === "cancelled");
      turn.become(frame.content);
      turn.status = frame.status;
      turn.thought = frame.thought || turn.thought;
      Object.assign(turn, { answeredAt: frame.created_at, answerMetadata: frame.metadata ?? null });
    } else {
      const partial = frame.partial ?? "";
      checkWhole(turn, partial, frame.code === "turn_interrupted");
      turn.become(partial);
      Object.assign(turn, { status: "failed", code: frame.code, reason: frame.content, retryable: frame.retryable });
    }
    turn.end = frame;
    this.#at = cursor;
    if (turn === this.#speaker) {
      this.#speaker = null;
      this.agentTyping = false;
    }
    if (turn.turnId === this.running) this.running = null;
    this.#leaveQueue(turn.turnId);
  }

  #session(frame) {
    if (frame.expires_at != null) this.expiresAt = frame.expires_at;
    if (frame.status !== "closed" && frame.status !== "expired") return;
    for (const turn of this.#known.values()) {
      if (!turn.over) turn.status = "cancelled"; // it ended too, but the log went before this reader was told
    }
    this.detach();
    this.ended = frame.status;
    this.running = this.#speaker = null;
    this.queue = [];
  }

  #leaveQueue(turnId) {
    this.queue = this.queue.filter((waiting) => waiting !== turnId);
  }

  // ── What is checked of many frames ──

  // The turn of `frame`, which was told of before and is not over.
  #open(frame, turnId) {
    const turn = this.#known.get(turnId) ?? (turnId && this.#strangers !== "refused" ? this.#stranger(turnId) : null);
    if (turn === null) {
      throw new OutOfOrder(`${frame.type} of turn ${turnId} came, whose message was not shown.`);
    }
    if (turn.over) {
      throw new OutOfOrder(`${frame.type} of turn ${turnId} came after it was over (${turn.status}).`);
    }
    return turn;
  }

  // The turn of `frame`, which shows that it runs; then no other does.
  #speaking(frame, turnId) {
    const turn = this.#open(frame, turnId);
    if (this.#speaker === null) turn.skipped = this.#offset;
    else if (this.#speaker !== turn) {
      throw new OutOfOrder(`${frame.type} of ${turnId} came before ${this.#speaker.turnId} was over.`);
    }
    this.#speaker = turn;
    this.running = turnId;
    turn.status = "running";
    if (this.queue.length > 0) this.#leaveQueue(turnId);
    return turn;
  }

  // The cursor of a record: further in the log; in the text where it was, or at 0 if that is over.
  #record(frame, ends = null) {
    if (parsed(frame.cursor).seq === this.#at.seq) {
      throw new OutOfOrder(`${frame.type} at ${frame.cursor} came to a reader at ${this.cursor}.`);
    }
    return this.#moved(frame, ends !== null && ends === this.#speaker ? 0 : this.#offset, 0);
  }

  // The cursor of `frame`, if it leads on from where this reader stands, to one of `offsets`.
  #moved(frame, ...offsets) {
    const cursor = parsed(frame.cursor);
    if (cursor.epoch !== this.#at.epoch || cursor.seq < this.#at.seq) {
      throw new OutOfOrder(`${frame.type} at ${frame.cursor} came to a reader at ${this.cursor}.`);
    }
    if (!offsets.includes(cursor.offset)) {
      throw new OutOfOrder(`${frame.type} came with offset ${cursor.offset} instead of ${offsets[0]}.`);
    }
    return cursor;
  }

  get #offset() {
    return this.#at ? this.#at.offset : 0;
  }

  // ── What survives a reload ──

  /** All of it, as plain values; `Transcript.from` is the inverse. */
  toJSON() {
    const { sessionId, agent, turns, running, queue, ended, expiresAt, hasMore } = this;
    const hidden = [...this.#known.values()].filter((turn) => !turns.includes(turn));
    const inner = { at: this.#at, speaker: this.#speaker?.turnId ?? null, strangers: this.#strangers, hidden };
    return { sessionId, agent, turns, running, queue, ended, expiresAt, hasMore, inner };
  }

  /** A transcript that is not attached. */
  static from({ inner, turns, ...shown }) {
    const revived = (turn) => Object.assign(new Turn(turn.turnId), turn);
    const transcript = Object.assign(new Transcript(shown.sessionId), structuredClone(shown));
    transcript.turns = turns.map(revived);
    for (const turn of [...transcript.turns, ...inner.hidden.map(revived)]) transcript.#known.set(turn.turnId, turn);
    transcript.#at = inner.at;
    transcript.#speaker = transcript.#known.get(inner.speaker) ?? null;
    transcript.#strangers = inner.strangers;
    return transcript;
  }
}

// Frames of the connection, answers and refusals pass all others: they say nothing of the session's order.
function passes({ type, cursor, state }) {
  return OF_THE_LINE.has(type) || (type === "error" && cursor == null) || (type === "typing" && state === "tool");
}

function parsed(text) {
  const match = CURSOR.exec(text ?? "");
  if (match === null) throw new OutOfOrder(`'${text ?? ""}' came as a cursor, which is epoch.seq.offset.`);
  return { epoch: match[1], seq: Number(match[2]), offset: Number(match[3]) };
}

const same = (a, b) => a.epoch === b.epoch && a.seq === b.seq && a.offset === b.offset;

function said(message) {
  return Object.assign(new Turn(message.turn_id), userPart(message));
}

const userPart = ({ content, created_at, metadata = null, replaces = null }) => ({
  content,
  createdAt: created_at,
  metadata,
  replaces,
});

function answered(turn, message) {
  turn.become(message.content);
  turn.status = message.status ?? "completed";
  turn.tools = message.tools ?? [];
  turn.answeredAt = message.created_at;
  turn.answerMetadata = message.metadata ?? null;
  for (const told of ["code", "reason", "retryable", "thought"]) turn[told] = message[told] ?? turn[told];
}

const withResult = (use, { tool_call_id, content, is_error }) =>
  use.tool_call_id === tool_call_id ? { ...use, content, is_error, done: true } : use;

// Does `whole` go on from what was shown of the turn? If only what was saved is known, it may be less.
function checkWhole(turn, whole, savedOnly = false) {
  const rest = after(whole, turn.skipped);
  if (!rest.startsWith(turn.text) && !(savedOnly && turn.text.startsWith(rest))) {
    throw new OutOfOrder(`Turn ${turn.turnId} ended with other text than the ${turn.shown} characters shown.`);
  }
  const length = codePoints(whole);
  if (turn.place > length) {
    throw new OutOfOrder(`Turn ${turn.turnId} ended at ${length}, before its tool at ${turn.place}.`);
  }
}
