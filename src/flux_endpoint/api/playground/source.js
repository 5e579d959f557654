// A picture that a run starts from, is drawn along or reads like a prompt: dropped, pasted, chosen, or one that was drawn
// before. It is sent with the request and kept by this page only as long as it is open.

import { announce, byId } from "./dom.js";
import { sizeOf } from "./sizes.js";

// A request has room for more; larger files are drawn smaller first, as the server would.
const MOST_BYTES = 5_000_000;
const MOST_PX = 2_048;

export class Source {
  #id;
  #words;
  #onChange;
  #properties = {};
  #data = null; // data: URI
  #asked = null; // the file that is to be taken

  // `field`: its name on the wire; `id`: what the ids of its elements begin with; `words`: what is said when there is one.
  // `onChange` gets the size {width, height} that fits a new picture; null when it is taken away.
  constructor(field, id, words, onChange) {
    this.field = field;
    this.#id = id;
    this.#words = words;
    this.#onChange = onChange;
    this.#part("open").addEventListener("click", () => this.#part("file").click());
    this.#part("remove").addEventListener("click", () => {
      this.clear();
      this.#part("open").focus();
    });
    this.#part("file").addEventListener("change", () => {
      const [file] = this.#part("file").files;
      this.#part("file").value = "";
      if (file) this.take(file, file.name);
    });
  }

  #part(name) {
    return byId(`${this.#id}-${name}`);
  }

  // The button that stands for it now.
  get control() {
    return this.#part(this.#data === null ? "open" : "remove");
  }

  // Endpoints that take no such picture do not offer it.
  setSchema(properties) {
    this.#properties = properties;
    if (!this.isOffered) this.clear();
    this.#show();
  }

  get isOffered() {
    return this.field in this.#properties;
  }

  // What the request holds; null for none.
  get value() {
    return this.#data;
  }

  // Takes a file. False when the browser cannot read it as a picture.
  async take(file, name) {
    const asked = (this.#asked = {});
    const picture = await createImageBitmap(file).catch(() => null);
    if (!picture || !this.isOffered) return false;
    const isFit = this.#isRead(file) && file.size <= MOST_BYTES && Math.max(picture.width, picture.height) <= MOST_PX;
    const data = await (isFit ? dataUri(file) : drawnAnew(picture));
    // It was taken away meanwhile, or another one is to be taken.
    if (this.#asked !== asked) return true;
    this.set(data, name ?? "a picture");
    this.#onChange(sizeOf(this.#properties, picture));
    announce(this.#words);
    return true;
  }

  // The server reads the formats that it writes; browsers read more.
  #isRead({ type }) {
    return this.#properties.image_format?.enum.some((name) => type === `image/${name}`) ?? false;
  }

  set(data, name) {
    this.#data = data;
    this.#part("picture").src = data;
    this.#part("name").textContent = name;
    byId(`${this.field}-error`).textContent = "";
    this.#show();
  }

  clear() {
    this.#asked = null;
    if (this.#data === null) return;
    this.#data = null;
    this.#part("picture").removeAttribute("src");
    this.#show();
    this.#onChange(null);
  }

  #show() {
    this.#part("field").hidden = this.#data === null;
    this.#part("open").hidden = this.#data !== null || !this.isOffered;
  }
}

function dataUri(file) {
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(file);
  });
}

// As what canvases write of themselves, smaller where it is large.
function drawnAnew(picture) {
  const scale = Math.min(1, MOST_PX / 2 / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.round(picture.width * scale), Math.round(picture.height * scale)];
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL();
}
