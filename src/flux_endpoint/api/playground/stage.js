// Where pictures appear: one frame, or four; the state of what runs; facts and actions of the one that is looked at.

import { isOwnPicture, pictureUrl } from "./api.js";
import { saveCard } from "./card.js";
import { byId, el, icon } from "./dom.js";
import { seconds, usd } from "./format.js";
import { worded } from "./loras.js";
import { seedOf } from "./run.js";

const TICK_MS = 250;
const AGAIN_MS = 2_000;
const ALL = { 2: "Both", 3: "All three", 4: "All four" };

// Dispatches "choose" (detail: run) when one of four is opened, "view" (detail: run) when the only one is clicked, "tick"
// from time to time while one is drawn, "loaded" (detail: {run, image}) when a picture is there, and "gone" (detail: run)
// when the server no longer has it.
export class Stage extends EventTarget {
  constructor(actions) {
    super();
    this.runs = [];
    this.actions = actions;
    this.listen = () => this.update();
  }

  // One run, or the four of a set; `all` are the four when one of them is looked at.
  show(runs, all = null) {
    for (const run of this.runs) run.removeEventListener("change", this.listen);
    this.runs = runs;
    this.all = all;
    for (const run of runs) run.addEventListener("change", this.listen);
    this.frames = runs.map((run, index) => this.#frame(run, index));
    byId("frames").replaceChildren(...this.frames.map(({ frame }) => frame));
    byId("frames").dataset.count = runs.length;
    this.update();
    this.#tick();
  }

  // Bars move on between two pieces of news.
  #tick() {
    clearTimeout(this.timer);
    if (this.runs.every(({ isOver }) => isOver)) return;
    for (const parts of this.frames) moveBar(parts);
    this.dispatchEvent(new Event("tick"));
    this.timer = setTimeout(() => this.#tick(), TICK_MS);
  }

  update() {
    for (const parts of this.frames) updateFrame(parts);
    this.#facts();
    const run = this.runs.length === 1 ? this.runs[0] : null;
    byId("json-output").textContent = this.runs.length
      ? JSON.stringify(run ? (run.record.body ?? { id: run.record.id, status: run.record.status }) : this.runs.map(({ record }) => record.body ?? {}), null, 2)
      : "The server's answer will stand here.";
  }

  #frame(run, index) {
    const { width, height } = shapeOf(run.record);
    const image = el("img", { alt: "", hidden: true, decoding: "async" });
    const done = el("div", { className: "done" });
    const track = el("div", { className: "track" }, done);
    const words = el("div", { className: "words", hidden: true });
    const frame = el("figure", { className: "frame" }, image, words, track);
    frame.style.setProperty("--w", width);
    frame.style.setProperty("--h", height);
    const isOnly = this.runs.length === 1;
    const label = isOnly ? "Look at the picture in full size" : `Look at picture ${index + 1} of ${this.runs.length}`;
    const button = el("button", { type: "button", className: "choose", hidden: isOnly, "aria-label": label });
    button.addEventListener("click", () => this.dispatchEvent(new CustomEvent(isOnly ? "view" : "choose", { detail: run })));
    frame.append(button);
    image.addEventListener("load", () => {
      if (image.dataset.kind !== "picture") return;
      button.hidden = false;
      if (image.dataset.isLate) {
        delete image.dataset.isLate;
        updateFrame({ run, frame, image, track, done, words });
      }
      this.dispatchEvent(new CustomEvent("loaded", { detail: { run, image } }));
    });
    image.addEventListener("error", async () => {
      if (image.dataset.kind !== "picture") return;
      button.hidden = isOnly;
      const isGone = await isLost(image.src);
      image.dataset[isGone ? "isGone" : "isLate"] = "yes";
      updateFrame({ run, frame, image, track, done, words });
      if (isGone) return this.dispatchEvent(new CustomEvent("gone", { detail: run }));
      setTimeout(() => image.isConnected && image.setAttribute("src", image.src), AGAIN_MS);
    });
    return { run, frame, image, track, done, words };
  }

  #facts() {
    const run = this.runs.length === 1 ? this.runs[0] : null;
    const facts = run ? factsOf(run.record) : [];
    byId("warnings").textContent = (run?.record.output?.warnings ?? []).join(" ");
    byId("facts").replaceChildren(...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
    const buttons = [];
    const add = (name, label, action) => {
      const button = el("button", { type: "button", className: name === "four" ? "quiet named" : "quiet", title: label }, icon(name), el("span", {}, label));
      button.addEventListener("click", () => once(button, () => action(run, button)));
      buttons.push(button);
    };
    if (this.all) add("four", ALL[this.all.length], () => this.actions.showAll(this.all));
    const url = run && pictureOf(run.record);
    if (url) {
      if (run.record.input.stop_after) add("finish", "Finish", this.actions.finish);
      if (isOwnPicture(url)) buttons.push(link("down", "Download", pictureUrl(url), { download: fileName(run.record) + endingOf(run.record) }));
      buttons.push(link("open", "Open", pictureUrl(url), { target: "_blank", rel: "noreferrer" }));
      add("compare", "Compare", this.actions.compare);
      if (isOwnPicture(url)) add("start", "Start from it", this.actions.source);
      add("star", run.record.isFavourite ? "No favourite any more" : "Favourite", this.actions.favourite);
      add("link", "Copy link", this.actions.copyLink);
      if (isOwnPicture(url)) add("card", "Save as a card", ({ record }) => saveCard(record, fileName(record)).catch(({ message }) => (byId("warnings").textContent = message)));
    }
    if (run?.isOver && run.record.id) add("bin", "Remove", this.actions.remove);
    // Replaced only when they differ: a button that has the focus keeps it.
    const mark = `${run?.record.id}|${buttons.map(({ textContent }) => textContent)}|${url}`;
    if (byId("actions").dataset.mark === mark) return;
    byId("actions").dataset.mark = mark;
    byId("actions").replaceChildren(...buttons);
  }
}

// What is under way is not begun again.
async function once(button, action) {
  if (button.ariaBusy === "true") return;
  button.ariaBusy = "true";
  await action();
  button.ariaBusy = null;
}

function link(name, label, href, properties) {
  return el("a", { href, title: label, ...properties }, icon(name), el("span", {}, label));
}

export function pictureOf(record) {
  const url = record.output?.image_url;
  return record.status === "COMPLETED" && typeof url === "string" && /^https?:/.test(url) ? url : null;
}

export const shapeOf = ({ input }) => ({ width: input.width ?? 1024, height: input.height ?? 1024 });

// What a file of a picture is called, without its ending: the first words of its prompt, its seed, and what else it is.
export function fileName(record, ...more) {
  const words = record.input.prompt?.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? ["picture"];
  return [words.slice(0, 6).join("-").slice(0, 60), seedOf(record), ...more].join("-");
}

const endingOf = (record) => /\.[a-z0-9]+$/.exec(pictureOf(record))[0];

function factsOf(record) {
  if (record.status !== "COMPLETED") return [];
  const facts = [];
  if (record.executionTime !== undefined) facts.push(["Time", seconds(record.executionTime)]);
  if (record.output?.cost !== undefined) facts.push(["Cost", usd(record.output.cost)]);
  if (seedOf(record) !== undefined) facts.push(["Seed", String(seedOf(record))]);
  if (record.output?.acceleration) facts.push(["Acceleration", record.output.acceleration]);
  if (record.input.loras?.length) facts.push(["LoRAs", worded(record.input.loras)]);
  if (record.input.width) facts.push(["Size", `${record.input.width} × ${record.input.height}`]);
  return facts;
}

function updateFrame({ run, frame, image, track, done, words }) {
  const { record, preview } = run;
  const picture = pictureOf(record);
  if (picture) setImage(image, pictureUrl(picture), "picture", record.input.prompt ?? "Picture");
  else if (preview) setImage(image, preview, "preview", "");
  frame.toggleAttribute("data-waiting", !run.isOver && image.hidden);
  const isGone = image.dataset.isGone === "yes";
  const isLate = image.dataset.isLate === "yes";
  frame.toggleAttribute("data-faded", (run.isOver && !picture && !image.hidden) || isGone);
  if (isGone || isLate) image.hidden = true;
  moveBar({ run, track, done });
  const text = isGone ? goneWords(picture) : isLate ? "The picture does not arrive. Trying again." : ending(record);
  words.hidden = text === null;
  words.className = record.status === "FAILED" || record.status === "TIMED_OUT" ? "words bad" : "words";
  if (text !== null && words.textContent !== text) words.replaceChildren(el("p", {}, text));
}

function moveBar({ run, track, done }) {
  const { pace, isOver } = run;
  track.hidden = isOver || !pace;
  if (pace) done.style.setProperty("--part", pace.part);
}

function setImage(image, source, kind, alt) {
  if (image.dataset.isGone) return;
  image.dataset.kind = kind;
  image.alt = alt;
  image.hidden = false;
  if (image.getAttribute("src") !== source) image.src = source;
}

// Whether a picture that does not load will never do: a server that is away for a moment has it still.
async function isLost(url) {
  if (!isOwnPicture(url)) return true;
  const status = await fetch(url, { method: "HEAD", cache: "no-store" }).then((reply) => reply.status, () => 0);
  return status === 404;
}

function goneWords(url) {
  if (isOwnPicture(url)) return "This picture has expired: the server keeps pictures for a limited time. Run it again: the same seed draws the same picture.";
  return `This picture lies on another server (${new URL(url).host}). Open it there.`;
}

function ending({ status, error, output }) {
  if (status === "CANCELLED") return "Cancelled. Nothing was charged.";
  if (status === "FAILED" || status === "TIMED_OUT") return error ?? "The job failed. Nothing was charged.";
  if (status === "COMPLETED" && !output?.image_url) return "Done. Its answer stands under JSON.";
  return null;
}
