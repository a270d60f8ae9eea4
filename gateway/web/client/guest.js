// A visitor without an account: the token that the gateway gives to whoever asks. All pages of a browser are one guest.

import { ANSWER, NOT_NOW } from "./rules.js";

// Where nothing can be kept: a guest until the page goes.
const memory = new Map();

/** The guest of the gateway at `url`, an address that paths may be added to. */
export class Guest {
  #env;
  #url;
  #name;
  // The gateway wants a token; and which one it takes no longer.
  #wanted = false;
  #refused = null;

  constructor(env, url) {
    this.#env = env;
    this.#url = url;
    this.#name = `trunkline guest ${url}`;
  }

  /** Its token, if this browser has one. */
  get kept() {
    return this.#load()?.token;
  }

  /** The gateway lets nobody in without a token, or no longer with this one. */
  refused(token) {
    this.#wanted = true;
    this.#refused = token ?? null;
  }

  /** A token that holds; undefined, if none is wanted, or the gateway takes no guests. Rejects if it cannot be asked. */
  async token() {
    if (this.#load() === null && !this.#wanted) return undefined;
    return this.#good()?.token ?? this.#alone(() => this.#get());
  }

  /**
   * The page has the token of a user: what the guest said is that user's from now on, and the guest is forgotten. What
   * cannot be done now is left for the next time.
   */
  async adoptedBy(token) {
    if (this.#load() === null) return;
    await this.#alone(async () => {
      const guest = this.#load();
      if (guest === null) return; // another page did it
      const { status } = await this.#ask("guest/adopt", token, { token: guest.token });
      if (status !== 401 && !NOT_NOW(status) && this.kept === guest.token) this.#save(null);
    }).catch(() => {});
  }

  // The one that is kept, if it is to be used as it is: in the second half of its life it is renewed.
  #good() {
    const guest = this.#load();
    if (guest === null || guest.token === this.#refused) return null;
    return this.#env.now() < (guest.keptAt + guest.expiresAt) / 2 ? guest : null;
  }

  // Another page may have done it meanwhile.
  async #get() {
    const good = this.#good();
    if (good !== null) return good.token;
    const before = this.#load();
    const old = before !== null && before.token !== this.#refused ? before : null;
    try {
      const renewed = old && (await this.#take(old.token));
      return renewed ?? (await this.#take());
    } catch (error) {
      if (old !== null && this.#env.now() < old.expiresAt) return old.token;
      throw error;
    }
  }

  // Undefined, if the gateway gives none.
  async #take(token) {
    const before = this.kept;
    const response = await this.#ask("guest", token);
    if (NOT_NOW(response.status)) throw new Error(`The gateway answered ${response.status}.`);
    if (!response.ok) return undefined;
    const answer = await response.json();
    // Pages that cannot wait for each other: whoever keeps a guest first, is it for all.
    if (this.kept !== before && this.#good() !== null) return this.kept;
    this.#save({ token: answer.token, expiresAt: answer.expires_at * 1000, keptAt: this.#env.now() });
    return this.kept ?? answer.token;
  }

  async #ask(path, token, body) {
    const stop = new AbortController();
    const late = this.#env.setTimeout(() => stop.abort(), ANSWER);
    const headers = {
      ...(token && { Authorization: `Bearer ${token}` }),
      ...(body && { "Content-Type": "application/json" }),
    };
    try {
      const request = { method: "POST", headers, body: body && JSON.stringify(body), signal: stop.signal };
      return await this.#env.fetch(new URL(path, this.#url).href, request);
    } finally {
      this.#env.clearTimeout(late);
    }
  }

  // No two pages of a browser at once, where they can wait for each other.
  async #alone(work) {
    const done = async () => {
      try {
        return { value: await work() };
      } catch (error) {
        return { error };
      }
    };
    const locks = this.#env.navigator?.locks;
    const { signal } = new AbortController();
    const { value, error } = await (locks?.request(this.#name, { signal }, done).catch(done) ?? done());
    if (error) throw error;
    return value;
  }

  #load() {
    try {
      const text = this.#env.local.getItem(this.#name);
      return text === null ? (memory.get(this.#name) ?? null) : JSON.parse(text);
    } catch {
      return memory.get(this.#name) ?? null;
    }
  }

  #save(guest) {
    memory.delete(this.#name);
    try {
      if (guest === null) this.#env.local.removeItem(this.#name);
      else this.#env.local.setItem(this.#name, JSON.stringify(guest));
    } catch {
      if (guest !== null) memory.set(this.#name, guest);
    }
  }
}
