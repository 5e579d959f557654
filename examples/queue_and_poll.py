"""Queue a picture, ask every two seconds how it stands, print where it is."""

import os
import time

import requests

URL = os.environ.get("BASE_URL", "http://127.0.0.1:8000") + "/v2/black-forest-labs-flux-1-dev"
PICTURE = {"prompt": "A futuristic cityscape with flying cars", "num_inference_steps": 50, "guidance": 8.0}

client = requests.Session()
client.headers["Authorization"] = f"Bearer {os.environ['RUNPOD_API_KEY']}"
accepted = client.post(f"{URL}/run", json={"input": PICTURE}, timeout=10)
accepted.raise_for_status()
while True:
    job = client.get(f"{URL}/status/{accepted.json()['id']}", timeout=10).json()
    if job["status"] == "COMPLETED":
        print(job["output"]["image_url"])
        break
    if job["status"] not in ("IN_QUEUE", "IN_PROGRESS"):
        raise SystemExit(f"{job['status']}: {job.get('error', '')}")
    time.sleep(2)
