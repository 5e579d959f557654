// The page's address, which holds the input; and what is on the stage, which is kept with the tab and not in the address:
// a reload shows it again, a copied link does not. Not in the state of the tab's history either: Chromium comes back from a
// reload without it when the address was written while the reload was under way.

import { BASE } from "./api.js";
import { fromFragment, toFragment } from "./link.js";
import { seedOf } from "./run.js";

const SHOWN = "flux-endpoint.shown";
const PAUSE_MS = 250; // browsers allow about a hundred changes of the address in half a minute

export class Address {
  #catalogue;
  #form;
  #timer;
  #known; // what was read or written last

  constructor(catalogue, form) {
    this.#catalogue = catalogue;
    this.#form = form;
  }

  // What it says: see `fromFragment`.
  read() {
    this.#known = location.hash;
    return fromFragment(location.hash.slice(1), this.#catalogue);
  }

  writeSoon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.write(), PAUSE_MS);
  }

  write() {
    clearTimeout(this.#timer);
    // Somebody has opened a link, and the page is about to be told.
    if (location.hash !== this.#known) return;
    let input;
    try {
      input = this.#form.input;
    } catch {
      return; // half-written JSON
    }
    history.replaceState(null, "", `#${toFragment(this.#form.endpoint, input)}`);
    this.#known = location.hash;
  }

  // The address that draws a picture again.
  linkTo(record) {
    const endpoint = this.#catalogue.find(({ id }) => id === record.endpoint) ?? this.#form.endpoint;
    return `${BASE}#${toFragment(endpoint, { ...record.input, seed: seedOf(record) })}`;
  }

  // The names of the runs on the stage; after a link was followed there are none yet.
  get shown() {
    const [{ type }] = performance.getEntriesByType("navigation");
    return type === "navigate" ? [] : JSON.parse(sessionStorage.getItem(SHOWN) ?? "[]");
  }

  set shown(names) {
    sessionStorage.setItem(SHOWN, JSON.stringify(names));
  }
}
