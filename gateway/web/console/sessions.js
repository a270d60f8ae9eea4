// The table of sessions: asked for again every few seconds, searched as one types, chosen by click or key.

import { ago, count } from "./format.js";

const AGAIN_MS = 3_000;
const TYPING_MS = 200;
const FEW = 50;
const MANY = 200;

/** Events: "choose" with the session's row (`event.row`). */
export class Sessions extends EventTarget {
  #line;
  #parts;
  #limit = FEW;
  #timer = 0;
  #asking = 0;
  #chosen = null;

  /** @param parts the elements it fills: search, rows, count, none, note, more */
  constructor(line, parts) {
    super();
    this.#line = line;
    this.#parts = parts;
    parts.search.addEventListener("input", () => this.#soon(TYPING_MS));
    parts.more.addEventListener("click", () => {
      this.#limit = MANY;
      this.refresh();
    });
    document.addEventListener("visibilitychange", () => this.#soon(0));
  }

  /** Ask what there is now, and again later. */
  async refresh() {
    clearTimeout(this.#timer);
    if (this.#line.state !== "connected" || document.hidden) return;
    const asking = ++this.#asking;
    try {
      const search = this.#parts.search.value.trim();
      const answer = await this.#line.ask({ type: "list", search, limit: this.#limit });
      if (asking === this.#asking) this.#show(answer, search);
    } catch (error) {
      this.#parts.note.textContent = error.message;
    }
    if (asking === this.#asking) this.#soon(AGAIN_MS);
  }

  #soon(milliseconds) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.refresh(), milliseconds);
  }

  #show({ sessions, looked_at: lookedAt, complete }, search) {
    const { rows, count: total, none, note, more } = this.#parts;
    const running = sessions.filter((row) => row.running !== null).length;
    say(total, `${sessions.length}${complete ? "" : "+"} · ${running} running`);
    none.hidden = sessions.length > 0;
    say(none, search ? `No session fits “${search}”.` : "Nobody has begun a conversation yet.");
    const looked = `Searched: the live ones and the newest ${count(lookedAt)}.`;
    say(note, complete ? "" : `${looked} Older ones are found by their whole id or user.`);
    more.hidden = complete || this.#limit === MANY;
    this.#fill(rows, sessions);
  }

  /** Rows are kept while their session is listed, so that focus and selection stay where they are. */
  #fill(body, sessions) {
    const known = new Map([...body.children].map((row) => [row.dataset.key, row]));
    sessions.forEach((session, place) => {
      const key = keyOf(session);
      const row = known.get(key) ?? this.#made(key);
      known.delete(key);
      update(row, session, key === this.#chosen);
      if (body.children[place] !== row) body.insertBefore(row, body.children[place] ?? null);
    });
    known.forEach((row) => row.remove());
  }

  #made(key) {
    const row = document.createElement("tr");
    row.dataset.key = key;
    const open = Object.assign(document.createElement("button"), { type: "button", className: "open" });
    row.append(...Array.from({ length: 7 }, (_, place) => document.createElement(place ? "td" : "th")));
    row.firstChild.scope = "row";
    row.firstChild.append(open, Object.assign(document.createElement("bdi"), { className: "label soft" }));
    for (const place of [4, 5, 6]) row.children[place].className = "number";
    row.addEventListener("click", () => this.#choose(key, row));
    return row;
  }

  #choose(key, chosen) {
    this.#chosen = key;
    for (const row of this.#parts.rows.children) mark(row, row === chosen);
    this.dispatchEvent(Object.assign(new Event("choose"), { row: JSON.parse(key) }));
  }
}

function keyOf({ agent, user, session_id }) {
  return JSON.stringify({ agent, user, session_id });
}

function mark(row, chosen) {
  row.classList.toggle("chosen", chosen);
  row.querySelector("button").setAttribute("aria-pressed", String(chosen));
}

function update(row, session, chosen) {
  const [first, state, agent, user, messages, readers, last] = row.children;
  mark(row, chosen);
  say(first.firstChild, session.session_id);
  say(first.lastChild, session.label ?? ""); // beside the id: users may call theirs as another's is called
  first.title = session.session_id;
  state.dataset.state = stateOf(session);
  say(state, wordsOf(session));
  say(agent, session.agent);
  say(user, session.user);
  [agent.title, user.title] = [session.agent, session.user];
  say(messages, count(session.messages));
  say(readers, count(session.readers));
  say(last, ago(session.updated_at));
}

function stateOf({ running, live }) {
  if (running !== null) return "running";
  return live ? "live" : "asleep";
}

function wordsOf(session) {
  const words = { running: "Running", live: "Live", asleep: "Asleep" }[stateOf(session)];
  return session.waiting ? `${words}, ${session.waiting} queued` : words;
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
