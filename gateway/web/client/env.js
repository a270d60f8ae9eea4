// What the client takes from the browser, in one place: a test brings its own.

const inBrowser = (what) => {
  try {
    return what();
  } catch {
    return undefined; // of a page that may not: storage in a frame of a stranger's page, for one
  }
};

/** Browsers have `randomUUID` on https and on this machine only. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const browser = () => ({
  WebSocket: globalThis.WebSocket,
  fetch: (...request) => fetch(...request),
  storage: inBrowser(() => sessionStorage),
  local: inBrowser(() => localStorage),
  now: () => Date.now(),
  elapsed: () => performance.now(),
  setTimeout: (...timer) => setTimeout(...timer),
  clearTimeout: (timer) => clearTimeout(timer),
  random: Math.random,
  newId,
  document,
  window: globalThis,
  navigator,
  BroadcastChannel: globalThis.BroadcastChannel,
  console,
});
