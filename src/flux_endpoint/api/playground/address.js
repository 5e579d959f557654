// The page's address, which holds the input; and what is on the stage, which is kept with the tab and not in the address:
// a reload shows it again, a copied link does not.

import { BASE } from "./api.js";
import { fromFragment, toFragment } from "./link.js";
import { seedOf } from "./run.js";

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
    this.#timer = setTimeout(() => this.#write(), PAUSE_MS);
  }

  #write() {
    // Somebody has opened a link, and the page is about to be told.
    if (location.hash !== this.#known) return;
    let input;
    try {
      input = this.#form.input;
    } catch {
      return; // half-written JSON
    }
    history.replaceState(history.state, "", `#${toFragment(this.#form.endpoint, input)}`);
    this.#known = location.hash;
  }

  // The address that draws a picture again.
  linkTo(record) {
    const endpoint = this.#catalogue.find(({ id }) => id === record.endpoint) ?? this.#form.endpoint;
    return `${BASE}#${toFragment(endpoint, { ...record.input, seed: seedOf(record) })}`;
  }

  // The names of the runs on the stage.
  get shown() {
    return history.state?.shown ?? [];
  }

  set shown(names) {
    history.replaceState({ shown: names }, "");
  }
}
