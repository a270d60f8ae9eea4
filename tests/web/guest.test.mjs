// Visitors without an account: a page that has no token gets one where the gateway wants one, and is a guest.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Browser, Page, attached, settle } from "./fakes.mjs";

const DAY = 86_400_000;
const claims = (rights) => `h.${btoa(JSON.stringify(rights))}.s`;
const ANN = claims({ sub: "ann", exp: 1 });
const NAME = "trunkline guest http://gate.test/chat/";

/** What the gateway tells of a guest whose token holds for that long. */
const guest = (user, days = 30, n = 0) => ({
  token: claims({ sub: user, exp: days, n }),
  user_id: user,
  expires_at: (1_000_000 + days * DAY) / 1000,
});
const kept = (browser) => JSON.parse(browser.local.get(NAME) ?? "null")?.token;
const texts = (socket) => socket.took("message").map(({ content }) => content);

/** The socket that opened is refused: who are you? */
async function refuse(page) {
  await settle();
  page.socket.open();
  page.socket.say({ type: "error", ref: "hello", code: "unauthenticated", content: "Who?", retryable: false });
  page.socket.die(4401);
  await settle();
}

const asked = (page, path = "/guest") => page.requests.filter(({ url }) => url.endsWith(path));
const tokenOf = (socket) => socket.sent.find(({ type }) => type === "hello").token;

/** A page that has become that guest, and its line. */
async function visitor(browser, user = "guest-1", options = {}) {
  const page = browser.page();
  const gateway = page.gateway(options);
  await refuse(page);
  asked(page).at(-1).json(guest(user));
  const socket = await page.connect({ user_id: user });
  return { page, gateway, socket };
}

test("a page without a token asks for none where the gateway wants none", async () => {
  const page = new Page();
  page.gateway();
  const socket = await page.connect();
  assert.deepEqual([tokenOf(socket), page.requests.length], [undefined, 0]);
});

test("where the gateway wants one it becomes a guest, and nothing said meanwhile is lost", async () => {
  const browser = new Browser();
  const page = browser.page();
  const gateway = page.gateway();
  const chat = gateway.session("s");
  chat.send("hi");
  await refuse(page);
  const [request] = asked(page);
  assert.deepEqual([request.method, request.headers.Authorization], ["POST", undefined]);
  request.json(guest("guest-1"));
  const socket = await page.connect({ user_id: "guest-1" });
  assert.equal(tokenOf(socket), guest("guest-1").token);
  assert.equal(kept(browser), guest("guest-1").token);
  assert.deepEqual(texts(socket), ["hi"]);
  assert.equal(gateway.state.status, "connected");
});

test("where the gateway takes no guests it is as it was: the line is closed", async () => {
  const page = new Page();
  const gateway = page.gateway();
  await refuse(page);
  asked(page)[0].json({ code: "not_found", content: "No guests." }, 404);
  await refuse(page);
  assert.deepEqual([gateway.state.status, gateway.state.code, gateway.state.reason], ["closed", 4401, "Who?"]);
  assert.equal(asked(page).length, 1);
});

test("a gateway that cannot give a token now is asked again later", async () => {
  for (const fail of [(request) => request.fail(), (request) => request.json({ content: "Too many." }, 429)]) {
    const page = new Page();
    const gateway = page.gateway();
    await refuse(page);
    fail(asked(page)[0]);
    await settle();
    assert.equal(gateway.state.status, "waiting");
    await page.clock.pass(1_000);
    asked(page)[1].json(guest("guest-1"));
    await page.connect({ user_id: "guest-1" });
    assert.equal(gateway.state.status, "connected");
  }
});

test("after a reload, and in another tab, it is the same guest", async () => {
  const browser = new Browser();
  await visitor(browser);
  const page = browser.page();
  page.gateway();
  const socket = await page.connect({ user_id: "guest-1" });
  assert.deepEqual([tokenOf(socket), page.requests.length], [guest("guest-1").token, 0]);
});

for (const locks of [true, false]) {
  test(`two tabs opened at once are one guest, ${locks ? "with" : "without"} locks`, async () => {
    const browser = new Browser();
    const pages = [0, 1].map(() => browser.page(locks ? {} : { navigator: {} }));
    pages.forEach((page) => page.gateway());
    await Promise.all(pages.map(refuse));
    const requests = pages.flatMap((page) => asked(page));
    assert.equal(requests.length, locks ? 1 : 2);
    requests.forEach((request, n) => request.json(guest(`guest-${n}`)));
    await settle();
    await settle();
    const tokens = pages.map(({ socket }) => (socket.open(), tokenOf(socket)));
    assert.deepEqual(tokens, Array(2).fill(guest("guest-0").token));
  });
}

test("where a page may keep nothing it is a guest until it goes", async () => {
  const local = {
    getItem: () => null,
    setItem: () => {
      throw new DOMException("full", "QuotaExceededError");
    },
    removeItem: () => {},
  };
  for (const env of [{ local }, { local: undefined }]) {
    const page = new Page(undefined, env);
    Object.assign(page.document, { baseURI: `http://gate.test/${Math.random()}/` });
    page.gateway();
    await refuse(page);
    asked(page)[0].json(guest("guest-1"));
    const socket = await page.connect({ user_id: "guest-1" });
    socket.die(1012);
    await page.clock.pass(1_000);
    page.socket.open();
    assert.deepEqual([tokenOf(page.socket), asked(page).length], [guest("guest-1").token, 1]);
  }
});

test("its token is renewed in the second half of its life, and while a line is open before it ends", async () => {
  const browser = new Browser();
  const { page, socket } = await visitor(browser);
  socket.die(1012);
  browser.clock.now += 14 * DAY;
  await page.clock.pass(1_000);
  const second = await page.connect({ user_id: "guest-1" });
  assert.equal(asked(page).length, 1);
  browser.clock.now += 2 * DAY;
  second.say({ type: "token", expires_at: 1 });
  await settle();
  const renewal = asked(page)[1];
  assert.equal(renewal.headers.Authorization, `Bearer ${guest("guest-1").token}`);
  const renewed = { ...guest("guest-1", 60, 1) };
  renewal.json(renewed);
  await settle();
  assert.equal(second.took("hello").at(-1).token, renewed.token);
  assert.equal(kept(browser), renewed.token);
});

test("a renewal that fails for now leaves the token that still holds", async () => {
  const browser = new Browser();
  const { page, socket } = await visitor(browser);
  socket.die(1012);
  browser.clock.now += 20 * DAY;
  await page.clock.pass(1_000);
  asked(page)[1].fail();
  await settle();
  page.socket.open();
  assert.equal(tokenOf(page.socket), guest("guest-1").token);
});

test("a guest that the gateway knows no longer is followed by a new one, who sees nothing of it", async () => {
  const browser = new Browser();
  const { page, gateway, socket } = await visitor(browser);
  const chat = gateway.session("s");
  socket.say(attached("s", { messages: [{ role: "user", turn_id: "t", content: "seen", created_at: 1 }] }));
  await page.clock.pass(2_000);
  socket.say({ type: "error", code: "unauthenticated", content: "Gone.", retryable: false });
  socket.die(4401);
  await settle();
  const [, request] = asked(page);
  assert.equal(request.headers.Authorization, undefined);
  request.json(guest("guest-2"));
  const next = await page.connect({ user_id: "guest-2" });
  assert.deepEqual([chat.messages, kept(browser)], [[], guest("guest-2").token]);
  assert.equal(next.took("attach")[0].sessions[0].cursor, undefined);
});

// ── A guest becomes a user ──

test("a page that comes with a user's token brings its guest along, once, before its line", async () => {
  const browser = new Browser();
  const { page: before } = await visitor(browser);
  browser.kill(before);
  const page = browser.page();
  page.gateway({ token: ANN });
  await settle();
  assert.equal(page.sockets.length, 0);
  const [adoption] = asked(page, "/guest/adopt");
  assert.deepEqual(
    [adoption.headers.Authorization, adoption.body],
    [`Bearer ${ANN}`, { token: guest("guest-1").token }],
  );
  adoption.json({ user_id: "ann", sessions: [] });
  const socket = await page.connect({ user_id: "ann" });
  assert.deepEqual([tokenOf(socket), kept(browser)], [ANN, undefined]);
  socket.die(1012);
  await page.clock.pass(1_000);
  assert.equal(asked(page, "/guest/adopt").length, 1);
});

test("a function that has a user's token later makes the guest that user", async () => {
  const browser = new Browser();
  let token;
  const { page, gateway, socket } = await visitor(browser, "guest-1", { token: async () => token });
  gateway.session("s");
  token = ANN;
  socket.say({ type: "token", expires_at: 1 });
  await settle();
  asked(page, "/guest/adopt")[0].json({ user_id: "ann", sessions: [] });
  await settle();
  const next = await page.connect({ user_id: "ann" });
  assert.equal(tokenOf(next), ANN);
  assert.deepEqual(
    next.took("attach")[0].sessions.map(({ session_id }) => session_id),
    ["s"],
  );
});

for (const [status, left] of [
  [503, true],
  [409, true],
  [429, true],
  [401, true],
  [403, false],
  [404, false],
  [400, false],
]) {
  test(`an adoption that is answered ${status} is ${left ? "left for the next time" : "not tried again"}`, async () => {
    const browser = new Browser();
    await visitor(browser);
    const page = browser.page();
    page.gateway({ token: ANN });
    await settle();
    asked(page, "/guest/adopt")[0].json({ content: "No." }, status);
    await page.connect({ user_id: "ann" });
    assert.equal(kept(browser) !== undefined, left);
  });
}

test("who never was a guest asks nothing more than before", async () => {
  const page = new Page();
  page.gateway({ token: ANN });
  await page.connect({ user_id: "ann" });
  assert.equal(page.requests.length, 0);
});

test("what is asked over HTTP is asked again as the next guest, where the last one is refused", async () => {
  const browser = new Browser();
  const { page, gateway, socket } = await visitor(browser);
  const chat = gateway.session("s");
  const older = { messages: [{ role: "user", turn_id: "t", content: "new", created_at: 1 }], has_more: true };
  socket.say(attached("s", older));
  void chat.more().catch(() => {});
  await settle();
  page.request("messages").json({ code: "unauthenticated", content: "Who?" }, 401);
  await settle();
  asked(page)[1].json(guest("guest-2"));
  await settle();
  assert.equal(page.request("messages").headers.Authorization, `Bearer ${guest("guest-2").token}`);
});
