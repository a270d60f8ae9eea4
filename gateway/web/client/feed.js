// What one who iterates has not taken yet.

/** So much waited to be taken that the rest was not kept. */
export class Lagged extends Error {
  name = "Lagged";
}

const MOST = 1_000;

/** Frames from now on, for `for await`. It ends with an error once more than a thousand wait. */
export class Feed {
  #waiting = [];
  #takers = [];
  #end = null;
  #gone;

  /** `gone` is called when it ends, or nobody iterates any more. */
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
    this.#gone(this);
    this.#give();
  }

  next() {
    return new Promise((resolve, reject) => {
      this.#takers.push({ resolve, reject });
      this.#give();
    });
  }

  return() {
    this.#waiting = [];
    this.close();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  #give() {
    while (this.#takers.length > 0 && (this.#waiting.length > 0 || this.#end !== null)) {
      this.#giveTo(this.#takers.shift());
    }
  }

  // An error is told once; after it there is nothing more.
  #giveTo({ resolve, reject }) {
    const { error } = this.#end ?? {};
    if (this.#waiting.length > 0) {
      resolve({ done: false, value: this.#waiting.shift() });
    } else if (error) {
      this.#end = { error: null };
      reject(error);
    } else {
      resolve({ done: true, value: undefined });
    }
  }
}
