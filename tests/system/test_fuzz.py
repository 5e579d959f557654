"""Generated requests, right and wrong ones, against a running server: schemathesis with all its checks."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import Servers

# `make fuzz` asks for more, and for other ones each time.
EXAMPLES = os.environ.get("FUZZ_EXAMPLES")
CONFIG = Path(__file__).parent / "schemathesis.toml"
HOOKS = Path(__file__).parent / "fuzz_hooks.py"
CI_EXAMPLES = 8
CI_SEED = 20_260_101


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_no_request_gets_an_answer_that_the_document_does_not_promise(servers: Servers, tmp_path: Path) -> None:
    # Whatever is queued must not hold up who waits for a picture.
    server = servers.start(model="fake:0", rate_limits="off")
    key = (server.data_dir / "api-key").read_text().strip()
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(CONFIG)),
        *("run", f"{server.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {key}", "--checks", "all", "--continue-on-failure"),
        *("--max-examples", EXAMPLES or str(CI_EXAMPLES), "--workers", "1", "--no-color"),
        # A form of files: what schemathesis writes into one is no picture, and a true one no text to it.
        *("--exclude-path", "/v1/images/edits"),
        *("--report-dir", str(tmp_path), "--generation-database", "none"),
        *([] if EXAMPLES else ["--seed", str(CI_SEED)]),
    ]
    hooks = os.environ | {"SCHEMATHESIS_HOOKS": str(HOOKS)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=hooks)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated and int(generated[1]) >= 800, done.stdout[-2_000:]
