// The input form. Ranges, defaults and choices come from the endpoint's schema in the catalogue.

import { byId, el } from "./dom.js";
import { isText } from "./format.js";
import { Loras, lorasOf } from "./loras.js";
import { Mask } from "./mask.js";
import { Seed } from "./seed.js";
import { Size } from "./size.js";
import { Source } from "./source.js";

const PARTS_OF_A_RANGE = 100;
// What says something of a picture, and of which.
const BESIDE = { strength: "image", control_scale: "control_image", control_mode: "control_image", image_prompt_scale: "image_prompt" };

// The names of the inputs that this page has a field of the same name for.
const fields = (properties) => Object.keys(properties).filter((name) => byId(name));

// Dispatches "change" when the input changes, by hand or by program.
export class Form extends EventTarget {
  constructor() {
    super();
    this.endpoint = null;
    this.size = new Size(() => this.#changed());
    this.seed = new Seed(() => this.#changed());
    const fit = (size) => (size ? (this.size.value = size) : this.#changed());
    this.source = new Source("image", "source", "The next picture starts from this one", (size) => {
      this.mask.clear();
      fit(size);
    });
    this.mask = new Mask(this.source, () => this.#changed());
    const map = new Source("control_image", "control", "The next picture is drawn along this one", fit);
    this.pictures = [this.source, map, new Source("image_prompt", "look", "The next picture reads this one like a prompt", () => this.#changed())];
    this.loras = new Loras(() => this.#changed());
    byId("form").addEventListener("input", (event) => this.#edited(event.target));
  }

  // Shows an endpoint's fields. What the visitor has typed stays where the endpoint allows it.
  setEndpoint(endpoint) {
    const before = this.endpoint;
    this.endpoint = endpoint;
    byId("json-field").hidden = endpoint.makesPictures;
    byId("picture-fields").hidden = !endpoint.makesPictures;
    this.clearErrors();
    if (endpoint.makesPictures) {
      this.#setSchema(endpoint.input.properties, before?.input.properties);
      this.loras.setEndpoint(endpoint);
    } else byId("json").value = JSON.stringify(example(endpoint.input), null, 2);
    this.#changed();
  }

  // The `input` object. Empty number fields are left out: the server fills in its default, or draws the seed.
  // Throws SyntaxError when the JSON editor holds no JSON.
  get input() {
    if (!this.endpoint.makesPictures) return JSON.parse(byId("json").value);
    const { properties, required } = this.endpoint.input;
    const input = {};
    for (const name of fields(properties)) {
      const text = byId(name).value;
      if (name === "true_cfg_scale" && !input.negative_prompt) continue;
      if (BESIDE[name] && !this.#picture(BESIDE[name]).value) continue;
      if (name === "stop_after" && !Number(text)) continue;
      if (name === "num_images" && Number(text) === 1) continue;
      if (text.trim() === "" && !required.includes(name)) continue;
      input[name] = isText(properties[name]) ? text : Number(text);
    }
    if (this.loras.value.length) input.loras = this.loras.value;
    for (const { field, value } of [...this.pictures, this.mask]) if (value) input[field] = value;
    return input;
  }

  #picture(field) {
    return [...this.pictures, this.mask].find((picture) => picture.field === field);
  }

  // Takes a file as the picture over whose place it was dropped, or as the first that the endpoint takes; false when it cannot.
  takePicture(file, name, target) {
    const offered = this.pictures.filter(({ isOffered }) => isOffered);
    const field = target?.closest?.("[data-picture]")?.dataset.picture;
    const picture = offered.find((one) => one.field === field) ?? offered[0];
    return picture ? picture.take(file, name) : false;
  }

  // The steps that a draft has, and those of the whole picture, counted as the server counts them; null for no draft.
  get draft() {
    if (!this.endpoint.makesPictures) return null;
    const [steps, stop, strength] = ["num_inference_steps", "stop_after", "strength"].map((name) => Number(byId(name).value));
    const of = this.source.value ? Math.max(1, steps - Math.trunc(Math.max(steps - Math.min(steps * strength, steps), 0))) : steps;
    return stop > 0 && stop < of ? { steps: stop, of } : null;
  }

  // Of the endpoint's inputs; one that is declared elsewhere may say nothing of its own.
  get #properties() {
    return this.endpoint.input.properties ?? {};
  }

  // How many pictures a run draws.
  get count() {
    return this.endpoint.makesPictures && "num_images" in this.#properties ? Number(byId("num_images").value) : 1;
  }

  // Puts an input into the fields; what it does not mention gets the endpoint's default.
  set input(input) {
    this.clearErrors();
    if (!this.endpoint.makesPictures) {
      byId("json").value = JSON.stringify(input, null, 2);
      return this.#changed();
    }
    const properties = this.endpoint.input.properties;
    // The pictures that one run is drawn from have nothing to do with another run.
    for (const picture of this.pictures) if (!input[picture.field]) picture.clear();
    for (const name of fields(properties)) {
      const value = input[name] ?? (name === "seed" ? "" : properties[name]?.default) ?? "";
      byId(name).value = name === "seed" && value === -1 ? "" : value;
    }
    this.loras.value = lorasOf(input.loras);
    if (input.negative_prompt) byId("settings").open = true;
    this.#synchronise();
    this.#changed();
  }

  reset() {
    if (this.endpoint.makesPictures) this.input = {};
    else this.setEndpoint(this.endpoint);
  }

  // Marks the field that the server's words name ("Invalid parameter: width must …"); others stand above the button.
  showError(words) {
    const name = /^Invalid parameter: (\w+)/.exec(words)?.[1];
    const field = this.endpoint.makesPictures ? name : "json";
    if (!byId(`${field}-error`)) {
      byId("form-error").textContent = words;
      byId("form-error").scrollIntoView({ block: "nearest" });
      return;
    }
    byId(`${field}-error`).textContent = words;
    const control = this.#picture(field)?.control ?? document.querySelector(field === "loras" ? "#loras-chips [aria-pressed=true]" : `#${field}`);
    control.setAttribute("aria-invalid", "true");
    control.closest("details")?.setAttribute("open", "");
    control.focus();
  }

  clearErrors() {
    for (const words of byId("form").querySelectorAll(".error")) words.textContent = "";
    for (const control of byId("form").querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
  }

  #setSchema(properties, before) {
    this.size.setSchema(properties);
    this.seed.setSchema(properties.seed);
    for (const picture of [...this.pictures, this.mask]) picture.setSchema(properties);
    for (const control of byId("picture-fields").querySelectorAll(".range [name]")) control.closest(".range").hidden = !(control.name in properties);
    for (const name of fields(properties)) {
      const field = byId(name);
      const { minimum, maximum, multipleOf, type, enum: choices } = properties[name];
      if (choices) setChoices(field, properties[name]);
      if (isText(properties[name])) continue;
      const limits = { min: minimum, max: maximum, step: multipleOf ?? (type === "integer" ? 1 : "any") };
      Object.assign(field, limits);
      field.title = properties[name].description ?? "";
      const slider = document.querySelector(`[data-for="${name}"]`);
      if (slider) Object.assign(slider, limits, { step: type === "integer" ? 1 : (maximum - minimum) / PARTS_OF_A_RANGE });
      const isUntouched = field.value === "" || Number(field.value) === before?.[name]?.default;
      const isOutside = field.value !== "" && (Number(field.value) < minimum || Number(field.value) > maximum);
      if (name !== "seed" && (isUntouched || isOutside)) field.value = properties[name].default;
    }
    this.#synchronise();
  }

  #edited(target) {
    if (target.dataset.for) byId(target.dataset.for).value = target.value;
    const field = target.dataset.for ?? target.name;
    if (byId(`${field}-error`)) {
      byId(`${field}-error`).textContent = "";
      byId(field)?.removeAttribute("aria-invalid");
      byId("form-error").textContent = "";
    }
    this.#synchronise();
    this.#changed();
  }

  #synchronise() {
    this.#count();
    for (const slider of document.querySelectorAll("[data-for]")) slider.value = byId(slider.dataset.for).value;
    byId("true_cfg_scale-field").hidden = !byId("negative_prompt").value.trim() || !("true_cfg_scale" in this.#properties);
    this.size.show();
    this.seed.show();
  }

  #count() {
    const { maxLength } = this.#properties.prompt ?? {};
    if (!maxLength) return;
    const used = [...byId("prompt").value].length;
    byId("prompt-count").textContent = `${used.toLocaleString("en")} of ${maxLength.toLocaleString("en")} characters`;
    byId("prompt-count").classList.toggle("over", used > maxLength);
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

// What is chosen stays chosen where it is offered.
function setChoices(field, { enum: offered, default: usual }) {
  const preset = usual ?? "";
  const choices = preset === "" ? ["", ...offered.filter((value) => value && typeof value === "string")] : offered;
  const chosen = choices.includes(field.value) ? field.value : preset;
  const words = (value) => (field.name === "image_format" ? value.toUpperCase() : value || "not told");
  field.replaceChildren(...choices.map((value) => el("option", { value, selected: value === chosen }, words(value))));
}

// Something to begin with in the JSON editor: the defaults, and an empty value for what is required.
function example({ properties = {}, required = [] } = {}) {
  const empty = { string: "", integer: 0, number: 0, boolean: false, array: [], object: {} };
  const input = {};
  for (const [name, schema] of Object.entries(properties)) {
    if (schema.default !== undefined) input[name] = schema.default;
    else if (required.includes(name)) input[name] = empty[schema.type] ?? null;
  }
  return input;
}
