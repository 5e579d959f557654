"""The guide to many machines names only what exists, and what of it one machine can do, is done."""

import re
import shlex
from pathlib import Path

import yaml

from flux_endpoint.settings import Settings, WorkerSettings
from flux_endpoint.settings.fields import PREFIX
from flux_endpoint.settings.reader import list_settings
from tests.docs.test_deploy import COMPOSE, ROOT, wrong_words
from tests.docs.test_guides import code_blocks, run_block
from tests.docs.test_kubernetes import BUILT, FOLDER, identity
from tests.servers import Servers

GUIDE = "many-machines.md"
TEXT = (ROOT / "docs" / "guides" / GUIDE).read_text()
KNOWN = {info.name for kind in (Settings, WorkerSettings) for info in list_settings(kind)}
COMMANDS = [line.strip() for line in TEXT.splitlines() if line.startswith("    ")]


def test_every_command_of_ours_exists() -> None:
    ours = [line.split("flux-endpoint ", 1)[1] for line in COMMANDS if ".venv/bin/flux-endpoint " in line]
    assert len(ours) >= 5
    for line in ours:
        assert wrong_words(shlex.split(line.partition("2>&1")[0])) == []
    for options in re.findall(r"`(--fleet local [^`]*)`", TEXT):
        assert wrong_words(["serve", *shlex.split(options)]) == []


def test_every_setting_extra_and_file_exists() -> None:
    assert set(re.findall(rf"{PREFIX}(\w+)", TEXT)) <= KNOWN
    for name in ("LOG_FORMAT", "METRICS", "MAX_WORKERS", "MIN_WORKERS", "LEASE_S"):
        assert name in KNOWN
        assert name in TEXT
    for name in re.findall(r"\bdeploy/[\w./-]+\w", TEXT):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"apply -k (\S+)", TEXT):
        assert (ROOT / name / "kustomization.yaml").is_file()


def test_what_kubectl_and_compose_ask_for_is_sent() -> None:
    sent = {identity(manifest) for manifest in (one for built in BUILT.values() for one in built.values())}
    asked = re.findall(r"(deployment|job|service)/(\w+)", " ".join(COMMANDS))
    assert len(asked) >= 4
    assert {(kind.capitalize(), name) for kind, name in asked} <= sent
    assert set(re.findall(r"logs --follow (\w+) (\w+)", TEXT)[0]) <= COMPOSE["services"].keys()
    # The images are called as the manifests call them.
    named = {
        container["image"]
        for manifest in BUILT["ray"].values()
        if manifest["kind"] == "RayCluster"
        for group in (manifest["spec"]["headGroupSpec"], *manifest["spec"]["workerGroupSpecs"])
        for container in group["template"]["spec"]["containers"]
    }
    for root in ("gateway", "workers"):
        plan = yaml.safe_load((FOLDER / root / "kustomization.yaml").read_text())
        named |= {f"{image['newName']}:{image['newTag']}" for image in plan["images"]}
    built = dict(re.findall(r"docker build -f (\S+) -t (\S+) \.", TEXT))
    assert set(built.values()) == named
    assert all(Path(image).name.partition(":")[0].endswith(Path(file).stem) for file, image in built.items())


def test_prometheus_asks_for_the_port_and_the_pods_that_there_are() -> None:
    (block,) = code_blocks(GUIDE, "yaml")
    (job,) = yaml.safe_load(block)["scrape_configs"]
    template = BUILT["gateway"]["Deployment", "gateway"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    wanted = {rule["source_labels"][0].rpartition("_pod_")[2]: rule["regex"] for rule in job["relabel_configs"]}
    assert wanted == {
        "label_app": template["metadata"]["labels"]["app"],
        "container_port_name": container["ports"][0]["name"],
    }


def test_curl_reads_health_and_metrics(servers: Servers) -> None:
    server = servers.start(workers=0, model="fake")
    (block,) = code_blocks(GUIDE, "bash")
    told = run_block(block, server.url, server.folder)
    assert re.findall(r'"status": ?"(\w+)"', told) == ["live", "ready"]
    assert (
        re.findall(
            r'^flux_endpoint_jobs\{endpoint="\S+",status="(\w+)"\} 0.0$', told[told.index("flux_") :], re.MULTILINE
        )
        == [
            "IN_QUEUE",
            "IN_PROGRESS",
        ]
        * 2
    )
