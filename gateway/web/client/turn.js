// One message and its answer, for who waits for it.

/** The turn ended as an `error`, its message was refused, or there will be no line any more. */
export class TurnFailed extends Error {
  name = "TurnFailed";

  constructor(frame) {
    super(`${frame.code}: ${frame.content}`);
    const { code, content, partial = "", retryable = false } = frame;
    Object.assign(this, { code, content, partial, retryable, frame });
  }
}

/**
 * `await` it for its `response`; iterate it for the pieces of its text, which are, however often the line broke,
 * the answer. Both throw `TurnFailed`.
 */
export class Turn {
  session;
  turnId;
  /** What `message` says. */
  frame;
  /** How often that was sent. */
  attempts = 0;
  /** The gateway has it: it will run, whatever happens to the line. */
  acknowledged = false;
  /** It was acknowledged before its session was last asked for, so a snapshot must tell of it. */
  asked = false;
  /** … and that snapshot came. */
  expected = false;
  /** It was over when the gateway was asked for it, and the session is attached anew because of that. */
  sought = false;
  cancelling = false;
  createdAt;
  /** How it stands, as long as the transcript does not tell. */
  spoken = "sending";
  code = null;
  error = null;
  retryable = null;
  #view = null;
  #end = null;
  #ended = deferred();
  #waiting = [];

  constructor(session, frame, createdAt) {
    Object.assign(this, { session, turnId: frame.turn_id, frame, createdAt });
    this.#ended.promise.catch(() => {}); // nobody has to wait for it
  }

  /** The answer so far; the whole of it when the turn is over. */
  get content() {
    return this.#view?.text ?? "";
  }

  get status() {
    const { status } = this.#view ?? { status: this.spoken };
    return status === "waiting" ? "queued" : status;
  }

  get over() {
    return this.#end !== null;
  }

  /** Stop it, also if it still waits. It then ends as `cancelled`, with the text so far. */
  cancel() {
    this.cancelling = true;
    this.session.cancel(this.turnId);
  }

  then(resolve, reject) {
    return this.#ended.promise.then(resolve, reject);
  }

  async *[Symbol.asyncIterator]() {
    for (let reached = 0; ;) {
      const text = this.content;
      if (text.length > reached) {
        yield text.slice(reached);
        reached = text.length;
      } else if (this.over) {
        await this;
        return;
      } else {
        await new Promise((resolve) => this.#waiting.push(resolve));
      }
    }
  }

  // ── For its session ──

  /** This is what the transcript shows of it. */
  look(view) {
    this.acknowledged = true;
    this.#view = view;
    this.#wake();
  }

  /** It is over: `frame` is its `response`, or an `error`. */
  finish(frame) {
    if (this.over) return;
    this.#end = frame;
    if (frame.type === "response") this.#ended.resolve(frame);
    else this.#ended.reject(new TurnFailed(frame));
    this.#wake();
  }

  /** It will not run. */
  refuse(error) {
    Object.assign(this, { spoken: "refused", code: error.code, error: error.content, retryable: error.retryable });
    this.finish(error);
  }

  #wake() {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

function deferred() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}

/** The end of a turn that nobody here listened to, as far as the history tells. */
export function endOf(view, sessionId) {
  if (view.end) return view.end;
  const of = { session_id: sessionId, turn_id: view.turnId };
  if (view.status === "failed") {
    const content = view.reason ?? "The turn failed while the line was down.";
    return {
      type: "error",
      code: view.code ?? "agent_failed",
      content,
      retryable: view.retryable ?? true,
      partial: view.text,
      ...of,
    };
  }
  return {
    ...{
      type: "response",
      ...of,
      content: view.text,
      status: view.status,
      created_at: view.answeredAt ?? view.createdAt,
    },
    ...{ input_tokens: 0, output_tokens: 0, timing: {} },
    ...(view.thought && { thought: view.thought }),
    ...(view.answerMetadata && { metadata: view.answerMetadata }),
  };
}

/** An error that the client itself knows of. */
export const refusal = (turn, code, content) => ({
  ...{ type: "error", code, content, retryable: false, session_id: turn.session.id, turn_id: turn.turnId },
  partial: turn.content,
});
