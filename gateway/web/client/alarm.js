// Rings when nothing was heard for a while. One timer, however often something is heard.

export class Alarm {
  #env;
  #ring;
  #quiet = 0;
  #heardAt = 0;
  #timer = null;

  constructor(env, ring) {
    this.#env = env;
    this.#ring = ring;
  }

  /** Something was heard: it rings `quiet` ms from now. */
  heard(quiet) {
    this.#heardAt = this.#env.elapsed();
    if (quiet === this.#quiet) return;
    this.#quiet = quiet;
    this.#wait();
  }

  /** A machine that slept, or a throttled page, may be late with its timers. */
  check() {
    if (this.#quiet > 0) this.#wait();
  }

  stop() {
    this.#quiet = 0;
    this.#env.clearTimeout(this.#timer);
    this.#timer = null;
  }

  #wait() {
    this.#env.clearTimeout(this.#timer);
    const left = this.#heardAt + this.#quiet - this.#env.elapsed();
    if (left <= 0) this.#ring();
    else this.#timer = this.#env.setTimeout(() => this.#wait(), left);
  }
}
