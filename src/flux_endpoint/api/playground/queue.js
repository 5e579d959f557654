// The runs that are not over, as a row of buttons, as soon as there is one beside what is looked at.

import { byId, el, icon } from "./dom.js";
import { briefly } from "./state.js";

export class Queue {
  #runs;
  #stage;
  #onOpen;

  // `onOpen` gets the runs of the set that is clicked.
  constructor(runs, stage, onOpen) {
    this.#runs = runs;
    this.#stage = stage;
    this.#onOpen = onOpen;
    for (const news of ["change", "progress"]) runs.addEventListener(news, () => this.show());
  }

  show() {
    const shown = new Set(this.#stage.all ?? this.#stage.runs);
    const { sets } = this.#runs;
    byId("queue-box").hidden = sets.length === 0 || (sets.length === 1 && sets[0].every((run) => shown.has(run)));
    if (byId("queue-box").hidden) return byId("queue").replaceChildren();
    const mark = JSON.stringify(sets.map((set) => [set.map(({ record }) => record.id), set.some((run) => shown.has(run))]));
    // Made anew only when they are others: a button that has the focus keeps it.
    if (byId("queue").dataset.mark !== mark) {
      byId("queue").dataset.mark = mark;
      byId("queue").replaceChildren(...sets.map((set) => this.#entry(set, set.some((run) => shown.has(run)))));
    }
    for (const [index, set] of sets.entries()) byId("queue").children[index].querySelector(".brief").textContent = brief(set);
  }

  #entry(set, isShown) {
    const [{ record }] = set;
    const title = record.input.prompt ?? record.endpointName;
    const open = el("button", { type: "button", className: "open" }, el("span", { className: "title" }, title), el("span", { className: "brief" }));
    open.setAttribute("aria-current", String(isShown));
    open.addEventListener("click", () => this.#onOpen(set));
    const stop = el("button", { type: "button", className: "quiet square", title: "Cancel", "aria-label": `Cancel ${title}` }, icon("close"));
    stop.addEventListener("click", () => Promise.allSettled(set.map((run) => run.cancel())));
    return el("li", {}, open, stop);
  }
}

function brief(set) {
  const [first] = set;
  return set.length === 1 ? briefly(first) : `${set.length} pictures, ${briefly(first)}`;
}
