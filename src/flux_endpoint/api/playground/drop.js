// A picture that is dropped anywhere on the page, pasted or chosen as a file. One that was made here gives its parameters
// back; one that another program made, what of them means the same here.

import { byId } from "./dom.js";
import { readForeign, report } from "./foreign.js";
import { readInput, readTexts } from "./metadata.js";

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

// `endpointOf` says which endpoint's fields are filled. `onInput` gets the input that drew the file, and what to say of it;
// `onStranger` a file that carries none, or was dropped on the place of a picture, and what it was dropped on.
export function takeFiles(endpointOf, onInput, onStranger) {
  async function take(file, target) {
    const buffer = await file.arrayBuffer();
    const endpoint = endpointOf();
    if (!endpoint || target?.closest?.("[data-picture]")) return onStranger(file, target);
    const input = readInput(buffer, file.type, endpoint.input.properties);
    if (input) return onInput(input, `The parameters of ${file.name} are loaded`);
    const found = readForeign(readTexts(buffer), endpoint);
    if (found) onInput(found.input, report(found, file.name));
    else onStranger(file, target);
  }

  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    byId("veil").hidden = false;
  });
  addEventListener("dragleave", (event) => {
    // Leaving the window, not one element for another.
    if (event.relatedTarget === null) byId("veil").hidden = true;
  });
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    byId("veil").hidden = true;
    const [file] = event.dataTransfer.files;
    if (file) take(file, event.target);
  });
  addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (!file) return;
    event.preventDefault();
    take(file);
  });
  byId("open-file").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", () => {
    const [file] = byId("file").files;
    byId("file").value = "";
    if (file) take(file);
  });
}
