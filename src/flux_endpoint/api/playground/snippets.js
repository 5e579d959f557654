// The current input as programs. Each runs as it stands, with the key in RUNPOD_API_KEY.

export const LANGUAGES = [
  { id: "curl", label: "cURL", syntax: "bash" },
  { id: "requests", label: "Python · requests", needs: "pip install requests" },
  { id: "runpod", label: "Python · runpod", needs: "pip install runpod" },
  { id: "fetch", label: "JavaScript · fetch", needs: "Node 18 or newer; save as picture.mjs" },
  { id: "ai-sdk", label: "JavaScript · AI SDK", needs: "npm install ai @runpod/ai-sdk-provider; save as picture.mjs" },
];

// language: an id from above; operation: "runsync" waits for the picture, "run" queues it and asks later.
// base: the page's URL with a slash at the end.
export function snippet(language, operation, { base, endpoint, input }) {
  const url = `${base}v2/${endpoint.id}`;
  const result = endpoint.makesPictures ? ["output", "image_url"] : ["output"];
  const job = { url, input, result, base, endpoint };
  return WRITERS[language](job, operation);
}

// The AI SDK knows pictures only, and has no way to queue one.
export const offers = (language, operation, endpoint) =>
  language !== "ai-sdk" || (operation === "runsync" && endpoint.makesPictures);

// A text as one word of a shell, whatever it holds.
export const shellQuoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

const WRITERS = { curl, requests, runpod, fetch: fetched, "ai-sdk": aiSdk };

function curl({ url, input }, operation) {
  const body = shellQuoted(JSON.stringify({ input }, null, 2));
  const headers = '-H "Authorization: Bearer $RUNPOD_API_KEY"';
  const post = `curl -sS -X POST ${shellQuoted(`${url}/${operation}${operation === "runsync" ? "?wait=300000" : ""}`)} \\
  ${headers} -H "Content-Type: application/json" \\
  -d ${body}`;
  if (operation === "runsync") return `${post}\n`;
  return `job=$(${post} \\
  | sed -E 's/.*"id":"([^"]+)".*/\\1/')

# Each step as it is done, and the picture at the end:
curl -sS -N ${shellQuoted(`${url}/events/`)}"$job" \\
  ${headers}
`;
}

function requests({ url, input, result }, operation) {
  const head = `import os
${operation === "run" ? "import time\n" : ""}
import requests

URL = ${JSON.stringify(url)}
HEADERS = {"Authorization": f"Bearer {os.environ['RUNPOD_API_KEY']}"}
INPUT = ${python(input)}

`;
  const end = `if job.get("status") != "COMPLETED":
    raise SystemExit(job)
print(job${result.map((name) => `["${name}"]`).join("")})
`;
  if (operation === "runsync") {
    return `${head}job = requests.post(f"{URL}/runsync?wait=300000", json={"input": INPUT}, headers=HEADERS, timeout=310).json()
${end}`;
  }
  return `${head}job = requests.post(f"{URL}/run", json={"input": INPUT}, headers=HEADERS, timeout=10).json()
while job.get("status") in ("IN_QUEUE", "IN_PROGRESS"):
    time.sleep(1)
    job = requests.get(f"{URL}/status/{job['id']}", headers=HEADERS, timeout=10).json()
${end}`;
}

function runpod({ base, endpoint, input, result }, operation) {
  const path = result.slice(1).map((name) => `["${name}"]`).join("");
  const head = `import os

import runpod

runpod.api_key = os.environ["RUNPOD_API_KEY"]
runpod.endpoint_url_base = ${JSON.stringify(`${base}v2`)}
endpoint = runpod.Endpoint(${JSON.stringify(endpoint.id)})
`;
  if (operation === "runsync") return `${head}output = endpoint.run_sync(${python(input)}, timeout=300)\nprint(output${path})\n`;
  return `${head}job = endpoint.run(${python(input)})\nprint(job.output(timeout=300)${path})\n`;
}

function fetched({ url, input, result }, operation) {
  const head = `const url = ${JSON.stringify(url)};
const headers = { Authorization: \`Bearer \${process.env.RUNPOD_API_KEY}\`, "Content-Type": "application/json" };
const input = ${JSON.stringify(input, null, 2)};

`;
  const body = "body: JSON.stringify({ input })";
  const end = `if (job.status !== "COMPLETED") throw new Error(JSON.stringify(job));
console.log(job.${result.join(".")});
`;
  if (operation === "runsync") {
    return `${head}const reply = await fetch(\`\${url}/runsync?wait=300000\`, { method: "POST", headers, ${body} });
const job = await reply.json();
${end}`;
  }
  return `${head}let job = await (await fetch(\`\${url}/run\`, { method: "POST", headers, ${body} })).json();
while (job.status === "IN_QUEUE" || job.status === "IN_PROGRESS") {
  await new Promise((resolve) => setTimeout(resolve, 1000));
  job = await (await fetch(\`\${url}/status/\${job.id}\`, { headers })).json();
}
${end}`;
}

// Width and height go through providerOptions: the size option of the provider allows a few sizes only.
function aiSdk({ url, input }) {
  const { prompt, seed, ...options } = input;
  return `import { writeFile } from "node:fs/promises";
import { createRunpod } from "@runpod/ai-sdk-provider";
import { generateImage } from "ai";

const runpod = createRunpod({ apiKey: process.env.RUNPOD_API_KEY });
const { image, providerMetadata } = await generateImage({
  model: runpod.image(${JSON.stringify(url)}),
  prompt: ${JSON.stringify(prompt)},${seed === undefined ? "" : `\n  seed: ${seed},`}
  providerOptions: { runpod: ${JSON.stringify(options, null, 2).replaceAll("\n", "\n  ")} },
});
await writeFile("picture.${input.image_format}", image.uint8Array);
console.log(providerMetadata.runpod.images[0].url);
`;
}

// A JSON value as Python writes it.
function python(value, indent = "") {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null) return "None";
  const deeper = `${indent}    `;
  const block = (lines, open, close) => (lines.length ? `${open}\n${lines.map((line) => `${deeper}${line},\n`).join("")}${indent}${close}` : open + close);
  if (Array.isArray(value)) return block(value.map((item) => python(item, deeper)), "[", "]");
  if (typeof value === "object") {
    const lines = Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${python(item, deeper)}`);
    return block(lines, "{", "}");
  }
  // Numbers and text look alike in both languages.
  return JSON.stringify(value);
}
