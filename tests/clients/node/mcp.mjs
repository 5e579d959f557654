// Calls tools of an MCP server, one after another, and prints what each returned as one line of JSON.
// The first argument says which server: `runpod` for Runpod's own, over standard input and output, or a URL.
// Each line of standard input is `{"tool", "arguments"}`; "$.path" in an argument is taken from what was answered before.
import { createInterface } from "node:readline";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const where = process.argv[2];
const key = process.env.RUNPOD_API_KEY;

function transport() {
  if (where === "runpod") {
    return new StdioClientTransport({ command: "node", args: ["node_modules/@runpod/mcp-server/dist/stdio.mjs"], env: process.env });
  }
  return new StreamableHTTPClientTransport(new URL(where), { requestInit: { headers: { Authorization: `Bearer ${key}` } } });
}

function filled(value, before) {
  if (typeof value === "string" && value.startsWith("$.")) return value.slice(2).split(".").reduce((part, name) => part[name], before);
  if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, filled(part, before)]));
}

const client = new Client({ name: "flux-endpoint-tests", version: "1.0.0" });
await client.connect(transport());
let before = {};
for await (const line of createInterface({ input: process.stdin })) {
  const { tool, arguments: given } = JSON.parse(line);
  const progress = [];
  const result = await client.callTool({ name: tool, arguments: filled(given, before) }, undefined, {
    onprogress: (notice) => progress.push(notice),
    timeout: 60_000,
  });
  const text = result.content.find((block) => block.type === "text")?.text;
  let answer = { text };
  try {
    answer = result.structuredContent ?? JSON.parse(text);
  } catch {
    // It is for people.
  }
  before = { ...before, ...answer };
  console.log(JSON.stringify({ tool, isError: result.isError ?? false, answer, content: result.content, progress }));
}
await client.close();
