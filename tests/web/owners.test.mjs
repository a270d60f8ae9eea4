// Whose page it is: what one user saw or said is neither shown to another one nor sent in their name.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Browser, Page, attached, connected, message, ok, refused, settle } from "./fakes.mjs";

const claims = (rights) => `h.${btoa(JSON.stringify(rights))}.s`;
const ANN = claims({ sub: "ann", exp: 1 });
const BOB = claims({ sub: "bob", exp: 1 });
const NONE = () => Promise.reject(new Error("offline"));

const shown = (chat) => chat.messages.map(({ role, content, status }) => `${role} ${content} ${status}`);
const texts = (socket) => socket.took("message").map(({ content }) => content);

/** The page as it is after a reload in the same tab, with that token. */
function reloaded(before, token, options = {}) {
  before.window.tell("pagehide");
  const page = new Page(undefined, { storage: before.storage });
  const gateway = page.gateway({ token, ...options });
  return { page, gateway, chat: gateway.session("s") };
}

/** Ann has seen something, and said something that did not arrive. */
async function leftByAnn(token = ANN) {
  const page = new Page();
  const chat = page.gateway({ token }).session("s");
  const socket = await page.connect({ user_id: "ann" });
  socket.say(attached("s"), message("s", "e.1.0", "t", "seen"));
  chat.send("unsent", { turnId: "u" });
  return page;
}

const LEFT = ["user seen running", "user unsent sending"];

/** A token that comes when the test says so. */
function later() {
  const token = {};
  token.get = () => new Promise((resolve, reject) => Object.assign(token, { resolve, reject }));
  return token;
}

// ── After a reload ──

for (const [how, token] of Object.entries({ "": BOB, "from a function": async () => BOB, "that says nothing": "opaque" })) {
  test(`what one user left behind is never shown to who has another token ${how}, nor sent by them`, async () => {
    const { page, chat } = reloaded(await leftByAnn(), token);
    const seen = [];
    chat.addEventListener("change", () => seen.push(...shown(chat)));
    assert.deepEqual(chat.messages, []);
    const socket = await page.connect({ user_id: "bob" });
    assert.deepEqual([seen, texts(socket)], [[], []]);
    assert.equal(socket.took("attach")[0].sessions[0].cursor, undefined);
  });
}

test("what was said while no token could be got is not sent with the next user's", async () => {
  const before = new Page();
  before.gateway({ token: NONE }).session("s").send("ann's");
  await settle();
  const { page, chat } = reloaded(before, async () => BOB);
  assert.deepEqual(texts(await page.connect({ user_id: "bob" })), []);
  assert.deepEqual(chat.messages, []);
});

test("what was said when the gateway was never reached is sent by its user only", async () => {
  const before = new Page();
  before.gateway({ token: async () => ANN }).session("s").send("ann's");
  await settle();
  const bob = reloaded(before, async () => BOB);
  assert.deepEqual(texts(await bob.page.connect({ user_id: "bob" })), []);
  const ann = reloaded(bob.page, async () => ANN);
  assert.deepEqual(texts(await ann.page.connect({ user_id: "ann" })), ["ann's"]);
});

test("where no token can be got, nothing is shown that was kept", async () => {
  const { page, chat } = reloaded(await leftByAnn(), NONE);
  await page.clock.pass(1_000);
  assert.deepEqual(chat.messages, []);
});

test("who has no token sees nothing of who had one", async () => {
  const { page, chat } = reloaded(await leftByAnn(), undefined);
  assert.deepEqual(chat.messages, []);
  assert.deepEqual(texts(await page.connect()), []);
});

test("what was kept is there at once with a token, and with a function as soon as that told", async () => {
  const renewed = claims({ sub: "ann", exp: 2 });
  assert.deepEqual(shown(reloaded(await leftByAnn(), renewed).chat), LEFT);
  const token = later();
  const { page, chat } = reloaded(await leftByAnn(), token.get);
  await settle();
  assert.deepEqual(chat.messages, []);
  token.resolve(renewed);
  await settle();
  assert.deepEqual([shown(chat), page.socket.readyState], [LEFT, 0]);
  const socket = await page.connect({ user_id: "ann" });
  assert.equal(socket.took("attach")[0].sessions[0].cursor, "e.1.0");
  assert.deepEqual(texts(socket), ["unsent"]);
});

test("what is said before it is known whose page it is comes after what was kept, and is kept from then on", async () => {
  const token = later();
  const { page, chat } = reloaded(await leftByAnn(), token.get);
  chat.send("early", { turnId: "v" });
  await settle();
  token.resolve(ANN);
  await settle();
  assert.deepEqual(shown(chat), [...LEFT, "user early sending"]);
  const again = reloaded(page, ANN);
  assert.deepEqual(shown(again.chat), [...LEFT, "user early sending"]);
  assert.deepEqual(texts(await again.page.connect({ user_id: "ann" })), ["unsent", "early"]);
});

test("what is said before it is known that its session is over makes it again", async () => {
  const before = new Page();
  before.gateway({ token: ANN }).session("s");
  const first = await before.connect({ user_id: "ann" });
  first.say(attached("s"), message("s", "e.1.0", "t"));
  first.say({ type: "session", session_id: "s", status: "closed", renewal_count: 0 });
  const { page, chat } = reloaded(before, async () => ANN);
  chat.send("early");
  const socket = await page.connect({ user_id: "ann" });
  assert.deepEqual(
    socket.took("message").map(({ content, create }) => [content, create]),
    [["early", true]],
  );
});

test("without a token it is the gateway that tells whose it was, as soon as it has", async () => {
  const before = new Page();
  before.gateway().session("s").send("ann's");
  await before.connect({ user_id: "ann" });
  const page = new Page(undefined, { storage: before.storage }); // the one before had no time to say good-bye
  const chat = page.gateway().session("s");
  assert.deepEqual(texts(await page.connect({ user_id: "bob" })), []);
  assert.deepEqual(chat.messages, []);
});

// ── While the page is there ──

/** A page whose tokens are these, one after the other; the last one stays. */
async function withTokens(...tokens) {
  const page = new Page();
  const gateway = page.gateway({ token: async () => (tokens.length > 1 ? tokens.shift() : tokens[0]) });
  const chat = gateway.session("s");
  await settle();
  return { page, gateway, chat };
}

test("what one said before there was a line is not sent when the next token is another's", async () => {
  const { page, chat } = await withTokens(ANN, BOB);
  const turn = chat.send("ann's");
  page.socket.die();
  await page.clock.pass(1_000);
  const socket = await page.connect({ user_id: "bob" });
  assert.deepEqual([texts(socket), chat.messages], [[], []]);
  await assert.rejects(async () => void (await turn), { code: "forbidden" });
  const ann = reloaded(page, ANN);
  assert.deepEqual(shown(ann.chat), ["user ann's sending"], "it waits for its user");
});

test("a token of another user is none for the line that is there: another one is begun", async () => {
  const { page, gateway, chat } = await withTokens(ANN, BOB);
  const socket = await page.connect({ user_id: "ann" });
  socket.took("hello");
  socket.say(attached("s"), message("s", "e.1.0", "t", "seen"));
  socket.say({ type: "token", expires_at: 5 });
  await settle();
  assert.deepEqual([chat.messages, socket.closed, socket.took("hello")], [[], 1000, []]);
  chat.send("bob's");
  const next = await page.connect({ user_id: "bob" });
  assert.deepEqual([texts(socket), texts(next), gateway.state.status], [[], ["bob's"], "connected"]);
});

test("a function that knows another user each time is not asked without end", async () => {
  let users = 0;
  const page = new Page();
  page.gateway({ token: async () => claims({ sub: `user ${(users += 1)}` }) }).session("s");
  const socket = await page.connect();
  socket.say({ type: "token", expires_at: 5 });
  await settle();
  await page.connect();
  assert.deepEqual([page.sockets.length, users], [2, 3]);
});

test("a token of the same user with other rights changes nothing but where things are kept", async () => {
  const narrow = claims({ sub: "ann", sessions: ["s"] });
  const { page, chat } = await withTokens(ANN, narrow);
  const turn = chat.send("hi");
  page.socket.die();
  await page.clock.pass(1_000);
  assert.equal([...page.storage.values()].length, 1);
  const again = reloaded(page, narrow);
  assert.deepEqual(texts(await again.page.connect({ user_id: "ann" })), ["hi"]);
  assert.deepEqual(texts(await page.connect({ user_id: "ann" })), ["hi"]);
  assert.equal(turn.over, false);
});

test("tokens that do not say whose they are: the gateway does, and until then nothing is kept", async () => {
  const { page, chat } = await withTokens("t1", "t2", "t3");
  const socket = await page.connect({ user_id: "ann" });
  socket.say(attached("s"), message("s", "e.1.0", "t", "seen"));
  socket.say({ type: "token", expires_at: 5 });
  await settle();
  chat.send("mine");
  assert.deepEqual(reloaded(page, "t2").chat.messages, []);
  socket.say(connected({ user_id: "ann", ref: "renewal" }));
  assert.deepEqual(shown(reloaded(page, "t2").chat), ["user seen running", "user mine sending"]);
  socket.die();
  await page.clock.pass(1_000);
  const next = await page.connect({ user_id: "bob" });
  assert.deepEqual([chat.messages, texts(next)], [[], []]);
});

test("what is refused or acknowledged is kept no more", async () => {
  const { page, chat } = await withTokens(ANN);
  const socket = await page.connect({ user_id: "ann" });
  socket.say(attached("s"));
  chat.send("one");
  chat.send("two");
  const [one, two] = socket.took("message");
  socket.say(ok(one), refused(two, "forbidden"));
  assert.deepEqual([...page.storage.keys()], []);
});

// ── On a shared line ──

const rest = async () => {
  for (let passes = 0; passes < 10; passes++) await settle();
};

test("a page that could get no token yet shares no line: it might be another's", async () => {
  const browser = new Browser();
  const [ann, bob] = [browser.page(), browser.page()];
  let known = false;
  const tokenOf = (token) => () => (known ? token : NONE());
  const chats = [
    [ann, ANN],
    [bob, BOB],
  ].map(([page, token]) => page.gateway({ shared: true, token: tokenOf(token) }).session("s"));
  chats.forEach((chat, place) => chat.send(`of ${place}`));
  await rest();
  known = true;
  await browser.clock.pass(1_000);
  await rest();
  for (const [place, page] of [ann, bob].entries()) {
    assert.equal(page.sockets.length, 1);
    const socket = await page.connect({ user_id: ["ann", "bob"][place] });
    await rest();
    assert.deepEqual(texts(socket), [`of ${place}`]);
  }
});

test("a page that becomes another user's leaves the line to the others", async () => {
  const browser = new Browser();
  const tokens = [ANN, ANN, BOB];
  const [first, second] = [browser.page(), browser.page()];
  first.gateway({ shared: true, token: async () => tokens.shift() ?? BOB }).session("s");
  await rest();
  const chat = second.gateway({ shared: true, token: ANN }).session("s");
  chat.send("ann's");
  await rest();
  const socket = await first.connect({ user_id: "ann" });
  await rest();
  socket.took("message");
  socket.say({ type: "token", expires_at: 5 });
  await rest();
  assert.equal(socket.closed, 1000);
  const bobs = await first.connect({ user_id: "bob" });
  const anns = await second.connect({ user_id: "ann" });
  await rest();
  assert.deepEqual([texts(bobs), texts(anns)], [[], ["ann's"]]);
});

test("… also before there was one", async () => {
  const browser = new Browser();
  const tokens = [ANN, ANN];
  const [first, second] = [browser.page(), browser.page()];
  first.gateway({ shared: true, token: async () => tokens.shift() ?? BOB }).session("s");
  await rest();
  second.gateway({ shared: true, token: ANN }).session("s").send("ann's");
  await rest();
  first.socket.die();
  await browser.clock.pass(1_000);
  const bobs = await first.connect({ user_id: "bob" });
  await rest();
  assert.deepEqual(texts(bobs), []);
  const anns = await second.connect({ user_id: "ann" });
  await rest();
  assert.deepEqual(texts(anns), ["ann's"]);
});
