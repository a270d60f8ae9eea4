// The line that is kept: one after the other, by socket or, where none gets through, by stream.

import { attachFrames } from "./frames.js";
import { HELLO } from "./opener.js";
import { CALM, FINAL, MAX_FRAME, PROBE, SAID, TOKEN_REFUSED, WAITS, closeOfRefusal, jitter } from "./rules.js";

const HELD_BACK = "Something on the way holds back what the gateway streams: answers come late.";

/** How the line is before anything was tried; times in ms since 1970. */
export const NO_LINE = Object.freeze({
  ...{ status: "connecting", transport: null, reason: "", code: null, retryAt: null, connected: null, leader: null },
});

/**
 * `owner` says what is wanted and is told what comes: `targets()` are the sessions to follow, from where each
 * stands; `opened()`: frames may be sent, and the sessions are being attached; `lost()`; `frame(frame)`; `sent(frame)`;
 * `state(state)`; `fallBack()`: no socket gets through: if that answers true, somebody else goes on from here.
 */
export class Carrier {
  state = NO_LINE;
  /** The gateway knows who this is; frames may be sent. */
  isOpen = false;
  #env;
  #opener;
  #owner;
  #line = null;
  // A socket that is tried beside a stream.
  #trial = null;
  #next;
  #openedAt = 0;
  #tries = 0;
  #deaths = 0;
  #probes = 0;
  #retry = null;
  // The gateway is not to be asked earlier.
  #notBefore = 0;
  #probe = null;
  // What the gateway last said of the line itself, and how long it wants to be left alone.
  #words = null;
  #patience = 0;
  #askedAgain = false;
  #heldBack = false;
  #stopped = false;

  constructor(env, opener, owner, transport = "websocket") {
    this.#env = env;
    this.#opener = opener;
    this.#owner = owner;
    this.#next = opener.hasSockets ? transport : "http";
  }

  start() {
    void this.#attempt();
  }

  send(frame) {
    if (this.isOpen) this.#line.send(frame);
  }

  /** Follow these sessions too. */
  attach(targets) {
    if (!this.isOpen || targets.length === 0) return;
    if (this.#line.transport === "http") this.#line.follow();
    else attachFrames(targets, this.state.connected?.max_frame_bytes ?? MAX_FRAME).forEach((frame) => this.send(frame));
  }

  /** The page is seen again, or the network changed. */
  hurry() {
    if (this.state.status === "waiting") this.#retryIn(this.#notBefore - this.#env.elapsed());
    this.#line?.check();
    if (this.#line?.transport === "http") void this.#try();
  }

  /** Be there no more, and say nothing of it. */
  stop() {
    this.#stopped = true;
    this.#drop();
  }

  /** There will be no line any more. */
  close(reason, code) {
    this.stop();
    this.#say({ status: "closed", transport: null, reason, code, retryAt: null });
  }

  // ── One line after the other ──

  async #attempt() {
    this.#env.clearTimeout(this.#retry);
    this.#say({ status: "connecting", transport: null, retryAt: null });
    const transport = this.#next;
    const token = await this.#opener.token();
    if (this.#stopped) return;
    if (token instanceof Error) this.#wait({ code: null, reason: "No token could be got." });
    else this.#line = this.#begin(transport, token);
  }

  #begin(transport, token) {
    // Of this line: one that was given up may still have something to say.
    const to = {
      frame: (frame) => this.#hear(line, frame),
      sent: (frame) => this.#owner.sent(frame),
      late: () => this.#late(line),
      gone: (how) => this.#gone(line, how),
    };
    const line = this.#opener.open(transport, token, () => this.#owner.targets(), to);
    return line;
  }

  #gone(line, how) {
    if (line === this.#trial) {
      this.#trial = null;
      this.#planProbe();
    } else if (line === this.#line) {
      this.#over(line.transport, { ...how, reason: this.#words?.content || how.reason || FINAL.get(how.code) });
    }
  }

  #over(transport, how) {
    const wasOpen = this.isOpen;
    this.#drop();
    if (how.code === TOKEN_REFUSED && this.#mayAskAgain()) void this.#attempt();
    else if (FINAL.has(how.code)) this.close(how.reason, how.code);
    else if (wasOpen || SAID.has(how.code)) this.#wait(how);
    else this.#died(transport, how);
  }

  // A function may give a better token than the last one: once.
  #mayAskAgain() {
    const may = this.#opener.canRenew && !this.#askedAgain;
    this.#askedAgain = true;
    if (may) this.#opener.refused();
    return may;
  }

  // It never was there. A gateway that is down looks like a proxy that lets no socket through: so both ways are
  // tried in turn.
  #died(transport, how) {
    if (transport === "http") {
      if (this.#opener.hasSockets) this.#next = "websocket";
      this.#deaths = 1;
    } else if (how.late || ++this.#deaths >= 2) {
      this.#next = "http";
      if (!this.#owner.fallBack()) void this.#attempt();
      return;
    }
    this.#wait(how);
  }

  #wait({ code, reason, retryAfter = 0 }) {
    const least = Math.max(this.#patience, retryAfter, WAITS.get(code) ?? 0);
    const pause = least + jitter(this.#tries++, this.#env.random);
    this.#notBefore = this.#env.elapsed() + least;
    this.#say({ status: "waiting", transport: null, reason: reason || "The line broke.", code });
    this.#retryIn(pause);
  }

  #retryIn(pause) {
    this.#env.clearTimeout(this.#retry);
    if (pause <= 0) {
      void this.#attempt();
      return;
    }
    this.#retry = this.#env.setTimeout(() => void this.#attempt(), pause);
    this.#say({ retryAt: this.#env.now() + pause });
  }

  #drop() {
    this.#env.clearTimeout(this.#retry);
    this.#env.clearTimeout(this.#probe);
    this.#line?.close();
    this.#trial?.close();
    this.#line = this.#trial = null;
    if (!this.isOpen) return;
    this.isOpen = false;
    if (this.#env.elapsed() - this.#openedAt >= CALM) {
      this.#tries = 0;
      this.#askedAgain = false;
    }
    this.#owner.lost();
  }

  // ── What the gateway says of the line ──

  #hear(line, frame) {
    if (line === this.#trial && frame.type === "connected" && frame.ref === HELLO) this.#changeOver();
    if (line !== this.#line) return;
    this.#owner.frame(frame);
    if (frame.type === "connected") this.#connected(frame);
    else if (frame.type === "goaway") this.#patience = frame.reconnect_after_ms;
    else if (frame.type === "token") void this.#renew(line);
    else if (frame.type === "error" && frame.ref === HELLO) this.#refused(frame);
    else if (frame.type === "error" && frame.session_id === undefined && frame.ref === undefined) this.#note(frame);
  }

  #refused(error) {
    this.#note(error);
    this.#over(this.#line.transport, { code: closeOfRefusal(error), reason: error.content });
  }

  #note(error) {
    this.#words = error;
    this.#patience = Math.max(this.#patience, error.retry_after_ms ?? 0);
  }

  #connected(connected) {
    const { transport } = this.#line;
    // On a socket an anonymous gateway greets before it has read who this is.
    if (!this.isOpen && transport === "websocket" && connected.ref !== HELLO) return;
    const reason = this.#heldBack ? HELD_BACK : "";
    this.#say({ status: "connected", transport, reason, code: null, retryAt: null, connected });
    if (!this.isOpen) this.#opened(transport);
  }

  #opened(transport) {
    this.isOpen = true;
    this.#openedAt = this.#env.elapsed();
    this.#deaths = this.#patience = 0;
    this.#words = null;
    if (transport === "http") this.#planProbe();
    else this.attach(this.#owner.targets());
    this.#owner.opened();
  }

  async #renew(line) {
    if (!this.#opener.canRenew) return;
    const token = await this.#opener.token();
    if (line === this.#line && !(token instanceof Error)) line.renew(token);
  }

  // ── A socket beside the stream ──

  // Somebody on the way collects what should flow.
  #late(line) {
    if (line !== this.#line) return;
    this.#heldBack = true;
    this.#env.console?.warn(HELD_BACK);
    this.#say({ reason: HELD_BACK });
    void this.#try();
  }

  #planProbe() {
    if (!this.#opener.hasSockets) return;
    const [first, longest] = PROBE;
    this.#env.clearTimeout(this.#probe);
    this.#probe = this.#env.setTimeout(() => void this.#try(), Math.min(longest, first * 2 ** this.#probes++));
  }

  async #try() {
    const line = this.#line;
    const token = await this.#opener.token();
    if (line !== this.#line || line === null || this.#trial !== null || token instanceof Error) return;
    if (this.#opener.hasSockets) this.#trial = this.#begin("websocket", token);
  }

  #changeOver() {
    const line = this.#trial;
    this.#trial = null;
    this.#drop();
    this.#line = line;
    this.#next = "websocket";
    this.#probes = 0;
    this.#heldBack = false;
  }

  #say(change) {
    this.state = { ...this.state, ...change };
    this.#owner.state(this.state);
  }
}
