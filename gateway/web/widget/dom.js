// Nodes out of words: text goes in as text nodes only, never as markup.

/**
 * An element: `el("button", { class: "send", onclick }, "Send")`. Attributes that are false or undefined are
 * left out; `on…` is a listener.
 *
 * @param {string} tag
 * @param {Record<string, unknown>} [attributes]
 * @param {...(Node | string)} children
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** A button that shows an icon and has a name: `action("copy", "Copy", () => …)`; `part` is its icon's name. */
export function action(icon, label, onclick, part = icon) {
  return el(
    "button",
    { type: "button", class: "action", part, "aria-label": label, title: label, onclick },
    drawn(icon),
  );
}

const SVG = "http://www.w3.org/2000/svg";

// Strokes on a square of 24.
const ICONS = {
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  done: "M5 12.5l4.5 4.5L19 7.5",
  again: "M4.5 12A7.5 7.5 0 1 0 7 6.4L4.5 9M4.5 4.5V9H9",
  edit: "M4 20h4L19.5 8.5l-4-4L4 16z",
  end: "M12 5v14M6 13l6 6 6-6",
  new: "M12 5v14M5 12h14",
  fold: "M9 6l6 6-6 6",
  close: "M6 6l12 12M18 6L6 18",
};

/** One of the icons; it says nothing to a screen reader. */
export function drawn(icon) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of [
    ["viewBox", "0 0 24 24"],
    ["aria-hidden", "true"],
    ["class", `icon ${icon}`],
  ])
    svg.setAttribute(name, value);
  const path = svg.appendChild(document.createElementNS(SVG, "path"));
  path.setAttribute("d", ICONS[icon]);
  return svg;
}

/** Puts `text` there if it is not there yet: what does not change is not read out again. */
export function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
