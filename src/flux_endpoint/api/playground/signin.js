// The dialog for the API key, and the button that tells whether there is one. Every page has both.

import * as api from "./api.js";
import { announce, byId, el } from "./dom.js";
import { key } from "./key.js";

export class SignIn {
  #then = null;
  #tried = null; // the try of a key that the dialog is open for

  constructor() {
    document.body.append(dialog());
    byId("key-button").addEventListener("click", () => this.open());
    byId("key-close").addEventListener("click", () => byId("key-dialog").close());
    byId("key-dialog").addEventListener("close", () => {
      byId("key-input").value = "";
      this.#tried = null;
    });
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
    const value = byId("key-input").value.trim();
    if (!value) {
      byId("key-error").textContent = "Paste the key first.";
      return;
    }
    const tried = (this.#tried = {});
    const refusal = await api.tryKey(value).then(() => "", ({ message }) => message);
    // Closed meanwhile, or another key is tried.
    if (this.#tried !== tried) return;
    byId("key-error").textContent = refusal;
    if (refusal) return;
    key.set(value);
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

function dialog() {
  const form = el(
    "form",
    { method: "dialog", id: "key-form" },
    el("h2", { id: "key-title" }, "Your API key"),
    el("p", {}, "The server printed it at its first start, with a link that signs you in. It is also in the file ", el("code", {}, "data/api-key"), " beside the server."),
    el("label", { htmlFor: "key-input" }, "API key"),
    el("input", { id: "key-input", type: "password", autocomplete: "off", spellcheck: false, "aria-describedby": "key-error" }),
    el("p", { className: "error", id: "key-error", role: "alert" }),
    el("p", { className: "note" }, "It is kept in this browser only, and sent to this server only."),
    el(
      "div",
      { className: "buttons" },
      el("button", { type: "submit", className: "primary", id: "key-save" }, "Sign in"),
      el("button", { type: "button", className: "secondary", id: "key-forget", hidden: true }, "Sign out"),
      el("button", { type: "button", className: "quiet", id: "key-close" }, "Close"),
    ),
  );
  return el("dialog", { id: "key-dialog", "aria-labelledby": "key-title" }, form);
}
