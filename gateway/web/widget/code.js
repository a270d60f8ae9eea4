// Code between fences, on its way to the Markdown parser, which reckons with the indent of its lines as if they were
// text: it makes tabs spaces, keeps what the fence itself is indented by, and in a list an empty line ends it.

/** A tab that the parser does not know for one; no text has this character. */
export const TAB = "\ufdd0";

const TAB_STOP = 4; // columns of a tab, for the parser
const LONGEST_START = 1_000; // characters that a line may begin with and still turn out to be the end of the code
const START = /^([ \t]*)(`*)[ \t]*\n?/;

export class Code {
  #parser;
  #fence;
  #write;
  #held = ""; // how a line of code begins, while it may still be the end of it
  #within = false; // a line of which the beginning is known

  /** `fence` is the parser's token for such code, `write` what gives it its text. */
  constructor(parser, fence, write) {
    [this.#parser, this.#fence, this.#write] = [parser, fence, write];
  }

  /** The next piece of all the text. */
  write(piece) {
    for (const [part] of piece.matchAll(/[^\n]*\n|[^\n]+/g)) {
      if (this.#within || !this.#isOpen) this.#pass(part);
      else this.#begin(this.#held + part);
    }
  }

  /** There is no more. */
  end() {
    if (this.#held) this.#line(this.#held);
  }

  get #isOpen() {
    return this.#parser.tokens[this.#parser.len] === this.#fence;
  }

  #pass(text) {
    this.#write(text);
    this.#within = !text.endsWith("\n");
  }

  #begin(text) {
    const [known] = START.exec(text);
    const open = known.length === text.length && !text.endsWith("\n") && text.length < LONGEST_START;
    if (open) this.#held = text;
    else this.#line(text);
  }

  #line(text) {
    this.#held = "";
    const { spaces, len, fence_start: length, renderer } = this.#parser;
    const outside = spaces.slice(0, len + 1).reduce((sum, each) => sum + each, 0);
    const [known, blank, marks] = START.exec(text);
    const rest = text.slice(blank.length);
    const whole = known.length === text.length;
    if (rest.trim() && columns(blank) < outside) this.#pass(text); // it left the list, and the list its code
    else if (whole && marks.length >= length) this.#pass(" ".repeat(outside) + marks.slice(0, length) + ending(text));
    else this.#pass(" ".repeat(outside) + lessened(blank, renderer.data.indent).replaceAll("\t", TAB) + rest);
  }
}

const ending = (text) => (text.endsWith("\n") ? "\n" : "");

const columns = (blank) => [...blank].reduce((sum, char) => sum + (char === "\t" ? TAB_STOP : 1), 0);

/** `blank` without so many columns of it, or as many as it has. */
function lessened(blank, count) {
  let place = 0;
  let rest = count;
  for (; rest > 0 && place < blank.length; place++) rest -= blank[place] === "\t" ? TAB_STOP : 1;
  return " ".repeat(Math.max(0, -rest)) + blank.slice(place);
}
