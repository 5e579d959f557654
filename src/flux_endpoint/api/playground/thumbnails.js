// The thumbnails of the latest pictures; all of them are in the gallery.

import { arrange, byId, el } from "./dom.js";
import { seedOf } from "./run.js";
import { pictureOf } from "./stage.js";

const MARKS = { SENDING: "waiting", IN_QUEUE: "waiting", FAILED: "failed", CANCELLED: "cancelled", TIMED_OUT: "timed out" };

const SHOWN = 40;

// What stands across a thumbnail; empty for a picture that is there.
function markOf({ status, isExpired }) {
  if (isExpired) return "expired";
  return MARKS[status] ?? (status === "COMPLETED" ? "" : "running");
}

// Fills the button that stands for a record: its small picture, an <img> with `properties`, and what is to be said of it.
// Returns that. What is the same already stays.
export function showRecord(button, record, properties = {}) {
  const mark = markOf(record);
  const label = [record.input.prompt ?? record.endpointName, `seed ${seedOf(record) ?? "not known"}`, mark].filter(Boolean).join(", ");
  button.title = label;
  button.setAttribute("aria-label", label);
  button.classList.toggle("expired", Boolean(record.isExpired));
  const image = record.thumbnail ? (button.querySelector("img") ?? el("img", { alt: "", ...properties })) : null;
  if (image && image.getAttribute("src") !== record.thumbnail) image.src = record.thumbnail;
  const words = mark ? (button.querySelector(".mark") ?? el("span", { className: "mark" })) : null;
  if (words && words.textContent !== mark) words.textContent = mark;
  const parts = [image, words].filter(Boolean);
  if (parts.length !== button.children.length || parts.some((part, index) => part !== button.children[index])) button.replaceChildren(...parts);
  return label;
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
    const shown = records.slice(0, SHOWN);
    arrange(byId("thumbnails"), shown.map(({ id }) => [id, () => el("li", {}, this.#button(id))]));
    for (const [index, record] of shown.entries()) this.#fill(byId("thumbnails").children[index].firstChild, record);
    byId("clear").hidden = byId("gallery-open").hidden = records.length === 0;
    byId("gallery-open").textContent = records.length > 1 ? `Show all ${records.length.toLocaleString("en")}` : "Show all";
    byId("earlier-note").textContent = this.#note(records.length);
  }

  #note(count) {
    if (this.#picking) return "Choose the picture to compare with.";
    if (!this.#history.isKept) return "This browser keeps nothing: they are gone when the page is closed.";
    return count ? "" : "They are kept in this browser.";
  }

  #button(id) {
    const button = el("button", { type: "button" });
    button.dataset.run = id;
    button.addEventListener("click", () => {
      const picking = this.#picking;
      const record = this.#history.get(id);
      if (!picking) return this.#onOpen(record);
      this.pick(null);
      picking(record);
    });
    return button;
  }

  #fill(button, record) {
    button.disabled = this.#picking !== null && !pictureOf(record);
    button.setAttribute("aria-current", String(record.id === this.#current));
    showRecord(button, record);
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
