// Markdown → nodes while the text arrives, by streaming-markdown. It never sees HTML as such: tags are text.
//
// An agent's text is hostile: links lead only where the table says, nothing is fetched, and what the parser
// cannot take (nesting beyond its stack, marks without an end) is shown as it was written.

import { Code, TAB } from "./code.js";
import { copyText } from "./copy.js";
import { action, el } from "./dom.js";
import { Lines, directionOf, grow } from "./grow.js";
import { Signs, typed } from "./signs.js";

const smd = await import("../vendor/smd.js").catch(() => null);

/** Is the parser there? Without it, text is shown as it was written. */
export const hasMarkdown = smd !== null;

const SCHEMES = new Set(["http:", "https:", "mailto:"]);
const DEEPEST = 20; // the parser keeps 24 open tokens, and no check
const LONGEST_MARK = 8_192; // characters; it holds back an unfinished mark, and looks at all of it for each one more
const STEP = 1_024; // characters written between two looks at the clock
const LONGEST_PARAGRAPH = 12_000; // characters; what is longer goes on in another: a browser lays out one as a whole
const LONGEST_ROWS = 100; // items of a list, likewise, and rows of a table
const PLAIN = /^[^\s*_`~[\\<|]$/u; // a character that begins no mark
const NODE = 40; // characters that a node within a paragraph counts as
const FIRST_HEADING = 3; // below the page's and the conversation's
// How a column stands, by the ends of its rule.
const ALIGNED = { ":-": "left", "::": "center", "-:": "right" };
const DELIMITED = 1; // a table's state while its second row is read: `|:--|--:|`

const T = smd?.Token ?? {};

// Token → tag. Headings, code, tables and images have functions of their own.
const TAGS = new Map([
  [T.Paragraph, "p"],
  [T.Blockquote, "blockquote"],
  [T.Line_Break, "br"],
  [T.Rule, "hr"],
  [T.Italic_Ast, "em"],
  [T.Italic_Und, "em"],
  [T.Strong_Ast, "strong"],
  [T.Strong_Und, "strong"],
  [T.Strike, "s"],
  [T.Code_Inline, "code"],
  [T.Link, "a"],
  [T.Raw_URL, "a"],
  [T.Image, "a"],
  [T.List_Unordered, "ul"],
  [T.List_Ordered, "ol"],
  [T.List_Item, "li"],
]);
const HEADINGS = [T.Heading_1, T.Heading_2, T.Heading_3, T.Heading_4, T.Heading_5, T.Heading_6];
const CODE = [T.Code_Inline, T.Code_Block, T.Code_Fence];
const MARKED = [T.Strong_Ast, T.Strong_Und, T.Italic_Ast, T.Italic_Und];
// Where text goes on in the same line.
const TEXT = new Set([T.Paragraph, T.List_Item, T.Table_Cell, ...HEADINGS, ...MARKED, ...CODE]);

class Unfit extends Error {}

/** One text that grows, as nodes in `root`. */
export class Text {
  #root;
  #words;
  #shown = "";
  #ended = false;
  #parser = null;
  #signs = null;
  #code = null;
  #plain = null;

  constructor(root, words) {
    this.#root = root;
    this.#words = words;
    this.#begin();
  }

  /**
   * Shows `text`, or as much of it as there is time for; `ended`: nothing will follow. Is all of it shown?
   *
   * @param {() => boolean} late
   */
  write(text, ended, late) {
    if (!text.startsWith(this.#shown) || (this.#ended && text !== this.#shown)) this.#begin();
    while (this.#shown.length < text.length) {
      if (late()) return false;
      this.#step(text.slice(this.#shown.length, this.#shown.length + STEP));
    }
    if (ended && !this.#ended) this.#end();
    return true;
  }

  /** What the parser still holds back: the last character, but for a mark, which means nothing yet. */
  get held() {
    const { token, pending } = this.#parser ?? { pending: "" };
    return TEXT.has(token) && PLAIN.test(pending) ? typed(pending) : "";
  }

  #begin() {
    this.#root.replaceChildren();
    this.#shown = "";
    this.#ended = false;
    this.#root.removeAttribute("dir");
    this.#parser = hasMarkdown ? started(this.#root, this.#words) : null;
    this.#signs = new Signs();
    this.#code = new Code(this.#parser, T.Code_Fence, (part) => parse(this.#parser, part));
    this.#plain = hasMarkdown ? null : this.#asWritten();
  }

  #asWritten() {
    this.#root.classList.add("plain");
    return new Lines(this.#root);
  }

  #step(piece) {
    this.#shown += piece;
    this.#root.dir ||= directionOf(piece);
    this.#try(() => this.#code.write(this.#signs.hide(piece)), piece);
  }

  #end() {
    this.#ended = true;
    this.#try(() => {
      this.#code.write(this.#signs.hide());
      this.#code.end();
      const { pending, renderer } = this.#parser;
      if (!pending.startsWith("](")) return smd.parser_end(this.#parser);
      close(renderer.data); // a link without an end is none
      append(renderer.data, pending.slice(1));
    }, "");
    const { open } = this.#parser?.renderer.data ?? { open: [] };
    while (open.length > 1) close(this.#parser.renderer.data);
  }

  #try(write, piece) {
    if (this.#parser === null) return this.#plain.append(piece);
    try {
      write();
      if (this.#parser.pending.length > LONGEST_MARK) throw new Unfit();
    } catch {
      this.#parser = null;
      this.#root.replaceChildren();
      this.#plain = this.#asWritten();
      this.#plain.append(this.#shown);
    }
  }
}

// ── The renderer that the parser calls ──

/** A parser that builds nodes in `root`. Its data: the open nodes, and the last character that was written. */
function started(root, words) {
  const data = { open: [{ node: root, size: 0 }], last: "", heading: 0, words, parser: null };
  data.parser = smd.parser({ data, add_token: opened, end_token: close, add_text: append, set_attr: set });
  return data.parser;
}

/** Gives the parser the rest of a line, or a piece of it. */
function parse(parser, text) {
  const line = text.replace(/\n$/, "");
  smd.parser_write(parser, line);
  if (line === text) return;
  // The parser throws away what this row says, with the end of it.
  if (parser.token === T.Table && parser.table_state === DELIMITED) align(parser);
  smd.parser_write(parser, "\n");
}

/** How the columns of the innermost table stand. */
function align({ pending, renderer: { data } }) {
  const table = data.open.at(-1);
  const rules = pending.trim().replace(/^\||\|$/g, "").split("|");
  table.aligned = rules.map((rule) => ALIGNED[rule.trim().at(0) + rule.trim().at(-1)]);
  for (const cell of table.node.tHead.rows[0].cells) stand(cell, table);
}

function stand(cell, { aligned = [] }) {
  if (aligned[cell.cellIndex]) cell.dataset.align = aligned[cell.cellIndex];
  return cell;
}

function opened(data, token) {
  const { parser } = data;
  if (data.open.length > DEEPEST) throw new Unfit();
  if (literal(data, token)) {
    // The parser has just made it its innermost token: take it back, and the mark stays as it was written.
    parser.len -= 1;
    parser.token = parser.tokens[parser.len];
    append(data, parser.pending);
    return;
  }
  if (token === T.List_Item) goOn(data.open.at(-1));
  if (token === T.Table_Row) turnOver(data.open.at(-1));
  if (token === T.Code_Fence) data.indent = parser.indent_len;
  const node = made(data, token);
  if (token === T.List_Item || token === T.Paragraph) data.last = "";
  const lines = token === T.Code_Fence || token === T.Code_Block ? new Lines(node) : null;
  data.open.at(-1).size += NODE;
  data.open.push({ node, token, href: null, lines, size: 0 });
}

/** A list that is long enough goes on in another, with the next number. */
function goOn(list) {
  const { node } = list;
  if (node.childElementCount < LONGEST_ROWS) return;
  const start = node.localName === "ol" && node.start + node.childElementCount;
  list.node = el(node.localName, { class: "on", start });
  node.after(list.node);
}

/** A table that is long enough goes on in another, under the same headings, as on the next page of a book. */
function turnOver(table) {
  const { node } = table;
  if (node.rows.length < LONGEST_ROWS) return;
  const box = node.parentNode.cloneNode();
  table.node = box.appendChild(el("table", {}, node.tHead.cloneNode(true)));
  node.parentNode.after(box);
}

/** An underscore within a word is one: snake_case. */
function literal({ last }, token) {
  const underscored = token === T.Italic_Und || token === T.Strong_Und;
  return underscored && /[\p{L}\p{N}_]/u.test(last);
}

function made(data, token) {
  const parent = data.open.at(-1).node;
  if (HEADINGS.includes(token)) return parent.appendChild(el(headingTag(data, HEADINGS.indexOf(token) + 1)));
  if (token === T.Code_Fence || token === T.Code_Block) return codeBlock(parent, data.words);
  if (token === T.Table)
    return parent
      .appendChild(el("div", { class: "table", tabindex: "0", role: "group" }))
      .appendChild(el("table"));
  if (token === T.Table_Row) return tableRow(parent);
  if (token === T.Table_Cell)
    return tableCell(parent, data.open.at(-2));
  if (token === T.Checkbox) return checkbox(parent);
  return parent.appendChild(el(TAGS.get(token) ?? "span"));
}

/** At most one level below the one before it: an outline without holes. */
function headingTag(data, level) {
  data.heading = Math.min(level, data.heading + 1);
  return `h${Math.min(6, FIRST_HEADING - 1 + data.heading)}`;
}

function tableRow(table) {
  const place = table.tHead ? (table.tBodies[0] ?? table.createTBody()) : table.createTHead();
  return place.appendChild(el("tr"));
}

function tableCell(row, table) {
  return stand(row.appendChild(el(row.parentNode.tagName === "THEAD" ? "th" : "td")), table);
}

/** The box takes the place of the item's bullet. */
function checkbox(item) {
  item.classList.add("task");
  return item.appendChild(el("span", { class: "box" }, "☐ "));
}

/** The node that the code goes into; `language` is where its name goes. */
function codeBlock(parent, words) {
  const code = el("code");
  const language = el("span", { class: "language" });
  const copy = action("copy", words.copyCode, () => copyText(code.textContent, copy, words));
  const title = el("figcaption", {}, language, copy);
  parent.append(
    el("figure", { class: "code", part: "code", dir: "ltr" }, title, el("pre", { tabindex: "0" }, code)),
  );
  return Object.assign(code, { language });
}

function close(data) {
  const { node, token, href } = data.open.pop();
  const end = data.parser.pending.startsWith("]") ? "]" : ""; // what nobody closed has none
  if (token === T.Link && href === null) node.replaceWith("[", ...node.childNodes, end);
  else if (token === T.Image && href === null) node.replaceWith("![", ...node.childNodes, end);
  else if (token === T.Link || token === T.Image) linked(node, href, data.words);
  else if (token === T.Raw_URL) linkedAsWritten(node);
}

function append(data, given) {
  let text = typed(given);
  const top = data.open.at(-1);
  data.last = text.at(-1);
  if (top.lines) return top.lines.append(text.replaceAll(TAB, "\t"));
  top.size += text.length;
  if (top.size > LONGEST_PARAGRAPH && top.token !== undefined) {
    if (top.token !== T.Paragraph) throw new Unfit();
    const cut = text.indexOf(" ") + 1;
    grow(top.node, text.slice(0, cut));
    top.node.after((top.node = el("p", { class: "on" })));
    top.size = text.length;
    text = text.slice(cut);
  }
  grow(top.node, text);
}

function set(data, attribute, value) {
  const top = data.open.at(-1);
  if (attribute === smd.Attr.Href || attribute === smd.Attr.Src) top.href = typed(value);
  else if (attribute === smd.Attr.Lang)
    top.node.language.textContent = typed(value).trim().split(/\s/)[0].slice(0, 40);
  else if (attribute === smd.Attr.Start) top.node.setAttribute("start", String(parseInt(value, 10)));
  else if (attribute === smd.Attr.Checked) top.node.textContent = "☑ ";
}

// ── Links ──

/** Where `href` leads, if that is somewhere a link may lead. */
function allowed(href) {
  const url = URL.canParse(href) ? new URL(href) : null;
  return url !== null && SCHEMES.has(url.protocol) ? url.href : null;
}

function linked(node, href, words) {
  const url = allowed(href.trim().split(/\s/)[0]);
  if (url === null) return node.replaceWith(...node.childNodes, words.link(href));
  if (!node.textContent) node.textContent = url;
  lead(node, url);
}

/** A bare address. The full stop or bracket that ends the sentence around it is not part of it. */
function linkedAsWritten(node) {
  const [, written, rest] = /^(.*?)([.,;:!?)\]}'"»”\\]*)$/su.exec(node.textContent);
  const url = allowed(written);
  if (url === null) return node.replaceWith(...node.childNodes);
  node.textContent = written;
  node.after(rest);
  lead(node, url);
}

function lead(node, url) {
  if (node.textContent !== url) node.title = url;
  Object.assign(node, { href: url, target: "_blank", rel: "noopener noreferrer nofollow" });
}
