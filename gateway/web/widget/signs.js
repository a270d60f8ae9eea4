// Signs of mathematics on their way through the Markdown parser, which knows them, drops them, and has no formulas to
// show for it: here `\(x\)` and `$x$` are text, to be seen as they were typed.

// No text has these characters.
const SIGNS = new Map([
  ["\\(", "\ufdd1"],
  ["\\)", "\ufdd2"],
  ["\\[", "\ufdd3"],
  ["\\]", "\ufdd4"],
  ["$", "\ufdd5"],
  ["\\$", "\\\ufdd5"], // the parser takes the backslash away
]);
const TYPED = new Map([...SIGNS].map(([typed, sign]) => [sign, typed]));

const ESCAPED = /\\[^]?|\$/g;
const HIDDEN = /[\ufdd1-\ufdd5]/g;

/** One text that comes in pieces. */
export class Signs {
  #held = "";

  /** The next piece as the parser is given it; the rest of it, if there is none. A backslash waits for what it is for. */
  hide(piece = null) {
    const text = this.#held + (piece ?? "");
    this.#held = "";
    return text.replace(ESCAPED, (typed) => {
      if (typed !== "\\" || piece === null) return SIGNS.get(typed) ?? typed;
      this.#held = typed;
      return "";
    });
  }
}

/** What the parser gives, as it was typed. */
export const typed = (text) => text.replace(HIDDEN, (sign) => TYPED.get(sign));
