// One page, one line: what is said and heard, over as many lines as that takes.

import assert from "node:assert/strict";
import { test } from "node:test";

import { TurnFailed } from "../../gateway/web/client.js";
import { Page, attached, connected, delta, message, ok, refused, response, settle } from "./fakes.mjs";

/** A page that talks in session "s". */
async function talking(options) {
  const page = new Page();
  const gateway = page.gateway(options);
  const chat = gateway.session("s");
  const socket = await page.connect();
  socket.took("attach");
  socket.say(attached("s"));
  return { page, gateway, chat, socket };
}

const shown = (chat) => chat.messages.map(({ role, content, status }) => `${role} ${content} ${status}`);

test("it says who it is, and follows its sessions in one frame", async () => {
  const page = new Page();
  const gateway = page.gateway({ token: "t", user: "ann", client: "page/1" });
  assert.equal(gateway.state.status, "connecting");
  gateway.session("a");
  gateway.session("b", { agent: "other", history: 7 });
  await settle();
  assert.equal(page.socket.url, "ws://gate.test/chat/ws");
  assert.equal(page.socket.protocol, "gateway.v1");
  page.socket.open();
  const [hello] = page.socket.took("hello");
  assert.deepEqual(hello, { type: "hello", token: "t", user_id: "ann", batch: true, client: "page/1", ref: "hello" });
  page.socket.say(connected()); // an anonymous gateway greets before it has read who this is
  assert.deepEqual(page.socket.sent, []);
  page.socket.say(connected({ ref: "hello" }));
  const [attach] = page.socket.took("attach");
  assert.deepEqual(attach.sessions, [
    { session_id: "a", agent: "bot", history: 50, create: true },
    { session_id: "b", agent: "other", history: 7, create: true },
  ]);
  assert.equal(gateway.state.status, "connected");
  assert.equal(gateway.state.transport, "websocket");
});

test("a turn is awaited, iterated, and seen in the messages", async () => {
  const { chat, socket } = await talking();
  const turn = chat.send("hi", { turnId: "t", metadata: { n: 1 } });
  assert.deepEqual(shown(chat), ["user hi sending"]);
  const [sent] = socket.took("message");
  assert.deepEqual(
    { ...sent, ref: "r" },
    { type: "message", session_id: "s", agent: "bot", turn_id: "t", content: "hi", metadata: { n: 1 }, ref: "r" },
  );
  socket.say(ok(sent));
  assert.deepEqual(shown(chat), ["user hi running"]);
  const pieces = [];
  const iterated = (async () => {
    for await (const piece of turn) pieces.push(piece);
  })();
  socket.say(message("s", "e.1.0", "t"), delta("s", "e.2.2", "t", "he"));
  await settle();
  const [, answer] = chat.messages;
  assert.equal(answer.content, "he");
  const { version } = answer;
  socket.say(delta("s", "e.2.4", "t", "ll"));
  assert.equal(chat.messages[1], answer, "the same object while it grows");
  assert.ok(answer.version > version);
  await settle();
  socket.say(response("s", "e.3.0", "t", "hello 😀"));
  assert.equal((await turn).content, "hello 😀");
  await iterated;
  assert.deepEqual(pieces, ["he", "ll", "o 😀"]);
  assert.deepEqual(shown(chat), ["user hi completed", "agent hello 😀 completed"]);
  assert.equal(answer.createdAt, 1_001_000);
});

test("a turn that fails says why, whether it is awaited or iterated", async () => {
  const { chat, socket } = await talking();
  const turn = chat.send("hi", { turnId: "t" });
  socket.say(message("s", "e.1.0", "t"), delta("s", "e.2.2", "t", "he"));
  socket.say({
    type: "error",
    session_id: "s",
    turn_id: "t",
    cursor: "e.3.0",
    code: "agent_failed",
    content: "It broke.",
    retryable: true,
    partial: "he",
  });
  await assert.rejects(async () => await turn, {
    name: "TurnFailed",
    code: "agent_failed",
    content: "It broke.",
    partial: "he",
    retryable: true,
  });
  await assert.rejects(async () => {
    for await (const _ of turn);
  }, TurnFailed);
  const [, answer] = chat.messages;
  assert.deepEqual([answer.status, answer.code, answer.error], ["failed", "agent_failed", "It broke."]);
});

test("several frames may come in one message, and sessions do not mix", async () => {
  const { gateway, chat, socket } = await talking();
  const other = gateway.session("o");
  assert.equal(socket.took("attach")[0].sessions[0].session_id, "o");
  socket.say(attached("o"), message("s", "e.1.0", "t", "one"), message("o", "e.1.0", "u", "two"));
  assert.deepEqual([shown(chat), shown(other)], [["user one running"], ["user two running"]]);
  assert.equal(gateway.session("s"), chat);
  assert.throws(() => gateway.session("s", { agent: "other" }), /followed with the agent bot/);
});

test("tools and reasoning are shown", async () => {
  const { chat, socket } = await talking();
  socket.say(message("s", "e.1.0", "t"), { type: "thought_delta", session_id: "s", turn_id: "t", content: "hm" });
  socket.say({
    type: "tool_call",
    session_id: "s",
    turn_id: "t",
    cursor: "e.3.0",
    at: 0,
    tool_call_id: "c",
    name: "look",
    input: { q: 1 },
  });
  const [, answer] = chat.messages;
  assert.deepEqual(answer.tools, [
    { id: "c", name: "look", input: { q: 1 }, content: null, isError: false, at: 0, done: false },
  ]);
  assert.equal(answer.thought, "hm");
  socket.say({
    type: "tool_result",
    session_id: "s",
    turn_id: "t",
    cursor: "e.4.0",
    at: 0,
    tool_call_id: "c",
    content: null,
    is_error: false,
  });
  assert.equal(chat.messages[1].tools[0].done, true);
  socket.say({
    type: "tool_call",
    session_id: "s",
    turn_id: "t",
    cursor: "e.5.0",
    at: 0,
    tool_call_id: "d",
    name: "look",
    input: {},
  });
  socket.say(response("s", "e.6.0", "t", ""));
  assert.equal(chat.messages[1].tools[1].done, true, "nothing goes on after the end");
});

test("what replaces an earlier turn takes its place", async () => {
  const { chat, socket } = await talking();
  socket.say(message("s", "e.1.0", "t"), response("s", "e.3.0", "t", "A"));
  chat.send("hi again", { turnId: "u", replaces: "t" });
  assert.equal(socket.took("message")[0].replaces, "t");
  socket.say(message("s", "e.4.0", "u", "hi again", { replaces: "t" }));
  assert.deepEqual(shown(chat), ["user hi again running"]);
  assert.equal(chat.messages[0].replaces, "t");
});

test("a turn is cancelled, also before the gateway has it", async () => {
  const { page, chat, socket } = await talking();
  chat.send("hi", { turnId: "t" }).cancel();
  assert.deepEqual(
    socket.took("cancel").map(({ turn_id }) => turn_id),
    ["t"],
  );
  socket.die();
  chat.send("more", { turnId: "u" }).cancel();
  await page.clock.pass(1_000);
  const next = await page.connect();
  assert.deepEqual(
    next.took("cancel").map(({ turn_id }) => turn_id),
    ["t", "u"],
  );
  chat.cancel();
  assert.equal(next.took("cancel").length, 1);
});

test("what runs is stopped, also if there is no line just now, and it is another page's", async () => {
  const { page, chat, socket } = await talking();
  socket.say(message("s", "e.1.0", "t"), delta("s", "e.1.1", "t", "x"));
  socket.die();
  chat.cancel();
  await page.clock.pass(250);
  const next = await page.connect();
  next.say(attached("s", { mode: "replay", cursor: "e.1.1", status: "running", turn_id: "t" }));
  assert.deepEqual(
    next.took("cancel").map(({ turn_id }) => turn_id),
    ["t"],
  );
  next.say(attached("s", { mode: "replay", cursor: "e.1.1", status: "running", turn_id: "t" }));
  assert.deepEqual(next.took("cancel"), [], "once");
});

test("a line that breaks comes back from where each session stands, and what was not acknowledged is sent again", async () => {
  const { page, gateway, chat, socket } = await talking();
  const heard = chat.send("one", { turnId: "t" });
  socket.say(ok(socket.took("message")[0]), message("s", "e.1.0", "t"), delta("s", "e.2.1", "t", "😀"));
  const lost = chat.send("two", { turnId: "u" });
  socket.die();
  assert.equal(gateway.state.status, "waiting");
  assert.equal(chat.state.attached, false);
  assert.equal(gateway.state.retryAt, page.clock.now + 250, "half of half a second");
  const during = chat.send("three", { turnId: "v" });
  await page.clock.pass(250);
  const next = await page.connect();
  assert.deepEqual(next.took("attach")[0].sessions, [{ session_id: "s", agent: "bot", history: 50, cursor: "e.2.1" }]);
  assert.deepEqual(
    next.took("message").map(({ turn_id }) => turn_id),
    ["u", "v"],
  );
  next.say(
    attached("s", { mode: "replay", cursor: "e.2.1", status: "running", turn_id: "t" }),
    delta("s", "e.2.2", "t", "b"),
  );
  next.say(response("s", "e.3.0", "t", "😀bc"));
  assert.equal((await heard).content, "😀bc");
  for (const turn of [lost, during]) assert.equal(turn.status, "sending");
});

test("a turn that ended while nobody listened is over when the line is back", async () => {
  const { page, chat, socket } = await talking();
  const turn = chat.send("one", { turnId: "t" });
  const gone = chat.send("two", { turnId: "u" });
  for (const sent of socket.took("message")) socket.say(ok(sent));
  socket.die();
  await page.clock.pass(250);
  const next = await page.connect();
  const history = [
    { role: "user", turn_id: "t", content: "one", created_at: 1 },
    { role: "agent", turn_id: "t", content: "answer", created_at: 2, status: "completed" },
  ];
  next.say(attached("s", { cursor: "f.9.0", reason: "epoch", messages: history }));
  assert.equal((await turn).content, "answer");
  await assert.rejects(async () => await gone, { code: "turn_not_found" });
  assert.deepEqual(shown(chat), ["user one completed", "agent answer completed"]);
});

test("a message that was over before the view began is looked up", async () => {
  const { chat, socket } = await talking();
  const turn = chat.send("one", { turnId: "t" });
  const [sent] = socket.took("message");
  socket.say(ok(sent, "completed", { duplicate: true }));
  const [{ sessions }] = socket.took("attach");
  assert.equal(sessions[0].cursor, undefined);
  const answer = { role: "agent", turn_id: "t", content: "long ago", created_at: 2, status: "completed" };
  socket.say(attached("s", { cursor: "e.9.0", messages: [answer] }));
  assert.equal((await turn).content, "long ago");
});

test("refusals that mean 'not now' are tried again, others are the message's end", async () => {
  const { page, chat, socket } = await talking();
  const turn = chat.send("one", { turnId: "t" });
  const [first] = socket.took("message");
  socket.say(refused(first, "rate_limited", { retryable: true, retry_after_ms: 3_000 }));
  await page.clock.pass(2_999);
  assert.deepEqual(socket.took("message"), []);
  await page.clock.pass(1_001);
  const [second] = socket.took("message");
  assert.equal(second.turn_id, "t");
  socket.say(refused(second, "queue_full", { retryable: true }));
  await assert.rejects(async () => await turn, { code: "queue_full", retryable: true });
  const [said] = chat.messages;
  assert.deepEqual([said.status, said.code, said.error], ["refused", "queue_full", "queue_full."]);
});

test("a message larger than the gateway takes is refused here", async () => {
  const page = new Page();
  const chat = page.gateway().session("s");
  const socket = await page.connect({ max_frame_bytes: 300 });
  const turn = chat.send("😀".repeat(70));
  await assert.rejects(async () => await turn, { code: "frame_too_large" });
  assert.deepEqual(socket.took("message"), []);
  chat.send("é".repeat(20));
  assert.equal(socket.took("message").length, 1);
});

test("too many sessions for one frame are attached with several", async () => {
  const page = new Page();
  const gateway = page.gateway();
  const ids = Array.from({ length: 40 }, (_, number) => `session-${number}`);
  ids.forEach((id) => gateway.session(id));
  const socket = await page.connect({ max_frame_bytes: 1_000 });
  const frames = socket.took("attach");
  assert.ok(frames.length > 1 && frames.every((frame) => JSON.stringify(frame).length <= 1_000));
  assert.deepEqual(
    frames.flatMap(({ sessions }) => sessions.map(({ session_id }) => session_id)),
    ids,
  );
});

test("a session that the gateway forgot is made again, one that was deleted is not", async () => {
  const { chat, socket } = await talking();
  socket.say(message("s", "e.1.0", "t"), response("s", "e.3.0", "t", "A"));
  socket.say(refused({ session_id: "s" }, "session_not_found"));
  assert.deepEqual(socket.took("attach")[0].sessions, [{ session_id: "s", agent: "bot", history: 50, create: true }]);
  socket.say(attached("s", { cursor: "f.0.0" }));
  assert.deepEqual(shown(chat), []);
  let ended = 0;
  chat.addEventListener("ended", () => (ended += 1));
  socket.say({ type: "session", session_id: "s", status: "closed", renewal_count: 0 });
  assert.deepEqual([chat.state.ended, ended, chat.state.attached], ["closed", 1, false]);
  assert.deepEqual(socket.took("attach"), []);
  chat.send("anew", { turnId: "u" });
  assert.deepEqual(socket.took("attach")[0].sessions, [{ session_id: "s", agent: "bot", history: 50, create: true }]);
  assert.equal(socket.took("message")[0].create, true);
  socket.say(attached("s", { cursor: "g.0.0" }));
  assert.equal(chat.state.ended, "");
});

test("frames that the protocol rules out make it look again, but not for ever", async () => {
  const { chat, socket } = await talking();
  for (let healed = 0; healed < 3; healed++) {
    socket.say(delta("s", "e.1.9", "unknown", "x"));
    const [{ sessions }] = socket.took("attach");
    assert.deepEqual(sessions, [{ session_id: "s", agent: "bot", history: 200, create: true }]);
    socket.say(attached("s"));
  }
  socket.say(delta("s", "e.1.9", "unknown", "x"));
  assert.deepEqual(socket.took("attach"), []);
  assert.equal(chat.state.error.code, "out_of_order");
});

test("how long it has is counted from what the gateway says, whatever this machine's clock does", async () => {
  const { page, chat, socket } = await talking();
  assert.equal(chat.state.minutesRemaining, null);
  const notice = { type: "session", session_id: "s", status: "expiring", renewal_count: 0 };
  socket.say({ ...notice, expires_at: 5_000, minutes_remaining: 4.5 });
  assert.equal(chat.state.minutesRemaining, 4.5);
  page.clock.set = -3_600_000;
  await page.clock.pass(90_000);
  assert.equal(chat.state.minutesRemaining, 3);
});

test("that one types is told again after a while, also if the clock was put back", async () => {
  const { page, chat, socket } = await talking();
  chat.typing(true);
  page.clock.set = -3_600_000;
  await page.clock.pass(4_000);
  chat.typing(true);
  assert.equal(socket.took("typing").length, 1);
  await page.clock.pass(1_000);
  chat.typing(true);
  assert.equal(socket.took("typing").length, 1);
});

test("expiry is told, and renewing is answered", async () => {
  const { chat, socket } = await talking();
  const told = [];
  for (const type of ["expiring", "renewed"]) chat.addEventListener(type, () => told.push(type));
  socket.say({
    type: "session",
    session_id: "s",
    status: "expiring",
    renewal_count: 0,
    expires_at: 2_000,
    minutes_remaining: 5,
  });
  assert.deepEqual([chat.state.expiring, chat.state.expiresAt], [true, 2_000_000]);
  const renewing = chat.renew();
  socket.say(
    { type: "session", session_id: "s", status: "renewed", renewal_count: 1, expires_at: 3_000 },
    ok(socket.took("renew")[0]),
  );
  await renewing;
  assert.deepEqual([chat.state.expiring, told], [false, ["expiring", "renewed"]]);
  const again = chat.renew();
  socket.say(refused(socket.took("renew")[0], "renewal_refused"));
  await assert.rejects(again, { code: "renewal_refused" });
});

test("typing is told both ways, and not with every key", async () => {
  const { page, chat, socket } = await talking();
  chat.typing(true);
  chat.typing(true);
  assert.equal(socket.took("typing").length, 1);
  await page.clock.pass(5_000);
  chat.typing(true);
  chat.typing(false);
  chat.typing(false);
  assert.deepEqual(
    socket.took("typing").map(({ state }) => state),
    ["start", "stop"],
  );
  chat.typing(true);
  chat.send("said");
  chat.typing(true);
  assert.equal(socket.took("typing").length, 2, "what was said ends it");
  socket.say({ type: "typing", session_id: "s", state: "start", author: "user" });
  assert.equal(chat.state.typing, true);
});

test("older messages are fetched and stand before the others", async () => {
  const { page, chat, socket } = await talking({ token: "t" });
  const said = (turn_id) => ({ role: "user", turn_id, content: `${turn_id}?`, created_at: 1 });
  socket.say(attached("s", { cursor: "e.9.0", has_more: true, messages: [said("d")] }));
  const more = chat.more(2);
  await settle();
  const first = page.request("messages");
  assert.equal(first.url, "http://gate.test/chat/api/sessions/s/messages?limit=3&agent=bot");
  assert.equal(first.headers.Authorization, "Bearer t");
  first.json({ messages: [said("b"), said("c"), said("d")], has_more: true, before: "P" });
  await more;
  assert.deepEqual(
    chat.messages.map(({ turnId }) => turnId),
    ["b", "c", "d"],
  );
  const rest = chat.more(2);
  await settle();
  assert.match(page.request("messages").url, /limit=2&agent=bot&before=P$/);
  page.request("messages").json({ messages: [said("a")], has_more: false });
  await rest;
  assert.deepEqual([chat.messages.map(({ turnId }) => turnId), chat.state.hasMore], [["a", "b", "c", "d"], false]);
});

test("after a snapshot older messages are asked for anew", async () => {
  const { page, chat, socket } = await talking();
  const snapshot = attached("s", {
    ...{ cursor: "e.9.0", has_more: true },
    messages: [{ role: "user", turn_id: "d", content: "d?", created_at: 1 }],
  });
  for (let number = 0; number < 2; number++) {
    socket.say(snapshot);
    const more = chat.more(2);
    await settle();
    assert.match(page.requests.at(-1).url, /limit=3&agent=bot$/);
    page.requests
      .at(-1)
      .json({ messages: [{ role: "user", turn_id: "c", content: "c?", created_at: 1 }], has_more: true, before: "P" });
    await more;
  }
});

test("older messages that come after a snapshot do not leave a gap", async () => {
  const { page, chat, socket } = await talking();
  const said = (turn_id) => ({ role: "user", turn_id, content: "?", created_at: 1 });
  socket.say(attached("s", { cursor: "e.9.0", has_more: true, messages: [said("d")] }));
  const more = chat.more(2);
  await settle();
  socket.say(attached("s", { cursor: "e.99.0", has_more: true, messages: [said("z")] }));
  page.requests.at(-1).json({ messages: [said("c"), said("d")], has_more: true, before: "P" });
  await more;
  assert.deepEqual(
    chat.messages.map(({ turnId }) => turnId),
    ["z"],
  );
  chat.more(2);
  await settle();
  assert.match(page.requests.at(-1).url, /limit=3&agent=bot$/);
});

test("a turn that was over already, and is shown, is answered with what is shown", async () => {
  const { chat, socket } = await talking();
  socket.say(message("s", "e.1.0", "t"), response("s", "e.3.0", "t", "A"));
  const turn = chat.send("hi", { turnId: "t" });
  socket.say(ok(socket.took("message")[0], "completed", { duplicate: true }));
  assert.equal((await turn).content, "A");
  assert.deepEqual(socket.took("attach"), []);
});

test("what was accepted after a snapshot is not lost because a line broke and the running turn is over", async () => {
  const { page, chat, socket } = await talking();
  socket.say(attached("s", { cursor: "e.1.0", status: "running", turn_id: "r" }));
  const turn = chat.send("two", { turnId: "t" });
  socket.say(ok(socket.took("message")[0], "queued"));
  socket.die();
  await page.clock.pass(250);
  const next = await page.connect();
  next.say(attached("s", { mode: "replay", cursor: "e.1.0" }));
  await settle();
  assert.equal(turn.over, false);
  next.say(message("s", "e.2.0", "t", "two"), response("s", "e.3.0", "r", "R"), response("s", "e.4.0", "t", "T"));
  assert.equal((await turn).content, "T");
});

test("what was over, and may still come, is looked up if it does not", async () => {
  const { page, chat, socket } = await talking();
  const turn = chat.send("one", { turnId: "t" });
  socket.die();
  await page.clock.pass(250);
  const next = await page.connect();
  next.took("attach");
  next.say(attached("s", { mode: "replay" }), ok(next.took("message")[0], "completed", { duplicate: true }));
  assert.deepEqual(next.took("attach"), []);
  await page.clock.pass(5_000);
  assert.equal(next.took("attach")[0].sessions[0].cursor, undefined);
  next.say(attached("s", { mode: "replay" })); // of the following before
  assert.equal(chat.state.attached, false);
  next.say(attached("s", { cursor: "e.9.0" }));
  await assert.rejects(async () => await turn, { code: "turn_not_found" });
});

test("what was over is answered, too, if its session cannot be followed", async () => {
  const { page, chat, socket } = await talking();
  const turn = chat.send("one", { turnId: "t" });
  socket.die();
  await page.clock.pass(250);
  const next = await page.connect();
  next.say(refused({ session_id: "s" }, "forbidden"));
  next.say(ok(next.took("message")[0], "completed", { duplicate: true }));
  next.took("attach");
  next.say(refused({ session_id: "s" }, "forbidden"));
  await assert.rejects(async () => await turn, { code: "forbidden" });
});

test("the same said again under the same name is the same turn, something else is refused", async () => {
  const { chat, socket } = await talking();
  const turn = chat.send("one", { turnId: "t" });
  assert.equal(chat.send("one", { turnId: "t" }), turn);
  const other = chat.send("two", { turnId: "t" });
  assert.equal(socket.took("message").length, 1);
  await assert.rejects(async () => await other, { code: "turn_conflict" });
  socket.say(message("s", "e.1.0", "t", "one"), response("s", "e.3.0", "t", "A"));
  assert.equal((await turn).content, "A");
});

test("a session that a message attached comes with its history all the same", async () => {
  const { page, chat, socket } = await talking();
  socket.die();
  await page.clock.pass(250);
  const next = await page.connect();
  chat.send("one", { turnId: "t" });
  next.took("attach");
  next.say(refused({ session_id: "s" }, "overloaded", { retry_after_ms: 5_000 }));
  next.say(attached("s", { cursor: "e.9.0", has_more: true, messages: [] }));
  assert.equal(chat.state.attached, false);
  assert.equal(next.took("attach")[0].sessions[0].cursor, "e.0.0");
});

test("a message of a session that is over is sent on every line until it is answered", async () => {
  const { page, chat, socket } = await talking();
  socket.say({ type: "session", session_id: "s", status: "closed", renewal_count: 0 });
  chat.send("anew", { turnId: "u" });
  socket.say(refused({ session_id: "s" }, "session_closed"));
  socket.die();
  await page.clock.pass(250);
  const next = await page.connect();
  const [sent] = next.took("message");
  assert.deepEqual([sent.turn_id, sent.create], ["u", true]);
});

test("turns that a snapshot does not tell of are lost only when nothing can tell of them any more", async () => {
  const { page, chat, socket } = await talking();
  const early = chat.send("early", { turnId: "t" });
  socket.say(ok(socket.took("message")[0], "queued"));
  socket.die();
  await page.clock.pass(250);
  const next = await page.connect();
  const late = chat.send("late", { turnId: "u" });
  next.say(ok(next.took("message")[0], "queued"));
  next.say(attached("s", { cursor: "e.5.0", status: "running", turn_id: "r" }));
  await settle();
  assert.equal(early.over, false, "its frames may come after those of the running turn");
  next.say(response("s", "e.6.0", "r", "R"));
  await assert.rejects(async () => await early, { code: "turn_not_found" });
  assert.equal(late.over, false, "it was not there yet when the session was attached");
});

test("a session that cannot be followed says why, and whoever waits for what it had accepted is told", async () => {
  const { chat, socket } = await talking();
  const accepted = chat.send("one", { turnId: "t" });
  const unheard = chat.send("two", { turnId: "u" });
  socket.say(ok(socket.took("message")[0]));
  socket.say(refused({ session_id: "s" }, "forbidden"));
  await assert.rejects(async () => await accepted, { code: "forbidden" });
  assert.deepEqual([chat.state.error.code, unheard.over], ["forbidden", false]);
});

test("when a session ends, so does what it had accepted", async () => {
  const { chat, socket } = await talking();
  const turn = chat.send("one", { turnId: "t" });
  socket.say(ok(socket.took("message")[0]), { type: "session", session_id: "s", status: "expired", renewal_count: 0 });
  await assert.rejects(async () => await turn, { code: "session_expired" });
});

test("what is asked of a line that breaks is answered", async () => {
  const { chat, socket } = await talking();
  const renewing = chat.renew();
  socket.die();
  await assert.rejects(renewing, { code: "no_line" });
  await assert.rejects(chat.renew(), { code: "no_line" });
});

test("what was to be tried again later is not sent twice if the line breaks meanwhile", async () => {
  const { page, chat, socket } = await talking();
  chat.send("one", { turnId: "t" });
  socket.say(refused(socket.took("message")[0], "overloaded", { retry_after_ms: 5_000 }));
  socket.die();
  await page.clock.pass(250);
  const next = await page.connect();
  await page.clock.pass(10_000);
  assert.equal(next.took("message").length, 1);
});

test("who watches frames and does not take them is told, and who watches at the end, too", async () => {
  const { gateway, chat, socket } = await talking();
  const slow = chat[Symbol.asyncIterator]();
  socket.say(message("s", "e.1.0", "t"));
  for (let number = 1; number <= 1_000; number++) socket.say(delta("s", `e.2.${number}`, "t", "x"));
  const taken = async () => {
    for (;;) await slow.next();
  };
  await assert.rejects(taken(), { name: "Lagged" });
  const watched = chat[Symbol.asyncIterator]().next();
  gateway.close();
  await assert.rejects(watched, ({ code, frame }) => code === "closed" && frame.type === "error");
});

test("frames may be asked for before they come, several at once", async () => {
  const { chat, socket } = await talking();
  const frames = chat[Symbol.asyncIterator]();
  const asked = [frames.next(), frames.next()];
  socket.say(message("s", "e.1.0", "t"), delta("s", "e.1.1", "t", "x"));
  assert.deepEqual(
    (await Promise.all(asked)).map(({ value }) => value.type),
    ["message", "text_delta"],
  );
  const last = [frames.next(), frames.next()];
  await frames.return();
  assert.deepEqual(
    (await Promise.all(last)).map(({ done }) => done),
    [true, true],
  );
});

test("the frames of a session can be watched, from now on", async () => {
  const { chat, socket } = await talking();
  socket.say(message("s", "e.1.0", "t"));
  const seen = [];
  const watching = (async () => {
    for await (const frame of chat) {
      seen.push(frame.type);
      if (frame.type === "response") break;
    }
  })();
  socket.say(delta("s", "e.2.1", "t", "a"));
  await settle();
  socket.say(response("s", "e.3.0", "t", "ab"));
  await watching;
  assert.deepEqual(seen, ["text_delta", "response"]);
});

test("what goes over the line can be watched", async () => {
  const page = new Page();
  const gateway = page.gateway();
  const seen = [];
  gateway.addEventListener("frame", ({ detail }) => seen.push(`${detail.direction} ${detail.frame.type}`));
  const chat = gateway.session("s");
  const socket = await page.connect();
  socket.say(attached("s"));
  chat.send("hi");
  assert.deepEqual(seen, ["out hello", "in connected", "out attach", "in attached", "out message"]);
});

test("labels are given once the session is there", async () => {
  const page = new Page();
  page.gateway().session("s", { label: "Support" });
  const socket = await page.connect();
  socket.say(attached("s"));
  await settle();
  const request = page.request("label");
  assert.deepEqual(
    [request.method, request.url, request.body],
    ["PUT", "http://gate.test/chat/api/sessions/s/label?agent=bot", { label: "Support" }],
  );
});

test("a session that is detached says no more, and nobody waits for it", async () => {
  const { gateway, chat, socket } = await talking();
  const turn = chat.send("hi", { turnId: "t" });
  chat.detach();
  await assert.rejects(async () => await turn, { code: "detached" });
  assert.deepEqual(socket.took("detach")[0].session_ids, ["s"]);
  socket.say(message("s", "e.1.0", "t"));
  assert.deepEqual(gateway.sessions, []);
});

test("closing hangs up, tells who waits, and leaves nothing behind", async () => {
  const { page, gateway, chat, socket } = await talking();
  const turn = chat.send("hi");
  gateway.close();
  await assert.rejects(async () => await turn, { code: "closed" });
  assert.deepEqual([gateway.state.status, socket.closed, page.listeners, page.clock.waiting], ["closed", 1000, 0, 0]);
});

// ── What has no encoding ──

test("half a character in a message becomes the sign for that, wherever it is", async () => {
  const { chat, socket } = await talking();
  const whole = "😀 \\ud83d \\\\ \u2028";
  const metadata = { "\ude00": ["\ud83d", whole], n: 1 };
  chat.send(`${whole}\ud83d`, { turnId: "t", metadata });
  const [sent] = socket.took("message");
  assert.equal(sent.content, `${whole}\ufffd`);
  assert.deepEqual(sent.metadata, { "\ufffd": ["\ufffd", whole], n: 1 });
  assert.deepEqual(shown(chat), [`user ${whole}\ufffd sending`]);
  assert.equal(chat.send(`${whole}\ud83d`, { turnId: "t" }), chat.send(`${whole}\ufffd`, { turnId: "t" }));
});

test("metadata that cannot be sent fails its own message, and the next line sends the others", async () => {
  const { page, chat, socket } = await talking();
  socket.die();
  const cycle = {};
  cycle.cycle = cycle;
  chat.send("before", { turnId: "t" });
  for (const metadata of [cycle, { n: 1n }]) assert.throws(() => chat.send("lost", { metadata }), TypeError);
  chat.send("after", { turnId: "u" });
  assert.deepEqual(shown(chat), ["user before sending", "user after sending"]);
  await page.clock.pass(250);
  const next = await page.connect();
  assert.deepEqual(
    next.took("message").map(({ content }) => content),
    ["before", "after"],
  );
});

// ── A draft ──

test("what is being written survives a reload, until it is sent", async () => {
  const { page, chat } = await talking();
  chat.draft = "half a sent";
  const after = reloaded(page);
  const again = after.gateway().session("s");
  assert.equal(again.draft, "half a sent");
  await after.connect();
  assert.equal(again.draft, "half a sent");
  again.draft = "";
  assert.equal(reloaded(after).gateway().session("s").draft, "");
});

test("what another user was writing is nothing to this one", async () => {
  const { page, chat } = await talking();
  chat.draft = "a secret";
  const after = reloaded(page);
  const again = after.gateway().session("s");
  const drafts = [];
  again.addEventListener("restored", () => drafts.push(again.draft));
  await after.connect({ user_id: "eve" });
  assert.deepEqual([again.draft, drafts], ["", [""]]);
  assert.equal(reloaded(after).gateway().session("s").draft, "");
});

test("where a function gives the token, what was being written is there when that has answered", async () => {
  const page = new Page();
  const before = page.gateway({ token: async () => "t" });
  await page.connect();
  before.session("s").draft = "half a sent";
  const after = reloaded(page);
  let give;
  const gateway = after.gateway({ token: () => new Promise((resolve) => (give = resolve)) });
  const [chat, other] = [gateway.session("s"), gateway.session("o")];
  other.draft = "written meanwhile";
  const restored = new Promise((resolve) => chat.addEventListener("restored", resolve));
  assert.equal(chat.draft, "");
  give("t");
  await restored;
  assert.deepEqual([chat.draft, other.draft], ["half a sent", "written meanwhile"]);
});

// ── A reload ──

const reloaded = (page) => new Page(undefined, { storage: page.storage });

test("what was seen and what was not acknowledged survive a reload", async () => {
  const { page, chat, socket } = await talking();
  socket.say(message("s", "e.1.0", "t"), delta("s", "e.2.1", "t", "😀"));
  chat.send("unheard", { turnId: "u" });
  page.window.tell("pagehide");
  const after = reloaded(page);
  const again = after.gateway().session("s");
  assert.deepEqual(shown(again), ["user hi running", "agent 😀 running", "user unheard sending"]);
  const next = await after.connect();
  assert.deepEqual(next.took("attach")[0].sessions, [{ session_id: "s", agent: "bot", history: 50, cursor: "e.2.1" }]);
  const [sent] = next.took("message");
  assert.deepEqual([sent.turn_id, sent.content], ["u", "unheard"]);
  next.say(
    attached("s", { mode: "replay", cursor: "e.2.1", status: "running", turn_id: "t" }),
    delta("s", "e.2.2", "t", "b"),
  );
  next.say(ok(sent, "queued"));
  assert.equal(again.messages[1].content, "😀b");
  const third = reloaded(after).gateway().session("s");
  assert.deepEqual(
    third.messages.filter(({ status }) => status === "sending"),
    [],
    "once acknowledged it is not kept",
  );
});

test("what another user left behind is nothing to this one", async () => {
  const { page, chat, socket } = await talking();
  socket.say(message("s", "e.1.0", "t", "secret"));
  chat.send("mine", { turnId: "u" });
  page.window.tell("pagehide");
  const after = reloaded(page);
  const again = after.gateway().session("s");
  const next = await after.connect({ user_id: "eve" });
  assert.deepEqual([again.messages, next.took("message")], [[], []]);
  const third = reloaded(page);
  const gateway = third.gateway();
  await third.connect({ user_id: "eve" });
  assert.deepEqual(gateway.session("s").messages, [], "also of a session that is asked for later");
});

test("a session that only another user had is made for this one", async () => {
  const { page, socket } = await talking();
  socket.say(message("s", "e.1.0", "t", "secret"));
  page.window.tell("pagehide");
  const after = reloaded(page);
  const chat = after.gateway().session("s");
  const next = await after.connect({ user_id: "eve" });
  next.took("attach");
  next.say(refused({ session_id: "s" }, "session_not_found"));
  assert.deepEqual(next.took("attach")[0].sessions, [{ session_id: "s", agent: "bot", history: 50, create: true }]);
  next.say(refused({ session_id: "s" }, "session_not_found"));
  assert.deepEqual([next.took("attach"), chat.state.error.code], [[], "session_not_found"]);
});

test("what is kept of a session whose agent is the gateway's choice is found again", async () => {
  const page = new Page();
  const chat = page.gateway({ agent: undefined }).session("s");
  chat.send("early", { turnId: "t" });
  const socket = await page.connect();
  socket.say(attached("s"), ...socket.took("message").map((sent) => ok(sent)), message("s", "e.1.0", "t"));
  chat.send("late", { turnId: "u" });
  page.window.tell("pagehide");
  const after = reloaded(page);
  const again = after.gateway({ agent: undefined }).session("s");
  assert.deepEqual(shown(again), ["user hi running", "user late sending"]);
  const next = await after.connect();
  assert.deepEqual(
    next.took("message").map(({ turn_id }) => turn_id),
    ["u"],
  );
});

test("what was not acknowledged is sent, too, if its session is asked for when the line is there already", async () => {
  const { page, chat } = await talking();
  chat.send("unheard", { turnId: "u" });
  const after = reloaded(page);
  const gateway = after.gateway();
  const next = await after.connect();
  gateway.session("s");
  assert.deepEqual(
    next.took("message").map(({ turn_id }) => turn_id),
    ["u"],
  );
});

test("what was cancelled before it was acknowledged is so after a reload", async () => {
  const { page, chat, socket } = await talking();
  socket.die();
  chat.send("unheard", { turnId: "u" }).cancel();
  const after = reloaded(page);
  after.gateway().session("s");
  const next = await after.connect();
  assert.deepEqual([next.took("message").length, next.took("cancel").map(({ turn_id }) => turn_id)], [1, ["u"]]);
});

test("an answer is kept once", async () => {
  const { page, socket } = await talking();
  socket.say(message("s", "e.1.0", "t"), response("s", "e.3.0", "t", "answer"));
  page.window.tell("pagehide");
  assert.equal(
    [...page.storage.values()].join().split("answer").length,
    2 + "answeredAt answerMetadata".split(" ").length,
  );
});

test("one that was over is looked at again after a reload, once", async () => {
  const { page, socket } = await talking();
  socket.say(message("s", "e.1.0", "t"), { type: "session", session_id: "s", status: "closed", renewal_count: 0 });
  page.window.tell("pagehide");
  const after = reloaded(page);
  const again = after.gateway().session("s");
  assert.equal(again.state.ended, "closed");
  const next = await after.connect();
  assert.equal(next.took("attach")[0].sessions[0].cursor, "e.1.0");
  next.say(refused({ session_id: "s" }, "session_closed"));
  next.die();
  await after.clock.pass(250);
  const third = await after.connect();
  assert.deepEqual([again.state.ended, third.took("attach")], ["closed", []]);
});

test("a page without storage, or with a full one, goes on", async () => {
  const full = { getItem: () => null, removeItem() {}, setItem: () => assert.fail("full") };
  for (const storage of [undefined, full]) {
    const page = new Page();
    page.env.storage = storage;
    const chat = page.gateway().session("s");
    const socket = await page.connect();
    chat.send("hi");
    page.window.tell("pagehide");
    assert.equal(socket.took("message").length, 1);
  }
});
