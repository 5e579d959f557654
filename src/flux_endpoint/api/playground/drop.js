// A picture that is dropped anywhere on the page, pasted or chosen as a file. One that was made here gives its parameters back.

import { byId } from "./dom.js";
import { readInput } from "./metadata.js";

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

// `onInput` gets the input that drew the file; `onStranger` gets a file that carries none, or was dropped on the place of a
// picture, and what it was dropped on.
// `properties`: the schemas of an endpoint's inputs, by name.
export function takeFiles(properties, onInput, onStranger) {
  async function take(file, target) {
    const isMeant = target?.closest?.("[data-picture]");
    const input = isMeant ? null : readInput(await file.arrayBuffer(), file.type, properties);
    if (input) onInput(input, file.name);
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
