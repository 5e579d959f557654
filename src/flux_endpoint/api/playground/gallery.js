// All earlier pictures as a grid: searched by prompt, marked as favourites, chosen and deleted several at once.

import { arrange, byId, el, icon } from "./dom.js";
import { seedOf } from "./run.js";
import { showRecord } from "./thumbnails.js";

// As many as fill a large screen twice; more are added while the visitor scrolls.
const PORTION = 120;

export class Gallery {
  #history;
  #onOpen;
  #found = [];
  #chosen = new Set();
  #isChoosing = false;

  constructor(history, onOpen) {
    this.#history = history;
    this.#onOpen = onOpen;
    byId("gallery-dialog").append(...parts());
    byId("gallery-open").addEventListener("click", () => this.open());
    byId("gallery-close").addEventListener("click", () => byId("gallery-dialog").close());
    byId("gallery-search").addEventListener("input", () => this.#show());
    byId("gallery-favourites").addEventListener("click", () => {
      byId("gallery-favourites").setAttribute("aria-pressed", String(!this.#isFavouritesOnly));
      this.#show();
    });
    byId("gallery-choose").addEventListener("click", () => this.#choose(!this.#isChoosing));
    byId("gallery-delete").addEventListener("click", () => this.#delete());
    history.addEventListener("change", () => byId("gallery-dialog").open && this.#show(byId("gallery-grid").children.length));
    new IntersectionObserver(([{ isIntersecting }]) => isIntersecting && this.#more(), { rootMargin: "800px" }).observe(byId("gallery-end"));
  }

  open() {
    byId("gallery-dialog").showModal();
    this.#choose(false);
    byId("gallery-search").focus();
  }

  get #isFavouritesOnly() {
    return byId("gallery-favourites").getAttribute("aria-pressed") === "true";
  }

  // At least as many as are seen already where nothing else is searched for, so that nothing jumps away from under the visitor.
  #show(count = 0) {
    const words = byId("gallery-search").value.toLowerCase().split(/\s+/).filter(Boolean);
    this.#found = this.#history.records.filter((record) => {
      const text = `${record.input.prompt ?? ""} ${record.endpointName} ${seedOf(record) ?? ""}`.toLowerCase();
      return (!this.#isFavouritesOnly || record.isFavourite) && words.every((word) => text.includes(word));
    });
    this.#fill(Math.max(count, PORTION));
    byId("gallery-count").textContent = `${this.#found.length.toLocaleString("en")} of ${this.#history.records.length.toLocaleString("en")} pictures`;
  }

  #more() {
    this.#fill(byId("gallery-grid").children.length + PORTION);
  }

  #fill(count) {
    const shown = this.#found.slice(0, count);
    arrange(byId("gallery-grid"), shown.map(({ id }) => [id, () => this.#tile(id)]));
    for (const [index, record] of shown.entries()) this.#showTile(byId("gallery-grid").children[index], record);
  }

  #tile(id) {
    const open = el("button", { type: "button", className: "tile" });
    open.dataset.run = id;
    open.addEventListener("click", () => this.#clicked(this.#history.get(id), open));
    const star = el("button", { type: "button", className: "star", title: "Favourite" }, icon("star"));
    star.addEventListener("click", () => {
      const record = this.#history.get(id);
      this.#history.save(Object.assign(record, { isFavourite: !record.isFavourite }));
    });
    return el("li", {}, open, star);
  }

  #showTile(tile, record) {
    const [open, star] = tile.children;
    const label = showRecord(open, record, { loading: "lazy", decoding: "async" });
    if (this.#isChoosing) open.setAttribute("aria-pressed", String(this.#chosen.has(record.id)));
    else open.removeAttribute("aria-pressed");
    star.setAttribute("aria-label", `Favourite: ${label}`);
    star.setAttribute("aria-pressed", String(Boolean(record.isFavourite)));
    // What was sent together stands together.
    tile.classList.toggle("set", Boolean(record.set));
  }

  #clicked(record, tile) {
    if (!this.#isChoosing) {
      byId("gallery-dialog").close();
      return this.#onOpen(record);
    }
    if (!this.#chosen.delete(record.id)) this.#chosen.add(record.id);
    tile.setAttribute("aria-pressed", String(this.#chosen.has(record.id)));
    this.#count();
  }

  #choose(isChoosing) {
    this.#isChoosing = isChoosing;
    this.#chosen.clear();
    byId("gallery-choose").setAttribute("aria-pressed", String(isChoosing));
    byId("gallery-delete").hidden = !isChoosing;
    this.#count();
    this.#show();
  }

  #count() {
    byId("gallery-delete").textContent = this.#chosen.size ? `Delete ${this.#chosen.size}` : "Delete";
    byId("gallery-delete").disabled = this.#chosen.size === 0;
  }

  async #delete() {
    const ids = [...this.#chosen];
    if (!confirm(`Forget ${ids.length === 1 ? "this picture" : `these ${ids.length} pictures`} in this browser?`)) return;
    await this.#history.remove(ids);
    this.#choose(false);
    byId("gallery-choose").focus();
  }
}

function parts() {
  const button = (id, className, text) => el("button", { type: "button", className, id }, text);
  const favourites = button("gallery-favourites", "secondary", "Favourites");
  favourites.setAttribute("aria-pressed", "false");
  return [
    el(
      "div",
      { className: "gallery-bar" },
      el("h2", { id: "gallery-title" }, "Earlier pictures"),
      el("input", { type: "search", id: "gallery-search", placeholder: "Search prompts", "aria-label": "Search prompts" }),
      favourites,
      button("gallery-choose", "secondary", "Choose several"),
      el("button", { type: "button", className: "secondary", id: "gallery-delete", hidden: true }, "Delete"),
      button("gallery-close", "quiet", "Close"),
    ),
    el("p", { className: "note", id: "gallery-count", role: "status" }),
    el("div", { id: "gallery-room" }, el("ol", { id: "gallery-grid" }), el("div", { id: "gallery-end" })),
  ];
}
