// What lines do in which case, as tables: the close codes and limits of the protocol.

/** Close codes after which the same would only happen again, and what a person is told. */
export const FINAL = new Map([
  [1000, "The gateway closed the line."],
  [1003, "The gateway takes text only."],
  [1007, "The gateway could not read what this page sent."],
  [1009, "A message was too large for the gateway."],
  [4400, "The gateway did not understand this page."],
  [4401, "The gateway wants a valid token, which this page has not got."],
  [4403, "The gateway does not talk to this page."],
  [4404, "The gateway has no such agent, or is not at this address."],
]);

/** Close codes that the gateway itself gives, to be asked again. Others are of who is on the way. */
export const SAID = new Set([1001, 1011, 1012, 1013, 4408, 4429]);

/** Close codes after which to wait at the least, in milliseconds. */
export const WAITS = new Map([[4429, 20_000]]);

/** What an HTTP refusal of a stream means, as a close code. */
export const closeOf = (status) =>
  ({ 401: 4401, 403: 4403, 404: 4404, 408: 1013, 425: 1013, 429: 1013 })[status] ??
  (status >= 400 && status < 500 ? 4400 : 1013);

/** HTTP statuses that mean: not now. */
export const NOT_NOW = (status) => status >= 500 || [408, 409, 425, 429].includes(status);

/** Refusals that mean: not now. The same is sent again after a while. */
export const RETRIED = new Set(["store_unavailable", "overloaded", "draining", "rate_limited"]);

/** How often on one line a session is looked at anew, if what comes is against the rules. */
export const HEALED_AT_MOST = 3;

export const BROKEN = 1006;
export const TOKEN_REFUSED = 4401;

/** Refusals that another token may mend. */
export const OUT_OF_TOKEN = new Set(["token_expired", "unauthenticated"]);

/** What it means, as a close code, that a `hello` was refused. */
export const closeOfRefusal = ({ code, retryable }) =>
  OUT_OF_TOKEN.has(code) ? TOKEN_REFUSED : retryable ? 1013 : 4403;

/** Milliseconds. */
export const OPENING = 4_000; // until a WebSocket is open; until a stream's first byte
export const GREETING = 8_000; // from then until `connected`
export const ANSWER = 30_000; // until POST /frames is answered
export const SIGN_OF_LIFE = 4_000; // after a `ping`
export const HEARTBEAT = 20_000; // unless the gateway names another
export const CALM = 2_000; // a line that lived so long was a good one: the next is tried soon
export const PROBE = [30_000, 600_000]; // how soon a socket is tried again beside a stream, then less and less often

/** Bytes of a frame, unless the gateway names others. */
export const MAX_FRAME = 256 * 1024;

/** Full jitter: anything up to 0.5 s, then twice as much each time, up to 20 s.
 *  https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ */
export const jitter = (tries, random) => random() * Math.min(20_000, 500 * 2 ** tries);
