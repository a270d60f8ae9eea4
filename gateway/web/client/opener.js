// How a line is begun: where the gateway is, who asks, and by which way.

import { SocketLine } from "./socket.js";
import { StreamLine } from "./stream.js";

/** The `ref` of the frame that says who this is, and of those that say it again with another token. */
export const HELLO = "hello";

/** `token` is one, or a function that gets one. */
export class Opener {
  #env;
  #url;
  #token;
  #user;
  #client;

  constructor(env, { url, token, user, client }) {
    this.#env = env;
    this.#url = url;
    this.#token = token;
    this.#user = user;
    this.#client = client;
  }

  get hasSockets() {
    return Boolean(this.#env.WebSocket);
  }

  /** May it be asked for another token than the last one? */
  get canRenew() {
    return typeof this.#token === "function";
  }

  /** The token; an `Error`, if none could be got. */
  async token() {
    try {
      return this.canRenew ? await this.#token() : this.#token;
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    }
  }

  /** Ask over HTTP; the JSON that is answered. Rejects with the gateway's `code` and `content`. */
  async rest(path, { method = "GET", body } = {}) {
    const token = await this.token();
    if (token instanceof Error) throw token;
    const headers = {
      ...(token && { Authorization: `Bearer ${token}` }),
      ...(this.#user && { "X-User-Id": this.#user }),
    };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const response = await this.#env.fetch(new URL(path, this.#url).href, {
      method,
      headers,
      body: JSON.stringify(body),
    });
    const answer = await response.json();
    if (!response.ok) throw Object.assign(new Error(answer.content), answer);
    return answer;
  }

  /** What pages have in common that may use one line: where it leads, and who asks. */
  async identity() {
    const token = await this.token();
    const who = token instanceof Error || !token ? "" : digest(rightsOf(token));
    return `${this.#url} ${this.#user ?? ""} ${who}`;
  }

  /** A line that tells `to` what comes. `targets()` are the sessions that a stream follows. */
  open(transport, token, targets, to) {
    if (transport === "websocket") {
      const hello = { type: "hello", token, user_id: this.#user, batch: true, client: this.#client, ref: HELLO };
      return new SocketLine(this.#env, socketUrl(this.#url), hello, to);
    }
    return new StreamLine(this.#env, this.#url, { token, user: this.#user }, targets, to);
  }
}

/** The gateway's address as one that paths may be added to: `wss://host/chat` → `https://host/chat/`. */
export function gatewayUrl(url, page) {
  const address = new URL(url || "./", page);
  address.protocol = address.protocol.replace(/^ws/, "http");
  if (!address.pathname.endsWith("/")) address.pathname += "/";
  return address.href;
}

const socketUrl = (url) => new URL("ws", url).href.replace(/^http/, "ws");

const RENEWED = new Set(["exp", "iat", "nbf", "jti"]);

// Of a token that is renewed now and then, what stays: whose it is and what it allows. Others stand for themselves.
function rightsOf(token) {
  try {
    const part = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const rights = Object.entries(JSON.parse(atob(part))).filter(([claim]) => !RENEWED.has(claim));
    return JSON.stringify(rights);
  } catch {
    return token;
  }
}

// FNV-1a, twice: a name that tells nothing of the token. http://www.isthe.com/chongo/tech/comp/fnv/
function digest(text) {
  const hashed = (hash) => {
    for (const char of text) hash = Math.imul(hash ^ char.codePointAt(0), 0x01000193) >>> 0;
    return hash.toString(36);
  };
  return hashed(0x811c9dc5) + hashed(0x9747b28c);
}
