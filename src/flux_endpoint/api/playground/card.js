// A picture as one file to pass on: an HTML page that holds the picture, its prompt and numbers, and programs that draw
// it again. It asks no host for anything, runs no script and holds no key.

import { BASE, pictureFile } from "./api.js";
import { LABELS } from "./axes.js";
import { worded as lorasWorded } from "./loras.js";
import { seedOf } from "./run.js";
import { save } from "./save.js";
import { LANGUAGES, offers, snippet } from "./snippets.js";

const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";
const STYLE = `
:root { color-scheme: light dark; --line: light-dark(#ddd7ce, #35322e); --soft: light-dark(#665e55, #a9a198); }
* { box-sizing: border-box; }
body { margin: 0; padding: 32px 16px; background: light-dark(#f5f3ef, #141312); color: light-dark(#1f1c18, #f1ede7); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 46rem; margin: 0 auto; overflow: hidden; border: 1px solid var(--line); border-radius: 16px; background: light-dark(#fdfcfa, #1c1b19); }
img { display: block; width: 100%; height: auto; }
section { padding: 24px 28px; }
h1 { margin: 0 0 16px; font: 500 24px/1.3 Georgia, "Noto Serif", serif; overflow-wrap: anywhere; text-wrap: balance; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: 12px 20px; margin: 0; }
dt { color: var(--soft); font-size: 13px; }
dt::first-letter { text-transform: uppercase; }
dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
details { border-top: 1px solid var(--line); }
summary { padding: 14px 28px; cursor: pointer; font-weight: 500; }
p { margin: 0; padding: 0 28px 8px; color: var(--soft); font-size: 14px; }
pre { margin: 0; padding: 4px 28px 22px; overflow-x: auto; font: 13px/1.6 ui-monospace, "DejaVu Sans Mono", monospace; }
:focus-visible { outline: 2px solid; outline-offset: -2px; }
`;

// Throws ApiError when the picture cannot be had.
export async function saveCard(record, stem) {
  const picture = await pictureFile(record.output.image_url);
  save(new Blob([card(record, await asData(picture))], { type: "text/html" }), stem);
}

function card(record, picture) {
  const { prompt, ...rest } = record.input;
  const input = { prompt, ...rest, seed: seedOf(record) };
  const facts = { endpoint: record.endpointName, ...rest, ...(rest.loras && { LoRAs: lorasWorded(rest.loras), loras: undefined }), seed: input.seed };
  const title = escaped(prompt);
  const terms = Object.entries(facts).filter(([, value]) => value !== undefined).map(([field, value]) => `<div><dt>${escaped(LABELS[field] ?? field.replaceAll("_", " "))}</dt><dd>${escaped(worded(value))}</dd></div>`);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${POLICY}">
<title>${title}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<img src="${picture}" alt="${title}">
<section>
<h1>${title}</h1>
<dl>${terms.join("")}</dl>
</section>
${programs(record, input).join("\n")}
</main>
</body>
</html>
`;
}

// The picture that a run started from is in no record: whoever draws it again has to name it.
function programs({ endpoint: id, input: { strength } }, input) {
  const endpoint = { id, makesPictures: true };
  const whole = strength === undefined ? input : { ...input, image: "a link to the picture it started from" };
  return LANGUAGES.filter((language) => offers(language.id, "runsync", endpoint)).map((language) => {
    const code = snippet(language.id, "runsync", { base: BASE, endpoint, input: whole });
    const needs = [language.needs, "the key in RUNPOD_API_KEY"].filter(Boolean).join("; ");
    return `<details><summary>${escaped(language.label)}</summary><p>Needs ${escaped(needs)}.</p><pre tabindex="0">${escaped(code)}</pre></details>`;
  });
}

const worded = (value) => (typeof value === "string" ? value : JSON.stringify(value));

const escaped = (text) => text.replace(/[&<>"]/g, (sign) => ENTITIES[sign]);

function asData(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
