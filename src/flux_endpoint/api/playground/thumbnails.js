// The thumbnails of the latest pictures; all of them are in the gallery.

import { byId, el } from "./dom.js";
import { seedOf } from "./run.js";
import { pictureOf } from "./stage.js";

const MARKS = { SENDING: "waiting", IN_QUEUE: "waiting", FAILED: "failed", CANCELLED: "cancelled", TIMED_OUT: "timed out" };

const SHOWN = 40;

// What stands across a thumbnail; empty for a picture that is there.
export function markOf({ status, isExpired }) {
  if (isExpired) return "expired";
  return MARKS[status] ?? (status === "COMPLETED" ? "" : "running");
}

export class Thumbnails {
  #history;
  #onOpen;
  #current = null;
  #picking = null;

  constructor(history, onOpen) {
    this.#history = history;
    this.#onOpen = onOpen;
    history.addEventListener("change", () => this.show());
    byId("thumbnails").addEventListener("keydown", (event) => this.#walk(event));
    byId("stop-picking").addEventListener("click", () => this.pick(null));
    this.show();
  }

  // The record that is on the stage.
  set current(record) {
    const id = record?.id ?? null;
    if (id === this.#current) return;
    this.#current = id;
    this.show();
  }

  // The next picture that is clicked goes to `onPick` instead; null ends that.
  pick(onPick) {
    // The button that has the focus must not vanish under it.
    const hadFocus = document.activeElement === byId("stop-picking");
    this.#picking = onPick;
    byId("stop-picking").hidden = !onPick;
    this.show();
    if (hadFocus) document.querySelector("#actions [title=Compare]")?.focus();
  }

  get isPicking() {
    return this.#picking !== null;
  }

  show() {
    const records = this.#history.records;
    const focused = document.activeElement?.dataset?.run;
    byId("thumbnails").replaceChildren(...records.slice(0, SHOWN).map((record) => el("li", {}, this.#button(record))));
    if (focused) byId("thumbnails").querySelector(`[data-run="${focused}"]`)?.focus();
    byId("clear").hidden = byId("gallery-open").hidden = records.length === 0;
    byId("gallery-open").textContent = records.length > 1 ? `Show all ${records.length.toLocaleString("en")}` : "Show all";
    byId("earlier-note").textContent = this.#note(records.length);
  }

  #note(count) {
    if (this.#picking) return "Choose the picture to compare with.";
    if (!this.#history.isKept) return "This browser keeps nothing: they are gone when the page is closed.";
    return count ? "" : "They are kept in this browser.";
  }

  #button(record) {
    const mark = markOf(record);
    const label = [record.input.prompt ?? record.endpointName, `seed ${seedOf(record) ?? "not known"}`, mark].filter(Boolean).join(", ");
    const button = el("button", { type: "button", title: label, "aria-label": label, disabled: this.#picking !== null && !pictureOf(record) });
    button.dataset.run = record.id;
    button.setAttribute("aria-current", String(record.id === this.#current));
    button.classList.toggle("expired", Boolean(record.isExpired));
    if (record.thumbnail) button.append(el("img", { src: record.thumbnail, alt: "" }));
    if (mark) button.append(el("span", { className: "mark" }, mark));
    button.addEventListener("click", () => {
      const picking = this.#picking;
      if (!picking) return this.#onOpen(record);
      this.pick(null);
      picking(record);
    });
    return button;
  }

  // Arrow keys walk along the thumbnails, Home and End go to the first and the last.
  #walk(event) {
    const buttons = [...byId("thumbnails").querySelectorAll("button:not(:disabled)")];
    const here = buttons.indexOf(document.activeElement);
    const target = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (target === undefined || !buttons[target]) return;
    event.preventDefault();
    buttons[target].focus();
  }
}
