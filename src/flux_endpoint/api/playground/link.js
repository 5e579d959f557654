// The input in the page's address, so that a link reproduces it. In the fragment, which no server and no log ever sees.

import { isText } from "./format.js";
import { lorasOf } from "./loras.js";
import { PICTURES } from "./pictures.js";

// Ends in the endpoint's short name or id, and the fields that differ from the defaults.
export function toFragment(endpoint, input) {
  const fields = new URLSearchParams({ endpoint: endpoint.id });
  if (!endpoint.makesPictures) {
    fields.set("input", JSON.stringify(input));
    return fields.toString();
  }
  const known = endpoint.input.properties;
  for (const [name, value] of Object.entries(input)) {
    if (PICTURES.includes(name) || value === "" || known[name]?.default === value) continue;
    fields.set(name, name === "loras" ? JSON.stringify(value) : value);
  }
  return fields.toString();
}

// {endpoint, input} of an address, or {endpoint, job} when it names a job by its id; null when it carries neither.
// Values are text or numbers as their schema says.
export function fromFragment(fragment, catalogue) {
  const fields = new URLSearchParams(fragment);
  const endpoint = catalogue.find(({ id }) => id === fields.get("endpoint"));
  if (!endpoint) return null;
  if (fields.has("job")) return { endpoint, job: fields.get("job") };
  if (!endpoint.makesPictures) return { endpoint, input: parsed(fields.get("input")) };
  const input = {};
  for (const [name, schema] of Object.entries(endpoint.input.properties)) {
    if (!fields.has(name) || PICTURES.includes(name)) continue;
    const text = fields.get(name);
    if (name === "loras") input[name] = lorasOf(parsed(text));
    else if (isText(schema)) input[name] = text;
    else if (text.trim() !== "" && Number.isFinite(Number(text))) input[name] = Number(text);
  }
  return { endpoint, input };
}

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}
