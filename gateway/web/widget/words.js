// Everything the widget says by itself. `chat.words = { send: "Senden", … }` says some of it in another way.
//
// What names somebody or counts something may be a function, or a text in which `#` stands for that name or number;
// and what counts, one text for each plural of the language that `locale` names:
//
//     chat.words = { locale: "pl", unread: { one: "# nowa wiadomość", few: "# nowe wiadomości", other: "# nowych wiadomości" } };

export const WORDS = {
  locale: "en",
  agent: "the agent",
  conversation: (agent) => `Conversation with ${agent}`,
  messages: (agent) => `Messages with ${agent}`,
  conversations: "Conversations",
  empty: (agent) => `Say something to ${agent}.`,
  message: (agent) => `Message ${agent}`,
  tooLong: { one: "Too long by # character: a message may have #.", other: "Too long by # characters: a message may have #." },
  you: "You",
  send: "Send",
  stop: "Stop the answer",
  fresh: "New conversation",
  copy: "Copy",
  copyCode: "Copy code",
  copied: "Copied",
  edit: "Edit",
  editing: "Editing your message. What came after it will be replaced.",
  discard: "Discard the edit",
  again: "Answer again",
  retry: "Try again",
  resend: "Send again",
  withdraw: "Withdraw",
  thought: "Thinking",
  thoughtDone: "Thoughts",
  tool: { running: "working", done: "done", failed: "failed" },
  input: "Input",
  output: "Result",
  typing: (agent) => `${agent} is typing`,
  typingElsewhere: "Somebody is typing on another device",
  jump: "Jump to the end",
  unread: { one: "# new message", other: "# new messages" },
  unreadMark: "New",
  earlier: "Loading earlier messages",
  earlierFailed: "Earlier messages could not be loaded.",
  status: {
    sending: "Sending",
    queued: "Waiting for its turn",
    cancelled: "Stopped",
    interrupted: "The answer was interrupted.",
    failed: "The answer failed.",
    refused: "This message was not sent.",
  },
  line: {
    connecting: "Connecting",
    offline: "You are offline. Messages are sent when the connection is back.",
    waiting: (seconds) => `Connection lost. Trying again in ${seconds} s`,
    closed: (reason) => reason || "The connection was closed.",
  },
  expiring: (minutes) =>
    minutes < 1 ? "This conversation is about to end." : `This conversation ends in ${minutes} min.`,
  renew: "Keep it going",
  ended: { closed: "This conversation was closed.", expired: "This conversation has expired." },
  restart: "Start again",
  plain: "Shown as plain text: streaming-markdown is not installed on the gateway.",
  link: (url) => ` (${url})`,
};

/** All that the widget says: `own` in the place of `WORDS`, however deep. What takes an argument is a function. */
export function worded(own = {}) {
  return merged(WORDS, own, own?.locale ?? WORDS.locale);
}

function merged(words, own, locale) {
  const each = ([name, word]) => [name, chosen(word, own?.[name] ?? word, locale)];
  return Object.fromEntries(Object.entries(words).map(each));
}

function chosen(word, own, locale) {
  if (typeof word === "string") return own;
  if (typeof word === "function" || isPlural(word)) return typeof own === "function" ? own : plural(locale, own);
  return merged(word, own, locale);
}

const isPlural = (word) => "other" in word;

/** A function that says how many, by `forms`: `{ one: "# day", other: "# days" }`, or one text for all. */
export function plural(locale, forms) {
  const [rules, numbers] = [new Intl.PluralRules(locale), new Intl.NumberFormat(locale)];
  const shown = (value) => (typeof value === "number" ? numbers.format(value) : value);
  return (...values) => {
    const form = typeof forms === "object" ? (forms[rules.select(values[0])] ?? forms.other) : String(forms);
    return form.replaceAll("#", (sign) => (values.length > 0 ? shown(values.shift()) : sign));
  };
}
