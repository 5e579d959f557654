// A contact sheet as files: one labelled picture, and JSON with all that draws it again.

import { pictureUrl } from "./api.js";
import { el } from "./dom.js";
import { apart } from "./pictures.js";

const CELL_PX = 384;
const GAP_PX = 12;
const LABEL_PX = 22;
const SIDE_PX = 190;

// Draws all cells with the names of their values; cells without a picture stay empty.
export async function sheetPicture({ prompt, across, down, rows }) {
  const head = 96;
  const [{ input }] = rows[0];
  const height = Math.round((CELL_PX * (input.height ?? 1)) / (input.width ?? 1));
  const canvas = el("canvas", {
    width: SIDE_PX + rows[0].length * (CELL_PX + GAP_PX) + GAP_PX,
    height: head + rows.length * (height + GAP_PX) + GAP_PX,
  });
  const context = canvas.getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = "#1f1c18";
  context.textBaseline = "middle";
  const write = (text, x, y, width) => context.fillText(text, x, y, width);
  context.font = `600 ${LABEL_PX}px system-ui, sans-serif`;
  write(prompt, GAP_PX, 28, canvas.width - 2 * GAP_PX);
  context.font = `${LABEL_PX}px system-ui, sans-serif`;
  for (const [column, { across: value }] of rows[0].entries()) write(labelOf(across, value), SIDE_PX + column * (CELL_PX + GAP_PX), 70, CELL_PX);
  for (const [row, cells] of rows.entries()) {
    const top = head + row * (height + GAP_PX);
    write(labelOf(down, cells[0].down), GAP_PX, top + height / 2, SIDE_PX - 2 * GAP_PX);
    for (const [column, { output }] of cells.entries()) {
      if (!output) continue;
      const image = new Image();
      image.src = pictureUrl(output.image_url);
      await image.decode();
      context.drawImage(image, SIDE_PX + column * (CELL_PX + GAP_PX), top, CELL_PX, height);
    }
  }
  return new Promise((resolve) => canvas.toBlob(resolve));
}

export function sheetJson({ prompt, across, down, rows }) {
  const cells = rows.flat().map(({ endpoint, input, id, across: x, down: y, output, error }) => ({ across: x, down: y, endpoint: endpoint.id, id, input: apart(input)[0], output, error }));
  return new Blob([JSON.stringify({ prompt, across: across.name, down: down.name, cells }, null, 2)], { type: "application/json" });
}

export function labelOf({ name, label }, value) {
  if (name === "none") return "";
  return name === "style" || name === "endpoint" ? value || "as it is" : `${label} ${value === "" ? "none" : value}`;
}
