// Files that the page makes itself, saved by the browser.

import { el } from "./dom.js";

// `stem`: the file's name without its ending, which is that of what it is.
export function save(blob, stem) {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: `${stem}.${blob.type.split("/")[1]}` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
