// Where an answer's tools stand in its text.

/**
 * The answer cut at its tools, in order: `{ text }` and `{ tool }`, a text on both sides of every tool.
 *
 * @param {string} content
 * @param {{at: number}[]} tools  `at` counts code points, as on the wire
 */
export function spans(content, tools) {
  const found = [];
  let points = 0;
  let from = 0;
  for (const tool of tools) {
    const to = advanced(content, from, tool.at - points);
    found.push({ text: content.slice(from, to) }, { tool });
    [points, from] = [Math.max(points, tool.at), to];
  }
  found.push({ text: content.slice(from) });
  return found;
}

/** The index `points` code points after `index`, or the end. */
function advanced(text, index, points) {
  for (; points > 0 && index < text.length; points--) index += text.codePointAt(index) > 0xffff ? 2 : 1;
  return index;
}
