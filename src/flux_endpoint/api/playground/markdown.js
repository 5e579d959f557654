// The little Markdown of the readmes: paragraphs, lists, **bold** and `code`, as elements.

import { el } from "./dom.js";

export function markdown(text) {
  const blocks = text.trim().split(/\n{2,}/);
  return blocks.filter(Boolean).map((block) => {
    const lines = block.split("\n");
    if (lines.every((line) => line.startsWith("- "))) {
      return el("ul", {}, ...lines.map((line) => el("li", {}, ...inline(line.slice(2)))));
    }
    return el("p", {}, ...inline(lines.join(" ")));
  });
}

function inline(text) {
  return text.split(/(\*\*[^*]+\*\*|`[^`]+`)/).map((piece) => {
    if (piece.startsWith("**")) return el("strong", {}, piece.slice(2, -2));
    if (piece.startsWith("`")) return el("code", {}, piece.slice(1, -1));
    return piece;
  });
}
