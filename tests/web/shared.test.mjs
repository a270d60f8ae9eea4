// Several pages of one browser over one line.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Browser, attached, connected, delta, message, ok, refused, response, settle } from "./fakes.mjs";

/** Pages that share a line, each in session "s" and one of its own; the first one holds it. */
async function sharing(count, options = {}) {
  const browser = new Browser();
  const pages = Array.from({ length: count }, () => browser.page());
  for (const [number, page] of pages.entries()) {
    page.gw = page.gateway({ shared: true, ...options });
    page.chat = page.gw.session("s");
    page.own = page.gw.session(`own-${number}`);
    await rest();
  }
  const [{ socket }] = pages;
  socket.open();
  socket.say(connected({ ref: "hello" }));
  await rest();
  for (const { session_id } of asked(socket)) socket.say(attached(session_id));
  await rest();
  return { browser, pages, socket };
}

/** Pages tell each other things, and what is told may make them tell more. */
async function rest() {
  for (let passes = 0; passes < 5; passes++) await settle();
}

const asked = (socket) => socket.took("attach").flatMap(({ sessions }) => sessions);
const shown = (chat) => chat.messages.map(({ role, content, status }) => `${role} ${content} ${status}`);
const leaders = (pages) => pages.map(({ gw }) => gw.state.leader);

test("one page holds the line for all, and each session is attached once", async () => {
  const { pages, socket } = await sharing(3);
  assert.deepEqual(
    pages.map(({ sockets }) => sockets.length),
    [1, 0, 0],
  );
  assert.deepEqual(leaders(pages), [true, false, false]);
  for (const { gw, chat, own } of pages) {
    assert.deepEqual(
      [gw.state.status, gw.state.transport, gw.state.connected.user_id],
      ["connected", "websocket", "user"],
    );
    assert.deepEqual([chat.state.attached, own.state.attached], [true, true]);
  }
  assert.deepEqual(asked(socket), []);
});

test("every page says and sees its own, and what they have in common", async () => {
  const { pages, socket } = await sharing(3);
  const turns = pages.map(({ own }, number) => own.send(`${number}?`, { turnId: "t" }));
  await rest();
  const sent = socket.took("message");
  assert.equal(new Set(sent.map(({ ref }) => ref)).size, 3);
  for (const frame of sent) {
    const { session_id: id } = frame;
    socket.say(ok(frame), message(id, "e.1.0", "t", frame.content), response(id, "e.3.0", "t", `${id}!`));
  }
  const answers = await Promise.all(turns.map(async (turn) => (await turn).content));
  assert.deepEqual(answers, ["own-0!", "own-1!", "own-2!"]);
  const turn = pages[1].chat.send("all?", { turnId: "a" });
  await rest();
  socket.say(ok(socket.took("message")[0]), message("s", "e.1.0", "a", "all?"), response("s", "e.3.0", "a", "all!"));
  assert.equal((await turn).content, "all!");
  await rest();
  for (const { chat } of pages) assert.deepEqual(shown(chat), ["user all? completed", "agent all! completed"]);
});

test("a refusal reaches the page that asked", async () => {
  const { pages, socket } = await sharing(2);
  const turn = pages[1].chat.send("hi");
  await rest();
  socket.say(refused(socket.took("message")[0], "queue_full"));
  await assert.rejects(async () => await turn, { code: "queue_full" });
  assert.deepEqual(shown(pages[0].chat), []);
});

test("a page that comes later is told what is there, in the middle of an answer", async () => {
  const { browser, pages, socket } = await sharing(1);
  socket.say(message("s", "e.1.0", "t"), delta("s", "e.2.2", "t", "😀a"));
  socket.say({
    type: "tool_call",
    session_id: "s",
    turn_id: "t",
    cursor: "e.3.2",
    at: 2,
    tool_call_id: "c",
    name: "look",
    input: 1,
  });
  socket.say(delta("s", "e.3.3", "t", "b"));
  const late = browser.page();
  const chat = late.gateway({ shared: true }).session("s");
  await rest();
  assert.deepEqual(asked(socket), []);
  assert.deepEqual(shown(chat), ["user hi running", "agent 😀ab running"]);
  assert.equal(chat.messages[1].tools[0].at, 2);
  socket.say(delta("s", "e.3.4", "t", "c"), response("s", "e.4.0", "t", "😀abcd"));
  await rest();
  assert.deepEqual(shown(chat), shown(pages[0].chat));
  assert.deepEqual(shown(chat), ["user hi completed", "agent 😀abcd completed"]);
});

test("when the page that holds the line is killed, another goes on from where it was, and nothing is lost or doubled", async () => {
  const { browser, pages, socket } = await sharing(3);
  const [first, second, third] = pages;
  const turn = third.chat.send("hi", { turnId: "t" });
  await rest();
  socket.say(ok(socket.took("message")[0]), message("s", "e.1.0", "t"), delta("s", "e.2.2", "t", "ab"));
  await rest();
  const pieces = [];
  const iterated = (async () => {
    for await (const piece of turn) pieces.push(piece);
  })();
  await rest();
  const unheard = third.own.send("unheard", { turnId: "u" });
  await rest();
  browser.kill(first);
  await rest();
  const next = await second.connect();
  await rest();
  assert.deepEqual(leaders([second, third]), [true, false]);
  const targets = asked(next);
  assert.deepEqual(targets.find(({ session_id }) => session_id === "s").cursor, "e.2.2");
  assert.deepEqual(targets.map(({ session_id }) => session_id).sort(), ["own-1", "own-2", "s"]);
  assert.deepEqual(
    next.took("message").map(({ turn_id }) => turn_id),
    ["u"],
  );
  next.say(
    attached("s", { mode: "replay", cursor: "e.2.2", status: "running", turn_id: "t" }),
    delta("s", "e.2.3", "t", "c"),
  );
  next.say(response("s", "e.3.0", "t", "abcd"));
  assert.equal((await turn).content, "abcd");
  await iterated;
  assert.equal(pieces.join(""), "abcd");
  assert.deepEqual(shown(second.chat), shown(third.chat));
  assert.equal(unheard.over, false);
});

test("a line that breaks is the whole browser's, and all that was not acknowledged is sent again", async () => {
  const { browser, pages, socket } = await sharing(2);
  const [first, second] = pages;
  const turn = second.chat.send("hi", { turnId: "t" });
  await rest();
  socket.die();
  await rest();
  assert.deepEqual(
    pages.map(({ gw, chat }) => [gw.state.status, chat.state.attached]),
    [
      ["waiting", false],
      ["waiting", false],
    ],
  );
  second.window.tell("online");
  await rest();
  const next = await first.connect();
  await rest();
  assert.equal(next.took("attach").length, 1, "all of them in one frame");
  const [sent] = next.took("message");
  assert.equal(sent.turn_id, "t");
  next.say(attached("s", { mode: "replay" }), ok(sent), message("s", "e.1.0", "t"), response("s", "e.3.0", "t", "A"));
  assert.equal((await turn).content, "A");
  await rest();
  assert.deepEqual(shown(first.chat), shown(second.chat));
  assert.equal(browser.clock.waiting > 0, true);
});

test("sessions of a page that is gone are followed no more, but for those of others", async () => {
  const { browser, pages, socket } = await sharing(2);
  browser.kill(pages[1]);
  await rest();
  assert.deepEqual(
    socket.took("detach").map(({ session_ids }) => session_ids),
    [["own-1"]],
  );
});

test("a page that closes hands the line on", async () => {
  const { pages, socket } = await sharing(2);
  pages[0].gw.close();
  await rest();
  assert.equal(socket.closed, 1000);
  await pages[1].connect();
  await rest();
  assert.deepEqual(
    [pages[0].gw.state.status, pages[1].gw.state.status, pages[1].gw.state.leader],
    ["closed", "connected", true],
  );
});

test("a line that is refused for good is so for the page that held it; the next one tries for itself, once", async () => {
  const { pages, socket } = await sharing(2);
  socket.die(4403);
  await rest();
  assert.equal(pages[0].gw.state.status, "closed");
  assert.equal(pages[1].sockets.length, 1);
  pages[1].socket.open();
  pages[1].socket.die(4403);
  await rest();
  assert.deepEqual(
    pages.map(({ gw, sockets }) => [gw.state.status, sockets.length]),
    [
      ["closed", 1],
      ["closed", 1],
    ],
  );
});

test("a session that is over, or cannot be followed, is so on every page", async () => {
  const { pages, socket } = await sharing(2);
  socket.say({ type: "session", session_id: "s", status: "closed", renewal_count: 0 });
  await rest();
  for (const { chat } of pages) assert.equal(chat.state.ended, "closed");
  pages[1].chat.send("anew", { turnId: "u" });
  await rest();
  assert.deepEqual(
    asked(socket).map(({ session_id, create }) => [session_id, create]),
    [["s", true]],
  );
  socket.say({ type: "error", session_id: "own-0", code: "too_many_sessions", content: "No.", retryable: true });
  await rest();
  assert.equal(pages[0].own.state.error.code, "too_many_sessions");
});

test("frames that the protocol rules out make it look again, for all", async () => {
  const { pages, socket } = await sharing(2);
  socket.say(delta("s", "e.1.9", "unknown", "x"), message("s", "e.1.0", "u", "of a following that was given up"));
  await rest();
  assert.deepEqual(
    asked(socket).map(({ session_id, cursor }) => [session_id, cursor]),
    [["s", undefined]],
  );
  socket.say(attached("s"), message("s", "e.1.0", "t", "seen"));
  await rest();
  for (const { chat } of pages) assert.deepEqual(shown(chat), ["user seen running"]);
});

test("a session that is added, or detached, while there is no line, is so when it is back", async () => {
  const { browser, pages, socket } = await sharing(2);
  socket.die();
  await rest();
  pages[1].own.detach();
  const added = pages[1].gw.session("added");
  await browser.clock.pass(1_000);
  const next = await pages[0].connect();
  await rest();
  const ids = asked(next).map(({ session_id }) => session_id);
  assert.deepEqual(
    ids.filter((id) => id !== "own-1"),
    ["s", "own-0", "added"],
  );
  assert.deepEqual(
    next.took("detach").map(({ session_ids }) => session_ids),
    [["own-1"]],
  );
  next.say(attached("added"));
  await rest();
  assert.equal(added.state.attached, true);
});

test("an answer that was over before the next page took the line is not lost", async () => {
  const { browser, pages, socket } = await sharing(3);
  const [first, second, third] = pages;
  const turn = third.chat.send("hi", { turnId: "t" });
  await rest();
  socket.say(ok(socket.took("message")[0]));
  await rest();
  browser.kill(first);
  await rest();
  const next = await second.connect();
  await rest();
  next.say(attached("s", { mode: "replay" }));
  await rest();
  assert.equal(turn.over, false);
  const [again] = next.took("message");
  next.say(ok(again, "completed", { duplicate: true }));
  next.say(message("s", "e.1.0", "t"), response("s", "e.2.0", "t", "A"));
  assert.equal((await turn).content, "A");
  await rest();
  assert.deepEqual(asked(next).filter(({ cursor }) => cursor === undefined), []);
});

test("a page that does not trust what it was told has the gateway asked", async () => {
  const { pages, socket } = await sharing(2);
  const turn = pages[1].chat.send("old", { turnId: "t" });
  await rest();
  socket.say(ok(socket.took("message")[0], "completed", { duplicate: true }));
  await rest();
  assert.deepEqual(asked(socket), []); // its frames may be on their way
  await pages[1].clock.pass(3_000);
  await rest();
  assert.deepEqual(
    asked(socket).map(({ session_id, cursor }) => [session_id, cursor]),
    [["s", undefined]],
  );
  socket.say(attached("s", { mode: "replay" })); // of the following before
  const answer = { role: "agent", turn_id: "t", content: "long ago", created_at: 2, status: "completed" };
  socket.say(attached("s", { cursor: "e.9.0", messages: [answer] }));
  assert.equal((await turn).content, "long ago");
  await rest();
  assert.deepEqual(shown(pages[0].chat), shown(pages[1].chat));
});

test("what is against the rules again and again is told, and not asked for without end", async () => {
  const { pages, socket } = await sharing(2);
  for (let healed = 0; healed < 3; healed++) {
    socket.say(delta("s", "e.1.9", "unknown", "x"));
    await rest();
    assert.equal(asked(socket).length, 1);
    socket.say(attached("s"));
    await rest();
  }
  socket.say(delta("s", "e.1.9", "unknown", "x"));
  await rest();
  assert.deepEqual(asked(socket), []);
  for (const { chat } of pages) assert.equal(chat.state.error.code, "out_of_order");
});

for (const [what, env] of Object.entries({
  "pages may not ask for locks": { navigator: { locks: { request: () => Promise.reject(new Error("No.")) } } },
  "pages may not talk to each other": {
    BroadcastChannel: class {
      constructor() {
        throw new Error("No.");
      }
    },
  },
})) {
  test(`where ${what}, each has its own line`, async () => {
    const page = new Browser().page(env);
    const gateway = page.gateway({ shared: true });
    const chat = gateway.session("s");
    await rest();
    const socket = await page.connect();
    await rest();
    socket.say(attached("s"));
    await rest();
    assert.deepEqual([gateway.state.status, chat.state.attached], ["connected", true]);
  });
}

test("if sessions could not be attached at all, every page of theirs is told", async () => {
  const browser = new Browser();
  const pages = [browser.page(), browser.page()];
  const chats = pages.map((page) => page.gateway({ shared: true }).session("s"));
  await rest();
  await pages[0].connect();
  await rest();
  pages[0].socket.say(refused({ ref: "attach" }, "frame_too_large"));
  await rest();
  assert.deepEqual(
    chats.map(({ state }) => state.error.code),
    ["frame_too_large", "frame_too_large"],
  );
});

test("pages that mean different agents by one name are told so", async () => {
  const { browser, pages } = await sharing(1);
  const chat = browser.page().gateway({ shared: true, agent: "other" }).session("s");
  await rest();
  assert.deepEqual([chat.state.error.code, pages[0].chat.state.error], ["session_conflict", null]);
});

test("pages of other users or tokens have lines of their own, whatever is new in the token", async () => {
  const claims = (rights) => `h.${btoa(JSON.stringify(rights))}.s`;
  const browser = new Browser();
  const pages = [
    { user: "ann" },
    { user: "eve" },
    { token: "opaque" },
    { token: async () => claims({ sub: "ann", exp: 1 }) },
    { token: async () => claims({ sub: "ann", exp: 2 }) },
    { token: async () => claims({ sub: "ann", sessions: ["s"], exp: 2 }) },
  ].map((options) => {
    const page = browser.page();
    page.gateway({ shared: true, ...options });
    return page;
  });
  await rest();
  assert.deepEqual(
    pages.map(({ sockets }) => sockets.length),
    [1, 1, 1, 1, 0, 1],
  );
});

test("pages without sockets share one stream, whether they want to or not, and part when sockets get through", async () => {
  const browser = new Browser();
  const pages = Array.from({ length: 7 }, () => browser.page());
  for (const [number, page] of pages.entries()) {
    page.gw = page.gateway();
    page.own = page.gw.session(`own-${number}`);
  }
  await browser.clock.pass(4_000);
  await rest();
  await browser.clock.pass(0);
  const streams = () =>
    pages.flatMap(({ requests }) => requests).filter(({ url, aborted }) => url.endsWith("/events") && !aborted);
  assert.equal(streams().length, 1);
  let [stream] = streams();
  stream.stream();
  stream.say(connected());
  await rest();
  await browser.clock.pass(0);
  [stream] = streams();
  stream.stream();
  assert.equal(stream.body.sessions.length, 7);
  stream.say(connected(), ...stream.body.sessions.map(({ session_id }) => attached(session_id)));
  await rest();
  for (const { gw, own } of pages) assert.deepEqual([gw.state.transport, own.state.attached], ["http", true]);
  assert.equal(leaders(pages).filter(Boolean).length, 1);
  const leader = pages.find(({ gw }) => gw.state.leader);
  const turn = pages.at(-1).own.send("hi", { turnId: "t" });
  await rest();
  leader.request("frames").json(ok(leader.request("frames").body));
  stream.say(message("own-6", "e.1.0", "t"), delta("own-6", "e.2.1", "t", "a"));
  await rest();
  stream.write(": \n\n");
  await browser.clock.pass(30_000);
  leader.socket.open();
  leader.socket.say(connected({ ref: "hello" }));
  await rest();
  assert.equal(stream.aborted, true);
  for (const page of pages) await page.connect();
  const next = pages.at(-1).socket;
  assert.equal(asked(next)[0].cursor, "e.2.1");
  next.say(
    attached("own-6", { mode: "replay", cursor: "e.2.1", status: "running", turn_id: "t" }),
    response("own-6", "e.3.0", "t", "ab"),
  );
  assert.equal((await turn).content, "ab");
  for (const { gw } of pages) assert.deepEqual([gw.state.transport, gw.state.leader], ["websocket", null]);
});
