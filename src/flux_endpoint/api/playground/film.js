// How a picture formed: its previews, kept for the visit, to be gone through with a slider below it.

import { pictureUrl } from "./api.js";
import { byId } from "./dom.js";
import { pictureOf } from "./stage.js";

export class Film {
  #stage;

  constructor(stage) {
    this.#stage = stage;
    byId("film-range").addEventListener("input", () => this.#turn());
  }

  // Offered below the only picture that is shown, when it has more than one preview.
  show() {
    const run = this.#run;
    byId("film").toggleAttribute("data-empty", !run);
    if (!run || byId("film").dataset.run === run.record.id) return;
    byId("film").dataset.run = run.record.id;
    Object.assign(byId("film-range"), { max: run.film.length, value: run.film.length });
    this.#name(run);
  }

  get #run() {
    const [run, ...more] = this.#stage.runs;
    return run && !more.length && run.film.length > 1 && pictureOf(run.record) ? run : null;
  }

  #turn() {
    const run = this.#run;
    if (!run) return;
    const at = Number(byId("film-range").value);
    // The frame's own image: what it shows is the picture again as soon as anything changes.
    const image = document.querySelector(".frame img");
    image.src = run.film[at] ?? pictureUrl(pictureOf(run.record));
    this.#name(run);
  }

  #name(run) {
    const at = Number(byId("film-range").value);
    const words = at < run.film.length ? `preview ${at + 1} of ${run.film.length}` : "the picture";
    byId("film-text").textContent = words;
    byId("film-range").setAttribute("aria-valuetext", words);
  }
}
