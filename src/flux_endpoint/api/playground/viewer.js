// A picture in full size: as large as the window, or larger, to be moved about.

import { isOwnPicture, pictureUrl } from "./api.js";
import { announce, byId, el } from "./dom.js";
import { pictureOf } from "./stage.js";

const STEP = 1.25;
const LARGEST = 8;

export class Viewer {
  #zoom = 1;
  #ready; // when the picture is there

  constructor() {
    byId("viewer-dialog").append(...parts());
    byId("viewer-fit").addEventListener("click", () => this.#set(() => this.#fitting));
    byId("viewer-whole").addEventListener("click", () => this.#set(() => 1));
    byId("viewer-in").addEventListener("click", () => this.#set(() => this.#zoom * STEP));
    byId("viewer-out").addEventListener("click", () => this.#set(() => this.#zoom / STEP));
    byId("viewer-copy").addEventListener("click", () => this.#copy());
    byId("viewer-close").addEventListener("click", () => byId("viewer-dialog").close());
    const room = byId("viewer-room");
    room.addEventListener("keydown", (event) => this.#pressed(event));
    room.addEventListener("wheel", (event) => this.#turned(event), { passive: false });
    room.addEventListener("dblclick", () => this.#set(() => (this.#zoom === 1 ? this.#fitting : 1)));
    room.addEventListener("pointermove", (event) => {
      // Fingers scroll by themselves.
      if (event.pointerType === "mouse" && event.buttons === 1) room.scrollBy(-event.movementX, -event.movementY);
    });
  }

  async open({ record }) {
    const image = byId("viewer-image");
    image.src = pictureUrl(pictureOf(record));
    image.alt = record.input.prompt ?? "Picture";
    byId("viewer-copy").hidden = !isOwnPicture(pictureOf(record)) || !globalThis.ClipboardItem;
    byId("viewer-dialog").showModal();
    this.#ready = image.decode().catch(() => {});
    await this.#set(() => this.#fitting);
    byId("viewer-room").focus();
  }

  // The zoom at which the whole picture is seen; never larger than it is.
  get #fitting() {
    const { clientWidth, clientHeight } = byId("viewer-room");
    const { naturalWidth, naturalHeight } = byId("viewer-image");
    return Math.min(1, clientWidth / naturalWidth, clientHeight / naturalHeight);
  }

  // The middle of what is seen stays in the middle. What is wished before the picture is there comes after its first zoom.
  async #set(zoomOf) {
    await this.#ready;
    const room = byId("viewer-room");
    const image = byId("viewer-image");
    const middle = [(room.scrollLeft + room.clientWidth / 2) / room.scrollWidth, (room.scrollTop + room.clientHeight / 2) / room.scrollHeight];
    this.#zoom = Math.min(LARGEST, Math.max(Math.min(this.#fitting, 1), zoomOf()));
    image.style.setProperty("width", `${image.naturalWidth * this.#zoom}px`);
    room.scrollTo(middle[0] * room.scrollWidth - room.clientWidth / 2, middle[1] * room.scrollHeight - room.clientHeight / 2);
    byId("viewer-zoom").textContent = `${Math.round(100 * this.#zoom)} %`;
  }

  #pressed(event) {
    const larger = () => this.#zoom * STEP;
    const zoomOf = { "+": larger, "=": larger, "-": () => this.#zoom / STEP, 0: () => this.#fitting, 1: () => 1 }[event.key];
    if (zoomOf === undefined) return;
    event.preventDefault();
    this.#set(zoomOf);
  }

  #turned(event) {
    event.preventDefault();
    this.#set(() => (event.deltaY < 0 ? this.#zoom * STEP : this.#zoom / STEP));
  }

  // In the format that canvases write of themselves: the only one that browsers take.
  async #copy() {
    const image = byId("viewer-image");
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    canvas.getContext("2d").drawImage(image, 0, 0);
    const file = await new Promise((resolve) => canvas.toBlob(resolve));
    const label = byId("viewer-copy");
    try {
      await navigator.clipboard.write([new ClipboardItem({ [file.type]: file })]);
      label.textContent = "Copied";
    } catch {
      label.textContent = "Copying is not allowed here";
    }
    announce(label.textContent);
    setTimeout(() => (label.textContent = "Copy picture"), 1_800);
  }
}

function parts() {
  const button = (id, text, label = text) => el("button", { type: "button", className: "secondary", id, "aria-label": label, title: label }, text);
  return [
    el("div", { id: "viewer-room", tabIndex: 0, role: "region", "aria-label": "The picture in full size" }, el("img", { id: "viewer-image", alt: "" })),
    el(
      "div",
      { className: "buttons" },
      button("viewer-out", "−", "Smaller"),
      el("span", { id: "viewer-zoom", role: "status" }),
      button("viewer-in", "+", "Larger"),
      button("viewer-fit", "Fit"),
      button("viewer-whole", "Full size"),
      button("viewer-copy", "Copy picture"),
      button("viewer-close", "Close"),
    ),
  ];
}
