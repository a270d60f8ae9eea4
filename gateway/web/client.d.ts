// The client library, client.js.

/** How the line is; times in milliseconds since 1970. */
export interface GatewayState {
  status: "connecting" | "connected" | "waiting" | "closed";
  transport: "websocket" | "http" | null;
  /** Why there is none, or what is wrong with it: a sentence. */
  reason: string;
  /** The close code of the last line. */
  code: number | null;
  /** While `waiting`: when it is tried again. */
  retryAt: number | null;
  /** What the gateway said of itself, when a line was last opened. */
  connected: ConnectedFrame | null;
  /** Does this page hold the line for others? Null: it shares none. */
  leader: boolean | null;
}

export interface GatewayOptions {
  /**
   * One, or a function that gets one: it is asked before each line, and again before the last one ends. What this tab
   * kept over a reload is for who has a token with the same claims, and there once that is known. Without one (or where
   * the function gives none) the page is a guest, if the gateway lets guests in: one for all pages of this browser. When
   * there is a token later, what the guest said becomes that user's.
   */
  token?: string | (() => string | undefined | null | Promise<string | undefined | null>);
  /** The agent of sessions that name none. */
  agent?: string;
  /** Who speaks, if the token does not fix it. */
  user?: string;
  /** One line for all pages of this browser with the same gateway, user and token (but for its end and signature). */
  shared?: boolean;
  /** `name/version`, for the gateway's logs. */
  client?: string;
  /** What is taken from the browser; a test brings its own. */
  env?: Environment;
}

export interface Environment {
  WebSocket?: typeof WebSocket;
  fetch: typeof fetch;
  /** For this tab; for all pages of the origin. */
  storage?: Pick<Storage, "getItem" | "setItem" | "removeItem">;
  local?: Pick<Storage, "getItem" | "setItem" | "removeItem">;
  /** Milliseconds since 1970, to be shown. */
  now(): number;
  /** Milliseconds by a clock that nobody sets, to measure with. */
  elapsed(): number;
  setTimeout(ring: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  random(): number;
  newId(): string;
  document: Pick<Document, "addEventListener" | "baseURI" | "visibilityState">;
  window: Pick<Window, "addEventListener">;
  navigator?: { locks?: LockManager };
  BroadcastChannel?: typeof BroadcastChannel;
  console?: Pick<Console, "warn">;
}

export interface SessionOptions {
  agent?: string;
  /** Messages wanted of it: 0 to 200 (50). */
  history?: number;
  /** Make it, if there is none (true). */
  create?: boolean;
  /** Its name. */
  label?: string;
}

export interface SendOptions {
  /** What it does while a turn runs: "enqueue". */
  onBusy?: "enqueue" | "reject" | "interrupt";
  /** The turn that it replaces, with all after it. */
  replaces?: string;
  /** One of the caller's own makes it run once, also over restarts of the caller. */
  turnId?: string;
  metadata?: Record<string, unknown>;
}

export interface Tool {
  id: string;
  name: string;
  input: unknown;
  /** Its result; null while there is none. */
  content: unknown;
  isError: boolean;
  done: boolean;
  /** Where in the text it was called, in code points. */
  at: number;
}

export type MessageStatus = "sending" | "queued" | "running" | "completed" | "cancelled" | "failed" | "refused";

/** One message as it is shown: the same object while it grows, with a higher `version` after each change. */
export interface ChatMessage {
  readonly role: "user" | "agent";
  readonly turnId: string;
  readonly content: string;
  readonly status: MessageStatus;
  /** Why it failed or was refused: a code of the protocol's, a sentence, and whether to try again. */
  readonly code: string | null;
  readonly error: string | null;
  readonly retryable: boolean | null;
  readonly thought: string;
  readonly tools: readonly Tool[];
  readonly metadata: Record<string, unknown> | null;
  /** Milliseconds since 1970. */
  readonly createdAt: number | null;
  readonly replaces: string | null;
  readonly version: number;
}

export interface SessionState {
  attached: boolean;
  status: "idle" | "running";
  /** The turns that wait, by id. */
  queued: string[];
  /** Milliseconds since 1970. */
  expiresAt: number | null;
  expiring: boolean;
  /** While it is `expiring`: how many minutes are left, whatever the clock of this machine says. */
  minutesRemaining: number | null;
  ended: "" | "closed" | "expired";
  /** Why it cannot be followed. */
  error: ErrorFrame | null;
  /** There are older messages: see `more`. */
  hasMore: boolean;
  /** The user types elsewhere. */
  typing: boolean;
  agentTyping: boolean;
}

interface GatewayEvents {
  state: CustomEvent<GatewayState>;
  frame: CustomEvent<{ direction: "in" | "out"; frame: ServerFrame | ClientFrame; at: number }>;
  token: CustomEvent<TokenFrame>;
  goaway: CustomEvent<GoawayFrame>;
}

interface SessionEvents {
  change: CustomEvent<{ message: ChatMessage | null }>;
  frame: CustomEvent<ServerFrame>;
  expiring: CustomEvent<null>;
  renewed: CustomEvent<null>;
  ended: CustomEvent<null>;
  /** The draft is another: what was kept is there, or the page has become another user's. */
  restored: CustomEvent<null>;
}

interface Events<E> {
  addEventListener<K extends keyof E>(type: K, listener: (event: E[K]) => void, options?: AddEventListenerOptions): void;
  removeEventListener<K extends keyof E>(type: K, listener: (event: E[K]) => void): void;
}

/** One line to a gateway, and the sessions on it. */
export class Gateway implements Events<GatewayEvents> {
  /** `url` is the gateway's, "" for where the page came from; http and ws mean the same. */
  constructor(url?: string, options?: GatewayOptions);
  readonly state: GatewayState;
  readonly sessions: Session[];
  /** The session of that id, followed from now on; the same one until it is detached. */
  session(id: string, options?: SessionOptions): Session;
  /** Hang up. Turns run on. */
  close(): void;
  addEventListener<K extends keyof GatewayEvents>(type: K, listener: (event: GatewayEvents[K]) => void, options?: AddEventListenerOptions): void;
  removeEventListener<K extends keyof GatewayEvents>(type: K, listener: (event: GatewayEvents[K]) => void): void;
}

/**
 * One conversation. Iterate it for its frames from now on: until the session is detached or the line is over for good
 * (`TurnFailed`), or too many wait to be taken (`Lagged`).
 */
export class Session implements Events<SessionEvents>, AsyncIterable<ServerFrame> {
  private constructor();
  readonly id: string;
  readonly agent: string | undefined;
  readonly state: SessionState;
  /** Oldest first; replaced ones left out. */
  readonly messages: readonly ChatMessage[];
  /** What is being written and not sent yet: kept over a reload of the tab. */
  draft: string;
  /**
   * Say something. It is sent until it is acknowledged, and runs once. Half a character, as is left where an emoji is
   * cut in two, becomes U+FFFD. Throws a `TypeError` if `metadata` cannot be JSON.
   */
  send(text: string, options?: SendOptions): Turn;
  /** Stop a turn; without a name, the one that runs. */
  cancel(turnId?: string): void;
  /** Let the session's other readers know that the user is typing. */
  typing(on: boolean): void;
  /** Keep it from expiring. Rejects if that is not allowed. */
  renew(): Promise<OkFrame>;
  /** Get older messages: about `limit` of them (50). */
  more(limit?: number): Promise<void>;
  /** Follow it no more. Its turns run on. */
  detach(): void;
  [Symbol.asyncIterator](): AsyncIterator<ServerFrame>;
  addEventListener<K extends keyof SessionEvents>(type: K, listener: (event: SessionEvents[K]) => void, options?: AddEventListenerOptions): void;
  removeEventListener<K extends keyof SessionEvents>(type: K, listener: (event: SessionEvents[K]) => void): void;
}

/** One message and its answer: await it for the `response`, iterate it for the pieces of its text. */
export class Turn implements PromiseLike<ResponseFrame>, AsyncIterable<string> {
  private constructor();
  readonly turnId: string;
  readonly session: Session;
  /** The answer so far. */
  readonly content: string;
  readonly status: MessageStatus;
  /** Is nothing more to come? */
  readonly over: boolean;
  /** Stop it, also if it still waits. It then ends as `cancelled`. */
  cancel(): void;
  then<A = ResponseFrame, B = never>(
    resolve?: ((frame: ResponseFrame) => A | PromiseLike<A>) | null,
    reject?: ((error: TurnFailed) => B | PromiseLike<B>) | null,
  ): Promise<A | B>;
  [Symbol.asyncIterator](): AsyncIterator<string>;
}

/** The turn ended as an `error`, its message was refused, or there will be no line any more. */
export class TurnFailed extends Error {
  readonly code: string;
  readonly content: string;
  /** What was said before it failed. */
  readonly partial: string;
  readonly retryable: boolean;
  /** All that is known of it. */
  readonly frame: ErrorFrame;
}

/** One who iterates a session's frames took too few of them. */
export class Lagged extends Error {}

// The frames of the Trunkline protocol, version 1. Made by `gateway schema --typescript`.

export type ClientFrame =
  | HelloFrame
  | AttachFrame
  | DetachFrame
  | SendFrame
  | CancelFrame
  | SetTypingFrame
  | RenewFrame
  | PingFrame
  | RunCommandFrame;

export type ServerFrame =
  | ConnectedFrame
  | OkFrame
  | AttachedFrame
  | MessageFrame
  | TypingFrame
  | TextDeltaFrame
  | ThoughtDeltaFrame
  | ToolCallFrame
  | ToolResultFrame
  | ToolStartFrame
  | ToolEndFrame
  | ResponseFrame
  | ErrorFrame
  | SessionFrame
  | TokenFrame
  | GoawayFrame
  | PongFrame
  | CommandResultFrame;

/** Start following sessions: one `attached` each, then catch-up, then live. */
export interface AttachFrame {
  type: "attach";
  sessions: Array<Target>;
  /** 1–128 characters, no control characters */
  ref?: string;
}

/** This session is followed from here; precedes every other frame of it. */
export interface AttachedFrame {
  type: "attached";
  cursor: string;
  session_id: string;
  agent: string;
  mode: "replay" | "snapshot";
  status: "idle" | "running";
  queued: Array<string>;
  reason?: "ahead" | "epoch" | "malformed" | "trimmed";
  turn_id?: string;
  expires_at?: number;
  messages?: Array<HistoryMessage>;
  has_more?: boolean;
}

/** Stop that turn, waiting ones included; without `turn_id`, the one that runs when this is decided. */
export interface CancelFrame {
  type: "cancel";
  /** 1–128 of A–Z a–z 0–9 . _ : @ - (but not . or .. alone) */
  session_id: string;
  /** 1–64 of A–Z a–z 0–9 . _ : @ - (but not . or .. alone) */
  agent?: string;
  /** 1–128 characters, no control characters */
  turn_id?: string;
  /** 1–128 characters, no control characters */
  ref?: string;
}

/** Answers `command` on the agent-bound socket. */
export interface CommandResultFrame {
  type: "command_result";
  command: string;
  message: string;
  session_id: string;
  ref?: string;
}

/** The line is open and this is its user; the limits a client must know. */
export interface ConnectedFrame {
  type: "connected";
  connection_id: string;
  protocol: number;
  user_id: string;
  heartbeat_ms: number;
  max_frame_bytes: number;
  max_reply_bytes: number;
  max_sessions: number;
  durability: "disk" | "memory" | "process" | "replicated";
  agent_id?: string;
  token_expires_at?: number;
  ref?: string;
  max_message_chars?: number;
}

/** Stop following. Never cancels a turn. */
export interface DetachFrame {
  type: "detach";
  session_ids: Array<string>;
  /** 1–128 characters, no control characters */
  ref?: string;
}

/** With `cursor` the end of a turn that failed (`partial` is its text so far); without, a frame was refused. */
export interface ErrorFrame {
  type: "error";
  cursor?: string;
  content: string;
  code: string;
  retryable: boolean;
  session_id?: string;
  turn_id?: string;
  ref?: string;
  retry_after_ms?: number;
  partial?: string;
  expires_at?: number;
  limit?: number;
}

/** This connection will be closed. */
export interface GoawayFrame {
  type: "goaway";
  reason: string;
  reconnect_after_ms: number;
}

/** Who the client is and what it can do; answered by `connected`. */
export interface HelloFrame {
  type: "hello";
  token?: string;
  /** 1–256 characters, no control characters, no / */
  user_id?: string;
  batch?: boolean;
  client?: string;
  /** 1–128 characters, no control characters */
  ref?: string;
}

/** One message of a conversation: what its user said, or how the agent's turn ended. */
export interface HistoryMessage {
  role: "agent" | "user";
  turn_id: string;
  content: string;
  created_at: number;
  status?: "cancelled" | "completed" | "failed";
  code?: string;
  tools?: Array<ToolUse>;
  metadata?: Record<string, unknown>;
}

/** A user message entered the log. */
export interface MessageFrame {
  type: "message";
  cursor: string;
  session_id: string;
  turn_id: string;
  content: string;
  created_at: number;
  replaces?: string;
  metadata?: Record<string, unknown>;
}

/** The frame with that `ref` was accepted. To a `message`: durable, and it will run. */
export interface OkFrame {
  type: "ok";
  ref?: string;
  session_id?: string;
  turn_id?: string;
  status?: "cancelled" | "completed" | "failed" | "queued" | "started";
  duplicate?: boolean;
  attached?: boolean;
}

/** Answered by `pong`. */
export interface PingFrame {
  type: "ping";
  /** 1–128 characters, no control characters */
  ref?: string;
}

/** Answers `ping`; unasked, a sign of life. */
export interface PongFrame {
  type: "pong";
  ref?: string;
}

/** Heartbeat of a session: moves its expiry, if it allows that. */
export interface RenewFrame {
  type: "renew";
  /** 1–128 of A–Z a–z 0–9 . _ : @ - (but not . or .. alone) */
  session_id: string;
  /** 1–64 of A–Z a–z 0–9 . _ : @ - (but not . or .. alone) */
  agent?: string;
  /** 1–128 characters, no control characters */
  ref?: string;
}

/** The turn is over: answered or cancelled. `content` is its whole text. Terminal. */
export interface ResponseFrame {
  type: "response";
  cursor: string;
  session_id: string;
  turn_id: string;
  content: string;
  status: "cancelled" | "completed";
  input_tokens: number;
  output_tokens: number;
  timing: Timing;
  created_at: number;
  thought?: string;
  metadata?: Record<string, unknown>;
}

/** A command of the agent-bound socket: `stop` or `new`; answered by `command_result`. */
export interface RunCommandFrame {
  type: "command";
  command: string;
  /** 1–128 of A–Z a–z 0–9 . _ : @ - (but not . or .. alone) */
  session_id?: string;
  /** 1–128 characters, no control characters */
  ref?: string;
}

/** A user message. `turn_id` is the idempotency key. */
export interface SendFrame {
  type: "message";
  content: string;
  /** 1–128 of A–Z a–z 0–9 . _ : @ - (but not . or .. alone) */
  session_id?: string;
  /** 1–64 of A–Z a–z 0–9 . _ : @ - (but not . or .. alone) */
  agent?: string;
  /** 1–128 characters, no control characters */
  turn_id?: string;
  on_busy?: "enqueue" | "interrupt" | "reject";
  /** 1–128 characters, no control characters */
  replaces?: string;
  metadata?: Record<string, unknown>;
  create?: boolean;
  /** 1–128 characters, no control characters */
  ref?: string;
}

/** A notice about the session's life. Live only. */
export interface SessionFrame {
  type: "session";
  session_id: string;
  status: "closed" | "expired" | "expiring" | "renewed";
  renewal_count: number;
  expires_at?: number;
  minutes_remaining?: number;
}

/** The user is typing, or no longer: shown to the session's other connections. */
export interface SetTypingFrame {
  type: "typing";
  /** 1–128 of A–Z a–z 0–9 . _ : @ - (but not . or .. alone) */
  session_id: string;
  state: "start" | "stop";
  /** 1–64 of A–Z a–z 0–9 . _ : @ - (but not . or .. alone) */
  agent?: string;
  /** 1–128 characters, no control characters */
  ref?: string;
}

/** One session to follow, and from where. */
export interface Target {
  /** 1–128 of A–Z a–z 0–9 . _ : @ - (but not . or .. alone) */
  session_id: string;
  /** 1–64 of A–Z a–z 0–9 . _ : @ - (but not . or .. alone) */
  agent?: string;
  cursor?: string;
  history?: number;
  create?: boolean;
}

/** Append `content` to the turn's text. */
export interface TextDeltaFrame {
  type: "text_delta";
  cursor: string;
  session_id: string;
  turn_id: string;
  content: string;
}

/** A piece of reasoning. Live only. */
export interface ThoughtDeltaFrame {
  type: "thought_delta";
  session_id: string;
  turn_id: string;
  content: string;
}

/** How long a turn took, in whole milliseconds. `first_delta_ms` counts from the start, None without output. */
export interface Timing {
  queued_ms: number;
  first_delta_ms: number | null;
  total_ms: number;
}

/** The token ends soon: say `hello` with a new one. */
export interface TokenFrame {
  type: "token";
  expires_at: number;
}

/** The agent calls a tool, `at` characters into its text. */
export interface ToolCallFrame {
  type: "tool_call";
  cursor: string;
  session_id: string;
  turn_id: string;
  at: number;
  tool_call_id: string;
  name: string;
  input: unknown;
}

/** What it calls the tool with, as JSON text. OpenFang's name: the tool only begins with it. */
export interface ToolEndFrame {
  type: "tool_end";
  session_id: string;
  turn_id: string;
  id: string;
  tool: string;
  input: string;
}

/** The tool answered, `at` characters into the text. `id`, `tool` and `result` say it again in OpenFang's words, on the agent-bound socket. */
export interface ToolResultFrame {
  type: "tool_result";
  cursor: string;
  session_id: string;
  turn_id: string;
  at: number;
  tool_call_id: string;
  content: unknown;
  is_error: boolean;
  id?: string;
  tool?: string;
  result?: string;
}

/** The agent calls a tool, in OpenFang's words, on the agent-bound socket. */
export interface ToolStartFrame {
  type: "tool_start";
  session_id: string;
  turn_id: string;
  id: string;
  tool: string;
}

/** A tool call and its result, in a message of the history. Without a result, `content` is null. */
export interface ToolUse {
  tool_call_id: string;
  name: string;
  input: unknown;
  content: unknown;
  is_error: boolean;
  at: number;
}

/** Somebody writes, or stopped. Live only. On the agent-bound socket also that the agent uses a `tool`. */
export interface TypingFrame {
  type: "typing";
  session_id: string;
  state: "start" | "stop" | "tool";
  author: "agent" | "user";
  turn_id?: string;
  tool?: string;
}
