// Two pictures on top of each other, with a slider between them.

import { pictureUrl } from "./api.js";
import { byId } from "./dom.js";
import { seedOf } from "./run.js";
import { pictureOf, shapeOf } from "./stage.js";

export function openCompare(left, right) {
  const box = byId("compare");
  const range = byId("compare-range");
  const place = () => box.style.setProperty("--part", range.value);
  range.value = 50;
  range.oninput = place;
  place();
  const { width, height } = shapeOf(left);
  box.style.setProperty("--w", width);
  box.style.setProperty("--h", height);
  fill("left", left);
  fill("right", right);
  byId("compare-dialog").showModal();
  range.focus();
}

function fill(side, record) {
  const image = byId(`compare-${side}`);
  image.src = pictureUrl(pictureOf(record));
  image.alt = `${side === "left" ? "Left" : "Right"}: ${record.input.prompt}`;
  // An expired picture is still there as a small one.
  image.onerror = () => {
    image.onerror = null;
    if (record.thumbnail) image.src = record.thumbnail;
  };
  const { width, height, num_inference_steps: steps, guidance } = record.input;
  const numbers = `seed ${seedOf(record)} · ${width} × ${height} · ${steps} steps · guidance ${guidance}`;
  byId(`compare-${side}-text`).textContent = `${record.input.prompt} (${record.endpointName} · ${numbers})`;
}
