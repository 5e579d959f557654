// Width and height: two numbers, the aspect ratios to choose from, and the shape they make.

import { byId, el } from "./dom.js";
import { presets } from "./sizes.js";

export class Size {
  #onChange;
  #preset = { width: 1, height: 1 };

  constructor(onChange) {
    this.#onChange = onChange;
    byId("swap").addEventListener("click", () => this.#set(byId("height").value, byId("width").value));
  }

  setSchema(properties) {
    this.#preset = { width: properties.width.default, height: properties.height.default };
    const buttons = presets(properties).map(({ label, width, height }) => {
      const title = `${width} × ${height}`;
      const button = el("button", { type: "button", title, "aria-label": `${label}, ${title}` }, label);
      [button.dataset.across, button.dataset.down] = label.split(":");
      button.dataset.size = `${width}x${height}`;
      button.addEventListener("click", () => this.#set(width, height));
      return button;
    });
    byId("aspects").replaceChildren(...buttons);
  }

  // {width, height}; of an empty field what the server fills in.
  get value() {
    const side = (name) => Number(byId(name).value || this.#preset[name]);
    return { width: side("width"), height: side("height") };
  }

  show() {
    const { width, height } = this.value;
    byId("shape").style.setProperty("--w", Math.max(1, width));
    byId("shape").style.setProperty("--h", Math.max(1, height));
    for (const button of byId("aspects").children) {
      const { size, across, down } = button.dataset;
      // Also another size of exactly this ratio.
      button.setAttribute("aria-pressed", String(size === `${width}x${height}` || width * down === height * across));
    }
  }

  set value({ width, height }) {
    this.#set(width, height);
  }

  #set(width, height) {
    byId("width").value = width;
    byId("height").value = height;
    // As if typed: errors go, sliders and cost follow.
    for (const name of ["width", "height"]) byId(name).dispatchEvent(new Event("input", { bubbles: true }));
    this.#onChange();
  }
}
