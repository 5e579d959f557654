// The dialog for the API key, and the button that tells whether there is one.

import * as api from "./api.js";
import { announce, byId } from "./dom.js";
import { key } from "./key.js";

export class SignIn {
  #then = null;

  constructor() {
    byId("key-button").addEventListener("click", () => this.open());
    byId("key-close").addEventListener("click", () => byId("key-dialog").close());
    byId("key-dialog").addEventListener("close", () => (byId("key-input").value = ""));
    byId("key-forget").addEventListener("click", () => {
      key.forget();
      byId("key-dialog").close();
    });
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#save();
    });
    addEventListener("keychange", () => this.#show());
    // Another tab signed in or out.
    addEventListener("storage", () => this.#show());
    this.#show();
  }

  // `then` is done after signing in: what could not be done without a key.
  open(words = "", then = null) {
    this.#then = then;
    byId("key-error").textContent = words;
    byId("key-dialog").showModal();
    byId("key-input").focus();
  }

  async #save() {
    const before = key.get();
    const value = byId("key-input").value.trim();
    if (!value) {
      byId("key-error").textContent = "Paste the key first.";
      return;
    }
    key.set(value);
    try {
      // Every good key may, whichever endpoints it opens.
      await api.usage("range=1h");
    } catch (error) {
      if (before) key.set(before);
      else key.forget();
      byId("key-error").textContent = error.message;
      return;
    }
    byId("key-dialog").close();
    announce("Signed in");
    this.#then?.();
    this.#then = null;
  }

  #show() {
    const isSignedIn = key.get() !== "";
    byId("key-state").textContent = isSignedIn ? "Signed in" : "Sign in";
    byId("key-forget").hidden = !isSignedIn;
  }
}
