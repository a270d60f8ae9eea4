// One gateway per page and caller, however many widgets talk to it.

import { Gateway } from "../client.js";

const CALLER = ["url", "token", "user", "shared"];

const open = [];

/** A gateway that widgets share, and which of its sessions they show. */
class Line {
  gateway;
  widgets = 0;
  #shown = new Map();

  constructor(options) {
    this.options = options;
    this.gateway = new Gateway(options.url, options);
  }

  is(options) {
    return CALLER.every((name) => this.options[name] === options[name]);
  }

  /** That session, as `gateway.session` has it, for one more who shows it. */
  session(id, options) {
    const session = this.gateway.session(id, options);
    this.#shown.set(session, (this.#shown.get(session) ?? 0) + 1);
    return session;
  }

  /** One shows it no longer; if nobody does, it is followed no more. */
  leave(session) {
    const others = this.#shown.get(session) - 1;
    if (others > 0) this.#shown.set(session, others);
    else if (this.#shown.delete(session)) session.detach();
  }
}

/** The line of this caller: `{ url, token, user, shared, client }`. A function is the same token as itself only. */
export function acquire(options) {
  let line = open.find((other) => other.is(options));
  if (line === undefined) open.push((line = new Line(options)));
  line.widgets += 1;
  return line;
}

/** One needs it no longer. */
export function release(line) {
  line.widgets -= 1;
  if (line.widgets > 0) return;
  open.splice(open.indexOf(line), 1);
  line.gateway.close();
}
