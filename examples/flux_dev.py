"""Flux Dev with every parameter: one call that waits; prints where the picture is."""

import os

import requests

BASE_URL = os.environ.get("BASE_URL", "http://127.0.0.1:8000")
PICTURE = {
    "prompt": "A serene mountain landscape at sunset, golden light filtering through clouds, photorealistic",
    "negative_prompt": "blurry, low quality",
    "width": 1024,
    "height": 1024,
    "num_inference_steps": 28,
    "guidance": 7.5,
    "seed": 42,
    "image_format": "png",
}

answer = requests.post(
    f"{BASE_URL}/v2/black-forest-labs-flux-1-dev/runsync",
    headers={"Authorization": f"Bearer {os.environ['RUNPOD_API_KEY']}"},
    json={"input": PICTURE},
    timeout=300,
)
answer.raise_for_status()
print(answer.json()["output"]["image_url"])
