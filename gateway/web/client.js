// The client of a Trunkline gateway, for browsers: many sessions over one line, and nothing lost when it breaks.
//
//     import { Gateway } from "./client.js";
//     const gateway = new Gateway("https://chat.example", { token, agent: "eliza" });
//     const chat = gateway.session("support");
//     for await (const piece of chat.send("hi")) …
//
// What is to be sent is not queued but known: every new line begins with one `attach` of all sessions from where each
// stands, and every message that is not acknowledged yet, under the `turn_id` it always had.

import { Desk } from "./client/desk.js";
import { browser } from "./client/env.js";
import { Lagged } from "./client/feed.js";
import { Opener, gatewayUrl } from "./client/opener.js";
import { Session } from "./client/session.js";
import { Turn, TurnFailed } from "./client/turn.js";

export { Lagged, Session, Turn, TurnFailed };

/**
 * `url` is the gateway's, "" for where the page came from; http and ws mean the same. `token` is one, or a function
 * that gets one, which is asked before each line and again before the last one ends. `shared`: one line for all pages
 * of this browser.
 *
 * Events: "state" (`detail` is the state), "frame" (`detail` is {direction: "in" | "out", frame, at}), "token" and
 * "goaway" (`detail` is the frame).
 */
export class Gateway extends EventTarget {
  #desk;
  #agent;
  #unlisten = new AbortController();

  constructor(url = "", { token, agent, user, shared = false, client = "trunkline", env = browser() } = {}) {
    super();
    const address = gatewayUrl(url, env.document.baseURI);
    const opener = new Opener(env, { url: address, token, user, client });
    const tell = (type, detail) => this.dispatchEvent(new CustomEvent(type, { detail }));
    this.#agent = agent;
    this.#desk = new Desk(env, opener, { shared, tell });
    this.#listen(env);
    this.#desk.start();
  }

  /** How the line is. */
  get state() {
    return this.#desk.state;
  }

  /** Those that are followed. */
  get sessions() {
    return [...this.#desk.sessions.values()];
  }

  /**
   * The session of that id, followed from now on; the same one until it is detached. `history`: messages wanted of it,
   * 0 to 200. `create`: make it, if there is none.
   */
  session(id, { agent = this.#agent, ...options } = {}) {
    const known = this.#desk.sessions.get(id);
    if (known === undefined) {
      const session = new Session(this.#desk, id, { agent, ...options });
      this.#desk.add(session);
      return session;
    }
    if (agent === undefined || (known.agent ?? agent) === agent) return known;
    throw new Error(`The session ${id} is followed with the agent ${known.agent}; on one line it cannot be ${agent}’s too.`);
  }

  /** Hang up. Turns run on; whoever waits for one here is told that nobody listens. */
  close() {
    this.#unlisten.abort();
    this.#keep();
    this.#desk.stop();
  }

  #keep() {
    for (const session of this.sessions) session.keep();
  }

  #listen({ window, document }) {
    const { signal } = this.#unlisten;
    const hurry = () => this.#desk.hurry();
    const seen = () => document.visibilityState === "hidden" || hurry();
    for (const type of ["online", "offline"]) window.addEventListener(type, hurry, { signal });
    window.addEventListener("pageshow", seen, { signal });
    document.addEventListener("visibilitychange", seen, { signal });
    // A page that is hidden may never be heard of again.
    document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && this.#keep(), {
      signal,
    });
    window.addEventListener("pagehide", () => this.#keep(), { signal });
  }
}
