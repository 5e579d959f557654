// What the server expects of the input before it is sent: how long it would take, whether anybody would draw it, and how
// much of the prompt would be read.

import * as api from "./api.js";
import { byId } from "./dom.js";
import { seconds } from "./format.js";
import { key } from "./key.js";

const PAUSE_MS = 500;
// While nothing is typed, others may fill the queue.
const AGAIN_MS = 15_000;

export class Estimate {
  #form;
  #timer;
  #asking = new AbortController();

  constructor(form) {
    this.#form = form;
    document.addEventListener("visibilitychange", () => document.hidden || this.ask());
  }

  // Soon, and again from time to time.
  ask(pauseMs = PAUSE_MS) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), pauseMs);
  }

  async #ask() {
    this.#asking.abort();
    if (document.hidden) return;
    const { signal } = (this.#asking = new AbortController());
    let words = "";
    let tokens;
    try {
      if (key.get()) {
        const expected = await api.estimate(this.#form.endpoint.id, this.#complete, signal);
        words = sentence(expected);
        if (byId("prompt").value.trim()) ({ tokens } = expected);
      }
    } catch {
      // Half-written JSON, a wrong number, a server that is away: running tells which, where it belongs.
    }
    if (signal.aborted) return;
    byId("estimate").textContent = words;
    showTokens(tokens);
    this.ask(AGAIN_MS);
  }

  // Times depend on no words: an empty prompt need not wait for any.
  get #complete() {
    const { input } = this.#form;
    return this.#form.endpoint.makesPictures && !input.prompt.trim() ? { ...input, prompt: "a picture" } : input;
  }
}

function sentence({ executionTime, queueTime, jobsAhead, notice }) {
  if (notice) return `It would wait: ${notice}.`;
  const time = executionTime === undefined ? "No picture was drawn yet: how long it takes is not known" : `About ${seconds(executionTime)}`;
  if (queueTime === undefined) return `${time}; no worker is ready yet.`;
  if (!queueTime) return `${time}, at once.`;
  return `${time}, after ${seconds(queueTime)} in the queue (${jobsAhead} ahead).`;
}

// Where the server counts none, none are shown.
function showTokens(tokens) {
  const isCut = Boolean(tokens) && tokens.t5 > tokens.t5Limit;
  byId("token-count").classList.toggle("over", isCut);
  byId("token-count").title = tokens ? "Of the two text encoders T5 decides what is drawn; CLIP adds the general look, and leaves out what is too long for it." : "";
  byId("token-count").textContent = tokens ? `Tokens: T5 ${tokens.t5}/${tokens.t5Limit}${isCut ? ", the rest is not read" : ""} · CLIP ${tokens.clip}/${tokens.clipLimit}` : "";
}
