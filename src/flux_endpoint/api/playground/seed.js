// The seed: an empty field draws one for each run, a number is kept. The lock tells which, the dice throws a number.

import { byId } from "./dom.js";

export class Seed {
  #onChange;
  #maximum = 0;
  #last = null;

  constructor(onChange) {
    this.#onChange = onChange;
    byId("dice").addEventListener("click", () => this.#set(this.#draw()));
    byId("lock").addEventListener("click", () => this.#set(this.isFixed ? "" : (this.#last ?? this.#draw())));
  }

  setSchema({ maximum }) {
    this.#maximum = maximum;
  }

  get isFixed() {
    return byId("seed").value !== "";
  }

  // The seed of the picture that is shown: what the lock keeps.
  set last(seed) {
    this.#last = seed ?? null;
  }

  // Seeds for several pictures of one input: in a row when the seed is kept, so that they can be drawn again.
  several(count) {
    const first = byId("seed").value;
    return Array.from({ length: count }, (_, index) => (first === "" ? this.#draw() : (Number(first) + index) % (this.#maximum + 1)));
  }

  // One for all, where the field holds none.
  draw() {
    return this.#draw();
  }

  show() {
    const lock = byId("lock");
    lock.setAttribute("aria-pressed", String(this.isFixed));
    lock.title = this.isFixed ? "The seed is kept; press to draw a new one for each run" : "Keep the seed of this picture";
  }

  #draw() {
    // Two 32-bit words are spread evenly enough over any range that a number field can hold.
    const [high, low] = crypto.getRandomValues(new Uint32Array(2));
    return Math.floor(((high + low / 2 ** 32) / 2 ** 32) * (this.#maximum + 1));
  }

  #set(value) {
    byId("seed").value = value;
    byId("seed").dispatchEvent(new Event("input", { bubbles: true }));
    this.#onChange();
  }
}
