// What survives a reload of the page: in this tab only.

const VERSION = 1;

/** `name` says whose it is: of which gateway, and whose token; see `Opener.identity`. */
export class Keep {
  #storage;
  #name;

  constructor(storage, name) {
    this.#storage = storage;
    this.#name = `trunkline ${name}`;
  }

  /** What was kept of a session; an empty object if nothing was. */
  load(part) {
    try {
      const kept = JSON.parse(this.#storage.getItem(`${this.#name} ${part}`));
      return kept?.version === VERSION ? kept : {};
    } catch {
      return {};
    }
  }

  /** Keeps it, or, with nothing to keep or no room for it, nothing. */
  save(part, value) {
    const name = `${this.#name} ${part}`;
    try {
      this.#storage.removeItem(name);
      if (value !== null) this.#storage.setItem(name, JSON.stringify({ version: VERSION, ...value }));
    } catch {
      // The page goes on without: a reload then begins with what the gateway tells.
    }
  }
}

/** As long as nobody knows whose page it is, nothing is kept and nothing was. */
export const NOBODYS = new Keep(undefined, "");
