#!/usr/bin/env bash
# huggingface-hub 2.4.0: which exceptions come out of it when the network fails.
#
# Expected: those of requests (0.x) or httpx (1.x); code that catches `httpx.HTTPError` or `requests.RequestException`
# around a download keeps working, since httpx is still what most tools in the environment depend on.
# Seen (CPython 3.11): the library moved to the package httpx2. A refused connection is a `httpx2.ConnectError`, which
# is neither an `httpx.HTTPError` nor a `requests.RequestException` nor an `OSError`: all three handlers miss it.
#
# We catch `httpx2.HTTPError` around a download of weights, and say in one line that starting again resumes it.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet huggingface-hub==2.4.0 httpx==0.28.1 requests==2.32.5
HF_HOME="$folder/home" "$folder/venv/bin/python" - <<'PY'
import httpx
import requests
from huggingface_hub import HfApi, get_hf_file_metadata

# Port 9 of this machine: nobody listens there.
for name, call in {
    "HfApi.model_info": lambda: HfApi(endpoint="http://127.0.0.1:9").model_info("owner/model"),
    "get_hf_file_metadata": lambda: get_hf_file_metadata("http://127.0.0.1:9/owner/model/resolve/main/file"),
}.items():
    try:
        call()
    except Exception as error:
        caught = [base.__name__ for base in (httpx.HTTPError, requests.RequestException, OSError) if isinstance(error, base)]
        print(f"{name}: {type(error).__module__}.{type(error).__name__}, caught as {caught}")
        if caught or type(error).__module__ != "httpx2":
            raise SystemExit("changed: the usual handlers catch what a broken download raises")
    else:
        raise SystemExit("somebody answered on port 9")
print("as described")
PY
