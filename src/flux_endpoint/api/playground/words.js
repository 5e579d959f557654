// Words that the embedded model does not know, told while they are typed, with the nearest that it does.

import { BASE } from "./api.js";
import { byId, el } from "./dom.js";

const PAUSE_MS = 300;
const NAMED = 6;
// At least two letters that no digit joins: nobody looks for "4k" in a picture.
const WORD = /(?<![\p{L}\p{N}_])\p{L}{2,}(?![\p{L}\p{N}_])/gu;
const PLURALS = ["", "s", "es"];

// The words of a text that are not known: in lower case, each once, in the order of the text.
function unknownIn(text, words) {
  const found = text.normalize("NFKC").toLowerCase().match(WORD) ?? [];
  return [...new Set(found)].filter((word) => !words.has(word));
}

// The known word nearest to an unknown one: by meaning, else one that differs by a slip of the keys.
function nearestTo(word, { words, nearest }) {
  for (const ending of PLURALS) {
    if (word.endsWith(ending) && Object.hasOwn(nearest, word.slice(0, word.length - ending.length))) return nearest[word.slice(0, word.length - ending.length)];
  }
  const slips = word.length < 6 ? 1 : 2;
  return [...words].find((known) => known.length > 3 && distance(word, known) <= slips) ?? null;
}

// How many letters must be changed, added or dropped.
function distance(left, right) {
  if (Math.abs(left.length - right.length) > 2) return Infinity;
  let row = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let i = 1; i <= left.length; i++) {
    const above = row;
    row = [i];
    for (let j = 1; j <= right.length; j++) row[j] = Math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (left[i - 1] === right[j - 1] ? 0 : 1));
  }
  return row[right.length];
}

// Stands below the prompt. `onReplace` gets the prompt with a known word in place of an unknown one.
export class Words {
  #vocabulary = null;
  #address = null;
  #timer;
  #onReplace;

  constructor(onReplace) {
    this.#onReplace = onReplace;
    byId("prompt").addEventListener("input", () => this.show());
  }

  // Endpoints with real weights have no list of words: nothing is said of theirs.
  async setEndpoint({ vocabulary }) {
    if (vocabulary !== this.#address) {
      this.#address = vocabulary;
      this.#vocabulary = null;
      if (vocabulary) await this.#load(vocabulary);
    }
    this.show(0);
  }

  async #load(address) {
    // At the page's own origin, as pictures are. Where it does not arrive, it is asked for again at the next choice.
    const known = await fetch(`${BASE}embedded/${address.split("/").pop()}`).then((reply) => (reply.ok ? reply.json() : null)).catch(() => null);
    if (address !== this.#address) return;
    if (known) this.#vocabulary = { words: new Set(known.words), nearest: known.nearest };
    else this.#address = null;
  }

  show(pauseMs = PAUSE_MS) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#show(), pauseMs);
  }

  #show() {
    const unknown = this.#vocabulary ? unknownIn(byId("prompt").value, this.#vocabulary.words) : [];
    const mark = unknown.join(" ");
    if (byId("unknown").dataset.mark === mark) return;
    byId("unknown").dataset.mark = mark;
    byId("unknown").hidden = unknown.length === 0;
    const named = unknown.slice(0, NAMED);
    const more = unknown.length - named.length;
    const near = named.map((word) => [word, nearestTo(word, this.#vocabulary)]).filter(([, known]) => known);
    byId("unknown").replaceChildren(
      el("span", {}, "Does not know: ", el("strong", {}, named.join(", ")), more ? ` and ${more} more` : "", near.length ? "; try" : ""),
      ...near.map(([word, known]) => this.#offer(word, known)),
    );
  }

  #offer(word, known) {
    const button = el("button", { type: "button", className: "offer", title: `Write ${known} in place of ${word}` }, known);
    button.addEventListener("click", () => {
      const whole = new RegExp(`(?<![\\p{L}\\p{N}_])${word}(?![\\p{L}\\p{N}_])`, "giu");
      this.#onReplace(byId("prompt").value.normalize("NFKC").replace(whole, known));
      byId("prompt").focus();
      this.show(0);
    });
    return button;
  }
}
