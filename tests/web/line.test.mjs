// The line that is kept: when it comes back, when it does not, and by which way.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Browser, Page, attached, connected, delta, message, ok, refused, response, settle } from "./fakes.mjs";

async function open(options, env) {
  const page = new Page(new Browser(), env);
  const gateway = page.gateway(options);
  const chat = gateway.session("s");
  const socket = await page.connect();
  socket.say(attached("s"));
  return { page, gateway, chat, socket };
}

/** A page where no socket ever opens, with its stream asked for. */
async function without(options = {}, page = new Page(new Browser(), { navigator: {} })) {
  const gateway = page.gateway(options);
  const chat = gateway.session("s");
  await page.clock.pass(4_000);
  await page.clock.pass(0);
  return { page, gateway, chat };
}

/** … and with the stream there. */
async function streaming(options) {
  const made = await without(options);
  const stream = made.page.request("events");
  stream.stream();
  stream.say(connected(), attached("s"));
  await settle();
  return { ...made, stream };
}

// ── A clock that is set ──

for (const hours of [-1, 1]) {
  const what = hours < 0 ? "back" : "forward";

  test(`a clock put ${what} an hour while it waits moves neither the next try nor the least pause`, async () => {
    const { page, gateway, socket } = await open();
    socket.say({ type: "goaway", reason: "restart", reconnect_after_ms: 3_000 });
    socket.die(1001);
    page.clock.set = hours * 3_600_000;
    page.document.tell("visibilitychange");
    await settle();
    assert.equal(page.sockets.length, 1, "it was told to wait");
    assert.equal(gateway.state.retryAt, page.clock.wall + 3_000, "told by the clock as it is now");
    await page.clock.pass(3_000);
    assert.equal(page.sockets.length, 2);
  });

  test(`a clock put ${what} an hour neither kills a line that lives nor hides one that died`, async () => {
    const { page, gateway, socket } = await open();
    socket.say({ type: "pong" });
    page.clock.set = hours * 3_600_000;
    await page.clock.pass(39_000);
    assert.equal(gateway.state.status, "connected");
    await page.clock.pass(1_000);
    assert.equal(gateway.state.status, "waiting");
  });

  test(`a clock put ${what} an hour does not change whether a line was good for a while`, async () => {
    const { page, gateway } = await open();
    for (const alive of [0, 0, 2_000]) {
      page.clock.set += hours * 3_600_000;
      await page.clock.pass(alive);
      page.socket.die();
      await page.clock.pass(gateway.state.retryAt - page.clock.wall);
      await page.connect();
    }
    page.socket.die();
    assert.equal(gateway.state.retryAt - page.clock.wall, 500, "the second of a new row, halved");
  });
}

// ── Coming back ──

test("it waits longer each time, up to 20 s, and some of that only", async () => {
  const page = new Page(new Browser(), {
    random: () => 1,
    fetch: () => Promise.reject(new TypeError()),
    navigator: {},
  });
  const gateway = page.gateway();
  await page.connect();
  const pauses = [];
  for (let tries = 0; tries < 8; tries++) {
    page.socket.die(1012);
    pauses.push(gateway.state.retryAt - page.clock.now);
    await page.clock.pass(pauses.at(-1));
  }
  assert.deepEqual(pauses, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000]);
});

test("a line that was good for a while makes the next pause short again", async () => {
  const { page, gateway } = await open();
  for (const alive of [0, 0, 2_000]) {
    await page.clock.pass(alive);
    page.socket.die();
    await page.clock.pass(gateway.state.retryAt - page.clock.now);
    await page.connect();
  }
  page.socket.die();
  assert.equal(gateway.state.retryAt - page.clock.now, 500, "the second of a new row, halved");
});

for (const [what, tell] of Object.entries({
  "the network is back": (page) => page.window.tell("online"),
  "the tab is seen again": (page) => page.document.tell("visibilitychange"),
  "the page comes out of the cache": (page) => page.window.tell("pageshow"),
})) {
  test(`it comes back at once when ${what}`, async () => {
    const { page, gateway, socket } = await open();
    socket.die();
    assert.equal(gateway.state.status, "waiting");
    tell(page);
    await settle();
    assert.equal(gateway.state.status, "connecting");
    assert.equal(page.sockets.length, 2);
    await page.clock.pass(1_000);
    assert.equal(page.sockets.length, 2, "and not twice");
  });
}

test("it comes back at once when the network is back, though nobody looks", async () => {
  const { page, socket } = await open();
  socket.die();
  page.document.visibilityState = "hidden";
  page.window.tell("online");
  await settle();
  assert.equal(page.sockets.length, 2);
});

for (const [what, die] of Object.entries({
  "it was told to wait": (socket) => {
    socket.say({ type: "goaway", reason: "restart", reconnect_after_ms: 3_000 });
    socket.die(1001);
  },
  "it was too much": (socket) => socket.die(4429),
})) {
  test(`if ${what}, it does not come back before that, whoever looks`, async () => {
    const { page, gateway, socket } = await open();
    die(socket);
    const least = gateway.state.retryAt - page.clock.now - 250;
    page.document.tell("visibilitychange");
    await page.clock.pass(least - 1);
    page.document.tell("visibilitychange");
    assert.equal(page.sockets.length, 1);
    assert.equal(gateway.state.retryAt, page.clock.now + 1);
    await page.clock.pass(1);
    assert.equal(page.sockets.length, 2);
  });
}

test("a tab that is hidden is in no hurry", async () => {
  const { page, socket } = await open();
  socket.die();
  page.document.visibilityState = "hidden";
  page.document.tell("visibilitychange");
  await settle();
  assert.equal(page.sockets.length, 1);
});

test("it stays away as long as the gateway asks", async () => {
  const { page, gateway, socket } = await open();
  const told = [];
  gateway.addEventListener("goaway", ({ detail }) => told.push(detail.reason));
  socket.say({ type: "goaway", reason: "restart", reconnect_after_ms: 3_000 });
  socket.die(1001);
  assert.deepEqual([gateway.state.retryAt - page.clock.now, told], [3_250, ["restart"]]);
});

test("a line on which nothing is heard is dead", async () => {
  const { page, gateway, socket } = await open();
  await page.clock.pass(30_000);
  socket.say({ type: "pong" });
  await page.clock.pass(39_999);
  assert.equal(gateway.state.status, "connected");
  await page.clock.pass(1);
  assert.deepEqual([gateway.state.status, socket.closed], ["waiting", 1000]);
});

test("one that says nothing when it is asked is dead soon, one that does lives on", async () => {
  const { page, gateway, socket } = await open();
  page.window.tell("online");
  assert.equal(socket.took("ping").length, 1);
  socket.say({ type: "pong" });
  await page.clock.pass(10_000);
  assert.equal(gateway.state.status, "connected");
  page.window.tell("offline");
  await page.clock.pass(4_000);
  assert.equal(gateway.state.status, "waiting");
});

// ── Close codes ──

for (const code of [1000, 1003, 1007, 1009, 4400, 4401, 4403, 4404]) {
  test(`after ${code} it does not come back`, async () => {
    const { page, gateway, chat, socket } = await open({ token: "t" });
    const turn = chat.send("hi");
    socket.die(code, "Because.");
    assert.deepEqual([gateway.state.status, gateway.state.code, gateway.state.reason], ["closed", code, "Because."]);
    await assert.rejects(async () => await turn, { code: "closed", content: "Because." });
    page.window.tell("online");
    await page.clock.pass(100_000);
    assert.deepEqual([page.sockets.length, page.requests.length], [1, 0]);
    await assert.rejects(async () => await gateway.session("o").send("hi"), { code: "closed" });
  });
}

for (const code of [1001, 1006, 1011, 1012, 1013, 4408]) {
  test(`after ${code} it comes back`, async () => {
    const { page, socket } = await open();
    socket.die(code);
    await page.clock.pass(250);
    assert.equal(page.sockets.length, 2);
  });
}

test("after 4429 it waits", async () => {
  const { page, gateway, socket } = await open();
  socket.die(4429);
  assert.equal(gateway.state.retryAt - page.clock.now, 20_250);
});

test("what the gateway said last is the reason", async () => {
  const { page, gateway, socket } = await open();
  socket.say({ type: "error", code: "overloaded", content: "Too many.", retryable: true, retry_after_ms: 7_000 });
  socket.die(1013, "closing");
  assert.deepEqual([gateway.state.reason, gateway.state.retryAt - page.clock.now], ["Too many.", 7_250]);
});

test("what the gateway said of one line is not said of the next", async () => {
  const { page, gateway, socket } = await open();
  socket.say({ type: "error", code: "overloaded", content: "Too many.", retryable: true });
  socket.die(1013);
  await page.clock.pass(250);
  await page.connect();
  page.socket.die(1012, "restart");
  assert.equal(gateway.state.reason, "restart");
});

test("a socket that fails once after it was there is no reason to stream", async () => {
  const { page, socket } = await open();
  socket.die();
  await page.clock.pass(250);
  page.socket.die();
  await page.clock.pass(500);
  await page.connect();
  page.socket.die();
  await page.clock.pass(1_000);
  page.socket.die();
  await page.clock.pass(0);
  assert.deepEqual(page.requests, []);
});

test("a user that is refused is told so, and not asked for again", async () => {
  const page = new Page();
  const gateway = page.gateway({ user: "ann" });
  await settle();
  page.socket.open();
  page.socket.say(refused({ ref: "hello" }, "forbidden", { content: "Another user's." }));
  assert.deepEqual(
    [gateway.state.status, gateway.state.code, gateway.state.reason],
    ["closed", 4403, "Another user's."],
  );
});

// ── Tokens ──

test("a token is got for each line, and another one before it ends", async () => {
  let tokens = 0;
  const { page, gateway, socket } = await open({ token: async () => `t${(tokens += 1)}` });
  const ends = [];
  gateway.addEventListener("token", ({ detail }) => ends.push(detail.expires_at));
  assert.equal(socket.took("hello")[0].token, "t1");
  socket.say({ type: "token", expires_at: 5_000 });
  await settle();
  assert.deepEqual([socket.took("hello"), ends], [[{ type: "hello", token: "t2", ref: "renewal" }], [5_000]]);
  socket.die();
  await page.clock.pass(250);
  page.socket.open();
  assert.equal(page.socket.took("hello")[0].token, "t3");
});

test("a token that is refused is replaced at once, but not for ever", async () => {
  let tokens = 0;
  const { page, gateway, socket } = await open({ token: async () => `t${(tokens += 1)}` });
  socket.die(4401);
  await settle();
  assert.equal(page.sockets.length, 2);
  page.socket.open();
  assert.equal(page.socket.took("hello")[0].token, "t2");
  page.socket.die(4401);
  await page.clock.pass(100_000);
  assert.deepEqual([gateway.state.status, page.sockets.length], ["closed", 2]);
});

test("a token that is refused as soon as it was taken is not replaced for ever", async () => {
  const { page, gateway } = await open({ token: async () => "t" });
  page.socket.die(4401);
  await page.connect();
  page.socket.die(4401);
  await page.clock.pass(100_000);
  assert.deepEqual([gateway.state.status, gateway.state.code, page.sockets.length], ["closed", 4401, 2]);
});

test("a token that is refused in the answer to hello is replaced", async () => {
  let tokens = 0;
  const page = new Page();
  page.gateway({ token: async () => `t${(tokens += 1)}` });
  await settle();
  page.socket.open();
  page.socket.say(refused({ ref: "hello" }, "token_expired"));
  await settle();
  page.socket.open();
  assert.equal(page.socket.took("hello")[0].token, "t2");
});

test("a hello that is refused for now is said again later", async () => {
  const page = new Page();
  const gateway = page.gateway();
  await settle();
  page.socket.open();
  page.socket.say(refused({ ref: "hello" }, "overloaded", { retryable: true, retry_after_ms: 3_000 }));
  assert.deepEqual([gateway.state.status, gateway.state.retryAt - page.clock.now], ["waiting", 3_250]);
  await page.clock.pass(3_250);
  assert.equal(page.sockets.length, 2);
});

test("where no token can be got now, it is asked for again", async () => {
  const page = new Page();
  let asked = 0;
  const gateway = page.gateway({ token: () => ((asked += 1) < 3 ? Promise.reject(new Error("offline")) : "t") });
  await settle();
  assert.deepEqual([gateway.state.status, gateway.state.reason], ["waiting", "No token could be got."]);
  await page.clock.pass(2_000);
  assert.deepEqual([asked, page.sockets.length], [3, 1]);
});

// ── Without sockets ──

test("if no socket opens within 4 s, it streams", async () => {
  const { page, gateway, chat } = await without({ token: "t", user: "ann" });
  assert.equal(page.socket.closed, 1000);
  const stream = page.request("events");
  assert.deepEqual([stream.url, stream.method], ["http://gate.test/chat/events", "POST"]);
  assert.deepEqual([stream.headers.Authorization, stream.headers["X-User-Id"]], ["Bearer t", "ann"]);
  assert.deepEqual(stream.body.sessions, [{ session_id: "s", agent: "bot", history: 50, create: true }]);
  stream.stream();
  stream.say(connected(), attached("s"), message("s", "e.1.0", "t"));
  stream.write('event: text_delta\ndata: {"type":"text_delta","session_id":"s","turn_id":"t","cur');
  stream.write('sor":"e.2.1","content":"x"}\n\n: \n\n');
  await settle();
  assert.deepEqual([gateway.state.status, gateway.state.transport], ["connected", "http"]);
  assert.equal(chat.messages[1].content, "x");
});

test("if it dies twice before it is connected, it streams", async () => {
  const page = new Page(new Browser(), { navigator: {} });
  page.gateway().session("s");
  await settle();
  page.socket.die();
  await page.clock.pass(250);
  assert.equal(page.requests.length, 0);
  page.socket.open();
  page.socket.die();
  await page.clock.pass(0);
  assert.equal(page.request("events").body.sessions.length, 1);
});

test("a proxy that closes sockets in its own way is one that lets none through", async () => {
  const page = new Page(new Browser(), { navigator: {} });
  page.gateway().session("s");
  await settle();
  page.socket.open();
  page.socket.die(1005);
  await page.clock.pass(250);
  page.socket.open();
  page.socket.die(1002);
  await page.clock.pass(0);
  assert.ok(page.request("events"));
});

test("a browser without sockets streams at once", async () => {
  const page = new Page(new Browser(), { navigator: {}, WebSocket: undefined });
  page.gateway();
  await page.clock.pass(0);
  assert.ok(page.request("events"));
});

test("a page that may not open sockets streams", async () => {
  const forbidden = class {
    constructor() {
      throw new Error("The policy forbids it.");
    }
  };
  const page = new Page(new Browser(), { navigator: {}, WebSocket: forbidden });
  page.gateway();
  await page.clock.pass(300);
  assert.ok(page.request("events"));
});

test("frames go up as requests, in order within a session, and are answered", async () => {
  const { page, chat, gateway, stream } = await streaming();
  const other = gateway.session("o");
  const first = chat.send("one", { turnId: "t" });
  chat.send("two", { turnId: "u" });
  other.send("three", { turnId: "v" });
  await settle();
  const posts = page.requests.filter(({ url }) => url.endsWith("/frames"));
  assert.deepEqual(
    posts.map(({ body }) => body.turn_id),
    ["t", "v"],
  );
  assert.equal(posts[0].headers["X-Connection-Id"], "c1");
  posts[0].json(ok(posts[0].body));
  await settle();
  assert.equal(page.requests.at(-1).body.turn_id, "u");
  stream.say(message("s", "e.1.0", "t"), response("s", "e.3.0", "t", "A"));
  assert.equal((await first).content, "A");
  page.requests.at(-1).json(refused(page.requests.at(-1).body, "queue_full"), 429);
  await settle();
  assert.equal(chat.messages.at(-1).status, "refused");
});

test("a message to a session that the stream does not follow yet does not attach it without its history", async () => {
  const { page, gateway } = await streaming();
  gateway.session("o").send("hi");
  await settle();
  assert.equal(page.request("frames").headers["X-Connection-Id"], undefined);
  await page.clock.pass(0);
  assert.deepEqual(
    page.request("events").body.sessions.map(({ session_id, history }) => [session_id, history]),
    [
      ["s", 50],
      ["o", 50],
    ],
  );
});

test("a message that is too large for a proxy is refused, and the line goes on", async () => {
  const { page, gateway, chat } = await streaming();
  const turn = chat.send("one", { turnId: "t" });
  await settle();
  page.request("frames").text("<h1>413</h1>", 413);
  await assert.rejects(async () => await turn, { code: "frame_too_large" });
  assert.equal(gateway.state.status, "connected");
});

test("a request that is refused before it was read is tried again, too", async () => {
  const { page, chat } = await streaming();
  const turn = chat.send("one", { turnId: "t" });
  await settle();
  const first = page.request("frames");
  first.json({ content: "Slowly.", code: "rate_limited", retryable: true, retry_after_ms: 1_000 }, 429);
  await page.clock.pass(1_500);
  const again = page.request("frames");
  assert.notEqual(again, first);
  assert.equal(again.body.turn_id, "t");
  again.json({ content: "No.", code: "forbidden", retryable: false }, 403);
  await assert.rejects(async () => await turn, { code: "forbidden" });
});

test("another session begins the stream anew, from where each stands", async () => {
  const { page, gateway, chat, stream } = await streaming();
  stream.say(message("s", "e.1.0", "t"), delta("s", "e.2.1", "t", "a"));
  await settle();
  gateway.session("o");
  gateway.session("p");
  await page.clock.pass(0);
  assert.equal(stream.aborted, true);
  const next = page.request("events");
  assert.deepEqual(
    next.body.sessions.map(({ session_id, cursor }) => [session_id, cursor]),
    [
      ["s", "e.2.1"],
      ["o", undefined],
      ["p", undefined],
    ],
  );
  next.stream();
  next.say(
    connected({ connection_id: "c2" }),
    attached("s", { mode: "replay", cursor: "e.2.1", status: "running", turn_id: "t" }),
    delta("s", "e.2.2", "t", "b"),
  );
  await settle();
  assert.equal(chat.messages[1].content, "ab");
  assert.equal(gateway.state.connected.connection_id, "c2");
});

test("a message that may not have arrived is sent again on the next line", async () => {
  const { page, gateway, chat } = await streaming();
  chat.send("one", { turnId: "t" });
  await settle();
  page.requests.at(-1).fail();
  await settle();
  assert.equal(gateway.state.status, "waiting");
  await page.clock.pass(250);
  page.request("events").stream();
  page.request("events").say(connected());
  await settle();
  assert.equal(page.request("frames").body.turn_id, "t");
});

test("a request that is never answered does not wait for ever", async () => {
  const { page, gateway, chat, stream } = await streaming();
  chat.send("one");
  for (let waited = 0; waited < 30_000; waited += 10_000) {
    stream.write(": \n\n");
    await page.clock.pass(10_000);
  }
  assert.notEqual(gateway.state.status, "connected");
});

test("a stream that ends comes back as a stream, with what the gateway said of it", async () => {
  const { page, gateway, stream } = await streaming();
  stream.say({ type: "goaway", reason: "restart", reconnect_after_ms: 1_000 });
  stream.end();
  await settle();
  assert.deepEqual([gateway.state.code, gateway.state.retryAt - page.clock.now], [1001, 1_250]);
  await page.clock.pass(1_250);
  assert.equal(page.request("events").body.sessions[0].cursor, "e.0.0");
});

test("a silent stream is dead", async () => {
  const { page, gateway, stream } = await streaming();
  stream.say(connected({ heartbeat_ms: 5_000 }));
  const states = [];
  gateway.addEventListener("state", ({ detail }) => states.push(detail.status));
  await page.clock.pass(9_999);
  assert.equal(states.includes("waiting"), false);
  await page.clock.pass(1);
  assert.ok(states.includes("waiting"));
});

for (const [status, code, end] of [
  [401, 4401, "closed"],
  [403, 4403, "closed"],
  [404, 4404, "closed"],
  [400, 4400, "closed"],
  [429, 1013, "waiting"],
  [503, 1013, "waiting"],
]) {
  test(`a stream that is refused with ${status} is as a socket closed with ${code}`, async () => {
    const { page, gateway } = await without({ token: "t" });
    page.request("events").json({ content: "No.", retry_after_ms: 5_000 }, status);
    await settle();
    assert.deepEqual([gateway.state.status, gateway.state.code, gateway.state.reason], [end, code, "No."]);
    if (end === "waiting") assert.equal(gateway.state.retryAt - page.clock.now, 5_250);
  });
}

test("a stream's token is renewed by beginning it anew, one that is over ends it", async () => {
  let tokens = 0;
  const { page, gateway, stream } = await streaming({ token: async () => `t${(tokens += 1)}` });
  assert.equal(stream.headers.Authorization, "Bearer t2");
  stream.say({ type: "token", expires_at: 5_000 });
  await page.clock.pass(0);
  const next = page.request("events");
  assert.equal(next.headers.Authorization, "Bearer t3");
  next.stream();
  next.say(connected(), { type: "error", code: "token_expired", content: "Over.", retryable: false });
  next.end();
  await page.clock.pass(0);
  assert.equal(page.request("events").headers.Authorization, "Bearer t4");
  assert.equal(gateway.state.status, "connecting");
});

test("a request whose token is over is sent again with a new one", async () => {
  let tokens = 0;
  const { page, chat } = await streaming({ token: async () => `t${(tokens += 1)}` });
  chat.send("hi", { turnId: "t" });
  await settle();
  page.request("frames").json({ type: "error", code: "token_expired", content: "Over.", retryable: false }, 401);
  await page.clock.pass(0);
  const next = page.request("events");
  assert.equal(next.headers.Authorization, "Bearer t3");
  next.stream();
  next.say(connected());
  await settle();
  assert.deepEqual(
    [page.request("frames").body.turn_id, page.request("frames").headers.Authorization],
    ["t", "Bearer t3"],
  );
});

test("a gateway that is down is asked by both ways in turn", async () => {
  const { page, gateway } = await without();
  page.request("events").fail();
  await settle();
  assert.equal(gateway.state.status, "waiting");
  await page.clock.pass(250);
  assert.equal(page.sockets.length, 2);
  page.socket.die();
  await page.clock.pass(0);
  assert.equal(page.requests.length, 2, "one death is enough now");
  page.requests[1].fail();
  await page.clock.pass(2_000);
  await page.connect();
  assert.equal(gateway.state.transport, "websocket");
});

// ── And back ──

test("beside a stream a socket is tried again later, and takes over from where each session stands", async () => {
  const { page, gateway, chat, stream } = await streaming();
  const heard = chat.send("one", { turnId: "t" });
  await settle();
  page.request("frames").json(ok(page.request("frames").body));
  stream.say(message("s", "e.1.0", "t"), delta("s", "e.2.1", "t", "a"));
  const before = page.sockets.length;
  stream.write(": \n\n");
  await page.clock.pass(29_999);
  const unheard = chat.send("two", { turnId: "u" });
  await page.clock.pass(1);
  assert.equal(page.sockets.length, before + 1);
  page.socket.open();
  page.socket.say(connected({ connection_id: "c2" }));
  assert.equal(gateway.state.connected.connection_id, "c1");
  assert.equal(gateway.state.transport, "http", "the stream goes on until the socket is there");
  stream.say(delta("s", "e.2.2", "t", "b"));
  await settle();
  page.socket.say(connected({ ref: "hello" }));
  assert.deepEqual([gateway.state.transport, stream.aborted], ["websocket", true]);
  assert.equal(page.socket.took("attach")[0].sessions[0].cursor, "e.2.2");
  assert.deepEqual(
    page.socket.took("message").map(({ turn_id }) => turn_id),
    ["u"],
  );
  page.socket.say(
    attached("s", { mode: "replay", cursor: "e.2.2", status: "running", turn_id: "t" }),
    response("s", "e.3.0", "t", "abc"),
  );
  assert.equal((await heard).content, "abc");
  assert.equal(unheard.status, "sending");
});

test("once a socket got through, the next line is one, too", async () => {
  const { page, stream } = await streaming();
  stream.write(": \n\n");
  await page.clock.pass(30_000);
  page.socket.open();
  page.socket.say(connected({ ref: "hello" }));
  const before = page.sockets.length;
  page.socket.die();
  await page.clock.pass(250);
  assert.equal(page.sockets.length, before + 1);
});

test("beside a stream a socket is tried at once when the network is back, and goes with the stream", async () => {
  const { page, gateway, stream } = await streaming();
  const before = page.sockets.length;
  page.window.tell("online");
  await settle();
  assert.equal(page.sockets.length, before + 1);
  stream.end();
  await settle();
  assert.deepEqual([gateway.state.status, page.socket.closed], ["waiting", 1000]);
});

test("a socket that fails beside a stream is tried less and less often", async () => {
  const { page, gateway, stream } = await streaming();
  const tried = [];
  for (let seconds = 0; seconds < 300; seconds += 10) {
    const before = page.sockets.length;
    stream.write(": \n\n");
    await page.clock.pass(10_000);
    if (page.sockets.length > before) tried.push(seconds + 10);
  }
  assert.equal(gateway.state.transport, "http");
  assert.deepEqual(tried, [30, 100, 220]);
});

test("a proxy that holds a stream back is noticed and told, and a socket tried at once", async () => {
  const { page, gateway } = await without();
  const before = page.sockets.length;
  await page.clock.pass(4_000);
  assert.match(gateway.state.reason, /holds back/);
  assert.match(page.warnings[0], /holds back/);
  assert.equal(page.sockets.length, before + 1);
  page.request("events").stream();
  page.request("events").say(connected());
  await settle();
  assert.equal(gateway.state.status, "connected");
  assert.match(gateway.state.reason, /holds back/);
});

// ── Nothing is left behind ──

test("200 lines in a row leave neither listeners nor timers nor promises", async () => {
  const { page, gateway, chat } = await open();
  const { listeners } = page;
  const timers = page.clock.waiting;
  for (let number = 0; number < 200; number++) {
    page.socket.die();
    await page.clock.pass(gateway.state.retryAt - page.clock.now);
    await page.connect();
    page.socket.say(attached("s", { mode: "replay" }));
  }
  assert.equal(page.sockets.length, 201);
  assert.deepEqual([page.listeners, page.clock.waiting], [listeners, timers]);
  assert.ok(page.sockets.slice(0, -1).every((socket) => !socket.onmessage && !socket.onclose));
  assert.deepEqual([gateway.state.status, chat.messages.length], ["connected", 0]);
});

test("lines that are gone are not kept in memory", async () => {
  const { page, gateway } = await open();
  const gone = [];
  for (let number = 0; number < 50; number++) {
    gone.push(new WeakRef(page.socket));
    page.socket.die();
    page.sockets.length = 0;
    await page.clock.pass(gateway.state.retryAt - page.clock.now);
    await page.connect();
  }
  await settle();
  globalThis.gc();
  assert.ok(gone.filter((socket) => socket.deref()).length <= 2);
});
