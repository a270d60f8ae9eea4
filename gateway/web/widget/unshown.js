// In the place of a conversation that cannot be shown: why.

import { el } from "./dom.js";

/** To the widget it is what a `Panel` is. */
export class Unshown extends EventTarget {
  session = null;
  draft = "";
  unread = 0;
  running = false;
  shown = false;

  constructor(why) {
    super();
    this.node = el(
      "section",
      { class: "panel", part: "panel" },
      el("p", { class: "notice", part: "notice", role: "status" }, why),
    );
  }

  close() {}
}
