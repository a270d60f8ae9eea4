// What one who iterates has not taken yet.

/** So much waited to be taken that the rest was not kept. */
export class Lagged extends Error {
  name = "Lagged";
}

const MOST = 1_000;

/** Frames from now on, for `for await`. It ends with an error once more than a thousand wait. */
export class Feed {
  #waiting = [];
  #taker = null;
  #end = null;
  #gone;

  /** `gone` is called when nobody iterates any more. */
  constructor(gone) {
    this.#gone = gone;
  }

  push(value) {
    if (this.#end !== null) return;
    if (this.#waiting.length >= MOST) this.close(new Lagged(`More than ${MOST} frames waited to be taken.`));
    else this.#waiting.push(value);
    this.#give();
  }

  close(error = null) {
    this.#end ??= { error };
    this.#give();
  }

  next() {
    return new Promise((resolve, reject) => {
      this.#taker = { resolve, reject };
      this.#give();
    });
  }

  return() {
    this.#waiting = [];
    this.close();
    this.#gone(this);
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  #give() {
    const taker = this.#taker;
    if (taker === null || (this.#waiting.length === 0 && this.#end === null)) return;
    this.#taker = null;
    if (this.#waiting.length > 0) taker.resolve({ done: false, value: this.#waiting.shift() });
    else if (this.#end.error) taker.reject(this.#end.error);
    else taker.resolve({ done: true, value: undefined });
  }
}
