// The operator's page: the line, the figures, the sessions, and one session's timeline, put together.

import { count } from "./console/format.js";
import { Line } from "./console/line.js";
import { hasCurves, Plots } from "./console/plots.js";
import { Sessions } from "./console/sessions.js";
import { Timeline } from "./console/timeline.js";

// Frames of the line itself; all others are of the session that is watched.
const NOT_OF_A_SESSION = new Set(["connected", "ok", "pong", "token", "goaway", "about", "figures", "sessions"]);

const byId = (id) => document.getElementById(id);
const url = new URL("console/ws", document.baseURI);
url.protocol = url.protocol.replace("http", "ws");

const line = new Line(url);
const plots = new Plots(byId("cards"));
const timeline = new Timeline({ list: byId("frames"), scroll: byId("frames-scroll"), note: byId("timeline-note") });
const sessions = new Sessions(line, {
  search: byId("search"),
  rows: byId("sessions-rows"),
  count: byId("sessions-count"),
  none: byId("sessions-none"),
  note: byId("sessions-note"),
  more: byId("more"),
});
let watched = null;
let attached = false; // until then frames are of the last one, which may have had the same id

// ── The line ──

line.addEventListener("state", () => {
  const { state, words, refusal } = line;
  byId("line").dataset.state = state;
  byId("line-words").textContent = state === "key" ? "Not let in" : words;
  byId("forget").hidden = !(line.hasKey && state === "connected");
  if (state === "connected" || state === "key") showKeyForm(state === "key", refusal);
});
line.addEventListener("open", () => {
  sessions.refresh();
  if (watched) watch(watched);
});
line.addEventListener("frame", ({ frame }) => {
  if (frame.type === "about") byId("veiled").hidden = frame.contents;
  else if (frame.type === "figures") showFigures(frame);
  else if (!NOT_OF_A_SESSION.has(frame.type) && frame.session_id === watched?.session_id) takeFrame(frame);
});

function takeFrame(frame) {
  attached ||= frame.type === "attached";
  if (attached) timeline.take(frame);
}

function showKeyForm(wanted, refusal) {
  byId("key").hidden = !wanted;
  byId("figures").hidden = byId("work").hidden = wanted;
  byId("key-wrong").hidden = !refusal;
  byId("key-wrong").textContent = refusal;
  if (wanted) byId("key-field").focus();
}

byId("key").addEventListener("submit", (event) => {
  event.preventDefault();
  line.show(byId("key-field").value.trim());
  byId("key-field").value = "";
});
byId("forget").addEventListener("click", () => {
  watched = null;
  timeline.clear();
  line.show(null);
});

// ── The figures ──

byId("plain").hidden = hasCurves;

function showFigures(figures) {
  plots.take(figures);
  const codes = Object.entries(figures.errors);
  const total = codes.reduce((sum, [, times]) => sum + times, 0);
  byId("errors-total").textContent = total ? count(total) : "none so far";
  byId("errors-rows").replaceChildren(...codes.map(([code, times]) => row(code, count(times))));
}

function row(name, value) {
  const element = document.createElement("tr");
  const head = Object.assign(document.createElement("th"), { scope: "row", textContent: name });
  element.append(head, Object.assign(document.createElement("td"), { textContent: value }));
  return element;
}

// ── One session ──

sessions.addEventListener("choose", ({ row: chosen }) => watch(chosen));
timeline.addEventListener("ended", () => {
  if (byId("actions").contains(document.activeElement)) byId("frames-scroll").focus();
  byId("actions").hidden = true;
});

async function watch(session) {
  watched = session;
  attached = false;
  timeline.clear();
  timeline.pause(false);
  byId("pause").setAttribute("aria-pressed", "false");
  byId("watched").replaceChildren(...names(session));
  byId("actions").hidden = !(await done({ type: "watch", ...session }));
}

/** Which it is, and whose: users may have chosen the same id. */
function names({ session_id: id, agent, user }) {
  return [id, agent, user].map((text) => Object.assign(document.createElement("bdi"), { textContent: text }));
}

/** Ask for that; what goes wrong is said beside the timeline. */
async function done(frame) {
  try {
    await line.ask(frame);
    return true;
  } catch (error) {
    byId("timeline-note").textContent = error.message;
    return false;
  }
}

byId("pause").addEventListener("click", ({ currentTarget }) => {
  timeline.pause(!timeline.paused);
  currentTarget.setAttribute("aria-pressed", String(timeline.paused));
});
byId("cancel").addEventListener("click", () => done({ type: "cancel", ...watched }));
byId("close").addEventListener("click", () => {
  byId("sure-which").replaceChildren(...names(watched));
  byId("sure").showModal();
});
byId("sure").addEventListener("close", async ({ currentTarget }) => {
  if (currentTarget.returnValue === "yes") await done({ type: "close", ...watched });
  currentTarget.returnValue = "";
  sessions.refresh();
});
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target.closest("input, dialog")) return;
  event.preventDefault();
  byId("search").focus();
});

line.open();
