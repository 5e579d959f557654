// What a contact sheet may vary: fields of the input, words of style, and the endpoint; and how a value of each is applied.

export const LABELS = {
  seed: "Seed",
  num_inference_steps: "Steps",
  guidance: "Guidance",
  true_cfg_scale: "Negative strength",
  strength: "Strength",
  acceleration: "Acceleration",
  negative_prompt: "Negative prompt",
  width: "Width",
  height: "Height",
};
const STYLES = ["", "watercolour", "oil painting", "pixel art"];
const PARTS = 3;

// Fields that an endpoint's pictures can differ in: [{name, label, preset, read, apply}]. `preset` is the text that stands
// for its values at first, `read` makes values of such a text, and `apply` a cell {endpoint, input} of a cell and a value.
export function axesOf(endpoint, catalogue, input) {
  const { properties } = endpoint.input;
  const fields = Object.keys(LABELS).filter((name) => properties[name] && (name !== "true_cfg_scale" || input.negative_prompt) && (name !== "strength" || input.image));
  const drawing = catalogue.filter(({ makesPictures }) => makesPictures);
  return [
    { name: "none", label: "Nothing", preset: "", read: () => [""], apply: (cell) => cell },
    ...fields.map((name) => field(name, properties[name])),
    {
      name: "style",
      label: "Style words",
      preset: STYLES.join(", "),
      read: listOf,
      apply: (cell, value) => ({ ...cell, input: { ...cell.input, prompt: value ? `${cell.input.prompt}, ${value}` : cell.input.prompt } }),
    },
    ...(drawing.length > 1 ? [endpoints(drawing)] : []),
  ];
}

const listOf = (text) => text.split(",").map((part) => part.trim());

function field(name, schema) {
  const isText = schema.type === "string";
  return {
    name,
    label: LABELS[name],
    preset: presetOf(name, schema).join(", "),
    read: (text) => listOf(text).map((part) => (isText ? part : Number(part))),
    apply: (cell, value) => ({ ...cell, input: { ...cell.input, [name]: value } }),
  };
}

function presetOf(name, { enum: choices, type, minimum, maximum, multipleOf, default: preset }) {
  if (choices) return choices;
  if (type === "string") return ["", "blurry"];
  if (name === "seed") return Array.from({ length: 4 }, (_, index) => index + 1);
  // The value of the endpoint, and two below it, evenly.
  const step = multipleOf ?? (type === "integer" ? 1 : 0.5);
  const values = Array.from({ length: PARTS }, (_, index) => Math.round((preset * (index + 1)) / PARTS / step) * step);
  return [...new Set(values.map((value) => Math.min(maximum, Math.max(minimum, value))))];
}

// Another endpoint has other defaults: what was left at one's own becomes its own there.
function endpoints(drawing) {
  return {
    name: "endpoint",
    label: "Endpoint",
    preset: drawing.map(({ name }) => name).join(", "),
    read: listOf,
    apply: ({ endpoint, input }, value) => {
      const other = drawing.find(({ name, id }) => [name.toLowerCase(), id].includes(value.toLowerCase()));
      if (!other) throw new RangeError(`There is no endpoint ${value}. Endpoints are ${drawing.map(({ name }) => name).join(", ")}.`);
      const kept = Object.entries(input).filter(([name, value]) => value !== endpoint.input.properties[name]?.default);
      return { endpoint: other, input: Object.fromEntries(kept) };
    },
  };
}

// The cells of a sheet, row by row: [[{endpoint, input, across, down}]]. All have one seed, unless that is what varies.
// Throws RangeError when a value is none.
export function cellsOf(start, across, down) {
  for (const [axis, values] of [across, down]) {
    const wrong = values.find((value) => Number.isNaN(value));
    if (wrong !== undefined) throw new RangeError(`${axis.label} must be numbers, with commas between them.`);
  }
  return down[1].map((low) =>
    across[1].map((high) => ({
      ...across[0].apply(down[0].apply(start, low), high),
      across: high,
      down: low,
    })),
  );
}
