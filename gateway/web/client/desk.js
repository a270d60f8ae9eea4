// What one page says and hears over its line: which session a frame is for, and who waits for which answer.

import { Carrier, NO_LINE } from "./carrier.js";
import { bytesOf } from "./frames.js";
import { Keep, NOBODYS } from "./keep.js";
import { MAX_FRAME, RETRIED, jitter } from "./rules.js";
import { SharedLine, canShare } from "./shared.js";
import { refusal } from "./turn.js";

const UNASKED = "-"; // the `ref` of frames whose answer nobody waits for

/** It owns the line, and is what sessions ask for things. `tell(type, detail)` is told what the page should know. */
export class Desk {
  state = NO_LINE;
  sessions = new Map();
  /** What is kept of whose page this is. */
  kept;
  #env;
  #opener;
  #tell;
  #line = null;
  // Does this page want to share its line, even where it need not?
  #shares;
  // Whose page this is, as far as the last token tells; and has the gateway said so?
  #who;
  #greeted = false;
  #asked = new Map();
  #count = 0;
  #timers = new Set();
  #failure = null;

  constructor(env, opener, { shared, tell }) {
    this.#env = env;
    this.#opener = opener;
    this.#tell = tell;
    this.#shares = shared;
    this.#who = opener.who;
    this.kept = this.#who ? this.#keepOf(this.#who) : NOBODYS;
    opener.told = (who) => this.#identified(who);
  }

  start() {
    const share = canShare(this.#env) && (this.#shares || !this.#opener.hasSockets);
    this.#take(share ? SharedLine : Carrier, "websocket");
  }

  hurry() {
    this.#line.hurry();
  }

  stop() {
    this.#line.stop();
    this.state = {
      ...this.state,
      status: "closed",
      transport: null,
      reason: "It was closed.",
      code: 1000,
      retryAt: null,
    };
    this.#fail();
    this.#tell("state", this.state);
  }

  // ── What sessions ask for: nothing happens while there is no line ──

  /** Another page may hold the line; what it tells of a session is then what has come to it so far. */
  get shares() {
    return this.#line instanceof SharedLine;
  }

  /** Milliseconds since 1970, to be shown. */
  now() {
    return this.#env.now();
  }

  /** Milliseconds by a clock that nobody sets, to measure with. */
  elapsed() {
    return this.#env.elapsed();
  }

  newId() {
    return this.#env.newId();
  }

  add(session) {
    this.sessions.set(session.id, session);
    if (this.#failure) session.fail(this.#failure);
    else if (this.#line.isOpen) session.greet(this.state.connected.user_id);
    this.attach(session);
    session.pending.forEach((turn) => this.post(turn)); // what was kept of it
  }

  attach(session) {
    if (session.wanted && this.sessions.get(session.id) === session) this.#line.attach([session.target]);
  }

  forget(session) {
    if (this.sessions.get(session.id) !== session) return;
    this.sessions.delete(session.id);
    this.put({ type: "detach", session_ids: [session.id] });
  }

  /** Send a turn's message. Done for all that are not acknowledged on every new line. */
  post(turn) {
    if (!this.#line.isOpen || turn.over) return;
    if (!turn.acknowledged) this.#postMessage(turn);
    if (turn.cancelling && !turn.over) turn.session.cancel(turn.turnId);
  }

  #postMessage(turn) {
    const { session } = turn;
    const limit = this.state.connected?.max_frame_bytes ?? MAX_FRAME;
    const ref = this.#ref({
      ok: (frame) => session.acknowledge(turn, frame),
      refused: (error) => {
        if (RETRIED.has(error.code)) this.later(error, () => this.post(turn));
        else if (!turn.acknowledged) session.refuseTurn(turn, error);
      },
    });
    const frame = { ...turn.frame, ref };
    const size = bytesOf(frame);
    if (size > limit) {
      this.#asked.delete(ref);
      session.refuseTurn(
        turn,
        refusal(turn, "frame_too_large", `A message may have ${limit} bytes; this one has ${size}.`),
      );
      return;
    }
    turn.attempts += 1;
    this.#send(frame);
  }

  /** Send it, whatever is answered. Could it be sent? */
  put(frame) {
    this.#send({ ...frame, ref: UNASKED });
    return this.#line.isOpen;
  }

  /** Send it; the `ok`, or a rejection with the `error`. */
  ask(frame) {
    const answer = new Promise((resolve, reject) => {
      const refused = (error) => reject(Object.assign(new Error(error.content), error));
      const lost = () => refused({ code: "no_line", content: "There is no line to the gateway.", retryable: true });
      if (this.#line.isOpen) this.#send({ ...frame, ref: this.#ref({ ok: resolve, refused, lost }) });
      else lost();
    });
    answer.catch(() => {}); // nobody has to wait for it
    return answer;
  }

  /** When the gateway said "not now". */
  later({ retry_after_ms: least = 0 }, again) {
    const timer = this.#env.setTimeout(
      () => {
        this.#timers.delete(timer);
        again();
      },
      least + jitter(1, this.#env.random),
    );
    this.#timers.add(timer);
  }

  /** Ask over HTTP; the JSON that is answered. */
  rest(path, options) {
    return this.#opener.rest(path, options);
  }

  // ── Whose page this is ──

  // The page has a token, and is about to use it.
  #identified(who) {
    const before = this.#who;
    if (this.#failure || before?.name === who.name) return;
    this.#who = who;
    if (before === null) {
      this.#become(who);
    } else if (who.isGuest && before.user === null && !this.#greeted) {
      this.#rename(who); // nobody else was here
    } else if (before.user === null || who.user === null) {
      // Only the gateway can tell whether that is the same user; if it never said who the last one was, nobody can.
      if (this.#greeted) this.kept = NOBODYS;
      else this.#change(who);
    } else if (before.user !== who.user) {
      this.#change(who);
    } else if (this.kept !== NOBODYS) {
      this.#rename(who);
    }
  }

  // The same user's, with other rights.
  #rename(who) {
    for (const session of this.sessions.values()) session.unkeep();
    this.kept = this.#keepOf(who);
    for (const session of this.sessions.values()) session.keep();
  }

  #become(who) {
    this.kept = this.#keepOf(who);
    for (const session of this.sessions.values()) session.identified();
  }

  // Nothing of what the one said may go over a line of the other. Pages that share it may still be the one's.
  #change(who) {
    this.#greeted = false;
    for (const session of this.sessions.values()) session.disown();
    this.#become(who);
    if (this.#line.isOpen || this.shares) this.#take(Carrier, "websocket");
  }

  #greet({ user_id: user }) {
    this.#greeted = true;
    if (this.kept === NOBODYS) this.kept = this.#keepOf(this.#who);
    for (const session of this.sessions.values()) session.greet(user);
  }

  #keepOf({ name }) {
    return new Keep(this.#env.storage, name);
  }

  // ── What the line says ──

  #opened() {
    this.#greet(this.state.connected);
    for (const session of this.sessions.values()) session.pending.forEach((turn) => this.post(turn));
  }

  #lost() {
    const asked = [...this.#asked.values()];
    this.#asked.clear();
    for (const timer of this.#timers) this.#env.clearTimeout(timer);
    this.#timers.clear();
    for (const { lost } of asked) lost?.();
    for (const session of this.sessions.values()) session.lost();
  }

  #frame(frame) {
    this.#tell("frame", { direction: "in", frame, at: this.now() });
    const { type, ref, session_id: id } = frame;
    const refused = type === "error" && frame.cursor === undefined;
    if (type === "ok" || (refused && ref !== undefined)) this.#answered(ref, frame);
    else if (refused) this.sessions.get(id)?.refuse(frame);
    else if (id !== undefined) this.sessions.get(id)?.receive(frame);
    else if (type === "token" || type === "goaway") this.#tell(type, frame);
    else if (type === "connected" && this.#line.isOpen && this.kept === NOBODYS) this.#greet(frame);
  }

  #answered(ref, frame) {
    const asked = this.#asked.get(ref);
    this.#asked.delete(ref);
    if (frame.type === "ok") asked?.ok(frame);
    else if (asked) asked.refused(frame);
    else if (ref === "attach")
      this.#wanted.filter(({ attached }) => !attached).forEach((session) => session.refuse(frame));
  }

  #changed(state) {
    this.state = state;
    if (state.status === "closed") {
      this.#line.stop();
      this.#fail();
    }
    this.#tell("state", state);
    // Sockets get through again: only who wants to shares them.
    const mayPart = !this.#shares && this.#line instanceof SharedLine;
    if (mayPart && state.status === "connected" && state.transport === "websocket") this.#take(Carrier, "websocket");
  }

  #fail() {
    this.#failure = { type: "error", code: "closed", content: this.state.reason, retryable: false };
    for (const session of this.sessions.values()) session.fail(this.#failure);
  }

  // No socket gets through. Streams are few in a browser: its pages share one.
  #fallBack() {
    if (!canShare(this.#env) || this.#line instanceof SharedLine) return false;
    this.#take(SharedLine, "http");
    return true;
  }

  #take(Line, transport) {
    this.#line?.stop();
    const owner = {
      targets: () => this.#wanted.map((session) => session.target),
      seen: (id) => this.sessions.get(id)?.seen ?? null,
      opened: () => this.#opened(),
      lost: () => this.#lost(),
      frame: (frame) => this.#frame(frame),
      sent: (frame) => this.#tell("frame", { direction: "out", frame, at: this.now() }),
      state: (state) => this.#changed(state),
      fallBack: () => this.#fallBack(),
    };
    this.#line = new Line(this.#env, this.#opener, owner, transport);
    void this.#line.start();
  }

  get #wanted() {
    return [...this.sessions.values()].filter(({ wanted }) => wanted);
  }

  #ref(waiting) {
    const ref = String((this.#count += 1));
    this.#asked.set(ref, waiting);
    return ref;
  }

  #send(frame) {
    if (!this.#line.isOpen) return;
    this.#line.send(frame);
  }
}
