"""Flux Schnell in four steps: one call that waits; prints where the picture is."""

import os

import requests

BASE_URL = os.environ.get("BASE_URL", "http://127.0.0.1:8000")
PICTURE = {
    "prompt": "A quick sketch of a mountain landscape",
    "width": 1024,
    "height": 1024,
    "num_inference_steps": 4,
    "guidance": 1.0,
    "seed": 123,
}

answer = requests.post(
    f"{BASE_URL}/v2/black-forest-labs-flux-1-schnell/runsync",
    headers={"Authorization": f"Bearer {os.environ['RUNPOD_API_KEY']}"},
    json={"input": PICTURE},
    timeout=300,
)
answer.raise_for_status()
print(answer.json()["output"]["image_url"])
