// How a picture formed: its previews, kept for the visit, to be gone through with a slider below it and saved as an
// animation.

import { animated, still } from "./animation.js";
import { pictureUrl } from "./api.js";
import { announce, byId, el } from "./dom.js";
import { save } from "./save.js";
import { fileName, pictureOf } from "./stage.js";

const PREVIEWS_MS = 2_400; // all of them together
const PICTURE_MS = 2_000;

export class Film {
  #stage;

  constructor(stage) {
    this.#stage = stage;
    byId("film-range").addEventListener("input", () => this.#turn());
    byId("film-save").addEventListener("click", () => this.#save());
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

  async #save() {
    const { film, record } = this.#run;
    byId("film-save").disabled = true;
    try {
      save(await animation(film, pictureUrl(pictureOf(record))), fileName(record, "formed"));
      announce("The animation is saved");
    } catch (error) {
      byId("film-text").textContent = error.message;
      announce(error.message);
    }
    byId("film-save").disabled = false;
    byId("film-save").focus();
  }
}

// As large as the picture, which stands last and longest. Throws Error when the picture is gone or the browser cannot write one.
async function animation(previews, picture) {
  const last = await loaded(picture);
  const { naturalWidth: width, naturalHeight: height } = last;
  const canvas = el("canvas", { width, height });
  const context = canvas.getContext("2d", { alpha: false });
  const frames = [];
  for (const image of [...(await Promise.all(previews.map(loaded))), last]) {
    context.drawImage(image, 0, 0, width, height);
    const durationMs = image === last ? PICTURE_MS : Math.round(PREVIEWS_MS / previews.length);
    frames.push({ file: await still(canvas), durationMs });
  }
  return animated(frames, { width, height });
}

async function loaded(source) {
  const image = new Image();
  image.src = source;
  await image.decode().catch(() => {
    throw new Error("The picture is no longer there.");
  });
  return image;
}
