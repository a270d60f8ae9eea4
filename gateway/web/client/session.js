// One conversation as a page holds it: what was seen of it, and what was said and is not answered yet.

import { Feed } from "./feed.js";
import { Messages } from "./messages.js";
import { RETRIED } from "./rules.js";
import { OutOfOrder, Transcript } from "./transcript.js";
import { TurnFailed, refusal } from "./turn.js";
import { Turns } from "./turns.js";

const ENDS = { session_closed: "closed", session_expired: "expired" };
const OVER = new Set(["completed", "cancelled", "failed"]);
const TYPING_AGAIN = 5_000; // ms; the gateway forgets it after ten
const HEALED_AT_MOST = 3; // times on one line
const MOST_HISTORY = 200;
const LONGEST_PAGE = 1_000;

/**
 * Events: "change" (`detail.message`, null if it may be any), "frame" (`detail` is the frame), "expiring", "renewed",
 * "ended". Iterate it for the frames from now on.
 */
export class Session extends EventTarget {
  id;
  agent;
  #desk;
  #options;
  #transcript;
  #messages = new Messages();
  #turns = new Turns(this);
  #feeds = new Set();
  // Whose it is, as far as that is known.
  #owner;
  #error = null;
  #ended = "";
  #expiring = false;
  #failure = null;
  // The next `attach` is to begin anew: what is here is for reading only.
  #afresh = false;
  // It is over, and to be made again.
  #revived = false;
  #healed = 0;
  #replayed = false;
  #typedAt = null;
  // Where the page of messages before the oldest one shown ends.
  #before = null;

  constructor(desk, id, { agent, history = 50, create = true, label = null }) {
    super();
    Object.assign(this, { id, agent });
    this.#desk = desk;
    this.#options = { history, create, label };
    this.#transcript = new Transcript(id);
    this.#restore();
  }

  // ── For the page ──

  get messages() {
    return this.#messages.list(this.#transcript, this.#turns.unheard);
  }

  get state() {
    const { attached, running, queue, expiresAt, hasMore, userTyping, agentTyping } = this.#transcript;
    return {
      attached,
      status: running === null && queue.length === 0 ? "idle" : "running",
      queued: running === null ? queue.slice(1) : [...queue],
      expiresAt: expiresAt === null ? null : expiresAt * 1000,
      expiring: this.#expiring,
      ended: this.#ended,
      error: this.#error,
      hasMore,
      typing: userTyping,
      agentTyping,
    };
  }

  /** Say something. It is sent until it is acknowledged, over as many lines as that takes, and runs once. */
  send(content, { onBusy, replaces, turnId = this.#desk.newId(), metadata } = {}) {
    const frame = this.#frame("message", { turn_id: turnId, content, on_busy: onBusy, replaces, metadata });
    if (this.#ended) this.#revive(frame);
    const turn = this.#turns.add(frame, this.#desk.now());
    if (this.#failure) this.#turns.refuse(turn, this.#failure);
    else this.#desk.post(turn);
    this.#typedAt = null;
    this.#keepUnsent();
    this.#changed(null);
    return turn;
  }

  /** Stop a turn; without a name, the one that runs or is about to. */
  cancel(turnId = this.#transcript.running ?? this.#transcript.queue[0]) {
    const turn = this.#turns.get(turnId);
    if (turn) turn.cancelling = true;
    if (!turn || turn.attempts > 0) this.#desk.put(this.#frame("cancel", { turn_id: turnId }));
  }

  /** Let the session's other readers know that the user is typing. */
  typing(on) {
    const now = this.#desk.now();
    if (on ? this.#typedAt !== null && now - this.#typedAt < TYPING_AGAIN : this.#typedAt === null) return;
    this.#typedAt = on ? now : null;
    this.#desk.put(this.#frame("typing", { state: on ? "start" : "stop" }));
  }

  /** Keep it from expiring. Rejects with the gateway's `code`, if that is not allowed. */
  renew() {
    return this.#desk.ask(this.#frame("renew", {}));
  }

  /** Get older messages: about `limit` of them. */
  async more(limit = 50) {
    const transcript = this.#transcript;
    for (let found = 0; transcript.hasMore && found === 0;) {
      // Where the oldest one shown stands in the log is not known at first: so the newest page holds it too.
      const shown = this.#before === null ? this.messages.length : 0;
      const { messages, has_more, before = null } = await this.#page(Math.min(LONGEST_PAGE, limit + shown));
      if (transcript !== this.#transcript) return;
      this.#before = before;
      found = transcript.prepend(messages, has_more && before !== null);
    }
    this.#changed(null);
  }

  /** Follow it no more. Its turns run on; whoever waits for one here is told that nobody listens. */
  detach() {
    this.keep();
    this.#desk.forget(this);
    this.fail({ code: "detached", content: `The session ${this.id} was detached.`, retryable: false });
  }

  [Symbol.asyncIterator]() {
    const feed = new Feed(() => this.#feeds.delete(feed));
    if (this.#failure) feed.close(new TurnFailed(this.#failure));
    else this.#feeds.add(feed);
    return feed;
  }

  // ── For the desk ──

  /** Is it to be followed? */
  get wanted() {
    return this.#failure === null && (this.#ended === "" || this.#revived);
  }

  get attached() {
    return this.#transcript.attached;
  }

  /** The turns that are not over. */
  get pending() {
    return this.#turns.pending;
  }

  /** From where it is to be followed. */
  get target() {
    const { history, create } = this.#options;
    this.#turns.expect();
    const cursor = this.#afresh ? null : this.#transcript.cursor;
    // Only what was never seen is made: a conversation that was deleted elsewhere stays deleted.
    const from = cursor === null ? { create: create || this.#revived || undefined } : { cursor };
    return { session_id: this.id, agent: this.agent, history: this.#healed > 0 ? MOST_HISTORY : history, ...from };
  }

  /** What was seen of it, for who follows it on behalf of this page; null, if that is to begin anew. */
  get seen() {
    return this.#afresh || this.#transcript.cursor === null ? null : this.#transcript.toJSON();
  }

  /** The line is there, and this is its user: what was kept of another one is nothing to this one. */
  greet(user) {
    this.#healed = 0;
    if ((this.#owner ?? user) !== user) {
      this.#turns.disown();
      this.#transcript = new Transcript(this.id);
      this.#ended = "";
      this.#changed(null);
    }
    this.#owner = user;
  }

  lost() {
    this.#transcript.detach();
    this.#changed(null);
  }

  /** The next frame of this session. */
  receive(frame) {
    if (!this.#transcript.attached && frame.type !== "attached") return; // of a following that was given up
    try {
      this.#transcript.apply(frame);
    } catch (error) {
      if (!(error instanceof OutOfOrder)) throw error;
      this.#heal(error);
      return;
    }
    for (const feed of this.#feeds) feed.push(frame);
    this.#tell("frame", frame);
    if (frame.type === "attached") this.#attached(frame);
    else if (frame.type === "session") this.#notice(frame);
    else this.#told(frame);
  }

  /** The gateway has that message. */
  acknowledge(turn, ok) {
    this.#turns.acknowledge(turn, ok);
    this.#keepUnsent();
    if (ok.duplicate && OVER.has(ok.status) && !turn.over) {
      if (this.#transcript.turn(turn.turnId)) this.#turns.look(this.#transcript);
      // It may have been over before the view began, and then no frame tells of it: look at it all.
      else if (turn.attempts === 1 || !this.#replayed) this.#again();
    }
    this.#changed(null);
  }

  /** That message was refused: it will not run. */
  refuseTurn(turn, error) {
    this.#turns.refuse(turn, error);
    this.#keepUnsent();
    this.#changed(null);
  }

  /** It cannot be followed. Messages that are not acknowledged are answered themselves. */
  refuse(error) {
    this.#transcript.detach();
    this.#error = error;
    if (error.code === "session_not_found" && this.#mayBeMade) {
      this.#again(); // the gateway has forgotten it: begin again under the same name
    } else if (RETRIED.has(error.code)) {
      this.#desk.later(error, () => this.attached || this.#desk.attach(this));
    } else {
      this.#turns.refuseAccepted(error);
      if (error.code in ENDS) this.#end(ENDS[error.code]);
    }
    this.#changed(null);
  }

  /** There will be no line any more: everybody who waits is told why. */
  fail(failure) {
    this.#failure ??= failure;
    this.#transcript.detach();
    this.#turns.fail(failure);
    for (const feed of this.#feeds) feed.close(new TurnFailed(failure));
    this.#feeds.clear();
    this.#changed(null);
  }

  /** Keep what was seen for after a reload. */
  keep() {
    const view = this.seen;
    this.#desk.kept.save(`${this.#name} seen`, view && { view, owner: this.#owner });
  }

  // ── What survives a reload ──

  get #name() {
    return `${this.agent ?? ""} ${this.id}`;
  }

  #restore() {
    const { view, owner } = this.#desk.kept.load(`${this.#name} seen`);
    const { unsent = [], owner: speaker } = this.#desk.kept.load(`${this.#name} unsent`);
    this.#owner = owner ?? speaker;
    if (view) this.#transcript = Transcript.from(view);
    this.#ended = this.#transcript.ended ?? "";
    this.#revived = this.#ended !== ""; // somebody else may have made it again since
    for (const { frame, createdAt } of unsent) this.#turns.add(frame, createdAt);
  }

  #keepUnsent() {
    const unsent = this.#turns.unacknowledged;
    this.#desk.kept.save(`${this.#name} unsent`, unsent.length > 0 ? { unsent, owner: this.#owner } : null);
  }

  #page(limit) {
    const query = { limit, ...(this.agent && { agent: this.agent }), ...(this.#before && { before: this.#before }) };
    return this.#desk.rest(`api/sessions/${encodeURIComponent(this.id)}/messages?${new URLSearchParams(query)}`);
  }

  // ── What frames mean ──

  #attached(frame) {
    this.agent ??= frame.agent;
    this.#error = null;
    this.#ended = "";
    this.#afresh = this.#revived = this.#expiring = false;
    this.#replayed = frame.mode === "replay";
    if (!this.#replayed) this.#before = null;
    this.#turns.attached(this.#transcript, frame);
    this.#keepUnsent();
    this.#label();
    this.#changed(null);
  }

  #told(frame) {
    const view = this.#transcript.turn(frame.turn_id);
    if (view) this.#turns.tell(frame, view, this.#transcript);
    if (frame.type === "message") this.#keepUnsent();
    // Only what adds a message, or may change another one's, makes the list anew.
    const grows = frame.type.endsWith("_delta") && this.#messages.shows(view);
    this.#changed(grows ? this.#messages.update(this.#transcript, view) : null);
  }

  #notice({ status }) {
    this.#expiring = status === "expiring";
    if (this.#transcript.ended) this.#end(status);
    else this.#tell(status, null);
    this.#changed(null);
  }

  #end(how) {
    this.#ended = how;
    this.#revived = false;
    this.#turns.look(this.#transcript);
    for (const turn of this.#turns.pending) {
      if (turn.acknowledged) this.#turns.refuse(turn, refusal(turn, `session_${how}`, "Its session is over."));
    }
    this.#tell("ended", null);
  }

  // There is something to be said: what is over is made again.
  #revive(frame) {
    frame.create = true;
    if (this.#revived) return;
    this.#revived = true;
    this.#again();
  }

  get #mayBeMade() {
    return this.#options.create && !this.#afresh && this.#transcript.cursor !== null;
  }

  #again() {
    this.#afresh = true;
    this.#transcript.detach();
    this.#desk.attach(this);
  }

  // What is here is wrong: look at it all again. If that does not help either, there is no use in going on.
  #heal(error) {
    this.#healed += 1;
    if (this.#healed <= HEALED_AT_MOST) this.#again();
    else this.refuse({ type: "error", code: "out_of_order", content: error.message, retryable: false });
  }

  #label() {
    const { label } = this.#options;
    if (label === null) return;
    this.#options.label = null;
    const path = `api/sessions/${encodeURIComponent(this.id)}/label?${new URLSearchParams({ agent: this.agent })}`;
    this.#desk.rest(path, { method: "PUT", body: { label } }).catch((error) => {
      this.#error = { type: "error", code: error.code ?? "no_line", content: error.message, retryable: true };
      this.#changed(null);
    });
  }

  #frame(type, fields) {
    return { type, session_id: this.id, agent: this.agent, ...fields };
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #changed(message) {
    if (message === null) this.#messages.stale();
    this.#tell("change", { message });
  }
}
