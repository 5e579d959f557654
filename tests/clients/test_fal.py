"""fal's official Python client, unmodified, against a running server with TLS: only its environment is changed.

The commands that make the certificate are those of the guide.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.proxy import held_port
from tests.servers import DEADLINE_S, Server, Servers

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "fal.md").read_text()
[PROGRAM] = re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
SMALL = '{"prompt": "a lake", "image_size": {"width": 256, "height": 256}, "seed": 7, "num_inference_steps": 4}'


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory, tls_files: Mapping[str, Path]) -> Iterator[Server]:
    """A server as in the guide, whose steps take long enough to be interrupted."""
    servers = Servers(tmp_path_factory.mktemp("server"))
    with held_port() as tls_port:
        yield servers.start(model="fake:0.2", tls_port=tls_port, **tls_files)
        servers.close()


def run(server: Server, program: str) -> str:
    """What a program prints that begins with the guide's own first lines."""
    port = f"localhost:{server.settings['tls_port']}"
    key = (server.data_dir / "api-key").read_text().strip()
    environment = os.environ | {"RUNPOD_API_KEY": key}
    done = subprocess.run(
        [sys.executable, "-c", program.replace("localhost:8443", port)],
        cwd=Path(str(server.settings["tls_cert"])).parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(server: Server, *lines: str) -> Any:
    """What the last of some lines of Python prints as JSON, after the imports of the guide."""
    before = PROGRAM.partition("\nresult = ")[0] + f"\nimport json\nsmall = json.loads('{SMALL}')\n"
    return json.loads(run(server, before + "\n".join(lines)).splitlines()[-1])


def test_the_program_of_the_guide_draws(tls_server: Server) -> None:
    link = run(tls_server, PROGRAM).strip()
    assert link.startswith(f"https://localhost:{tls_server.settings['tls_port']}/images/"), link


def test_a_picture_and_the_same_again(tls_server: Server) -> None:
    first, again = told(
        tls_server,
        "draw = lambda: fal_client.run('fal-ai/flux/schnell', arguments=small | {'sync_mode': True})",
        "print(json.dumps([draw(), draw()]))",
    )
    assert first["images"][0]["url"].startswith("data:image/jpeg;base64,")
    assert (first["images"], first["seed"]) == (again["images"], 7)


def test_what_is_wrong_reaches_the_caller(tls_server: Server) -> None:
    words = told(
        tls_server,
        "try:",
        "    fal_client.submit('fal-ai/flux/dev', arguments={'prompt': 'a lake', 'image_size': {'width': 1}})",
        "except fal_client.FalClientHTTPError as error:",
        "    print(json.dumps([error.status_code, str(error)]))",
    )
    assert words[0] == 422
    assert "width must be between 256 and 1536" in words[1]


def test_a_slow_request_is_followed_and_cancelled(tls_server: Server) -> None:
    kinds, error = told(
        tls_server,
        "handle = fal_client.submit('fal-ai/flux/dev', arguments=small | {'num_inference_steps': 50})",
        "kinds, has_logs = [], False",
        "for state in handle.iter_events(with_logs=True):",
        "    kinds.append(type(state).__name__)",
        "    if isinstance(state, fal_client.InProgress) and state.logs:",
        "        handle.cancel()",
        "try:",
        "    handle.get()",
        "except fal_client.FalClientHTTPError as error:",
        "    print(json.dumps([kinds, [error.status_code, error.error_type]]))",
    )
    assert (kinds[-1], "InProgress" in kinds) == ("Completed", True)
    assert error == [499, "client_cancelled"]


def test_a_client_that_waits_no_longer_cancels(tls_server: Server) -> None:
    state = told(
        tls_server,
        "ids = []",
        "arguments = small | {'num_inference_steps': 50}",
        "try:",
        "    fal_client.subscribe('fal-ai/flux/dev', arguments=arguments, client_timeout=4, on_enqueue=ids.append)",
        "except fal_client.FalClientTimeoutError:",
        "    print(json.dumps(vars(fal_client.status('fal-ai/flux/dev', ids[0]))))",
    )
    assert state["error_type"] == "client_cancelled"


def test_a_stream_ends_with_the_result(tls_server: Server) -> None:
    events = told(tls_server, "print(json.dumps(list(fal_client.stream('fal-ai/flux/dev', arguments=small))))")
    assert events[-1]["images"][0]["url"].startswith("https://localhost:")


def test_a_request_that_fails_says_so(failing_server: Server) -> None:
    words = told(
        failing_server,
        "handle = fal_client.submit('fal-ai/flux/dev', arguments=small)",
        "try:",
        "    handle.get()",
        "except fal_client.FalClientHTTPError as error:",
        "    print(json.dumps([error.status_code, error.error_type, str(error)]))",
    )
    assert words[:2] == [500, "runner_server_error"]
    assert "no paint" in words[2]
