// How a line is begun: where the gateway is, who asks, and by which way.

import { Guest } from "./guest.js";
import { OUT_OF_TOKEN } from "./rules.js";
import { SocketLine } from "./socket.js";
import { StreamLine } from "./stream.js";

/** The `ref` of the frame that says who this is, and of those that say it again with another token. */
export const HELLO = "hello";

/** `token` is one, or a function that gets one. Who has none is a guest, where the gateway wants a token. */
export class Opener {
  /** Told whose token it is, each time there may be another one, before that is used. */
  told = () => {};
  #env;
  #url;
  #token;
  #user;
  #client;
  #guest;
  // What was last used where there was no token of the page's own.
  #asGuest = null;

  constructor(env, { url, token, user, client }) {
    this.#env = env;
    this.#url = url;
    this.#token = token;
    this.#user = user;
    this.#client = client;
    this.#guest = new Guest(env, url);
  }

  get hasSockets() {
    return Boolean(this.#env.WebSocket);
  }

  /** May it be asked for another token than the last one? */
  get canRenew() {
    return typeof this.#token === "function" || !this.#token;
  }

  /** Is it a guest's, without a token of the page's own? */
  get isGuest() {
    return Boolean(this.#asGuest?.token);
  }

  /** Who asks, if that is known without asking for a token: see `identity`. */
  get who() {
    return typeof this.#token === "function" ? null : this.#whoHas(this.#token || this.#guest.kept);
  }

  /** The token; undefined without any, an `Error` if none could be got. */
  async token() {
    try {
      const given = typeof this.#token === "function" ? await this.#token() : this.#token;
      if (given) await this.#guest.adoptedBy(given);
      const token = given || (await this.#guest.token());
      this.#asGuest = given ? null : { token };
      if (this.canRenew) this.told(this.#whoHas(token, this.isGuest));
      return token;
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    }
  }

  /** The gateway does not take what `token` last gave: it may have a better one. */
  refused() {
    if (this.#asGuest) this.#guest.refused(this.#asGuest.token);
  }

  /** Ask over HTTP; the JSON that is answered. Rejects with the gateway's `code` and `content`. */
  async rest(path, options = {}) {
    try {
      return await this.#rest(path, options);
    } catch (error) {
      if (!this.#asGuest || !OUT_OF_TOKEN.has(error.code)) throw error;
      this.refused();
      return await this.#rest(path, options);
    }
  }

  async #rest(path, { method = "GET", body }) {
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

  /**
   * Who asks: `name` is what pages have in common that may use one line, or what one of them kept: where it leads, and
   * whose token with which rights; `user` is whose it is, null if it does not tell; `isGuest`, if it is a guest. Null, if
   * no token could be got.
   */
  async identity() {
    const token = await this.token();
    return token instanceof Error ? null : this.#whoHas(token, this.isGuest);
  }

  #whoHas(token, isGuest = false) {
    const claims = token ? claimsOf(token) : null;
    const rights = claims ? JSON.stringify(Object.entries(claims).filter(([claim]) => !RENEWED.has(claim))) : token;
    return { name: `${this.#url} ${this.#user ?? ""} ${rights ? digest(rights) : ""}`, user: claims?.sub ?? null, isGuest };
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

// What is new in a token each time it is renewed. What stays is whose it is and what it allows.
const RENEWED = new Set(["exp", "iat", "nbf", "jti"]);

// What a token says of itself; null for one that does not say whose it is: it stands for itself.
function claimsOf(token) {
  try {
    const part = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const claims = JSON.parse(atob(part));
    return typeof claims.sub === "string" ? claims : null;
  } catch {
    return null;
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
