// Three conversations over one WebSocket. All text is put in as text, never as markup.

import { Chat } from "./chat.js";
import { Line } from "./line.js";

const KEY = "trunkline";
const CHATS = 3;
const MOST_KEPT = 2_000_000; // characters; browsers give a page about 5 MB

const here = new URL(".", document.baseURI);
const line = new Line(Object.assign(new URL("ws", here), { protocol: here.protocol.replace("http", "ws") }));
const byId = (id) => document.getElementById(id);
let chats = [];

// ── The line ──

line.addEventListener("ready", () => {
  // All of them in one frame, each from where it was; then what nobody acknowledged.
  line.send({ type: "attach", sessions: chats.map((chat) => chat.target) });
  chats.forEach((chat) => chat.resend());
});
line.addEventListener("frame", ({ frame }) => {
  chats.find((chat) => chat.session === frame.session_id)?.take(frame);
});
line.addEventListener("state", showLine);
setInterval(showLine, 500);

function showLine() {
  const { state, words, frames } = line;
  byId("line").parentElement.dataset.state = state;
  if (byId("line").textContent !== words) byId("line").textContent = words;
  byId("count").textContent = `· one WebSocket, ${chats.length} sessions, ${frames.toLocaleString()} frames`;
}

// ── What survives a reload ──

function read(storage) {
  try {
    return JSON.parse(storage.getItem(KEY)) ?? [];
  } catch {
    return [];
  }
}

function keep() {
  const kept = chats.map((chat) => chat.keep());
  const names = kept.map(({ agent, session, ended }) => (ended ? { agent } : { agent, session }));
  // A cursor is worth nothing without what was read up to it: both are this tab's, or neither.
  const whole = JSON.stringify(kept);
  sessionStorage.setItem(KEY, whole.length < MOST_KEPT ? whole : JSON.stringify(names));
  localStorage.setItem(KEY, JSON.stringify(names));
}

addEventListener("pagehide", keep);

// ── The page ──

byId("everyone").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = byId("to-everyone");
  if (!field.value.trim()) return;
  chats.forEach((chat) => chat.say(field.value));
  field.value = "";
});

const agents = await fetch(new URL("api/agents", here)).then((answer) => answer.json());
const names = Array.from({ length: CHATS }, (_, place) => agents[place % agents.length].name);
const kept = [read(sessionStorage), read(localStorage)].find((list) => list.length === CHATS) ?? [];
chats = names.map(
  (agent, place) => new Chat(kept[place]?.agent === agent ? kept[place] : { agent }, (frame) => line.send(frame)),
);
byId("chats").append(...chats.map((chat) => chat.element));
keep();
line.open();
