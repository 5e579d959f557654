#!/usr/bin/env bash
# @huggingface/inference 4.13.30 (npm, Node 20): textToImage at a server that answers 503 with Retry-After, as one does
# that is loading its model or has a full queue.
#
# Expected: an error, or a few tries with the pause that Retry-After asks for, as huggingface_hub's Python client has an
# error. Its option retry_on_error says "will be retried with the same parameters", and no more.
# Seen: the request is sent again at once, with no pause and no bound, until the server says something else: a hundred
# POSTs in two seconds, where Retry-After says 60. One client so keeps a server busy that said it has no place, and
# neither an error nor a log tells its user. With 429 there is one request and an error.
#
# Our routes for these clients say 429 where others say 503
# (tests/api/test_huggingface.py::test_it_never_says_503_which_one_client_repeats_for_ever).
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix . @huggingface/inference@4.13.30
cat > main.mjs <<'JS'
import { createServer } from "node:http";
import { InferenceClient } from "@huggingface/inference";

const REFUSED = 100;
const PNG = Buffer.from("iVBORw0KGgo=", "base64");
let status = 503;
let heard = 0;
const server = createServer((request, response) => {
  request.resume();
  request.on("end", () => {
    heard += 1;
    if (heard <= REFUSED) {
      response.writeHead(status, { "Content-Type": "application/json", "Retry-After": "60" });
      response.end('{"error": "the queue is full"}');
    } else {
      response.writeHead(200, { "Content-Type": "image/png" });
      response.end(PNG);
    }
  });
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const endpointUrl = `http://127.0.0.1:${server.address().port}/model`;
const client = new InferenceClient("key").endpoint(endpointUrl);

async function asked() {
  heard = 0;
  const before = performance.now();
  let told;
  try {
    told = `${(await client.textToImage({ inputs: "a lake" })).size} bytes`;
  } catch (error) {
    told = `${error.name}: ${error.message}`;
  }
  return { told, heard, seconds: (performance.now() - before) / 1000 };
}

const busy = await asked();
status = 429;
const limited = await asked();
server.close();
server.closeAllConnections();
console.log(`503, Retry-After: 60: ${busy.heard} requests in ${busy.seconds.toFixed(1)} s, then ${busy.told}`);
console.log(`429, Retry-After: 60: ${limited.heard} requests, then ${limited.told}`);
if (busy.heard !== REFUSED + 1 || busy.seconds > 50 || limited.heard !== 1) {
  console.log("changed: it no longer asks again without a pause");
  process.exit(1);
}
console.log("as described");
JS
node main.mjs
