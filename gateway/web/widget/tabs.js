// Several conversations in one place: a tab each, or side by side where there is room.

import { el, put } from "./dom.js";

const STEPS = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };

/** Event "chosen": another tab was; `tabs.chosen` is its place. */
export class Tabs extends EventTarget {
  chosen = 0;
  #tabs = [];
  #panels = [];

  constructor(label) {
    super();
    this.node = el("div", {
      class: "tabs",
      part: "tabs",
      role: "tablist",
      "aria-label": label,
      onkeydown: (event) => this.#key(event),
    });
  }

  /** `names` and the nodes of their panels, in order. */
  fill(names, panels) {
    this.#panels = panels;
    this.#tabs = names.map((name, place) =>
      el(
        "button",
        {
          type: "button",
          class: "tab",
          part: "tab",
          role: "tab",
          id: `tab-${place}`,
          "aria-controls": `panel-${place}`,
          onclick: () => this.choose(place),
        },
        el("bdi", {}, name),
        el("span", { class: "badge", part: "badge", hidden: true }),
      ),
    );
    panels.forEach((panel, place) => {
      panel.id = `panel-${place}`;
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", `tab-${place}`);
    });
    this.node.replaceChildren(...this.#tabs);
    this.node.hidden = names.length < 2;
    this.choose(Math.min(this.chosen, names.length - 1));
  }

  choose(place) {
    this.chosen = place;
    this.#tabs.forEach((tab, at) => {
      tab.setAttribute("aria-selected", String(at === place));
      tab.tabIndex = at === place ? 0 : -1;
      this.#panels[at].classList.toggle("chosen", at === place);
    });
    this.dispatchEvent(new Event("chosen"));
  }

  /** What a tab tells of its conversation; `label` is how that is said. */
  tell(place, { running, unread, label }) {
    const tab = this.#tabs[place];
    tab.classList.toggle("running", running);
    const badge = tab.querySelector(".badge");
    badge.hidden = unread === 0;
    put(badge, unread ? String(unread) : "");
    tab.title = unread ? label : "";
    tab.setAttribute("aria-label", [tab.firstChild.textContent, unread && label].filter(Boolean).join(", "));
  }

  #key(event) {
    const step = STEPS[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const forward = getComputedStyle(this.node).direction === "rtl" && Number.isFinite(step) ? -step : step;
    const last = this.#tabs.length - 1;
    const to = Number.isFinite(step) ? (this.chosen + forward + last + 1) % (last + 1) : step < 0 ? 0 : last;
    this.choose(to);
    this.#tabs[to].focus();
  }
}
