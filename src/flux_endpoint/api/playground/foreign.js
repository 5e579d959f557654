// What other programs write into the PNGs that they make: A1111's web UI and its kin, ComfyUI and InvokeAI. Only what means
// the same here is taken over, and what is not is told.

import { readGraph } from "./comfy.js";
import { sizeOf } from "./sizes.js";

const NAMED = 6;
// "Name: value" of the last line; a value in quotation marks may hold commas.
const FIGURE = /\s*([\w][\w \-/]*):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)/g;
const LORA = /<lora:([^:>]+):?([^:>]*)[^>]*>/g;
const WEIGHT = /\([^()]+:\s*[\d.]+\)/;

// {program, input, left} of the texts of a PNG; `left` names what is not taken over. Null when none of these programs wrote them.
export function readForeign(texts, { input: { properties }, loras: names }) {
  const [program, read] = READERS.find(([, , key]) => typeof texts[key] === "string") ?? [];
  if (!program) return null;
  let found;
  try {
    found = read(texts);
  } catch {
    return null; // cut, or JSON of another kind
  }
  if (!found || typeof found.fields.prompt !== "string") return null;
  const left = [...found.left];
  const input = accepted(found.fields, properties, left);
  if (!Object.keys(input).length) return null;
  const loras = found.loras.filter(({ path }) => names.includes(path));
  if (loras.length) input.loras = loras;
  left.push(...found.loras.filter(({ path }) => !names.includes(path)).map(({ path }) => `LoRA ${path}`));
  if (WEIGHT.test(input.prompt)) left.push("weights of words, which are read as text");
  return { program, input, left };
}

// For people: what was taken from a file, and what was not.
export function report({ program, input, left }, name) {
  const named = left.slice(0, NAMED).join(", ") + (left.length > NAMED ? ` and ${left.length - NAMED} more` : "");
  const seed = input.seed === undefined ? "" : " Its seed draws another picture here: each program has noise of its own.";
  return `Settings of ${name}, made by ${program}, are loaded.${seed}${named ? ` Not taken over: ${named}.` : ""}`;
}

// The fields that the endpoint takes as they are; what is out of range goes to `left`.
function accepted(fields, properties, left) {
  const input = {};
  const { width, height, ...rest } = fields;
  if (width > 0 && height > 0) {
    Object.assign(input, sizeOf(properties, { width, height }));
    if (input.width !== width || input.height !== height) left.push(`size ${width} × ${height}, in place of which stands the nearest`);
  }
  for (const [name, value] of Object.entries(rest)) {
    if (value === undefined || value === "" || Number.isNaN(value)) continue;
    const { minimum = -Infinity, maximum = Infinity } = properties[name] ?? {};
    const isRight = properties[name] && (typeof value === "string" || (value >= minimum && value <= maximum));
    if (isRight) input[name] = value;
    else left.push(`${name.replaceAll("_", " ").replace("num inference ", "")} ${value}`);
  }
  return input;
}

function a1111({ parameters }) {
  const lines = parameters.trim().split("\n");
  const found = [...lines.at(-1).matchAll(FIGURE)].map(([, name, value]) => [name, value.replace(/^"(.*)"$/, "$1")]);
  const hasFigures = found.some(([name]) => name === "Steps");
  if (hasFigures) lines.pop();
  const figures = new Map(hasFigures ? found : []);
  const begin = lines.findIndex((line) => line.startsWith("Negative prompt:"));
  const negative = begin < 0 ? "" : lines.splice(begin).join("\n").slice("Negative prompt:".length).trim();
  const text = lines.join("\n");
  const number = (name) => (figures.has(name) ? Number(figures.get(name)) : undefined);
  const [width, height] = (figures.get("Size") ?? "").split("x").map(Number);
  const fields = {
    prompt: text.replace(LORA, "").replace(/[ ,]+$/gm, "").trim(),
    negative_prompt: negative,
    width,
    height,
    num_inference_steps: number("Steps"),
    seed: number("Seed"),
    // Without the distilled guidance of FLUX there is but that of negative prompts, and it has no meaning without one.
    guidance: number("Distilled CFG Scale"),
    true_cfg_scale: negative && number("CFG scale") > 1 ? number("CFG scale") : undefined,
  };
  for (const name of ["Steps", "Seed", "Size", "Distilled CFG Scale", "Lora hashes", "Version"]) figures.delete(name);
  if (fields.true_cfg_scale !== undefined || number("CFG scale") === 1) figures.delete("CFG scale");
  const loras = [...text.matchAll(LORA)].map(([, path, scale]) => ({ path, scale: scale === "" ? 1 : Number(scale) }));
  return { fields, loras, left: [...figures].map(([name, value]) => `${name} ${value}`) };
}

function invoke({ invokeai_metadata: text }) {
  const { positive_prompt, negative_prompt, width, height, seed, steps, guidance, cfg_scale, loras, model, scheduler, ...rest } = JSON.parse(text);
  const nameOf = (one) => one?.name ?? one?.model_name;
  const fields = {
    prompt: positive_prompt,
    negative_prompt: negative_prompt ?? undefined,
    width,
    height,
    num_inference_steps: steps,
    seed,
    guidance,
    true_cfg_scale: negative_prompt && cfg_scale > 1 ? cfg_scale : undefined,
  };
  const left = [];
  if (cfg_scale > 1 && fields.true_cfg_scale === undefined) left.push(`CFG scale ${cfg_scale}`);
  if (scheduler) left.push(`scheduler ${scheduler}`);
  if (nameOf(model)) left.push(`model ${nameOf(model)}`);
  for (const name of ["controlnets", "ipAdapters", "t2iAdapters", "init_image", "control_layers"]) {
    if (rest[name] && rest[name].length !== 0) left.push(name);
  }
  return { fields, loras: (loras ?? []).map(({ lora, model: file, weight }) => ({ path: nameOf(file ?? lora) ?? "without a name", scale: weight ?? 1 })), left };
}

const comfy = ({ prompt }) => readGraph(JSON.parse(prompt));

// By the name of the text that only they write.
const READERS = [
  ["InvokeAI", invoke, "invokeai_metadata"],
  ["A1111", a1111, "parameters"],
  ["ComfyUI", comfy, "prompt"],
];
