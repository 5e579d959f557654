#!/usr/bin/env bash
# Flux Dev with every parameter: one call that waits; prints the answer.
set -euo pipefail
curl --silent --show-error --fail-with-body -X POST "${BASE_URL:-http://127.0.0.1:8000}/v2/black-forest-labs-flux-1-dev/runsync" \
  -H "Authorization: Bearer $RUNPOD_API_KEY" \
  -H "Content-Type: application/json" \
  -d '{
  "input": {
    "prompt": "A serene mountain landscape at sunset, golden light filtering through clouds, photorealistic",
    "negative_prompt": "blurry, low quality",
    "width": 1024,
    "height": 1024,
    "num_inference_steps": 28,
    "guidance": 7.5,
    "seed": 42,
    "image_format": "png"
  }
}'
