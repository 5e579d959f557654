// The LoRAs of the input: a chip for each that the endpoint offers, and a scale for each that is chosen.

import { byId, el } from "./dom.js";

// What sliders offer; the number beside one takes whatever the server does.
const SLIDER = { min: 0, max: 2, step: 0.05 };

// The list that a link, a file or an answer holds, checked: they may come from anywhere.
export function lorasOf(value) {
  const entries = Array.isArray(value) ? value.filter((entry) => typeof entry?.path === "string" && entry.path) : [];
  return entries.map(({ path, scale }) => ({ path, scale: Number.isFinite(scale) ? scale : 1 }));
}

// For people: "screenprint × 0.8".
export const worded = (loras) => loras.map(({ path, scale = 1 }) => (scale === 1 ? path : `${path} × ${scale}`)).join(", ");

export class Loras {
  #onChange;
  #names = [];
  #limits = {};
  #chosen = new Map(); // scales by name, in the order they were chosen; text while it is typed

  constructor(onChange) {
    this.#onChange = onChange;
  }

  // Of an endpoint: the names that it offers.
  setEndpoint({ loras, input }) {
    const { minimum, maximum } = input.properties.loras.items.properties.scale;
    this.#limits = { min: minimum, max: maximum, step: "any" };
    this.#names = loras;
    this.#show();
  }

  get value() {
    return [...this.#chosen].map(([path, scale]) => (scale === "" ? { path } : { path, scale: Number(scale) }));
  }

  set value(loras) {
    this.#chosen = new Map(loras.map(({ path, scale }) => [path, scale]));
    this.#show();
  }

  // One that lies elsewhere stands among them while it is chosen.
  #show() {
    const names = [...new Set([...this.#names, ...this.#chosen.keys()])];
    byId("loras-field").hidden = names.length === 0;
    byId("loras-chips").replaceChildren(...names.map((name) => this.#chip(name)));
    byId("loras-scales").replaceChildren(...[...this.#chosen].map(([name, scale], index) => this.#scale(name, scale, index)));
  }

  #chip(name) {
    const chip = el("button", { type: "button", className: "chip", title: name }, name);
    chip.dataset.lora = name;
    chip.setAttribute("aria-pressed", String(this.#chosen.has(name)));
    chip.addEventListener("click", () => {
      if (!this.#chosen.delete(name)) this.#chosen.set(name, 1);
      byId("loras-error").textContent = "";
      this.#show();
      // The chip stands anew: the focus stays on it, or on what is left of it.
      const chips = [...byId("loras-chips").children];
      (chips.find(({ dataset }) => dataset.lora === name) ?? chips[0] ?? byId("settings").querySelector("summary")).focus();
      this.#onChange();
    });
    return chip;
  }

  #scale(name, scale, index) {
    const id = `loras-scale-${index}`;
    const slider = el("input", { type: "range", ...SLIDER, value: scale, "aria-label": `Scale of ${name}, slider` });
    const number = el("input", { type: "number", inputMode: "decimal", id, ...this.#limits, value: scale });
    const edited = ({ value }) => {
      this.#chosen.set(name, value);
      slider.value = value;
      if (number.value !== value) number.value = value;
      this.#onChange();
    };
    for (const control of [slider, number]) control.addEventListener("input", () => edited(control));
    return el("div", { className: "range" }, el("label", { htmlFor: id, title: `Scale of ${name}` }, name), slider, number);
  }
}
