// The contact sheet: one prompt, two fields that vary, a grid of pictures that fills in while they are drawn.

import * as api from "./api.js";
import { axesOf, cellsOf } from "./axes.js";
import { Batches, MOST } from "./batch.js";
import { openCompare } from "./compare.js";
import { announce, byId, el } from "./dom.js";
import { seconds, usd } from "./format.js";
import { apart } from "./pictures.js";
import { cost } from "./price.js";
import { TERMINAL } from "./run.js";
import { save } from "./save.js";
import { labelOf, sheetJson, sheetPicture } from "./sheetfile.js";
import { shapeOf } from "./stage.js";

const SIDES = ["across", "down"];
const FIRST = { across: "seed", down: "guidance" };
const PAUSE_MS = 400;

export class Sheet {
  #catalogue;
  #runs;
  #onAdopt;
  #start = null; // {endpoint, input} that all cells differ from
  #sheet = null; // {prompt, across, down, rows} that is drawn or was
  #batches = null; // what is sent of it
  #isPairing = false; // a click on a cell chooses it to be compared
  #first = null; // the cell that was chosen so
  #timer;

  // `runs` keep what comes of the cells; `onAdopt` gets the record of the one that is clicked.
  constructor(catalogue, runs, onAdopt) {
    this.#catalogue = catalogue;
    this.#runs = runs;
    this.#onAdopt = onAdopt;
    byId("sheet-dialog").append(...parts());
    for (const side of SIDES) {
      byId(`sheet-${side}`).addEventListener("change", () => this.#chosen(side));
      byId(`sheet-${side}-values`).addEventListener("input", () => this.#plan());
    }
    byId("sheet-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#draw();
    });
    byId("sheet-cancel").addEventListener("click", () => this.#cancel());
    byId("sheet-picture").addEventListener("click", () => this.#savePicture());
    byId("sheet-json").addEventListener("click", () => save(sheetJson(this.#sheet), "contact-sheet"));
    byId("sheet-compare").addEventListener("click", () => this.#pair(!this.#isPairing));
    byId("sheet-close").addEventListener("click", () => byId("sheet-dialog").close());
  }

  // `seed`: what all cells have where the input names none.
  open(endpoint, input, seed) {
    this.#start = { endpoint, input: { ...input, seed: input.seed ?? seed } };
    byId("sheet-prompt").textContent = input.prompt;
    for (const side of SIDES) {
      const before = byId(`sheet-${side}`).value || FIRST[side];
      const axes = this.#axes;
      byId(`sheet-${side}`).replaceChildren(...axes.map(({ name, label }) => el("option", { value: name, selected: name === before }, label)));
      if (!byId(`sheet-${side}-values`).value) this.#chosen(side);
    }
    byId("sheet-dialog").showModal();
    this.#plan();
  }

  get #axes() {
    return axesOf(this.#start.endpoint, this.#catalogue, this.#start.input);
  }

  #axis(side) {
    const axis = this.#axes.find(({ name }) => name === byId(`sheet-${side}`).value);
    return [axis, axis.read(byId(`sheet-${side}-values`).value)];
  }

  #chosen(side) {
    const [{ name, preset }] = this.#axis(side);
    byId(`sheet-${side}-values`).value = preset;
    byId(`sheet-${side}-values`).disabled = name === "none";
    this.#plan();
  }

  // What it would be: how many pictures, for how much, in which time.
  #plan() {
    clearTimeout(this.#timer);
    byId("sheet-error").textContent = "";
    byId("sheet-draw").disabled = true;
    let cells;
    try {
      cells = cellsOf(this.#start, this.#axis("across"), this.#axis("down")).flat();
      if (cells.length > MOST) throw new RangeError(`${cells.length} pictures are too many for one sheet; ${MOST} have room.`);
    } catch (error) {
      byId("sheet-error").textContent = error.message;
      byId("sheet-plan").textContent = "";
      return;
    }
    const price = cells.reduce((sum, { endpoint, input }) => sum + cost(endpoint.price, shapeOf({ input })), 0);
    const words = `${cells.length === 1 ? "1 picture" : `${cells.length} pictures`}, ${usd(price)}`;
    byId("sheet-plan").textContent = words;
    byId("sheet-draw").textContent = cells.length === 1 ? "Draw it" : `Draw ${cells.length} pictures`;
    byId("sheet-draw").disabled = this.#isDrawing;
    this.#timer = setTimeout(() => this.#expect(cells, words), PAUSE_MS);
  }

  // The server is asked once for cells that take equally long.
  async #expect(cells, words) {
    const alike = Map.groupBy(cells, ({ endpoint, input }) => JSON.stringify([endpoint.id, input.width, input.height, input.num_inference_steps, input.acceleration]));
    const timer = this.#timer;
    let totalMs = 0;
    try {
      for (const group of alike.values()) {
        const [{ endpoint, input }] = group;
        const { executionTime, workers } = await api.estimate(endpoint.id, input);
        totalMs += (group.length * executionTime) / Math.max(1, workers);
      }
    } catch (error) {
      // What is wrong with the values is told before anything is drawn.
      if (timer === this.#timer) byId("sheet-error").textContent = error.message;
      return;
    }
    if (timer === this.#timer && Number.isFinite(totalMs)) byId("sheet-plan").textContent = `${words}, about ${seconds(totalMs)}`;
  }

  get #isDrawing() {
    return !byId("sheet-cancel").hidden;
  }

  async #draw() {
    const [across, down] = [this.#axis("across"), this.#axis("down")];
    const rows = cellsOf(this.#start, across, down);
    this.#sheet = { prompt: this.#start.input.prompt, across: across[0], down: down[0], rows };
    this.#show();
    this.#busy(true);
    try {
      this.#batches = new Batches();
      await this.#batches.send(rows.flat());
      this.#keep(rows.flat());
      for await (const news of this.#batches.follow((words) => (byId("sheet-error").textContent = words))) this.#take(news);
    } catch (error) {
      byId("sheet-error").textContent = error.message;
    }
    // Of what never became a job there is no news.
    for (const cell of rows.flat()) if (!cell.status) this.#take({ ...cell, status: "CANCELLED" }, cell);
    this.#busy(false);
  }

  // What was waiting or drawn is told to be cancelled like any other news.
  #cancel() {
    this.#batches.cancel().catch(({ message }) => (byId("sheet-error").textContent = message));
  }

  async #savePicture() {
    try {
      save(await sheetPicture(this.#sheet), "contact-sheet");
    } catch {
      byId("sheet-error").textContent = "Some of these pictures do not arrive.";
    }
  }

  #busy(isBusy) {
    if (!isBusy && document.activeElement === byId("sheet-cancel")) byId("sheet-close").focus();
    byId("sheet-cancel").hidden = !isBusy;
    byId("sheet-draw").disabled = isBusy;
    const isSome = this.#sheet.rows.flat().some(({ output }) => output);
    for (const name of ["compare", "picture", "json"]) byId(`sheet-${name}`).hidden = isBusy || !isSome;
    this.#pair(false);
    if (!isBusy) announce("The contact sheet is done");
  }

  // Before there is news of them: whoever leaves the page finds them among the earlier pictures.
  #keep(cells) {
    const set = this.#batches.name;
    const queued = cells.filter(({ id }) => id);
    for (const [index, cell] of queued.entries()) {
      const { id, endpoint } = cell;
      const [input] = apart(cell.input);
      cell.kept = { id, set, endpoint: endpoint.id, endpointName: endpoint.name, input, status: "IN_QUEUE", createdMs: Date.now() + index };
    }
    this.#runs.keepAll(queued.map(({ kept }) => kept));
  }

  #take({ id, status, output, error }, cell = this.#sheet.rows.flat().find((one) => one.id === id)) {
    Object.assign(cell, { status, output, error });
    if (status === "COMPLETED") this.#runs.keep((cell.record = Object.assign(cell.kept, { status, output })));
    else if (cell.kept && TERMINAL.has(status)) this.#runs.forget([cell.kept]);
    this.#fill(cell);
  }

  #show() {
    const { across, down, rows } = this.#sheet;
    const head = el("tr", {}, el("td"), ...rows[0].map((cell) => header("col", labelOf(across, cell.across))));
    const body = rows.map((cells) => el("tr", {}, header("row", labelOf(down, cells[0].down)), ...cells.map((cell) => el("td", {}, this.#button(cell)))));
    byId("sheet-grid").replaceChildren(el("thead", {}, head), el("tbody", {}, ...body));
  }

  #button(cell) {
    const { width, height } = shapeOf(cell);
    cell.button = el("button", { type: "button", className: "cell", disabled: true }, el("span", { className: "mark" }, "waiting"));
    cell.button.style.setProperty("--w", width);
    cell.button.style.setProperty("--h", height);
    cell.button.addEventListener("click", () => {
      if (this.#isPairing) return this.#choose(cell);
      byId("sheet-dialog").close();
      this.#onAdopt(cell.record);
    });
    // One picture drawn onto another lays it over that.
    cell.button.addEventListener("dragstart", () => (this.dragged = cell));
    cell.button.addEventListener("dragover", (event) => this.dragged && cell.record && event.preventDefault());
    cell.button.addEventListener("drop", (event) => {
      event.preventDefault();
      event.stopPropagation();
      if (this.dragged !== cell) openCompare(this.dragged.record, cell.record);
      this.dragged = null;
    });
    return cell.button;
  }

  // Two clicks compare two cells, as dragging one onto the other does.
  #pair(isPairing) {
    this.#isPairing = isPairing;
    byId("sheet-compare").setAttribute("aria-pressed", String(isPairing));
    byId("sheet-hint").textContent = isPairing ? "Choose two pictures." : "";
    this.#mark(null);
  }

  #choose(cell) {
    if (!this.#first) return this.#mark(cell);
    if (this.#first !== cell) openCompare(this.#first.record, cell.record);
    this.#mark(null);
  }

  #mark(first) {
    this.#first = first;
    for (const cell of this.#sheet.rows.flat()) {
      if (this.#isPairing && cell.record) cell.button.setAttribute("aria-pressed", String(cell === first));
      else cell.button.removeAttribute("aria-pressed");
    }
  }

  #fill({ button, status, output, error, across, down }) {
    const { across: high, down: low } = this.#sheet;
    const name = [labelOf(low, down), labelOf(high, across)].filter(Boolean).join(", ");
    const mark = { IN_QUEUE: "waiting", IN_PROGRESS: "drawing", CANCELLED: "cancelled", TIMED_OUT: "timed out", FAILED: "failed" }[status];
    button.disabled = !output?.image_url;
    button.draggable = !button.disabled;
    button.title = error ?? name;
    if (mark) return button.replaceChildren(el("span", { className: "mark" }, mark));
    button.replaceChildren(el("img", { src: api.pictureUrl(output.image_url), alt: name, draggable: false }));
  }
}

// What does not vary has no name.
const header = (scope, text) => (text ? el("th", { scope }, text) : el("td"));

function parts() {
  const side = (name, label) =>
    el(
      "div",
      { className: "axis" },
      el("label", { htmlFor: `sheet-${name}` }, label),
      el("select", { id: `sheet-${name}` }),
      el("input", { id: `sheet-${name}-values`, "aria-label": `${label}: values, with commas between them`, autocomplete: "off" }),
    );
  const button = (id, text, className = "secondary") => el("button", { type: "button", className, id, hidden: id !== "sheet-close" }, text);
  return [
    el("div", { className: "gallery-bar" }, el("h2", { id: "sheet-title" }, "Contact sheet"), el("p", { className: "note", id: "sheet-hint", role: "status" }), button("sheet-compare", "Compare two"), button("sheet-picture", "Save as picture"), button("sheet-json", "Save as JSON"), button("sheet-close", "Close", "quiet")),
    el("p", { className: "note", id: "sheet-prompt" }),
    el(
      "form",
      { id: "sheet-form" },
      side("across", "Across"),
      side("down", "Down"),
      el("button", { className: "primary", id: "sheet-draw" }, "Draw"),
      button("sheet-cancel", "Cancel"),
      el("p", { id: "sheet-plan", role: "status" }),
    ),
    el("p", { className: "error", id: "sheet-error", role: "alert" }),
    el("div", { id: "sheet-room", tabIndex: 0, role: "region", "aria-label": "The contact sheet" }, el("table", { id: "sheet-grid" })),
  ];
}
