// What stands where pictures will appear before there is one: the embedded model's best pictures, or prompts to begin with.

import { BASE } from "./api.js";
import { byId, el } from "./dom.js";

const NARROW = "(max-width: 59.99rem)";

// `onPicture` gets the {endpoint, input} that draws a picture of the gallery again, `onPrompt` the text of an example.
export async function showWelcome(endpoint, onPicture, onPrompt) {
  const words = el("div", { className: "words" }, el("h2", {}, endpoint.makesPictures ? "What shall it draw?" : "What shall it do?"));
  byId("frames").dataset.count = 1;
  byId("frames").replaceChildren(el("figure", { className: "frame welcome" }, words));
  const pictures = endpoint.gallery ? await gallery(endpoint.gallery) : [];
  if (pictures.length) {
    const tiles = pictures.map((picture) => tile(picture, () => onPicture(picture)));
    words.append(el("p", {}, "Describe a picture, or draw one of these again."), el("div", { className: "best" }, ...tiles));
  } else if (endpoint.examples.length) {
    const buttons = endpoint.examples.map((text) => {
      const button = el("button", { type: "button" }, text);
      button.addEventListener("click", () => onPrompt(text));
      return button;
    });
    words.append(el("p", {}, "Describe a picture, or begin with one of these."), el("div", { className: "examples" }, ...buttons));
  }
}

function tile({ picture, input }, onClick) {
  const button = el("button", { type: "button", title: input.prompt }, el("img", { src: `${BASE}embedded/${picture}`, alt: input.prompt }));
  button.addEventListener("click", onClick);
  return button;
}

// At the page's own origin, as all pictures are. None where they do not arrive.
function gallery(address) {
  return fetch(`${BASE}embedded/${address.split("/").pop()}`).then((reply) => (reply.ok ? reply.json() : [])).catch(() => []);
}

// The empty frame follows the size in the form, within what leaves room for its words.
export function shapeWelcome({ width, height }) {
  const frame = document.querySelector(".frame.welcome");
  if (!frame) return;
  const ratio = Math.min(2, Math.max(matchMedia(NARROW).matches ? 0.8 : 1.1, width / height));
  frame.style.setProperty("--w", ratio);
  frame.style.setProperty("--h", 1);
}
