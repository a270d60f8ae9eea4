// One conversation as a page holds it: what was seen of it, and what was said and is not answered yet.

import { Feed } from "./feed.js";
import { Following } from "./following.js";
import { plain } from "./frames.js";
import { Messages } from "./messages.js";
import { Older } from "./older.js";
import { RETRIED } from "./rules.js";
import { OutOfOrder, Transcript } from "./transcript.js";
import { TurnFailed, refusal } from "./turn.js";
import { Turns } from "./turns.js";

const ENDS = { session_closed: "closed", session_expired: "expired" };
const OVER = new Set(["completed", "cancelled", "failed"]);
const TYPING_AGAIN = 5_000; // ms; the gateway forgets it after ten
const CATCHING_UP = 2_000; // ms that it may take until frames tell of what is over

/**
 * Events: "change" (`detail.message`, null if it may be any), "frame" (`detail` is the frame), "expiring", "renewed",
 * "ended", "restored" (the draft is another: what was kept is there, or the page is another user's). Iterate it for the frames from now on.
 */
export class Session extends EventTarget {
  id;
  agent;
  #desk;
  #options;
  #following;
  #older = new Older((limit, before) => this.#page(limit, before));
  #messages = new Messages();
  #turns = new Turns(this);
  #feeds = new Set();
  // The user whose it is, once the gateway has said so.
  #owner;
  #error = null;
  #ended = "";
  // It is about to end: in how many minutes, and when that was said.
  #expiring = null;
  #failure = null;
  #typedAt = null;
  #draft = "";
  // Turns of others that are to be stopped when there is a line again.
  #toStop = new Set();

  constructor(desk, id, { agent, history = 50, create = true, label = null }) {
    super();
    Object.assign(this, { id, agent });
    this.#desk = desk;
    this.#options = { agent, history, create, label };
    this.#following = new Following(id, this.#options);
    this.#restore();
  }

  get #transcript() {
    return this.#following.transcript;
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
      expiring: this.#expiring !== null,
      minutesRemaining: this.#minutesRemaining,
      ended: this.#ended,
      error: this.#error,
      hasMore,
      typing: userTyping,
      agentTyping,
    };
  }

  // Counted from what the gateway said: this machine's clock may differ from the gateway's, and be set.
  get #minutesRemaining() {
    if (this.#expiring === null) return null;
    const { minutes, since } = this.#expiring;
    return Math.max(0, minutes - (this.#desk.elapsed() - since) / 60_000);
  }

  /** What is being written and not sent yet. */
  get draft() {
    return this.#draft;
  }

  set draft(text) {
    this.#draft = text;
    this.#keepDraft();
  }

  /** Say something. It is sent until it is acknowledged, over as many lines as that takes, and runs once. */
  send(text, { onBusy, replaces, turnId = this.#desk.newId(), metadata: told } = {}) {
    // What could not be sent must not wait to be sent: it would stop all others on every new line.
    const { content, metadata } = plain({ content: text, metadata: told });
    const known = this.#turns.get(turnId);
    if (known?.frame.content === content) return known;
    const frame = this.#frame("message", { turn_id: turnId, content, on_busy: onBusy, replaces, metadata });
    if (known) return this.#turns.conflict(frame, this.#desk.now());
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
    if (turn) {
      turn.cancelling = true; // so it is said again on the next line
      this.#keepUnsent();
    }
    if (turn && turn.attempts === 0) return;
    if (!this.#desk.put(this.#frame("cancel", { turn_id: turnId })) && !turn) this.#toStop.add(turnId);
  }

  /** Let the session's other readers know that the user is typing. */
  typing(on) {
    const now = this.#desk.elapsed();
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
    await this.#older.more(this.#transcript, this.messages.length, limit);
    this.#changed(null);
  }

  /** Follow it no more. Its turns run on; whoever waits for one here is told that nobody listens. */
  detach() {
    this.keep();
    this.#desk.forget(this);
    const content = `The session ${this.id} was detached.`;
    this.fail({ type: "error", code: "detached", content, retryable: false });
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
    return this.#failure === null && (this.#ended === "" || this.#following.revived);
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
    this.#turns.expect();
    return { session_id: this.id, agent: this.agent, ...this.#following.ask() };
  }

  /** What was seen of it, for who follows it on behalf of this page; null, if that is to begin anew. */
  get seen() {
    return this.#following.seen;
  }

  /** Whose page this is has come to be known, before there was a line: what was kept is there again. */
  identified() {
    this.#restore();
    this.#keepUnsent();
    this.#keepDraft();
    this.#tell("restored", null);
    this.#changed(null);
  }

  /** From now on the page is somebody else's, to whom all that is here is nothing. */
  disown() {
    this.#turns.disown();
    this.#toStop.clear();
    this.#following.begin();
    this.#older.forget();
    this.#owner = undefined;
    this.#error = null;
    this.#ended = "";
    this.#draft = "";
    this.#tell("restored", null);
    this.#changed(null);
  }

  /** The line is there, and this is its user. */
  greet(user) {
    this.#following.renewed();
    if ((this.#owner ?? user) !== user) this.disown();
    this.#owner = user;
    this.#keepUnsent(); // with its owner
    this.#keepDraft();
  }

  lost() {
    this.#following.lost();
    this.#changed(null);
  }

  /** The next frame of this session. */
  receive(frame) {
    if (this.#following.isOld(frame)) return;
    if (this.#following.isIncomplete(frame)) {
      this.#desk.attach(this);
      return;
    }
    const { epoch } = this.#transcript;
    try {
      this.#transcript.apply(frame);
    } catch (error) {
      if (!(error instanceof OutOfOrder)) throw error;
      this.#heal(error);
      return;
    }
    for (const feed of this.#feeds) feed.push(frame);
    this.#tell("frame", frame);
    if (frame.type === "attached") this.#attached(frame, epoch);
    else if (frame.type === "session") this.#notice(frame);
    else this.#told(frame);
  }

  /** The gateway has that message. */
  acknowledge(turn, ok) {
    if (ok.duplicate && OVER.has(ok.status) && !turn.over) this.#find(turn, ok);
    else this.#turns.acknowledge(turn, ok);
    this.#keepUnsent();
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
    if (error.code === "session_not_found" && this.#following.mayBeMade) {
      this.#again(); // the gateway has forgotten it: begin again under the same name
    } else if (RETRIED.has(error.code)) {
      this.#askLater(error);
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

  /** Keep for after a reload what was seen, and what is to be sent. */
  keep() {
    const view = this.seen;
    this.#desk.kept.save(`${this.#name} seen`, view && { view, owner: this.#owner });
    this.#keepUnsent();
    this.#keepDraft();
  }

  /** Keep nothing. */
  unkeep() {
    for (const part of ["seen", "unsent", "draft"]) this.#desk.kept.save(`${this.#name} ${part}`, null);
  }

  // ── What survives a reload ──

  get #name() {
    return `${this.#options.agent ?? ""} ${this.id}`;
  }

  // What was kept: what was seen of it, and before all that was said since, what was said.
  #restore() {
    const { view, owner } = this.#desk.kept.load(`${this.#name} seen`);
    const { unsent = [], owner: speaker } = this.#desk.kept.load(`${this.#name} unsent`);
    const { draft = "", owner: writer } = this.#desk.kept.load(`${this.#name} draft`);
    this.#owner = owner ?? speaker ?? writer;
    this.#draft ||= draft;
    this.#following.begin(view && Transcript.from(view));
    this.#ended = this.#transcript.ended ?? "";
    if (this.#ended) for (const { frame } of this.#turns.pending) frame.create = true;
    this.#turns.restore(unsent);
  }

  #keepUnsent() {
    const unsent = this.#turns.unacknowledged;
    this.#desk.kept.save(`${this.#name} unsent`, unsent.length > 0 ? { unsent, owner: this.#owner } : null);
  }

  #keepDraft() {
    const draft = this.#draft;
    this.#desk.kept.save(`${this.#name} draft`, draft ? { draft, owner: this.#owner } : null);
  }

  #page(limit, before) {
    const query = { limit, ...(this.agent && { agent: this.agent }), ...(before && { before }) };
    return this.#desk.rest(`api/sessions/${encodeURIComponent(this.id)}/messages?${new URLSearchParams(query)}`);
  }

  // ── What frames mean ──

  // That turn is over. If nothing here tells of it, it may have been over before the view began, and then no frame
  // will: the session is looked at anew, unless its frames may still be on their way.
  #find(turn, ok, waited = false) {
    const { attached } = this.#transcript;
    const { replayed, putOff } = this.#following;
    const willBe = !attached && (this.#error === null || putOff);
    const onTheWay = willBe || (!waited && (this.#desk.shares || (turn.attempts > 1 && replayed)));
    if (this.#transcript.turn(turn.turnId)) {
      this.#turns.look(this.#transcript);
    } else if (onTheWay) {
      const again = () => turn.over || this.#find(turn, ok, attached);
      this.#desk.later({ retry_after_ms: CATCHING_UP }, again);
    } else {
      turn.sought = true;
      this.#turns.acknowledge(turn, ok);
      this.#keepUnsent();
      this.#again();
    }
  }

  #attached(frame, epoch) {
    this.agent ??= frame.agent;
    this.#error = null;
    this.#ended = "";
    this.#expiring = null;
    this.#following.attached(frame);
    const { replayed, transcript } = this.#following;
    if (!replayed) this.#older.forget();
    const retold = this.#desk.shares && !replayed && (epoch ?? transcript.epoch) === transcript.epoch;
    const doubted = retold ? this.#turns.doubt(transcript) : [];
    this.#turns.attached(transcript, frame);
    for (const turn of doubted) this.#desk.post(turn);
    this.#cancelOthers();
    this.#keepUnsent();
    this.#label();
    this.#changed(null);
  }

  #cancelOthers() {
    for (const turnId of this.#toStop) {
      if (this.#transcript.turn(turnId)?.over === false) this.cancel(turnId);
    }
    this.#toStop.clear();
  }

  #told(frame) {
    const view = this.#transcript.turn(frame.turn_id);
    if (view) this.#turns.tell(frame, view, this.#transcript);
    if (frame.type === "message") this.#keepUnsent();
    // Only what adds a message, or may change another one's, makes the list anew.
    const grows = frame.type.endsWith("_delta") && this.#messages.shows(view);
    this.#changed(grows ? this.#messages.update(this.#transcript, view) : null);
  }

  #notice({ status, minutes_remaining: minutes = 0 }) {
    this.#expiring = status === "expiring" ? { minutes, since: this.#desk.elapsed() } : null;
    if (this.#transcript.ended) this.#end(status);
    else this.#tell(status, null);
    this.#changed(null);
  }

  #end(how) {
    this.#ended = how;
    this.#following.revived = false;
    this.#turns.look(this.#transcript);
    for (const turn of this.#turns.pending) {
      if (turn.acknowledged) this.#turns.refuse(turn, refusal(turn, `session_${how}`, "Its session is over."));
    }
    this.#tell("ended", null);
  }

  // There is something to be said: what is over is made again.
  #revive(frame) {
    frame.create = true;
    if (this.#following.revived) return;
    this.#following.revived = true;
    this.#again();
  }

  #again() {
    this.#following.beginAnew();
    this.#desk.attach(this);
  }

  #askLater(error) {
    if (!this.#following.putOff) this.#desk.later(error, () => this.attached || this.#desk.attach(this));
    this.#following.putOff = true;
  }

  // What is here is wrong: look at it all again. If that does not help either, there is no use in going on.
  #heal(error) {
    if (this.#following.mayHeal()) this.#again();
    else this.refuse({ type: "error", code: "out_of_order", content: error.message, retryable: false });
  }

  #label() {
    const { label } = this.#options;
    if (label === null) return;
    this.#options.label = null;
    const path = `api/sessions/${encodeURIComponent(this.id)}/label?${new URLSearchParams({ agent: this.agent })}`;
    this.#desk.rest(path, { method: "PUT", body: plain({ label }) }).catch((error) => {
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
