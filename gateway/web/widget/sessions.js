// Which conversations a widget shows: `sessions="support, eliza/doctor=Dr. Eliza, echo/"`.

const ENTRY = /^(?:([^/=]+)\/)?([^/=]*)(?:=(.*))?$/;

/**
 * The entries of the attribute, each `[agent/]id[=label]`. Where there is no id, the widget has its own: one
 * per browser, kept, which "new conversation" replaces. What is no entry says why it is `wrong`.
 *
 * @param {string} text
 * @param {string | null} agent  the one that is meant where none is named
 */
export function entries(text, agent) {
  return text.split(",").map((part) => {
    const entry = part.trim();
    const [, named, id, label] = ENTRY.exec(entry) ?? [];
    if (id === undefined)
      return { agent, id: entry, label: entry, wrong: `“${entry}” in sessions="…" is not [agent/]id[=label].` };
    return { agent: named?.trim() || agent, id: id.trim(), label: label?.trim() ?? "" };
  });
}

/** Ids of the widget's own, by gateway, user and agent. */
export class OwnIds {
  #prefix;
  #kept = new Map();

  constructor(...whose) {
    this.#prefix = ["trunkline", ...whose].join(" ");
  }

  /** The id for `name`; made if there is none, or if it is to be `fresh`. */
  get(name, fresh = false) {
    const key = `${this.#prefix} ${name}`;
    const id =
      (!fresh && this.#read(key)) ||
      crypto.getRandomValues(new BigUint64Array(2)).reduce((text, part) => text + part.toString(36), "");
    this.#kept.set(key, id);
    try {
      localStorage.setItem(key, id);
    } catch {
      // no storage in this browser: kept as long as the page
    }
    return id;
  }

  #read(key) {
    try {
      return localStorage.getItem(key) ?? this.#kept.get(key);
    } catch {
      return this.#kept.get(key);
    }
  }
}
