// The turns of one session that somebody may wait for: which of them the gateway has, and which are over.

import { Turn, endOf, refusal } from "./turn.js";

const SPOKEN = { started: "running", queued: "queued" };

export class Turns {
  #session;
  // Those that are not over; and those whose message no transcript tells of. In the order in which they were said.
  #pending = new Map();
  #unheard = new Map();
  // A snapshot came: whether turns that it does not tell of are lost, the end of the running one shows.
  #unsure = false;

  constructor(session) {
    this.#session = session;
  }

  add(frame, createdAt) {
    const turn = new Turn(this.#session, frame, createdAt);
    this.#pending.set(turn.turnId, turn);
    this.#unheard.set(turn.turnId, turn);
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
    return waiting.map(({ frame, createdAt }) => ({ frame, createdAt }));
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
    for (const turn of this.#pending.values()) turn.finish({ type: "error", ...failure, partial: turn.content });
  }

  // ── What the transcript tells ──

  /** The session is to be attached: what is acknowledged now, a snapshot must tell of. */
  expect() {
    for (const turn of this.#pending.values()) turn.expected = turn.acknowledged;
  }

  /** `frame` of a turn, which the transcript has taken in as `view`. */
  tell(frame, view, transcript) {
    const turn = this.#pending.get(view.turnId);
    turn?.look(view);
    if (frame.type === "message") this.#unheard.delete(view.turnId);
    if (frame.type !== "response" && frame.type !== "error") return;
    if (turn) this.#finish(turn, frame);
    this.#lookForLost(transcript);
  }

  /** The session was attached. */
  attached(transcript, { mode }) {
    if (mode === "snapshot") this.#unsure = true;
    this.look(transcript);
    this.#lookForLost(transcript);
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
  #lookForLost(transcript) {
    if (!this.#unsure || transcript.running !== null) return;
    this.#unsure = false;
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
