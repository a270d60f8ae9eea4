// One WebSocket, from the upgrade to the close.

import { Alarm } from "./alarm.js";
import { BROKEN, GREETING, HEARTBEAT, OPENING, SIGN_OF_LIFE } from "./rules.js";

/**
 * Tells `to.frame(frame)`, `to.sent(frame)`, and at the end once `to.gone({code, reason, late})`: `late`, if it never opened.
 */
export class SocketLine {
  transport = "websocket";
  #to;
  #socket = null;
  #alarm;
  #opened = false;
  #heartbeat = HEARTBEAT;

  constructor(env, url, hello, to) {
    this.#to = to;
    this.#alarm = new Alarm(env, () => this.#silent());
    this.#alarm.heard(OPENING);
    try {
      this.#socket = new env.WebSocket(url, "gateway.v1");
    } catch (error) {
      // Not a good address, or the page's policy forbids it. Told later: whoever asked has no line yet.
      env.setTimeout(() => this.#end({ code: BROKEN, reason: error.message }), 0);
      return;
    }
    this.#socket.onopen = () => {
      this.#opened = true;
      this.#alarm.heard(GREETING);
      this.send(hello);
    };
    this.#socket.onmessage = ({ data }) => this.#hear(data);
    this.#socket.onclose = ({ code, reason }) => this.#end({ code, reason });
  }

  send(frame) {
    this.#socket.send(JSON.stringify(frame));
    this.#to?.sent(frame);
  }

  /** The gateway takes the present token for a minute more only. */
  renew(token) {
    this.send({ type: "hello", token, ref: "renewal" });
  }

  /** Is it still there? One that does not say so in time is dead. */
  check() {
    this.#alarm.check();
    if (this.#to === null || this.#socket.readyState !== 1) return;
    this.send({ type: "ping" });
    this.#alarm.heard(SIGN_OF_LIFE);
  }

  close() {
    this.#to = null;
    this.#alarm.stop();
    if (this.#socket === null) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    // Closing one that was never opened is an error in some browsers' consoles, and harmless.
    this.#socket.close(1000);
  }

  #hear(data) {
    for (const text of data.split("\n")) {
      if (this.#to === null) return;
      const frame = JSON.parse(text);
      if (frame.type === "connected") this.#heartbeat = frame.heartbeat_ms;
      this.#to.frame(frame);
    }
    if (this.#to !== null) this.#alarm.heard(2 * this.#heartbeat);
  }

  #silent() {
    const reason = this.#opened ? "The gateway was not heard any more." : "No WebSocket could be opened in time.";
    this.#end({ code: BROKEN, reason, late: !this.#opened });
  }

  #end(how) {
    const to = this.#to;
    this.close();
    to?.gone(how);
  }
}
