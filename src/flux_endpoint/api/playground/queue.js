// The runs that are not over, as a row of buttons, as soon as there is one beside what is looked at. Those that wait can be
// put in another order: by their arrows, or by dragging one to the place of another.

import { announce, byId, el, icon } from "./dom.js";
import { briefly } from "./state.js";

export class Queue {
  #runs;
  #stage;
  #onOpen;
  #isMoving = false;
  #dragged = null;

  // `onOpen` gets the runs of the set that is clicked.
  constructor(runs, stage, onOpen) {
    this.#runs = runs;
    this.#stage = stage;
    this.#onOpen = onOpen;
    for (const news of ["change", "progress"]) runs.addEventListener(news, () => this.show());
  }

  show() {
    // While some are sent anew, they stand in no order that is worth showing.
    if (this.#isMoving) return;
    const shown = new Set(this.#stage.all ?? this.#stage.runs);
    const { sets } = this.#runs;
    byId("queue-box").hidden = sets.length === 0 || (sets.length === 1 && sets[0].every((run) => shown.has(run)));
    if (byId("queue-box").hidden) {
      delete byId("queue").dataset.mark;
      return byId("queue").replaceChildren();
    }
    const movable = this.#movable;
    const mark = JSON.stringify(sets.map((set) => [set.map(({ record }) => record.id), set.some((run) => shown.has(run)), movable.indexOf(set), movable.length]));
    // Made anew only when they are others: a button that has the focus keeps it.
    if (byId("queue").dataset.mark !== mark) {
      const focused = focus();
      byId("queue").dataset.mark = mark;
      byId("queue").replaceChildren(...sets.map((set) => this.#entry(set, set.some((run) => shown.has(run)), movable)));
      if (focused) focusOn(...focused);
    }
    for (const [index, set] of sets.entries()) byId("queue").children[index].querySelector(".brief").textContent = brief(set);
  }

  get #movable() {
    return this.#runs.sets.filter((set) => set.every(({ isMovable }) => isMovable));
  }

  #entry(set, isShown, movable) {
    const [{ record }] = set;
    const title = record.input.prompt ?? record.endpointName;
    const open = el("button", { type: "button", className: "open" }, el("span", { className: "title" }, title), el("span", { className: "brief" }));
    open.setAttribute("aria-current", String(isShown));
    open.addEventListener("click", () => this.#onOpen(set));
    const button = (name, label, action) => {
      const one = el("button", { type: "button", className: `quiet square ${name}`, title: label, "aria-label": `${label} ${title}` }, icon(name));
      one.addEventListener("click", action);
      return one;
    };
    const place = movable.findIndex((other) => other[0] === set[0]);
    const entry = el("li", { draggable: place >= 0 && movable.length > 1 }, open);
    entry.dataset.set = nameOf(set);
    if (place > 0) entry.append(button("earlier", "Draw earlier", () => this.#move(set, place - 1)));
    if (place >= 0 && place < movable.length - 1) entry.append(button("later", "Draw later", () => this.#move(set, place + 1)));
    entry.append(button("close", "Cancel", () => this.#runs.cancel(set).catch(({ message }) => (byId("form-error").textContent = message))));
    entry.addEventListener("dragstart", () => (this.#dragged = set));
    entry.addEventListener("dragover", (event) => this.#dragged && place >= 0 && event.preventDefault());
    entry.addEventListener("drop", (event) => {
      event.preventDefault();
      event.stopPropagation();
      if (this.#dragged && this.#dragged !== set) this.#move(this.#dragged, place);
      this.#dragged = null;
    });
    return entry;
  }

  // Puts a set that waits at a place among those that wait.
  async #move(set, place) {
    if (this.#isMoving) return;
    this.#isMoving = true;
    byId("queue").setAttribute("aria-busy", "true");
    const order = this.#movable.filter((other) => other[0] !== set[0]);
    order.splice(place, 0, set);
    let words = `Place ${place + 1} of ${order.length} that wait`;
    let moved = set;
    try {
      await this.#runs.reorder(order, (before, after) => {
        moved = moved.map((run) => (run === before ? after : run));
        this.#follow(before, after);
      });
    } catch (error) {
      words = error.message;
      byId("form-error").textContent = words;
    }
    this.#isMoving = false;
    byId("queue").removeAttribute("aria-busy");
    this.show();
    focusOn(nameOf(moved), "earlier");
    announce(words);
  }

  // What is looked at is looked at still.
  #follow(before, after) {
    const runs = this.#stage.all ?? this.#stage.runs;
    if (runs.includes(before)) this.#onOpen(runs.map((run) => (run === before ? after : run)));
  }
}

// Those who are sent anew get other ids; a set keeps its name.
const nameOf = ([{ record }]) => record.set ?? record.id;

// The set and the kind of the button that has the focus.
function focus() {
  const { activeElement } = document;
  const entry = activeElement?.closest("#queue li");
  return entry && [entry.dataset.set, activeElement.classList[activeElement.classList.length - 1]];
}

// The button of this kind, or the one that stands in its place.
function focusOn(name, kind) {
  const entry = [...byId("queue").children].find(({ dataset }) => dataset.set === name);
  (entry?.querySelector(`.${kind}`) ?? entry?.querySelector(".later") ?? entry?.querySelector(".open"))?.focus();
}

function brief(set) {
  const [first] = set;
  return set.length === 1 ? briefly(first) : `${set.length} pictures, ${briefly(first)}`;
}
