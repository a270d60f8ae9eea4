// The figures: a card for each, with its numbers and, where uPlot is there, their curves of some minutes.

import { bytes, count, duration, percent, times } from "./format.js";

const uPlot = await import("../vendor/uplot.js").then((module) => module.default, () => null);

/** Are there curves? Without uPlot figures are numbers. */
export const hasCurves = uPlot !== null;

const KEPT = 300; // seconds
const HEIGHT = 56; // pixels

/** @typedef {{name: string, of: (figures: object) => number | null}} Series */
/** @type {{title: string, what: string, format: (value: number) => string, series: Series[]}[]} */
const CARDS = [
  {
    title: "Connections",
    what: "Open sockets and streams",
    format: count,
    series: [{ name: "open", of: (f) => f.connections }],
  },
  {
    title: "Sessions",
    what: "Live: followed by somebody, or at work",
    format: count,
    series: [{ name: "live", of: (f) => f.sessions }],
  },
  {
    title: "Turns",
    what: "Answers being written, and messages that wait for theirs",
    format: count,
    series: [
      { name: "running", of: (f) => f.turns_running },
      { name: "queued", of: (f) => f.turns_waiting },
    ],
  },
  {
    title: "Deltas",
    what: "Pieces of text that agents write, a second",
    format: count,
    series: [{ name: "a second", of: (f) => f.deltas_per_second }],
  },
  {
    title: "First delta",
    what: "From the start of a turn to its first output, lately",
    format: duration,
    series: [
      { name: "p50", of: (f) => f.first_delta.p50 },
      { name: "p99", of: (f) => f.first_delta.p99 },
    ],
  },
  {
    title: "Delta gap",
    what: "Between two deltas of a turn, lately",
    format: duration,
    series: [
      { name: "p50", of: (f) => f.gap.p50 },
      { name: "p99", of: (f) => f.gap.p99 },
    ],
  },
  {
    title: "Coalescing",
    what: "How many deltas are sent as one, lately",
    format: times,
    series: [{ name: "deltas in one", of: (f) => f.coalescing }],
  },
  {
    title: "Lagging readers",
    what: "Sessions with news for a line that does not take it",
    format: count,
    series: [{ name: "behind", of: (f) => f.readers_lagging }],
  },
  {
    title: "Event-loop lag",
    what: "The worst of the last seconds",
    format: duration,
    series: [{ name: "late", of: (f) => f.event_loop_lag }],
  },
  {
    title: "Processor",
    what: "Of one core",
    format: percent,
    series: [{ name: "used", of: (f) => f.cpu }],
  },
  {
    title: "Memory",
    what: "Resident",
    format: bytes,
    series: [{ name: "held", of: (f) => f.memory }],
  },
  {
    title: "Errors",
    what: "Refusals and failed turns, a second",
    format: count,
    series: [{ name: "a second", of: (f) => f.errors_per_second }],
  },
];

/** All cards, in `root`. */
export class Plots {
  #cards;
  #times = [];

  constructor(root) {
    this.#cards = CARDS.map((about) => new Card(about));
    root.append(...this.#cards.map((card) => card.element));
    if (!hasCurves) return;
    addStyle();
    this.#cards.forEach((card) => card.draw(this.#times));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.#cards.forEach((card) => card.redraw());
    });
  }

  /** The next figures. After a pause there is a hole in the curves. */
  take(figures) {
    const last = this.#times.at(-1);
    if (last !== undefined && figures.at - last > 5) this.#push(last + 1, null);
    this.#push(figures.at, figures);
    this.#cards.forEach((card) => card.show());
  }

  #push(at, figures) {
    this.#times.push(at);
    this.#cards.forEach((card) => card.push(figures));
    if (this.#times.length <= KEPT) return;
    this.#times.shift();
    this.#cards.forEach((card) => card.forget());
  }
}

class Card {
  #about;
  #columns;
  #times = [];
  #values;
  #plot = null;

  constructor(about) {
    this.#about = about;
    this.#columns = about.series.map(() => []);
    this.#values = about.series.map(() => node("dd", "value", "–"));
    this.element = node("article", "card");
    const title = node("h3", "title", about.title);
    title.title = about.what;
    const list = node("dl", "values");
    about.series.forEach(({ name }, place) => {
      const one = node("div", `series-${place + 1}`);
      one.append(node("dt", "name", name), this.#values[place]);
      list.append(one);
    });
    this.element.append(title, node("p", "unseen", about.what), list);
  }

  push(figures) {
    this.#about.series.forEach(({ of }, place) => this.#columns[place].push(figures === null ? null : of(figures)));
  }

  forget() {
    this.#columns.forEach((column) => column.shift());
  }

  draw(moments) {
    this.#times = moments;
    const box = node("div", "plot");
    box.setAttribute("aria-hidden", "true");
    this.element.append(box);
    const data = [moments, ...this.#columns];
    this.#plot = new uPlot(options(this.#about, (place) => this.#label(place)), data, box);
    new ResizeObserver(([entry]) => {
      this.#plot.setSize({ width: Math.floor(entry.contentRect.width), height: HEIGHT });
    }).observe(box);
  }

  redraw() {
    this.#plot?.redraw(false);
  }

  show() {
    this.#plot?.setData([this.#times, ...this.#columns]);
    this.#label(this.#plot?.cursor.idx ?? null);
  }

  /** The numbers at that place of the curve; at its end, if it is nobody's. */
  #label(place) {
    this.#values.forEach((value, number) => {
      const column = this.#columns[number];
      const text = this.#about.format(column[place ?? column.length - 1]);
      if (value.textContent !== text) value.textContent = text;
    });
  }
}

function options({ series }, pointed) {
  const colour = (name) => () => getComputedStyle(document.documentElement).getPropertyValue(name);
  return {
    width: 200,
    height: HEIGHT,
    padding: [4, 0, 0, 0],
    legend: { show: false },
    select: { show: false },
    axes: [{ show: false }, { show: false }],
    scales: { x: { time: true }, y: { range: (_, low, high) => around(high) } },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 5 }, sync: { key: "console" } },
    hooks: { setCursor: [(plot) => pointed(plot.cursor.idx ?? null)] },
    series: [
      {},
      ...series.map(({ name }, place) => ({
        label: name,
        width: 1.5,
        stroke: colour(`--series-${place + 1}`),
        fill: place === 0 ? colour("--series-fill") : undefined,
        points: { show: false },
      })),
    ],
  };
}

/** From a little below zero, so that a line along it is seen. */
function around(high) {
  const most = high > 0 ? high * 1.05 : 1;
  return [most * -0.04, most];
}

function addStyle() {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL("vendor/uplot.css", document.baseURI);
  document.head.prepend(link);
}

function node(name, className, text = "") {
  return Object.assign(document.createElement(name), { className, textContent: text });
}
