// One line per browser: of all pages with the same gateway, user and token, one holds it for the others. Who that is,
// a Web Lock says: it passes on when a page goes, however it goes.

import { NO_LINE } from "./carrier.js";
import { Hub } from "./hub.js";

/** Can pages of this browser find each other? Locks are for secure pages only. */
export const canShare = (env) => Boolean(env.navigator?.locks && env.BroadcastChannel);

const UP = new Set(["join", "attach", "send", "hurry"]);

/** To its owner it is what a `Carrier` is. */
export class SharedLine {
  state = { ...NO_LINE, leader: false };
  isOpen = false;
  #env;
  #opener;
  #owner;
  #transport;
  #name = "";
  #page;
  #channel = null;
  #hub = null;
  #leader = null;
  #watched = new Set();
  #stopping = new AbortController();

  constructor(env, opener, owner, transport) {
    this.#env = env;
    this.#opener = opener;
    this.#owner = owner;
    this.#transport = transport;
    this.#page = env.newId();
  }

  async start() {
    const who = await this.#opener.identity();
    if (this.#stopped) return;
    if (who === null) return this.#leadNobody(); // with whom it might share is not known
    this.#name = `trunkline ${who.name}`;
    try {
      this.#channel = new this.#env.BroadcastChannel(this.#name);
      this.#channel.onmessage = ({ data }) => this.#hear(data);
      // As long as this one is held, this page is there.
      this.#hold(this.#lockOf(this.#page), () => this.#say("*", { kind: "join" })).catch(() => {});
      await this.#hold(this.#name, () => this.#lead());
    } catch {
      this.#leadNobody(); // of a page that may not share, or one that stopped waiting
    }
  }

  send(frame) {
    if (!this.isOpen) return;
    this.#owner.sent(frame);
    this.#say(this.#leader, { kind: "send", frame });
  }

  attach(targets) {
    if (!this.isOpen || targets.length === 0) return;
    this.#attach(targets, false);
  }

  // `all`: it follows nothing else.
  #attach(targets, all) {
    const seen = Object.fromEntries(targets.map(({ session_id: id }) => [id, this.#owner.seen(id)]));
    this.#owner.sent({ type: "attach", sessions: targets });
    this.#say(this.#leader, { kind: "attach", targets, seen, all });
  }

  hurry() {
    if (this.#leader !== null) this.#say(this.#leader, { kind: "hurry" });
  }

  stop() {
    this.#stopping.abort();
    this.#hub?.stop();
    this.#hub = null;
    this.#channel?.close();
    this.#lost();
  }

  get #stopped() {
    return this.#stopping.signal.aborted;
  }

  // ── Locks ──

  #lockOf(page) {
    return `${this.#name} ${page}`;
  }

  // Holds it until this line stops.
  #hold(name, held) {
    const { signal } = this.#stopping;
    const until = new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    return this.#env.navigator.locks.request(name, { signal }, () => {
      held();
      return until;
    });
  }

  #leadNobody() {
    this.#channel?.close();
    this.#channel = null;
    this.#lead();
  }

  #lead() {
    if (this.#stopped) return;
    this.#hub = new Hub(this.#env, this.#opener, this.#transport, (page, message) => this.#tell(page, message));
    this.#say("*", { kind: "lead" });
    this.#take({ kind: "lead", from: this.#page });
    this.#hub.start();
  }

  // Until that page is gone.
  #watch(page) {
    if (this.#watched.has(page)) return;
    this.#watched.add(page);
    const gone = () => {
      this.#watched.delete(page);
      this.#hub?.leave(page);
    };
    this.#env.navigator.locks.request(this.#lockOf(page), { signal: this.#stopping.signal }, gone).catch(() => {});
  }

  // ── Messages ──

  // `to` is a page, or all others.
  #say(to, message) {
    if (to === this.#page) this.#later(() => this.#hub?.hear(this.#page, structuredClone(message)));
    else this.#channel?.postMessage({ ...message, from: this.#page, to });
  }

  #tell(page, message) {
    if (page === this.#page) this.#later(() => this.#take({ ...message, from: this.#page }));
    // When the line of this page is over for good, the next one tries: its own token may be better.
    else if (message.state?.status !== "closed") this.#say(page, message);
  }

  // In the order in which it was said, and never in the middle of something else.
  #later(what) {
    queueMicrotask(() => this.#stopped || what());
  }

  #hear(message) {
    const { to, from, kind } = message;
    if (this.#stopped || (to !== "*" && to !== this.#page)) return;
    if (!UP.has(kind)) {
      this.#take(message);
    } else if (this.#hub !== null) {
      if (kind === "join") this.#watch(from);
      this.#hub.hear(from, message);
    }
  }

  #take({ kind, from, state, frame }) {
    if (kind === "lead") this.#say(from, { kind: "join" });
    else if (kind === "welcome") this.#follow(from);
    else if (from !== this.#leader) return;
    else if (kind === "state") this.#changed(state);
    else if (kind === "open") this.#opened();
    else if (kind === "lost") this.#lost();
    else if (kind === "frame") this.#owner.frame(frame);
  }

  #follow(leader) {
    this.#lost();
    this.#leader = leader;
  }

  #opened() {
    this.isOpen = true;
    this.#attach(this.#owner.targets(), true);
    this.#owner.opened();
  }

  #lost() {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.#owner.lost();
  }

  #changed(state) {
    this.state = { ...state, leader: this.#leader === this.#page };
    this.#owner.state(this.state);
  }
}
