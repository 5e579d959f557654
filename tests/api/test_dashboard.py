"""Whoever asks Prometheus asks for what there is: the dashboard of Grafana, and what scales workers on Kubernetes."""

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.api.conftest import DEV, Gateway, HandWorker

pytestmark = pytest.mark.anyio

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "flux-endpoint.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
(SCALER,) = (
    manifest["spec"]["triggers"][0]["metadata"]["query"]
    for manifest in yaml.safe_load_all((DEPLOY / "kubernetes" / "workers" / "scaling.yaml").read_text())
)
VARIABLES = [variable["query"] for variable in DASHBOARD["templating"]["list"]]
# A name, and the labels that are chosen by.
ASKED = re.compile(r"\b(flux_endpoint_\w+)(?:\{([^}]*)\})?")
# Told by each gateway of what went through it; all else each tells of the whole database.
ITS_OWN = {"worker_steps", "lost_leases", "webhook_attempts", "picture_bytes"}


async def exposed(gateway: Gateway) -> dict[str, set[str]]:
    """The labels of every sample that there is, by its name."""
    # Figures are kept for a second, and an end is counted some seconds later.
    gateway.clock.advance(ms=6_000)
    text = (await gateway.get("/metrics")).text
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@pytest.fixture
async def samples(gateway: Gateway, worker: HandWorker) -> dict[str, set[str]]:
    """Those of a gateway that has drawn a picture."""
    await exposed(gateway)
    reply = await gateway.post(f"{DEV}/run", {"input": {"prompt": "a lake"}, "webhook": "https://hook.example/"})
    assert reply.status_code == 200
    job = await worker.take()
    assert job is not None
    await worker.finish(job)
    return await exposed(gateway)


async def test_every_metric_and_label_that_is_asked_for_exists(samples: dict[str, set[str]]) -> None:
    for query in (*QUERIES, SCALER, *VARIABLES):
        for name, chosen in ASKED.findall(query):
            assert name in samples, f"{name} of {query}"
            assert set(re.findall(r"(\w+)=~?\"", chosen)) <= samples[name], query
            for grouped in re.findall(r"by \(([\w, ]+)\)", query):
                assert set(grouped.split(", ")) <= samples[name], query
    shown = " ".join(QUERIES)
    missing = {re.sub(r"_(count|sum)$", "_bucket", name) for name in samples} - {
        name for name, _ in ASKED.findall(shown)
    }
    assert missing == set()


@pytest.mark.parametrize("query", [*QUERIES, SCALER])
def test_what_all_gateways_tell_is_not_added_up(query: str) -> None:
    ((name, _),) = ASKED.findall(query)
    if name == "flux_endpoint_build_info":
        return
    is_own = any(own in name for own in ITS_OWN)
    # Inside of all else: what is added up then are endpoints, and no gateways.
    innermost = re.findall(r"\b(sum|max|count)\b", query)[-1]
    assert innermost == ("sum" if is_own else "max")


def test_the_dashboard_is_complete() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    for panel in PANELS:
        assert panel["description"].endswith(".")
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            # An outer name for each line that is drawn.
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert label in re.search(r"by \(([^)]*)\)", target["expr"]).group(1)
