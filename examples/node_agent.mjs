// An agent in Node, without dependencies: it answers turns that a gateway sends to its URL.
//
//     node examples/node_agent.mjs 9000
//     gateway serve --agent "counter=http?url=http://127.0.0.1:9000/"
//
// The whole contract is in gateway/agents/http.py: a turn comes as JSON, the answer goes back as lines of JSON,
// and the last line is {"done": true}. When the user cancels, the connection is closed.

import { createServer } from "node:http";
import { setTimeout as pause } from "node:timers/promises";

async function* answer(turn, signal) {
  const words = turn.content.split(/\s+/).filter(Boolean);
  const turns = (turn.state.turns ?? 0) + 1;

  yield { tool_call: { tool_call_id: turn.turn_id, name: "count_words", input: { text: turn.content } } };
  yield { tool_result: { tool_call_id: turn.turn_id, content: { words: words.length } } };
  for (const word of words.reverse()) {
    yield { text: `${word} ` };
    await pause(40, undefined, { signal });
  }
  yield { text: `(${words.length} words backwards; turn ${turns}, ${turn.history.length} messages before it)` };
  yield { state: { turns }, usage: { input_tokens: words.length, output_tokens: words.length } };
  yield { done: true };
}

async function serve(request, response) {
  if (request.method !== "POST") return response.writeHead(405).end(); // what `gateway check` sees

  const stop = new AbortController();
  response.on("close", () => stop.abort());
  let turn;
  try {
    turn = JSON.parse(Buffer.concat(await request.toArray()));
  } catch {
    return response.writeHead(400).end(); // half a request, or no turn
  }
  response.writeHead(200, { "Content-Type": "application/x-ndjson" });
  try {
    for await (const line of answer(turn, stop.signal)) response.write(`${JSON.stringify(line)}\n`);
  } catch (error) {
    if (stop.signal.aborted) return console.log(`stopped ${turn.turn_id}`);
    response.write(`${JSON.stringify({ error: { content: "I lost my thread.", retryable: true } })}\n`);
    console.error(error);
  }
  response.end();
}

const server = createServer(serve).listen(process.argv[2] ?? 9000, "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}/`);
});
