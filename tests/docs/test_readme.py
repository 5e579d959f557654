"""What the README shows is what happens."""

import json
import os
import re
import subprocess
from pathlib import Path

from tests.servers import Servers

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_curl_makes_the_picture_it_promises(servers: Servers) -> None:
    server = servers.start(model="fake")
    (block,) = code_blocks("bash")
    script = block.replace("http://127.0.0.1:8000", server.url)
    done = subprocess.run(
        ["bash", "-euc", script], cwd=server.folder, env=os.environ.copy(), capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout)
    (shown,) = code_blocks("json")
    promised = json.loads(shown)
    assert answer["status"] == promised["status"] == "COMPLETED"
    assert answer.keys() == promised.keys()
    assert answer["output"].keys() == promised["output"].keys()
    assert answer["output"]["cost"] == promised["output"]["cost"]
    assert answer["output"]["seed"] == promised["output"]["seed"]


def test_every_file_the_documents_link_to_exists() -> None:
    documents = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("benchmarks/*.md"),
        *ROOT.glob("training/*.md"),
    ]
    for document in documents:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
