// One line for all pages of a browser: what the page that holds it does for the others. It follows each session once,
// folds it, and tells each page that joins what is there already.

import { Carrier } from "./carrier.js";
import { isBare } from "./frames.js";
import { retell } from "./retell.js";
import { HEALED_AT_MOST } from "./rules.js";
import { OutOfOrder, Transcript } from "./transcript.js";

const OF_THE_LINE = new Set(["connected", "goaway", "token"]);

/**
 * Pages say {kind: "join"} · {kind: "attach", targets, seen, all} · {kind: "send", frame} · {kind: "hurry"}, and are
 * told {kind: "welcome"} · {kind: "state", state} · {kind: "open"} · {kind: "lost"} · {kind: "frame", frame}. To each
 * "open" they answer with `all` that they follow.
 */
export class Hub {
  #carrier;
  #tell;
  #pages = new Set();
  // By session id: {transcript, target, live, waiting, healed}: pages that stand where it stands, and those to be told.
  #followed = new Map();
  // Whose frame it was that is not answered yet, and under which `ref`.
  #asked = new Map();
  #count = 0;

  constructor(env, opener, transport, tell) {
    this.#tell = tell;
    this.#carrier = new Carrier(env, opener, this, transport);
  }

  start() {
    this.#carrier.start();
  }

  stop() {
    this.#carrier.stop();
  }

  // ── What pages say ──

  hear(page, message) {
    if (message.kind === "join") this.#join(page);
    else if (message.kind === "attach") this.#attach(page, message);
    else if (message.kind === "send") this.#send(page, message.frame);
    else if (message.kind === "hurry") this.#carrier.hurry();
  }

  /** That page is gone. */
  leave(page) {
    this.#pages.delete(page);
    for (const id of this.#followed.keys()) this.#unfollow(page, id);
  }

  #join(page) {
    this.leave(page);
    this.#pages.add(page);
    this.#tell(page, { kind: "welcome" });
    this.#tell(page, { kind: "state", state: this.#carrier.state });
    if (this.#carrier.isOpen) this.#tell(page, { kind: "open" });
  }

  #attach(page, { targets, seen, all }) {
    if (all) this.#unfollowOthers(page, new Set(targets.map(({ session_id }) => session_id)));
    const asked = targets.filter((target) => this.#follow(page, target, seen[target.session_id]));
    this.#carrier.attach(asked.map(({ session_id }) => this.#targetOf(this.#followed.get(session_id))));
  }

  // Does the gateway have to be asked?
  #follow(page, target, seen) {
    const { session_id, agent } = target;
    const followed = this.#followed.get(session_id);
    if (followed === undefined) {
      const transcript = seen ? Transcript.from(seen) : new Transcript(session_id);
      this.#followed.set(session_id, { transcript, target, live: new Set([page]), waiting: new Set(), healed: 0 });
      return true;
    }
    if (agent && (followed.target.agent ?? agent) !== agent) {
      const content = `Another page follows ${session_id} of the agent ${followed.target.agent}.`;
      this.#tell(page, {
        kind: "frame",
        frame: { type: "error", code: "session_conflict", content, retryable: false, session_id },
      });
      return false;
    }
    if (followed.live.has(page)) return !seen && this.#lookAgain(followed);
    followed.waiting.add(page);
    if (followed.transcript.attached) this.#bring(followed);
    return false;
  }

  #unfollowOthers(page, wanted) {
    for (const id of this.#followed.keys()) if (!wanted.has(id)) this.#unfollow(page, id);
  }

  #unfollow(page, session_id) {
    const followed = this.#followed.get(session_id);
    followed?.live.delete(page);
    followed?.waiting.delete(page);
    if (!followed || followed.live.size + followed.waiting.size > 0) return;
    this.#followed.delete(session_id);
    this.#carrier.send({ type: "detach", session_ids: [session_id] });
  }

  #send(page, frame) {
    if (frame.type === "detach") {
      frame.session_ids.forEach((id) => this.#unfollow(page, id));
      return;
    }
    const ref = String((this.#count += 1));
    this.#asked.set(ref, { page, ref: frame.ref });
    this.#carrier.send({ ...frame, ref });
  }

  // ── What the line says ──

  targets() {
    return [...this.#followed.values()].map((followed) => this.#targetOf(followed));
  }

  #targetOf({ target, transcript: { cursor } }) {
    const { session_id, agent, history, create } = target;
    return { session_id, agent, history, ...(cursor === null ? { create } : { cursor }) };
  }

  opened() {
    this.#all({ kind: "open" });
  }

  lost() {
    this.#asked.clear();
    for (const followed of this.#followed.values()) {
      followed.transcript.detach();
      followed.healed = 0;
    }
    this.#all({ kind: "lost" });
  }

  state(state) {
    this.#all({ kind: "state", state });
  }

  fallBack() {
    return false;
  }

  /** Pages know themselves what they asked for. */
  sent() {}

  frame(frame) {
    const asked = this.#asked.get(frame.ref);
    const followed = this.#followed.get(frame.session_id);
    if (asked) {
      this.#asked.delete(frame.ref);
      this.#tell(asked.page, { kind: "frame", frame: { ...frame, ref: asked.ref } });
    } else if (frame.ref === "attach") {
      if (frame.type === "error") this.#notAttached(frame);
    } else if (followed) {
      this.#ofSession(followed, frame);
    } else if (OF_THE_LINE.has(frame.type)) {
      this.#all({ kind: "frame", frame });
    }
  }

  #ofSession(followed, frame) {
    const { transcript, live } = followed;
    if (frame.type === "error" && frame.cursor === undefined) {
      this.#refuse(followed, frame);
      return;
    }
    // Of a following that was given up. What begins anew is no replay.
    const { attached, cursor } = transcript;
    if (frame.type === "attached" ? frame.mode === "replay" && cursor === null : !attached) return;
    if (isBare(frame, followed.target) && followed.healed < HEALED_AT_MOST) {
      followed.healed += 1;
      this.#carrier.attach([this.#targetOf(followed)]);
      return;
    }
    try {
      transcript.apply(frame);
    } catch (error) {
      if (!(error instanceof OutOfOrder)) throw error;
      this.#heal(followed, error);
      return;
    }
    for (const page of live) this.#tell(page, { kind: "frame", frame });
    if (frame.type === "attached") this.#bring(followed);
    if (transcript.ended) this.#followed.delete(frame.session_id);
  }

  // It cannot be followed: whoever wants to, asks again.
  #refuse({ live, waiting }, frame) {
    this.#followed.delete(frame.session_id);
    for (const page of [...live, ...waiting]) this.#tell(page, { kind: "frame", frame });
  }

  #notAttached(error) {
    for (const [session_id, followed] of this.#followed) {
      if (!followed.transcript.attached) this.#refuse(followed, { ...error, ref: undefined, session_id });
    }
  }

  // Tell those who wait how it stands; from now on they hear what the others hear.
  #bring({ transcript, live, waiting }) {
    if (waiting.size === 0) return;
    const frames = [...retell(transcript)];
    for (const page of waiting) {
      for (const frame of frames) this.#tell(page, { kind: "frame", frame });
      live.add(page);
    }
    waiting.clear();
  }

  #heal(followed, { message: content }) {
    const { session_id } = followed.target;
    followed.healed += 1;
    if (followed.healed <= HEALED_AT_MOST && this.#lookAgain(followed)) {
      this.#carrier.attach([this.#targetOf(followed)]);
    } else {
      this.#refuse(followed, { type: "error", code: "out_of_order", content, retryable: false, session_id });
    }
  }

  // What is here is wrong, or a page does not trust it: the gateway is to be asked what it has.
  #lookAgain(followed) {
    if (followed.transcript.cursor === null) return false; // it is being asked
    followed.transcript = new Transcript(followed.target.session_id);
    return true;
  }

  #all(message) {
    for (const page of this.#pages) this.#tell(page, message);
  }
}
