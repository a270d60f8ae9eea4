// What a page shows of one session: a list of messages, each the same object while it grows.

const SEEN = { waiting: "queued" };

/** `version` counts the changes of a message, so that a page knows which to paint again. */
export class Messages {
  #known = new Map();
  #list = null;

  /** The list has to be made anew. */
  stale() {
    this.#list = null;
  }

  /** All of them, oldest first: those of the transcript, and what was sent and is not in it. */
  list(transcript, sent) {
    this.#list ??= this.#make(transcript, sent);
    return this.#list;
  }

  #make(transcript, sent) {
    const before = this.#known;
    this.#known = new Map();
    const list = [];
    for (const turn of transcript.turns) {
      const pair = this.#keep(before, turn.turnId);
      this.update(transcript, turn);
      if (turn.content !== null) list.push(pair.user);
      if ((pair.listed = answers(turn))) list.push(pair.agent);
    }
    for (const turn of sent) {
      if (transcript.turn(turn.turnId)) continue;
      const { user } = this.#keep(before, turn.turnId);
      this.#set(user, unheard(turn));
      list.push(user);
    }
    return list;
  }

  #keep(before, turnId) {
    const blank = (role) => ({ role, turnId, thought: "", tools: [], version: 0 });
    const pair = before.get(turnId) ?? { user: blank("user"), agent: blank("agent") };
    this.#known.set(turnId, pair);
    return pair;
  }

  /** Is the answer of this turn in the list already? */
  shows(turn) {
    return this.#list !== null && this.#known.get(turn.turnId)?.listed === true;
  }

  /** Bring the messages of one turn of the transcript up to date; the one that changed most lately. */
  update(transcript, turn) {
    const pair = this.#known.get(turn.turnId);
    if (pair === undefined) return null;
    const status = statusOf(transcript, turn);
    const said = this.#set(pair.user, userPart(turn, status));
    if (!answers(turn)) return said ? pair.user : null;
    const grew = this.#set(pair.agent, agentPart(turn, status));
    if (pair.tools !== turn.tools || pair.over !== turn.over) {
      Object.assign(pair, { tools: turn.tools, over: turn.over });
      pair.agent.tools = turn.tools.map((use) => toolOf(use, turn.over));
      pair.agent.version += 1;
    }
    return grew || !said ? pair.agent : pair.user;
  }

  #set(message, fields) {
    let changed = false;
    for (const name in fields) {
      if (message[name] !== fields[name]) changed = true;
    }
    if (changed) Object.assign(message, fields).version += 1;
    return changed;
  }
}

// The turn that is first in line when none runs, is about to.
const statusOf = ({ running, queue }, { turnId, status }) =>
  status === "waiting" && running === null && queue[0] === turnId ? "running" : (SEEN[status] ?? status);

const answers = (turn) => turn.status === "running" || turn.over || turn.text !== "" || turn.tools.length > 0;

const ms = (seconds) => (seconds === null ? null : seconds * 1000);

const userPart = ({ content, createdAt, metadata, replaces }, status) => ({
  ...{ content, status, code: null, error: null, retryable: null, metadata, replaces, createdAt: ms(createdAt) },
});

const agentPart = ({ text, code, reason, retryable, thought, answerMetadata, answeredAt, createdAt }, status) => ({
  ...{ content: text, status, code, error: reason, retryable, thought, metadata: answerMetadata, replaces: null },
  createdAt: ms(answeredAt ?? createdAt),
});

const unheard = ({ frame, status, code, error, retryable, createdAt }) => ({
  ...{ content: frame.content, status, code, error, retryable, createdAt },
  ...{ metadata: frame.metadata ?? null, replaces: frame.replaces ?? null },
});

const toolOf = ({ tool_call_id: id, name, input, content, is_error: isError, at, done }, over) => ({
  ...{ id, name, input, content, isError, at, done: over || Boolean(done) || content !== null },
});
