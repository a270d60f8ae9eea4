// Runs ElizaOS's own client against a gateway: every method of its sessions, none may answer undefined.
//
//   npm install --prefix /tmp/eliza @elizaos/api-client@1.7.2 && cp tests/clients/eliza_client.mjs /tmp/eliza/
//   gateway serve --store memory: &
//   node /tmp/eliza/eliza_client.mjs http://127.0.0.1:8080

import { ElizaClient } from "@elizaos/api-client";
const baseUrl = process.argv[2];
const sessions = ElizaClient.create({ baseUrl }).sessions;
const say = (name, value) => { if (value === undefined) throw new Error(`${name} answered undefined`); console.log(name, JSON.stringify(value).slice(0, 200)); return value; };
say("checkHealth", await sessions.checkHealth());
const made = say("createSession", await sessions.createSession({ agentId: "echo", userId: "u1", metadata: { topic: "x" } }));
const id = made.sessionId;
say("getSession", await sessions.getSession(id));
for (const transport of ["http", "sse", "websocket"]) say(`sendMessage ${transport}`, await sessions.sendMessage(id, { content: `hello ${transport}`, transport }));
say("sendMessage", await sessions.sendMessage(id, { content: "hello" }));
say("sendMessageSync", await sessions.sendMessageSync(id, { content: "sync" }));
const page = say("getMessages", await sessions.getMessages(id, { limit: 3 }));
const older = say("getMessages before", await sessions.getMessages(id, { limit: 50, before: page.cursors.before }));
say("getMessages after", await sessions.getMessages(id, { limit: 50, after: new Date(page.cursors.after - 5) }));
console.log(page.messages.length, page.hasMore, older.messages.length, older.hasMore);
say("listSessions", await sessions.listSessions());
say("deleteSession", await sessions.deleteSession(id));
try { await sessions.getSession(id); throw new Error("still there"); } catch (e) { console.log(e.code, e.status, e.message); }
