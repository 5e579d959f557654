// The picture that a run starts from: dropped, pasted, chosen, or one that was drawn before. It is sent with the request
// and kept by this page only as long as it is open.

import { announce, byId } from "./dom.js";
import { sizeOf } from "./sizes.js";

// A request has room for more; larger files are drawn smaller first, as the server would.
const MOST_BYTES = 5_000_000;
const MOST_PX = 2_048;

export class Source {
  #onChange;
  #properties = {};
  #data = null; // data: URI

  // `onChange` gets the size {width, height} that fits a new picture; null when it is taken away.
  constructor(onChange) {
    this.#onChange = onChange;
    byId("source-open").addEventListener("click", () => byId("source-file").click());
    byId("source-remove").addEventListener("click", () => {
      this.clear();
      byId("source-open").focus();
    });
    byId("source-file").addEventListener("change", () => {
      const [file] = byId("source-file").files;
      byId("source-file").value = "";
      if (file) this.take(file, file.name);
    });
  }

  // Endpoints that start from no picture do not offer it.
  setSchema(properties) {
    this.#properties = properties;
    if (!this.isOffered) this.clear();
    this.#show();
  }

  get isOffered() {
    return "image" in this.#properties;
  }

  // What the request holds; null for none.
  get value() {
    return this.#data;
  }

  // Starts from a file. False when the browser cannot read it as a picture.
  async take(file, name) {
    const picture = await createImageBitmap(file).catch(() => null);
    if (!picture || !this.isOffered) return false;
    const isLarge = file.size > MOST_BYTES || Math.max(picture.width, picture.height) > MOST_PX;
    this.set(await (isLarge ? shrunk(picture) : dataUri(file)), name ?? "a picture");
    this.#onChange(sizeOf(this.#properties, picture));
    announce("The next picture starts from this one");
    return true;
  }

  set(data, name) {
    this.#data = data;
    byId("source-picture").src = data;
    byId("source-name").textContent = name;
    this.#show();
  }

  clear() {
    if (this.#data === null) return;
    this.#data = null;
    byId("source-picture").removeAttribute("src");
    this.#show();
    this.#onChange(null);
  }

  #show() {
    byId("source-field").hidden = this.#data === null;
    byId("source-open").hidden = this.#data !== null || !this.isOffered;
  }
}

function dataUri(file) {
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(file);
  });
}

function shrunk(picture) {
  const scale = Math.min(1, MOST_PX / 2 / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.round(picture.width * scale), Math.round(picture.height * scale)];
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL();
}
