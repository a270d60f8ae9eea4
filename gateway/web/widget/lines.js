// One gateway per page and caller, however many widgets talk to it.

import { Gateway } from "../client.js";

const open = new Map();

/** The gateway for these, shared with whoever asked for the same; `release` it when it is no longer needed. */
export function acquire(url, options) {
  const key = JSON.stringify([
    url,
    options.user,
    options.agent,
    options.shared,
    typeof options.token === "string" ? options.token : "",
  ]);
  // Functions cannot be compared: who brings one gets a gateway of its own.
  const own = typeof options.token === "function";
  const line = (!own && open.get(key)) || { gateway: new Gateway(url, options), users: 0, key };
  line.users += 1;
  if (!own) open.set(key, line);
  return line;
}

export function release(line) {
  line.users -= 1;
  if (line.users > 0) return;
  if (open.get(line.key) === line) open.delete(line.key);
  line.gateway.close();
}
