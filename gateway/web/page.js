// The page at `/`: the chat widget with the agents of this gateway, and what goes over its wire.

import { plural } from "./widget/words.js";
import { Wire } from "./wire.js";
import { browser } from "./client/env.js";
import { Opener, gatewayUrl } from "./client/opener.js";
import { OUT_OF_TOKEN } from "./client/rules.js";
import "./widget.js";

const KEY = "trunkline page";
const TOKEN = "trunkline page token";
const TOKEN_REFUSED = 4401; // as sockets are closed
const AGENTS = 3; // as many conversations to begin with
const byId = (id) => document.getElementById(id);

const told = { connecting: "Connecting", waiting: "Waiting to reconnect", closed: "Not connected" };
const conversations = plural("en", { one: "# conversation", other: "# conversations" });
const ways = { websocket: "One WebSocket", http: "Event stream over HTTP" };

/** What one chose to see, kept in this browser. */
const chosen = {
  get: () => {
    try {
      return JSON.parse(localStorage.getItem(KEY)) ?? {};
    } catch {
      return {};
    }
  },
  set: (what) => {
    try {
      localStorage.setItem(KEY, JSON.stringify({ ...chosen.get(), ...what }));
    } catch {
      // no storage in this browser: chosen until the page goes
    }
  },
};

/** Who one is, kept in this tab. */
const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (text) => sessionStorage.setItem(TOKEN, text),
  forget: () => sessionStorage.removeItem(TOKEN),
};

/** The names of the agents; null, if the gateway wants to know first who asks. */
async function agents() {
  const opener = new Opener(browser(), { url: gatewayUrl("", document.baseURI), token: token.get() ?? undefined });
  try {
    const names = (await opener.rest("api/agents")).slice(0, AGENTS).map(({ name }) => name);
    byId("enter").hidden = !opener.isGuest;
    return names;
  } catch (error) {
    if (!OUT_OF_TOKEN.has(error.code)) throw error;
    if (token.get() !== null) wrong(error.message);
    token.forget();
    return null;
  }
}

function wrong(why) {
  byId("wrong").textContent = why;
  byId("wrong").hidden = false;
}

/** Asks for a token. */
async function ask() {
  byId("key").hidden = false;
  byId("token").focus();
  await new Promise((resolve) => byId("key").addEventListener("submit", resolve, { once: true }));
  token.set(byId("token").value.trim());
  byId("key").reset();
}

/** Asks for a token until there is one that counts, where guests are not let in. */
async function letIn() {
  for (;;) {
    const names = await agents();
    byId("key").hidden = names !== null;
    byId("forget").hidden = token.get() === null;
    if (names !== null) return names;
    byId("told").textContent = "Not let in";
    await ask();
  }
}

/** A guest has a token: what it said is that user's from then on. */
async function enter() {
  byId("enter").hidden = true;
  await ask();
  location.reload();
}

function widget(names) {
  const chat = document.createElement("trunkline-chat");
  if (token.get() !== null) chat.token = token.get();
  chat.setAttribute("sessions", names.map((name) => `${name}/`).join(","));
  chat.addEventListener(
    "unread",
    ({ detail }) => (document.title = detail ? `(${detail}) Trunkline` : "Trunkline"),
  );
  byId("main").append(chat);
  return chat;
}

function showLine({ status, transport }, count) {
  document.querySelector(".lamp").dataset.state = status;
  byId("told").textContent =
    status === "connected" ? `${ways[transport]}, ${conversations(count)}` : told[status];
}

/** A button that is pressed or not, and stays so over a reload. */
function toggle(button, name, attribute, does) {
  const set = (on) => {
    button.setAttribute(attribute, String(on));
    does(on);
  };
  button.addEventListener("click", () => {
    const on = button.getAttribute(attribute) !== "true";
    chosen.set({ [name]: on });
    set(on);
  });
  set(Boolean(chosen.get()[name]));
}

function leave() {
  token.forget();
  location.reload();
}

/** Its token counts no longer: it has to be asked for again. */
const outOfToken = ({ status, code }) => status === "closed" && code === TOKEN_REFUSED && token.get() !== null;

async function start() {
  byId("key").addEventListener("submit", (event) => event.preventDefault());
  byId("forget").addEventListener("click", leave);
  byId("enter").addEventListener("click", enter);
  const names = await letIn();
  const chat = widget(names);
  const wire = new Wire(byId("frames"), byId("sum"));
  const { gateway } = chat;
  gateway.addEventListener("state", ({ detail }) => {
    showLine(detail, names.length);
    if (outOfToken(detail)) leave();
  });
  gateway.addEventListener("frame", ({ detail }) => wire.take(detail));
  showLine(gateway.state, names.length);
  toggle(byId("columns"), "columns", "aria-pressed", (on) =>
    chat.setAttribute("layout", on ? "columns" : "tabs"),
  );
  toggle(byId("open"), "wire", "aria-expanded", (on) => {
    byId("wire").hidden = !on;
    wire.shown = on;
  });
  toggle(byId("pause"), "paused", "aria-pressed", (on) => (wire.paused = on));
  byId("clear").addEventListener("click", () => wire.clear());
}

start().catch(({ message }) => {
  const p = Object.assign(document.createElement("p"), {
    className: "failed",
    textContent: `This page could not begin: ${message}`,
  });
  byId("main").replaceChildren(p);
});
