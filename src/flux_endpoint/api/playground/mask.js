// The mask: where the picture that a run starts from is drawn anew. It is painted over that picture, with a pointer or with
// the keyboard, in a dialog of its own.

import { announce, byId, el } from "./dom.js";
import { Strokes, maskOf, shareOf } from "./strokes.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const HINT = "Paint what is to be drawn anew. With the keyboard: arrows move the brush, Shift with them paints, Space makes a dot.";

export class Mask {
  field = "mask";
  #source;
  #onChange;
  #isOffered = false;
  #data = null; // data: URI
  #strokes = new Strokes();
  #draft; // the strokes of the open dialog
  #context;
  #at = [0, 0]; // where the brush is
  #isPainting = false;

  // `source`: the picture that it belongs to.
  constructor(source, onChange) {
    this.#source = source;
    this.#onChange = onChange;
    byId("mask-dialog").append(...parts());
    this.#context = byId("mask-canvas").getContext("2d", { willReadFrequently: true });
    byId("mask-open").addEventListener("click", () => this.#open());
    byId("mask-done").addEventListener("click", () => this.#done());
    byId("mask-close").addEventListener("click", () => byId("mask-dialog").close());
    byId("mask-erase").addEventListener("click", () => byId("mask-erase").setAttribute("aria-pressed", String(!this.#isErasing)));
    byId("mask-undo").addEventListener("click", () => this.#undo());
    byId("mask-clear").addEventListener("click", () => {
      this.#draft.clear();
      this.#redraw();
    });
    byId("mask-size").addEventListener("input", () => this.#moveTo(this.#at));
    byId("mask-dialog").addEventListener("keydown", (event) => {
      if (event.key !== "z" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      this.#undo();
    });
    this.#listen(byId("mask-canvas"));
  }

  #listen(canvas) {
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.#begin(this.#placeOf(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.#isPainting) this.#extend(this.#placeOf(event));
      else this.#moveTo(this.#placeOf(event));
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => this.#end());
    canvas.addEventListener("keydown", (event) => this.#pressed(event));
    canvas.addEventListener("keyup", (event) => event.key === "Shift" && this.#end());
    canvas.addEventListener("blur", () => this.#end());
  }

  setSchema(properties) {
    this.#isOffered = "mask" in properties;
    if (!this.#isOffered) this.clear();
    this.#show();
  }

  // What the request holds; null for none.
  get value() {
    return this.#data;
  }

  get control() {
    return byId("mask-open");
  }

  // Another picture needs another mask.
  clear() {
    this.#data = null;
    this.#strokes = new Strokes();
    this.#show();
  }

  #show(share) {
    byId("mask-open").hidden = !this.#isOffered;
    byId("mask-open").textContent = this.#data ? "Change the mask…" : "Paint a mask…";
    byId("mask-note").textContent = this.#data ? `${percent(share)} is drawn anew.` : "";
  }

  async #open() {
    const image = byId("mask-picture");
    image.src = this.#source.value;
    // Taken away meanwhile, or asked for twice.
    if (!(await image.decode().then(() => true, () => false)) || byId("mask-dialog").open) return;
    const [width, height] = [image.naturalWidth, image.naturalHeight];
    Object.assign(this.#context.canvas, { width, height });
    for (const [name, value] of Object.entries({ "--w": width, "--h": height })) byId("mask-sheet").style.setProperty(name, value);
    this.#draft = this.#strokes.copy();
    byId("mask-erase").setAttribute("aria-pressed", "false");
    byId("mask-dialog").showModal();
    byId("mask-canvas").focus();
    this.#moveTo([width / 2, height / 2]);
    this.#redraw();
  }

  #done() {
    const share = shareOf(this.#context.canvas);
    this.#strokes = this.#draft;
    this.#data = share > 0 ? maskOf(this.#context.canvas) : null;
    byId("mask-error").textContent = "";
    byId("mask-dialog").close();
    this.#show(share);
    announce(this.#data ? `Mask: ${percent(share)} of the picture is drawn anew` : "No mask");
    this.#onChange();
  }

  // --- Painting ---

  get #isErasing() {
    return byId("mask-erase").getAttribute("aria-pressed") === "true";
  }

  // Of the brush, in pixels of the picture.
  get #width() {
    const { width, height } = this.#context.canvas;
    return Math.max(1, (Number(byId("mask-size").value) / 100) * Math.min(width, height));
  }

  // A place of the pointer in pixels of the picture.
  #placeOf({ clientX, clientY }) {
    const box = this.#context.canvas.getBoundingClientRect();
    const { width, height } = this.#context.canvas;
    return [((clientX - box.left) / box.width) * width, ((clientY - box.top) / box.height) * height];
  }

  #begin(place) {
    this.#isPainting = true;
    this.#draft.begin(this.#width, this.#isErasing, place);
    this.#draft.drawEnd(this.#context);
    this.#moveTo(place);
  }

  #extend(place) {
    this.#draft.extend(place);
    this.#draft.drawEnd(this.#context);
    this.#moveTo(place);
  }

  #end() {
    if (!this.#isPainting) return;
    this.#isPainting = false;
    this.#tell();
  }

  #undo() {
    this.#end();
    this.#draft.undo();
    this.#redraw();
  }

  #redraw() {
    this.#draft.draw(this.#context);
    this.#tell();
  }

  #tell() {
    byId("mask-undo").disabled = this.#draft.count === 0;
    byId("mask-share").textContent = `${percent(shareOf(this.#context.canvas))} painted`;
  }

  // The ring shows where the brush is, and how large.
  #moveTo([x, y]) {
    const { width, height } = this.#context.canvas;
    this.#at = [Math.min(width, Math.max(0, x)), Math.min(height, Math.max(0, y))];
    const parts = { "--x": this.#at[0] / width, "--y": this.#at[1] / height, "--size": this.#width / width };
    for (const [name, value] of Object.entries(parts)) byId("mask-ring").style.setProperty(name, value);
  }

  #pressed(event) {
    const step = ARROWS[event.key];
    if (step) {
      event.preventDefault();
      const far = Math.max(1, this.#width / 4);
      if (event.shiftKey && !this.#isPainting) this.#begin(this.#at);
      const [x, y] = this.#at;
      this.#moveTo([x + step[0] * far, y + step[1] * far]);
      if (event.shiftKey) this.#extend(this.#at);
      else this.#end();
    } else if (event.key === " ") {
      event.preventDefault();
      this.#begin(this.#at);
      this.#end();
    }
  }
}

const percent = (share) => (share > 0 && share < 0.01 ? "Under 1 %" : `${Math.round(100 * share)} %`);

function parts() {
  const button = (id, text, className = "secondary") => el("button", { type: "button", className, id }, text);
  const erase = button("mask-erase", "Erase");
  erase.setAttribute("aria-pressed", "false");
  return [
    el(
      "div",
      { className: "gallery-bar" },
      el("h2", { id: "mask-title" }, "Mask"),
      el("div", { className: "brush" }, el("label", { htmlFor: "mask-size" }, "Brush"), el("input", { type: "range", id: "mask-size", min: 1, max: 50, value: 15 })),
      erase,
      button("mask-undo", "Undo"),
      button("mask-clear", "Clear"),
      el("p", { className: "note", id: "mask-share", role: "status" }),
      button("mask-done", "Use it", "primary"),
      button("mask-close", "Close", "quiet"),
    ),
    el("p", { className: "note", id: "mask-hint" }, HINT),
    el(
      "div",
      { id: "mask-room" },
      el(
        "div",
        { id: "mask-sheet" },
        el("img", { id: "mask-picture", alt: "" }),
        el("canvas", { id: "mask-canvas", tabIndex: 0, role: "application", "aria-label": "The mask, over the picture", "aria-describedby": "mask-hint" }),
        el("div", { id: "mask-ring", "aria-hidden": "true" }),
      ),
    ),
  ];
}
