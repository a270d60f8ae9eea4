// Frames as bytes: what the gateway counts.

const encoder = new TextEncoder();

/** How many bytes a frame has on the wire. */
export const bytesOf = (frame) => encoder.encode(JSON.stringify(frame)).length;

/** The value as JSON has it, with U+FFFD for half a character, which has no bytes. Throws `TypeError` if it is none. */
export const plain = (value) =>
  JSON.parse(JSON.stringify(value).replace(ESCAPE, (escape) => (escape === "\\\\" ? escape : "\ufffd")));

// JSON text escapes half a character, and nothing else of that range.
const ESCAPE = /\\\\|\\ud[89a-f][0-9a-f]{2}/g;

/** Did a message attach its session? It does, if an `attach` was refused before; but without the history. */
export const isBare = ({ type, messages = [], has_more: hasMore }, { history }) =>
  type === "attached" && hasMore && messages.length === 0 && history > 0;

/** Frames that attach these: as few as possible, none with more than `limit` bytes that could be cut. */
export function attachFrames(targets, limit) {
  const frame = { type: "attach", sessions: targets, ref: "attach" };
  if (targets.length < 2 || bytesOf(frame) <= limit) return [frame];
  const half = targets.length >> 1;
  return [...attachFrames(targets.slice(0, half), limit), ...attachFrames(targets.slice(half), limit)];
}
