#!/usr/bin/env bash
# Queue a picture, ask every two seconds how it stands, print the last answer.
set -euo pipefail
url="${BASE_URL:-http://127.0.0.1:8000}/v2/black-forest-labs-flux-1-dev"
ask() { curl --silent --show-error --fail-with-body -H "Authorization: Bearer $RUNPOD_API_KEY" "$@"; }
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

id=$(ask -X POST "$url/run" -H "Content-Type: application/json" \
  -d '{"input": {"prompt": "A futuristic cityscape with flying cars", "num_inference_steps": 50, "guidance": 8.0}}' | field id)
while job=$(ask "$url/status/$id") && [[ $(field status <<<"$job") == IN_* ]]; do
  sleep 2
done
echo "$job"
