#!/usr/bin/env bash
# Flux Schnell in four steps: one call that waits; prints the answer.
set -euo pipefail
curl --silent --show-error --fail-with-body -X POST "${BASE_URL:-http://127.0.0.1:8000}/v2/black-forest-labs-flux-1-schnell/runsync" \
  -H "Authorization: Bearer $RUNPOD_API_KEY" \
  -H "Content-Type: application/json" \
  -d '{
  "input": {
    "prompt": "A quick sketch of a mountain landscape",
    "width": 1024,
    "height": 1024,
    "num_inference_steps": 4,
    "guidance": 1.0,
    "seed": 123
  }
}'
