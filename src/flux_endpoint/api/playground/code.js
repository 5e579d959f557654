// The API view: the current input as a program.

import { BASE } from "./api.js";
import { byId, copyFrom, el } from "./dom.js";
import { key } from "./key.js";
import { apart } from "./pictures.js";
import { LANGUAGES, offers, shellQuoted, snippet } from "./snippets.js";

export class CodeView {
  #form;

  constructor(form) {
    this.#form = form;
    byId("language").replaceChildren(...LANGUAGES.map(({ id, label }) => el("option", { value: id }, label)));
    for (const name of ["language", "operation"]) byId(name).addEventListener("change", () => this.show());
    byId("copy-code").addEventListener("click", () => copyFrom(byId("copy-code"), byId("code").textContent));
    byId("copy-key").addEventListener("click", () => copyFrom(byId("copy-key"), `export RUNPOD_API_KEY=${shellQuoted(key.get())}`));
  }

  show() {
    const { endpoint } = this.#form;
    for (const option of byId("language").options) option.disabled = !offers(option.value, "runsync", endpoint);
    if (!offers(byId("language").value, "runsync", endpoint)) byId("language").value = LANGUAGES[0].id;
    const language = LANGUAGES.find(({ id }) => id === byId("language").value);
    for (const option of byId("operation").options) option.disabled = !offers(language.id, option.value, endpoint);
    if (!offers(language.id, byId("operation").value, endpoint)) byId("operation").value = "runsync";
    let input;
    try {
      input = this.#form.input;
    } catch {
      byId("code").textContent = "The input is not valid JSON.";
      return;
    }
    if (endpoint.makesPictures) {
      const [rest, pictures] = apart(input);
      input = { ...rest, ...Object.fromEntries(Object.keys(pictures).map((name) => [name, "a link to the picture, or a data: URI of it"])) };
    }
    byId("code").textContent = snippet(language.id, byId("operation").value, { base: BASE, endpoint, input });
    byId("code-needs").textContent = language.needs ? `Needs: ${language.needs}.` : "";
    byId("copy-key").hidden = !key.get();
  }
}
