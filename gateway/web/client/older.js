// The messages before the oldest one that is shown: they are fetched page by page.

const LONGEST_PAGE = 1_000;

/** `page(limit, before)` gets {messages, has_more, before}; `before` is where the next one ends. */
export class Older {
  #page;
  #before = null;
  // How often the view began anew: what was fetched for another one would leave a gap.
  #view = 0;

  constructor(page) {
    this.#page = page;
  }

  /** The view begins anew. */
  forget() {
    this.#before = null;
    this.#view += 1;
  }

  /** Put about `limit` of them before those in `transcript`, of which `shown` are shown. */
  async more(transcript, shown, limit) {
    const view = this.#view;
    for (let found = 0; transcript.hasMore && found === 0;) {
      // Where the oldest one shown stands in the log is not known at first: so the newest page holds it too.
      const wanted = this.#before === null ? limit + shown : limit;
      const { messages, has_more, before = null } = await this.#page(Math.min(LONGEST_PAGE, wanted), this.#before);
      if (view !== this.#view) return;
      this.#before = before;
      found = transcript.prepend(messages, has_more && before !== null);
    }
  }
}
