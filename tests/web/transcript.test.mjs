// The transcript against what `protocol/transcript.py` makes of the same frames; see vectors.py.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { retell } from "../../gateway/web/client/retell.js";
import { OutOfOrder, Transcript, after, codePoints } from "../../gateway/web/client/transcript.js";

const vectors = JSON.parse(readFileSync(process.env.VECTORS, "utf8"));

const seenOf = (turn) => ({
  turnId: turn.turnId,
  content: turn.content,
  createdAt: turn.createdAt,
  status: turn.status,
  text: turn.text,
  length: turn.length,
  skipped: turn.skipped,
  thought: turn.thought,
  tools: turn.tools.map(({ done: _, ...use }) => use),
  code: turn.code,
  reason: turn.reason,
  place: turn.place,
});

const seen = ({
  agent,
  turns,
  running,
  queue,
  agentTyping,
  userTyping,
  attached,
  ended,
  expiresAt,
  hasMore,
  cursor,
}) => ({
  ...{ agent, turns: turns.map(seenOf), running, queue, agentTyping, userTyping, attached, ended },
  ...{ expiresAt, hasMore, cursor },
});

function step(transcript, frame) {
  if (frame === null) transcript.detach();
  else transcript.apply(frame);
}

test("there are hundreds of conversations, with everything in them", () => {
  assert.ok(vectors.length > 300);
  const frames = vectors.flatMap(({ steps }) => steps.map(({ frame }) => frame));
  const some = (condition) => assert.ok(frames.filter(condition).length > 3);
  for (const mode of ["replay", "snapshot"]) some((frame) => frame?.mode === mode);
  for (const type of ["tool_result", "thought_delta", "session"]) some((frame) => frame?.type === type);
  for (const code of ["turn_interrupted", "agent_failed"]) some((frame) => frame?.code === code);
  some((frame) => frame?.replaces);
  some((frame) => frame?.reason === "epoch");
  some((frame) => /\p{Emoji_Presentation}/u.test(frame?.content));
});

test("what is seen is what Python sees, after every frame", () => {
  for (const { name, steps } of vectors) {
    const transcript = new Transcript("s");
    steps.forEach(({ frame, seen: expected, raises }, number) => {
      const where = `${name}, step ${number}`;
      if (raises) {
        assert.throws(
          () => step(transcript, frame),
          new OutOfOrder(raises.replace("turn None", "turn undefined")),
          where,
        );
      } else {
        step(transcript, frame);
        assert.deepEqual(seen(transcript), expected, where);
      }
    });
  }
});

test("one that was kept and read again goes on as if nothing had been", () => {
  for (const { name, steps } of vectors) {
    let transcript = new Transcript("s");
    for (const { frame, seen: expected } of steps) {
      if (!expected) continue;
      step(transcript, frame);
      if (frame === null) transcript = Transcript.from(JSON.parse(JSON.stringify(transcript)));
      assert.deepEqual(seen(transcript), expected, name);
    }
  }
});

test("one who has seen nothing is brought to where another stands, and both go on alike", () => {
  for (const { name, steps } of vectors) {
    const first = new Transcript("s");
    const joined = [];
    for (const [number, { frame, seen: expected }] of steps.entries()) {
      if (!expected) continue;
      step(first, frame);
      for (const second of joined) step(second, frame);
      const whole = first.attached && first.turns.every(({ content, skipped }) => content !== null && skipped === 0);
      // While the line was gone, a turn may have ended of which its readers are not told yet.
      const { speaker, running, cursor } = first;
      const inTime = first.turns.every(({ status, turnId }) => status !== "running" || turnId === running);
      const told = inTime && (!speaker || (running === speaker.turnId && cursor.endsWith(`.${speaker.shown}`)));
      if (whole && told && number % 4 === 0) joined.push(retold(first));
      for (const second of joined) {
        assert.equal(second.cursor, first.cursor, name);
        assert.deepEqual(heard(second), heard(first), name);
      }
    }
  }
});

function retold(transcript) {
  const second = new Transcript("s");
  for (const frame of retell(transcript)) second.apply(JSON.parse(JSON.stringify(frame)));
  return second;
}

const heard = ({ turns, running, attached, agentTyping, userTyping }) => ({
  ...{ running, attached, agentTyping, userTyping },
  turns: turns
    .filter(({ content }) => content !== null)
    .map(({ turnId, content, text, status, thought }) => [turnId, content, text, status, thought]),
});

test("history that was fetched comes before what is shown, and can be replaced", () => {
  const message = (turn_id, role, content, more) => ({ turn_id, role, content, created_at: 1, ...more });
  const transcript = new Transcript("s");
  transcript.apply({
    ...{ type: "attached", session_id: "s", agent: "a", mode: "snapshot", status: "idle", cursor: "e.9.0" },
    ...{ queued: [], has_more: true, messages: [message("c", "agent", "C"), message("d", "user", "d?")] },
  });
  const older = [
    message("a", "user", "a?"),
    message("a", "agent", "A"),
    message("b", "user", "b?"),
    message("c", "user", "c?"),
  ];
  assert.equal(transcript.prepend(older, false), 2);
  assert.deepEqual(
    transcript.turns.map(({ turnId, content, text }) => [turnId, content, text]),
    [
      ["a", "a?", "A"],
      ["b", "b?", ""],
      ["c", "c?", "C"],
      ["d", "d?", ""],
    ],
  );
  assert.equal(transcript.hasMore, false);
  transcript.apply({
    type: "message",
    session_id: "s",
    turn_id: "e",
    content: "e?",
    created_at: 2,
    cursor: "e.10.0",
    replaces: "b",
  });
  assert.deepEqual(
    transcript.turns.map(({ turnId }) => turnId),
    ["a", "e"],
  );
});

test("lengths are counted in code points", () => {
  assert.equal(codePoints("a😀é𝔊"), 4);
  assert.equal(after("a😀é𝔊", 2), "é𝔊");
  assert.equal(after("a😀", 5), "");
});

test("frames of a newer gateway are passed over", () => {
  const transcript = new Transcript("s");
  transcript.apply({
    type: "attached",
    session_id: "s",
    agent: "a",
    mode: "snapshot",
    status: "idle",
    cursor: "e.1.0",
    queued: [],
  });
  transcript.apply({ type: "weather", session_id: "s" });
  assert.equal(transcript.cursor, "e.1.0");
});
