// The turns of one session that somebody may wait for: which of them the gateway has, and which are over.

import { Turn, endOf, refusal } from "./turn.js";

const SPOKEN = { started: "running", queued: "queued" };

export class Turns {
  #session;
  // Those that are not over; and those whose message no transcript tells of. In the order in which they were said.
  #pending = new Map();
  #unheard = new Map();
  // The turn that ran when a snapshot came: at its end, what the snapshot does not tell of has come, or is lost.
  #until = null;

  constructor(session) {
    this.#session = session;
  }

  add(frame, createdAt) {
    const turn = new Turn(this.#session, frame, createdAt);
    this.#pending.set(turn.turnId, turn);
    this.#unheard.set(turn.turnId, turn);
    return turn;
  }

  /** What was said before the page was loaded comes before what was said since. */
  restore(unsent) {
    const since = [this.#pending, this.#unheard];
    [this.#pending, this.#unheard] = [new Map(), new Map()];
    for (const { frame, createdAt, cancelling } of unsent) this.add(frame, createdAt).cancelling = cancelling;
    for (const [id, turn] of since[0]) this.#pending.set(id, turn);
    for (const [id, turn] of since[1]) this.#unheard.set(id, turn);
  }

  /** One that says something else under the name of one that is not over. */
  conflict(frame, createdAt) {
    const turn = new Turn(this.#session, frame, createdAt);
    turn.refuse(refusal(turn, "turn_conflict", `The turn ${turn.turnId} says something else.`));
    return turn;
  }

  get(turnId) {
    return this.#pending.get(turnId);
  }

  /** Those that are not over. */
  get pending() {
    return [...this.#pending.values()];
  }

  /** Those whose message the gateway has not told of. */
  get unheard() {
    return [...this.#unheard.values()];
  }

  /** What is to be sent, though the page be loaded anew. */
  get unacknowledged() {
    const waiting = this.unheard.filter((turn) => !turn.acknowledged && !turn.over);
    return waiting.map(({ frame, createdAt, cancelling }) => ({ frame, createdAt, cancelling }));
  }

  // ── What the gateway answers ──

  acknowledge(turn, { status }) {
    turn.acknowledged = true;
    turn.spoken = SPOKEN[status] ?? turn.spoken;
  }

  refuse(turn, error) {
    turn.refuse(error);
    this.#pending.delete(turn.turnId);
  }

  /** The session cannot be followed: of those that the gateway has, nothing more will be heard. */
  refuseAccepted(error) {
    for (const turn of this.#pending.values()) if (turn.acknowledged) this.#finish(turn, error);
  }

  /** They were another user's. */
  disown() {
    for (const turn of this.#pending.values()) turn.refuse(refusal(turn, "forbidden", "It was another user's."));
    this.#pending.clear();
    this.#unheard.clear();
  }

  /** There will be no line any more. */
  fail(failure) {
    for (const turn of this.#pending.values()) turn.finish({ ...failure, partial: turn.content });
  }

  // ── What the transcript tells ──

  /** The session is to be attached: what is acknowledged now, a snapshot must tell of. */
  expect() {
    for (const turn of this.#pending.values()) turn.asked = turn.acknowledged;
  }

  /** Another page told how the session stands, and may not have heard yet of all that the gateway has: those that are
   *  to be asked for. */
  doubt(transcript) {
    const untold = ({ acknowledged, sought, turnId }) => acknowledged && !sought && !transcript.turn(turnId);
    const doubted = this.pending.filter(untold);
    for (const turn of doubted) turn.acknowledged = turn.asked = false;
    return doubted;
  }

  /** `frame` of a turn, which the transcript has taken in as `view`. */
  tell(frame, view, transcript) {
    const turn = this.#pending.get(view.turnId);
    turn?.look(view);
    if (frame.type === "message") this.#unheard.delete(view.turnId);
    if (frame.type !== "response" && frame.type !== "error") return;
    if (turn) this.#finish(turn, frame);
    if (view.turnId === this.#until) this.#endLost(transcript);
  }

  /** The session was attached. What is replayed leaves nothing out: it only goes on. */
  attached(transcript, { mode, turn_id: running = null }) {
    this.look(transcript);
    if (mode !== "snapshot") return;
    for (const turn of this.#pending.values()) turn.expected = turn.asked;
    this.#until = running;
    if (running === null) this.#endLost(transcript);
  }

  /** What does the transcript tell of them? Of those that ended while nobody listened, no frame will come. */
  look(transcript) {
    for (const turn of this.#pending.values()) {
      const view = transcript.turn(turn.turnId);
      if (view === undefined) continue;
      turn.look(view);
      this.#unheard.delete(turn.turnId);
      if (view.over) this.#finish(turn, endOf(view, transcript.sessionId));
    }
  }

  // End those that the gateway knew and knows no more. A snapshot begins where the running turn does: until that is
  // over, frames of others may still come.
  #endLost(transcript) {
    this.#until = null;
    for (const turn of this.#pending.values()) {
      if (!turn.expected || transcript.turn(turn.turnId)) continue;
      this.#unheard.delete(turn.turnId);
      this.#finish(turn, refusal(turn, "turn_not_found", "It is too old, was replaced, or the gateway forgot it."));
    }
  }

  #finish(turn, frame) {
    turn.finish(frame);
    this.#pending.delete(turn.turnId);
  }
}
