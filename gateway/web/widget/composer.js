// Where one writes: sends, stops, edits; says when one is typing.

import { action, el } from "./dom.js";

const QUIET_MS = 4_000; // without a key: no longer typing

export class Composer {
  #does;
  #editing = null;
  #kept = "";
  #typing = 0;
  #running = false;
  #sendButton;
  #stopButton;
  #banner;

  /** `does`: `{ send(text, replaces), stop(), typing(on), editLast() }`. */
  constructor(agent, words, does) {
    this.#does = does;
    const label = words.message(agent);
    this.field = el("textarea", {
      part: "input",
      rows: "1",
      maxlength: "65536",
      enterkeyhint: "send",
      dir: "auto",
      placeholder: label,
      "aria-label": label,
      oninput: () => this.#changed(),
      onkeydown: (event) => this.#key(event),
      onblur: () => this.#hush(),
    });
    this.#sendButton = action("send", words.send, undefined, "send");
    this.#sendButton.type = "submit";
    this.#stopButton = action("stop", words.stop, () => does.stop(), "stop");
    this.#banner = el(
      "p",
      { class: "editing", part: "editing", hidden: true },
      el("span", {}, words.editing),
      action("close", words.discard, () => this.#leave(), "discard"),
    );
    const row = el("div", { class: "row" }, this.field, this.#stopButton, this.#sendButton);
    this.node = el(
      "form",
      { class: "composer", part: "composer", autocomplete: "off", onsubmit: (event) => this.#submit(event) },
      this.#banner,
      row,
    );
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
    this.field.value = text;
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

  #submit(event) {
    event.preventDefault();
    const text = this.field.value;
    if (!text.trim()) return;
    const replaces = this.#editing?.turnId;
    this.#hush();
    this.#leave();
    this.#does.send(text, replaces);
  }

  #key(event) {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.node.requestSubmit();
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
    this.#banner.hidden = !this.#editing;
    this.#stopButton.hidden = !this.#running;
    this.#sendButton.hidden = this.#running && empty;
    this.#sendButton.toggleAttribute("disabled", empty);
  }
}
