// Where one writes: sends, stops, edits; says when one is typing.

import { codePoints } from "../client/transcript.js";
import { action, el, put } from "./dom.js";

const QUIET_MS = 4_000; // without a key: no longer typing

export class Composer {
  #words;
  #does;
  #editing = null;
  #kept = "";
  #typing = 0;
  #running = false;
  #sendButton;
  #stopButton;
  #banner;
  #tooLong = el("p", { class: "editing", part: "too-long", role: "status", hidden: true });

  /** `does`: `{ send(text, replaces), stop(), typing(on), draft(text), editLast(), limit() }`. */
  constructor(agent, words, does) {
    [this.#words, this.#does] = [words, does];
    const label = words.message(agent);
    this.field = el("textarea", {
      part: "input",
      rows: "1",
      enterkeyhint: "send",
      autocomplete: "off",
      dir: "auto",
      placeholder: label,
      "aria-label": label,
      oninput: () => this.#changed(),
      onkeydown: (event) => this.#key(event),
      onblur: () => this.#hush(),
    });
    this.#sendButton = action("send", words.send, () => this.#send());
    this.#stopButton = action("stop", words.stop, () => does.stop(), "stop");
    this.#banner = el(
      "p",
      { class: "editing", part: "editing", hidden: true },
      el("span", {}, words.editing),
      action("close", words.discard, () => this.#leave(), "discard"),
    );
    const row = el("div", { class: "row" }, this.field, this.#stopButton, this.#sendButton);
    // No form: in a frame that may not submit any, nothing could be sent.
    this.node = el("div", { class: "composer", part: "composer" }, this.#banner, this.#tooLong, row);
    this.#show();
  }

  /** An answer is being written, or not: there is something to stop. */
  set running(running) {
    this.#running = running;
    this.#show();
  }

  /** What is being written, an edit aside. */
  get draft() {
    return this.#editing ? this.#kept : this.field.value;
  }

  set draft(text) {
    if (this.#editing) this.#kept = text;
    else if (this.field.value !== text) this.field.value = text;
    this.#fit();
    this.#show();
  }

  /** Puts a message there to be said differently. */
  edit(message) {
    if (this.#editing === null) this.#kept = this.field.value;
    this.#editing = message;
    this.field.value = message.content;
    this.#changed();
    this.field.focus();
  }

  /** The message that is being edited. */
  get editing() {
    return this.#editing;
  }

  #leave() {
    this.#editing = null;
    this.field.value = this.#kept;
    this.#kept = "";
    this.#show();
    this.#fit();
    this.field.focus();
  }

  #send() {
    const text = this.field.value;
    if (!text.trim() || this.#excess > 0) return;
    const replaces = this.#editing?.turnId;
    this.#hush();
    this.#leave();
    this.#does.draft(this.field.value);
    this.#does.send(text, replaces);
  }

  /** How many characters it has too many. */
  get #excess() {
    const { length } = this.field.value; // there are no more characters than that
    const limit = this.#does.limit();
    return length > limit ? codePoints(this.field.value) - limit : 0;
  }

  #key(event) {
    // Safari ends a conversion before it tells of the key that confirmed it; 229 says that it was meant for that.
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.#send();
    } else if (event.key === "Escape") {
      if (this.#editing) this.#leave();
      else if (this.#running) this.#does.stop();
    } else if (event.key === "ArrowUp" && !this.field.value) {
      event.preventDefault();
      this.#does.editLast();
    }
  }

  #changed() {
    this.#fit();
    this.#show();
    if (!this.#editing) this.#does.draft(this.field.value);
    if (!this.#typing) this.#does.typing(true);
    clearTimeout(this.#typing);
    this.#typing = setTimeout(() => this.#hush(), QUIET_MS);
  }

  #hush() {
    if (!this.#typing) return;
    clearTimeout(this.#typing);
    this.#typing = 0;
    this.#does.typing(false);
  }

  #fit() {
    if (CSS.supports("field-sizing", "content")) return;
    this.field.style.height = "auto";
    this.field.style.height = `${this.field.scrollHeight}px`;
  }

  #show() {
    const empty = !this.field.value.trim();
    const excess = this.#excess;
    this.#tooLong.hidden = excess <= 0;
    if (excess > 0) put(this.#tooLong, this.#words.tooLong(excess, this.#does.limit()));
    this.field.setAttribute("aria-invalid", String(excess > 0));
    this.#banner.hidden = !this.#editing;
    this.#stopButton.hidden = !this.#running;
    this.#sendButton.hidden = this.#running && empty;
    this.#sendButton.toggleAttribute("disabled", empty || excess > 0);
  }
}
