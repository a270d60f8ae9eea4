// Whatever happens in whatever order: every message runs exactly once, and every page shows what the gateway has for
// its user.
// RUNS and STEPS say how many lives are lived, and how long; SEED one of them again.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Browser, settle } from "./fakes.mjs";
import { FakeGateway } from "./gateway.mjs";

const SESSIONS = ["a", "b"];
const RUNS = Number(process.env.RUNS ?? 40);
const FOUND = [195]; // lives that went wrong once
const STEPS = Number(process.env.STEPS ?? 120);

/** https://github.com/bryc/code/blob/master/jshash/PRNGs.md#mulberry32 */
function randomness(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Tabs of one browser, a gateway, and what lies between them. */
class World {
  browser = new Browser();
  gateway = new FakeGateway();
  pages = [];
  /** Whether sockets get through. */
  sockets = true;
  /** Is all well from now on? */
  calm = false;
  #said = 0;
  #answers = [];

  constructor(seed, options) {
    this.random = randomness(seed);
    this.options = options;
    this.gateway.busy = () => !this.calm && this.random() < 0.1;
  }

  below(limit) {
    return Math.floor(this.random() * limit);
  }

  any(list) {
    return list[this.below(list.length)];
  }

  // ── What people do ──

  load(storage = new Map()) {
    const page = this.browser.page({ storage, random: this.random, ...this.options.env });
    this.pages.push(page);
    page.user = this.any(this.options.users ?? ["user"]);
    page.gw = page.gateway({ shared: this.options.shared, token: this.options.users && this.#token(page.user) });
    page.chats = SESSIONS.map((id) => page.gw.session(id));
    return page;
  }

  // It is in the page, or to be got, which may fail.
  #token(user) {
    const token = `h.${btoa(JSON.stringify({ sub: user }))}.s`;
    const get = async () => {
      await settle();
      if (!this.calm && this.random() < 0.3) throw new Error("No token now.");
      return token;
    };
    return this.random() < 0.3 ? token : get;
  }

  leave(page, told) {
    if (told) page.window.tell("pagehide");
    this.browser.kill(page);
    for (const socket of page.sockets) this.gateway.drop(socket);
    for (const request of page.requests) this.gateway.drop(request);
    this.pages = this.pages.filter((other) => other !== page);
  }

  say(page) {
    const chat = this.any(page.chats);
    this.#listen(page, chat.send(`${page.user}: ${(this.#said += 1)} 😀`));
  }

  // The same again, as one who does not know whether it was heard.
  repeat(page) {
    const { turn } = this.any(this.#answers) ?? {};
    const chat = page.chats.find(({ id }) => id === turn?.session.id);
    if (chat && turn.frame.content.startsWith(page.user)) this.#listen(page, chat.send(turn.frame.content, { turnId: turn.turnId }));
  }

  #listen(page, turn) {
    const answer = { page, turn, pieces: "", end: null };
    this.#answers.push(answer);
    turn.then(
      (frame) => (answer.end = frame),
      (error) => (answer.end = error),
    );
    const iterated = async () => {
      for await (const piece of turn) answer.pieces += piece;
    };
    iterated().catch(() => {});
  }

  // ── What the network does ──

  carry(page) {
    const { gateway } = this;
    for (const socket of gateway.opening(page)) if (this.sockets && this.random() < 0.7) gateway.open(socket);
    for (const socket of gateway.sockets(page)) if (this.random() < 0.7) gateway.hear(socket);
    for (const request of gateway.asked(page)) {
      if (request.url.endsWith("/events")) gateway.stream(request);
      else if (this.random() < 0.8) this.#answer(request);
    }
    for (const line of gateway.lines) {
      if (this.random() < 0.5) line.pump(1 + this.below(3));
      if (this.random() < 0.5) line.deliver(1 + this.below(4));
    }
  }

  #answer(request) {
    const frame = this.gateway.post(request);
    request.json(frame, frame.type === "ok" ? 200 : 503);
  }

  cut(page) {
    for (const socket of page.sockets.filter(({ readyState }) => readyState < 2)) {
      while (socket.readyState === 1 && socket.sent.length > 0 && this.random() < 0.5) this.gateway.hear(socket);
      this.gateway.drop(socket);
      socket.die();
    }
    for (const request of page.requests.filter(({ aborted, over }) => !aborted && !over)) {
      request.over = true;
      if (request.url.endsWith("/frames") && !request.heard && this.random() < 0.5) this.gateway.post(request);
      if (request.url.endsWith("/events") && request.heard) request.end();
      else request.fail();
      request.heard = true;
      this.gateway.drop(request);
    }
  }

  // ── What agents do ──

  speak(log = this.any([...this.gateway.logs.values()])) {
    if (!log?.running) return;
    const chance = this.random();
    if (chance < 0.6) log.write(this.any(["x", "😀", "word ", "longer text 😀 "]));
    else if (chance < 0.7) log.call(`c${log.head}`);
    else log.end(log.running, this.any(["completed", "completed", "failed"]));
  }

  async step() {
    const page = this.any(this.pages);
    const deeds = {
      say: [6, () => this.say(page)],
      repeat: [2, () => this.repeat(page)],
      speak: [20, () => this.speak()],
      carry: [40, () => this.carry(page)],
      cut: [3, () => this.cut(page)],
      cancel: [1, () => this.any(page.chats).cancel()],
      reload: [1, () => (this.leave(page, this.random() < 0.5), this.load(page.storage))],
      open: [0.5, () => this.pages.length < 4 && this.load(new Map(this.random() < 0.5 ? page.storage : []))],
      detach: [0.5, () => this.detach(page)],
      turn: [this.options.turns ?? 0, () => (this.sockets = !this.sockets)],
      online: [1, () => page.window.tell("online")],
      wait: [5, () => this.browser.clock.pass(this.below(8_000))],
    };
    let chance = this.random() * Object.values(deeds).reduce((sum, [weight]) => sum + weight, 0);
    const [, deed] = Object.values(deeds).find(([weight]) => (chance -= weight) < 0);
    await deed();
    for (let passes = this.below(4); passes >= 0; passes--) await settle();
  }

  // Followed no more, and followed again.
  detach(page) {
    const place = this.below(page.chats.length);
    const { id } = page.chats[place];
    page.chats[place].detach();
    page.chats[place] = page.gw.session(id);
  }

  /** All is well from now on, and everything that can come does. */
  async rest() {
    this.sockets = this.calm = true;
    for (let quiet = 0, before = ""; quiet < 30;) {
      for (const log of this.gateway.logs.values()) this.speak(log);
      for (const page of this.pages) this.carry(page);
      for (const line of this.gateway.lines) line.tell([{ type: "pong" }]);
      await this.browser.clock.pass(500);
      for (let passes = 0; passes < 4; passes++) await settle();
      const lines = this.gateway.lines.map(({ out, follows }) => [out, ...follows]);
      const now = JSON.stringify([...this.gateway.logs.values(), ...lines]);
      quiet = now === before ? quiet + 1 : 0;
      before = now;
    }
  }

  /** Nobody's words are among somebody else's. */
  checkOwners() {
    const own = (user) => (content) => assert.ok(content.startsWith(`${user}: `), `${content} is ${user}'s`);
    for (const { user, chats } of this.pages) {
      const said = chats.flatMap(({ messages }) => messages).filter(({ role }) => role === "user");
      said.map(({ content }) => content).forEach(own(user));
    }
    for (const [name, { turns }] of this.gateway.logs) {
      const [user] = name.split(" ");
      [...turns.values()].map(({ content }) => content).forEach(own(user));
    }
  }

  check() {
    for (const { gw, chats, user } of this.pages) {
      assert.equal(gw.state.status, "connected");
      for (const chat of chats) {
        const { id } = chat;
        assert.equal(chat.state.attached, true, `${id} is followed`);
        const seen = chat.messages.map(({ role, content, status }) => `${role} ${content} ${status}`);
        assert.deepEqual(seen, this.gateway.logOf(user, id).shown, id);
      }
    }
    for (const log of this.gateway.logs.values()) {
      const said = [...log.turns.values()].map(({ content }) => content);
      assert.equal(new Set(said).size, said.length, "nothing ran twice");
    }
    for (const { page, turn, pieces, end } of this.#answers) this.#checkAnswer(page, turn, pieces, end);
  }

  #checkAnswer(page, turn, pieces, end) {
    if (page.dead || end?.code === "detached") return;
    const ran = this.gateway.logOf(page.user, turn.session.id).turns.get(turn.turnId);
    assert.ok(ran, `${turn.frame.content} ran`);
    assert.equal(end?.code ?? end?.status, ran.end.code ?? ran.end.status, turn.frame.content);
    assert.equal(end.partial ?? end.content, ran.text);
    assert.equal(pieces, ran.text, "each character once");
  }
}

async function live(seed, options) {
  const world = new World(seed, options);
  world.load();
  world.load();
  for (let steps = 0; steps < STEPS; steps++) await world.step().then(() => world.checkOwners());
  await world.rest();
  world.check();
}

for (const [what, options] of Object.entries({
  "each tab with its own socket": {},
  "tabs that share a socket": { shared: true },
  "tabs for which sockets come and go": { turns: 2 },
  "tabs that share a line, and sockets come and go": { shared: true, turns: 2 },
  "tabs whose users change": { users: ["ann", "bob"] },
  "tabs that share a socket, and users change": { shared: true, users: ["ann", "bob"] },
  "tabs for which sockets and users come and go": { turns: 2, users: ["ann", "bob"] },
  "tabs that cannot find each other": { turns: 2, env: { navigator: {} } },
})) {
  test(`${what}: nothing is lost, nothing is doubled`, async () => {
    const seeds = process.env.SEED ? [Number(process.env.SEED)] : [...Array(RUNS).keys(), ...FOUND];
    for (const seed of seeds) {
      await live(seed, options).catch((error) => {
        error.message = `SEED=${seed}: ${error.message}`;
        throw error;
      });
    }
  });
}
