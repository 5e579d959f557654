"""Runpod's official MCP server, unmodified, against a running server: only its base URLs are changed."""

import json
import os
import subprocess
from typing import Any

from tests.clients.test_node import NODE
from tests.servers import DEADLINE_S, DEV, Server

LAKE = {"endpointId": DEV, "input": {"prompt": "a lake", "width": 256, "height": 256, "seed": 7}}
JOB = {"endpointId": DEV, "jobId": "$.id"}
SLOW = {"endpointId": DEV, "input": {"prompt": "a lake", "num_inference_steps": 50}}


def call_tools(server: Server, *calls: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What each tool answered; a value "$.path" is taken from what was answered before."""
    urls = {
        "RUNPOD_API_BASE_URL": server.url,
        "RUNPOD_SERVERLESS_API_URL": f"{server.url}/v2",
        "RUNPOD_PUBLIC_GRAPHQL_URL": f"{server.url}/graphql",
        "RUNPOD_AUTHED_GRAPHQL_URL": f"{server.url}/graphql",
        "RUNPOD_API_KEY": (server.data_dir / "api-key").read_text().strip(),
    }
    lines = "".join(json.dumps({"tool": tool, "arguments": arguments}) + "\n" for tool, arguments in calls)
    done = subprocess.run(
        ["node", "mcp.mjs", "runpod"],
        **{"cwd": NODE, "env": os.environ | urls, "input": lines},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["tool"] for result in results] == [tool for tool, _ in calls]
    assert [result["tool"] for result in results if result["isError"]] == ["retry-job"] * ("retry-job" in done.stdout)
    return [result["answer"] for result in results]


def test_jobs_are_made_read_and_ended_by_its_tools(server: Server) -> None:
    done, queued, status, stream, cancelled, retried, purged, health = call_tools(
        server,
        ("runsync-endpoint", LAKE),
        ("run-endpoint", LAKE),
        ("get-job-status", JOB | {"wait": 30_000}),
        ("stream-job", JOB),
        ("cancel-job", JOB),
        ("retry-job", JOB),
        ("purge-endpoint-queue", {"endpointId": DEV}),
        ("endpoint-health", {"endpointId": DEV}),
    )
    assert done["status"] == "COMPLETED"
    assert queued["status"] == "IN_QUEUE"
    assert (status["status"], status["output"]["seed"]) == ("COMPLETED", 7)
    assert stream["status"] == "COMPLETED"
    assert cancelled["status"] == "COMPLETED"
    # Only what has failed can be tried again: the reason reaches the caller.
    assert "COMPLETED" in json.dumps(retried)
    assert purged == {"removed": 0, "status": "completed"}
    assert health["jobs"]["completed"] >= 2


def test_endpoints_workers_bills_and_the_catalogue_are_read_by_its_tools(server: Server) -> None:
    call_tools(server, ("runsync-endpoint", LAKE))
    listed, endpoint, workers, bill, bill_of_one, public, whole, catalogue = call_tools(
        server,
        ("list-endpoints", {}),
        ("get-endpoint", {"id": DEV}),
        ("list-endpoint-workers", {"id": DEV}),
        ("list-serverless-billing", {"lastN": 1}),
        ("list-serverless-billing", {"lastN": 1, "serverlessId": DEV}),
        ("list-endpoint-billing", {"lastN": 1}),
        ("list-billing", {"lastN": 1}),
        ("list-public-endpoints", {"searchTerm": "flux", "modality": "image"}),
    )
    assert DEV in json.dumps(listed)
    assert endpoint["requestUrls"]["run"] == f"{server.url}/v2/{DEV}/run"
    assert workers["summary"]["total"] == len(workers["workers"]) == 1
    assert bill == bill_of_one | {"metadata": bill["metadata"]}
    amounts = [one["metadata"]["totals"]["totalAmount"] for one in (bill, bill_of_one, public, whole)]
    assert amounts == [amounts[0]] * 4
    assert amounts[0] > 0
    assert "$0.02 per megapixel" in json.dumps(catalogue)


def test_a_job_that_waits_comes_with_what_its_workers_do_and_is_cancelled(slow_server: Server) -> None:
    # More than the worker draws in turn: the last one waits.
    *_, waiting, cancelled = call_tools(
        slow_server,
        *[("run-endpoint", SLOW)] * 12,
        ("get-job-status", JOB),
        ("cancel-job", JOB),
    )
    assert waiting["status"] == "IN_QUEUE"
    assert waiting["workerHealth"]["total"] == 1
    assert cancelled["status"] == "CANCELLED"
