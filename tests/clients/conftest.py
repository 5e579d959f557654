"""The servers that clients are tried against."""

import contextlib
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.proxy import held_port
from tests.servers import DEADLINE_S, DEV, Server, Servers

HERE = Path(__file__).parent
GUIDE_OF_TLS = HERE.parents[1] / "docs" / "guides" / "fal.md"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Those of one file on one of the parallel processes, so that they share what is started for them.
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    servers = Servers(tmp_path_factory.mktemp("server"))
    yield servers.start(model="fake")
    servers.close()


@pytest.fixture
def slow_server(tmp_path: Path) -> Iterator[Server]:
    """One whose steps take long enough to be interrupted."""
    servers = Servers(tmp_path)
    yield servers.start(model="fake:0.2")
    servers.close()


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Settings of a server with TLS, made by the commands of the guide; `ca.pem` lies beside the files."""
    folder, guide = tmp_path_factory.mktemp("tls"), GUIDE_OF_TLS.read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    [making] = [block for block in blocks if "openssl" in block]
    subprocess.run(["bash", "-euc", making], cwd=folder, check=True, capture_output=True, timeout=DEADLINE_S)
    options = re.findall(r"--(tls-(?:cert|key)) (\S+)", guide)
    return {name.replace("-", "_"): folder / file for name, file in options}


@pytest.fixture(scope="session")
def failing_server(tmp_path_factory: pytest.TempPathFactory, tls_files: Mapping[str, Path]) -> Iterator[Server]:
    """One whose only worker has no paint."""
    servers = Servers(tmp_path_factory.mktemp("failing"))
    with held_port() as tls_port:
        server = servers.start(model="fake", workers=0, tls_port=tls_port, **tls_files)
        is_over = threading.Event()
        worker = threading.Thread(target=fail_all, args=(server, is_over))
        worker.start()
        yield server
        is_over.set()
        servers.close()
        worker.join()


def fail_all(server: Server, is_over: threading.Event) -> None:
    """Take every job there is, and say that it failed."""
    path = f"{server.url}/v2/{DEV}"
    with httpx.Client(headers={"Authorization": server.worker_token}, timeout=DEADLINE_S) as client:
        while not is_over.is_set():
            # The last one ends with the server. To give one up earlier may lose the job that it is just being handed.
            with contextlib.suppress(httpx.TransportError):
                reply = client.get(f"{path}/job-take/no-paint?gpu=cpu&claim=1")
                if reply.status_code == httpx.codes.OK:
                    job = reply.json()
                    query = f"claimToken={job['claimToken']}&isStream=false"
                    client.post(f"{path}/job-done/no-paint/{job['id']}?{query}", json={"error": "no paint"})
