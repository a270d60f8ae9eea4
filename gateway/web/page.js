// The page at `/`: the chat widget with the agents of this gateway, and what goes over its wire.

import { Wire } from "./wire.js";
import "./widget.js";

const KEY = "trunkline page";
const AGENTS = 3; // as many conversations to begin with
const byId = (id) => document.getElementById(id);

const told = { connecting: "Connecting", waiting: "Waiting to reconnect", closed: "Not connected" };
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

async function agents() {
  const answer = await fetch(new URL("api/agents", document.baseURI));
  if (answer.ok) return (await answer.json()).slice(0, AGENTS).map(({ name }) => name);
  throw new Error((await answer.json()).error);
}

function widget(names) {
  const chat = document.createElement("trunkline-chat");
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
    status === "connected" ? `${ways[transport]}, ${count} conversations` : told[status];
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

async function start() {
  const names = await agents();
  const chat = widget(names);
  const wire = new Wire(byId("frames"), byId("sum"));
  const { gateway } = chat;
  gateway.addEventListener("state", ({ detail }) => showLine(detail, names.length));
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
