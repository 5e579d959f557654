#!/usr/bin/env bash
# @runpod/ai-sdk-provider 1.4.0 with ai 6.0.326 (npm, Node 20): Runpod's own provider for the AI SDK, pictures of
# FLUX.1 dev.
#
# Expected: a job that ends as one of the states that Runpod's API documents (COMPLETED, FAILED, CANCELLED, TIMED_OUT)
# is told as that state, with the text in `error`.
# Seen: FAILED is ("Image generation failed: ..."). CANCELLED and TIMED_OUT are refused by the provider's own schema
# of the answer, which lists COMPLETED, IN_QUEUE, IN_PROGRESS and FAILED: the caller gets an APICallError "Invalid
# JSON response", for an answer of status 200 that is valid JSON, and finds the state in `responseBody` only. Who
# cancels a job elsewhere, or whose job is too long in the queue, looks for a broken server or proxy.
#
# We answer with the states that Runpod documents, so users of this provider meet it with us as with Runpod.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-fund --no-audit --prefix "$folder" @runpod/ai-sdk-provider@1.4.0 ai@6.0.326
cat >"$folder/ended.mjs" <<'JS'
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { createRunpod } from "@runpod/ai-sdk-provider";
import { generateImage } from "ai";

const REASON = "ended by its owner";
let end;

const server = createServer((request, response) => {
  request.resume();
  response.setHeader("Content-Type", "application/json");
  const job = { id: "the-job", delayTime: 1, executionTime: 1 };
  // /runsync is a POST, /status/the-job a GET.
  const state = request.method === "POST" ? { status: "IN_QUEUE" } : { status: end, error: REASON };
  response.end(JSON.stringify({ ...job, ...state }));
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const baseURL = `http://127.0.0.1:${server.address().port}/v2/black-forest-labs-flux-1-dev`;
const model = createRunpod({ apiKey: "key", baseURL }).image("black-forest-labs/flux-1-dev");
const providerOptions = { runpod: { pollIntervalMillis: 10, maxPollAttempts: 5 } };

for (const [state, expected] of [
  ["FAILED", `Image generation failed: ${REASON}`],
  ["CANCELLED", "Invalid JSON response"],
  ["TIMED_OUT", "Invalid JSON response"],
]) {
  end = state;
  const error = await generateImage({ model, prompt: "lakes", maxRetries: 0, providerOptions }).then(
    () => assert.fail(`changed: ${state} gave a picture`),
    (raised) => raised,
  );
  console.log(`${state}: ${error.name}: ${error.message}`);
  assert.equal(error.message, expected, `changed: ${state}`);
  if (state !== "FAILED") {
    assert.equal(error.name, "AI_APICallError");
    assert.equal(error.statusCode, 200);
    assert.equal(JSON.parse(error.responseBody).status, state);
  }
}
server.close();
console.log("as described");
JS
node "$folder/ended.mjs"
