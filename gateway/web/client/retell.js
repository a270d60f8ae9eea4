// The frames that bring a reader who has seen nothing to where a transcript stands. A page that holds the line for
// others tells them of its sessions so.

import { after, codePoints } from "./transcript.js";

/** `transcript` has to hold all of the running turn: nothing of it was skipped. */
export function* retell(transcript) {
  const { sessionId: session_id, agent, running, queue, expiresAt, hasMore, speaker } = transcript;
  const records = speaker ? toolRecords(speaker) : [];
  const [epoch, seq] = transcript.cursor.split(".");
  // The tool records come after `attached`: they need numbers of their own that lead to where it stands.
  let place = Number(seq) - records.length;
  const told = (type, offset, more) => ({
    type,
    cursor: `${epoch}.${place}.${offset}`,
    session_id,
    turn_id: speaker.turnId,
    ...more,
  });
  yield {
    type: "attached",
    cursor: `${epoch}.${place}.0`,
    session_id,
    agent,
    mode: "snapshot",
    status: running === null ? "idle" : "running",
    queued: [...queue],
    ...(running !== null && { turn_id: running }),
    ...(expiresAt !== null && { expires_at: expiresAt }),
    messages: transcript.turns.flatMap(messagesOf),
    has_more: hasMore,
  };
  if (speaker) {
    const { turnId: turn_id, thought, text } = speaker;
    if (thought) yield { type: "thought_delta", session_id, turn_id, content: thought };
    let rest = text;
    let offset = 0;
    for (const { type, ...record } of records) {
      const beyond = after(rest, record.at - offset);
      const piece = rest.slice(0, rest.length - beyond.length);
      offset += codePoints(piece);
      if (piece) yield told("text_delta", offset, { content: piece });
      place += 1;
      yield told(type, offset, record);
      rest = beyond;
    }
    if (rest) yield told("text_delta", offset + codePoints(rest), { content: rest });
    if (transcript.agentTyping) yield { type: "typing", session_id, turn_id, author: "agent", state: "start" };
  }
  if (transcript.userTyping) yield { type: "typing", session_id, author: "user", state: "start" };
}

// A result is told right after its call: nobody sees where else in the text it came.
const toolRecords = ({ tools }) =>
  tools.flatMap(({ tool_call_id, name, input, content, is_error, at, done }) => [
    { type: "tool_call", tool_call_id, name, input, at },
    ...(done ? [{ type: "tool_result", tool_call_id, content, is_error, at }] : []),
  ]);

function messagesOf(turn) {
  const { turnId: turn_id, createdAt } = turn;
  const messages = [];
  if (turn.content !== null) {
    const { content, metadata, replaces } = turn;
    messages.push({ role: "user", turn_id, content, created_at: createdAt, metadata, replaces });
  }
  if (turn.over) {
    const { status, tools, code, reason, retryable, thought, answerMetadata: metadata } = turn;
    const answer = { status, tools, code, reason, retryable, thought, metadata };
    messages.push({ role: "agent", turn_id, content: turn.text, created_at: turn.answeredAt ?? createdAt, ...answer });
  }
  return messages;
}
