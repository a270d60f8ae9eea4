// How one session is followed: from where, and whether what comes is of use.

import { isBare } from "./frames.js";
import { HEALED_AT_MOST } from "./rules.js";
import { Transcript } from "./transcript.js";

const MOST_HISTORY = 200;

/** `history` and `create` are what the page wants of the session. */
export class Following {
  transcript;
  /** It is over, and to be made again. */
  revived = false;
  /** The last `attached` went on from the view that was there. */
  replayed = false;
  /** The gateway could not attach it just now: it is to be asked again. */
  putOff = false;
  #options;
  // It is to begin anew: what is here is for reading only.
  #afresh = false;
  // The gateway was asked to make it, if there is none.
  #toBeMade = false;
  #healed = 0;

  constructor(sessionId, { history, create }) {
    this.transcript = new Transcript(sessionId);
    this.#options = { history, create };
  }

  /** It is asked for now: from where. */
  ask() {
    const { history, create } = this.#options;
    const cursor = this.#afresh ? null : this.transcript.cursor;
    // Only what was never seen is made: a conversation that was deleted elsewhere stays deleted.
    this.#toBeMade = cursor === null && (create || this.revived);
    this.putOff = false;
    const from = cursor === null ? { create: this.#toBeMade || undefined } : { cursor };
    return { history: this.#healed > 0 ? MOST_HISTORY : history, ...from };
  }

  /** There is none, says the gateway: is it to be asked to make it? */
  get mayBeMade() {
    return this.#options.create && !this.#toBeMade;
  }

  /** What was seen of it; null, if that is to begin anew. */
  get seen() {
    return this.#afresh || this.transcript.cursor === null ? null : this.transcript.toJSON();
  }

  /** There is another line. */
  renewed() {
    this.#healed = 0;
  }

  lost() {
    this.putOff = false;
    this.transcript.detach();
  }

  /** This was seen of it, or nothing. */
  begin(transcript = new Transcript(this.transcript.sessionId)) {
    this.transcript = transcript;
    this.#afresh = false;
    this.revived = transcript.ended !== null; // somebody else may have made it again since
  }

  beginAnew() {
    this.#afresh = true;
    this.transcript.detach();
  }

  /** What is here is wrong. Is there a use in looking again? */
  mayHeal() {
    this.#healed += 1;
    return this.#healed <= HEALED_AT_MOST;
  }

  /** Is this of a following that was given up? What begins anew is no replay. */
  isOld({ type, mode }) {
    const { attached, cursor } = this.transcript;
    return type === "attached" ? mode === "replay" && (this.#afresh || cursor === null) : !attached;
  }

  /** Is the history missing, so that it has to be asked for once more? */
  isIncomplete(frame) {
    return isBare(frame, this.#options) && this.mayHeal();
  }

  /** The transcript took in that. */
  attached({ mode }) {
    this.replayed = mode === "replay";
    this.#afresh = this.#toBeMade = this.revived = false;
  }
}
