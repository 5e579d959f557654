"""One job seen in a trace, from its client's request to its picture, by a real collector's end of OTLP over HTTP."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.servers import DEV, Servers, wait_until

TRACE_ID, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
WORKERS_PARTS = {"denoise", "decode", "encode file"}


class Collector:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                outer.bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Into no test's output."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def spans(self) -> dict[str, dict[str, object]]:
        """By name: of the service, ids, times and attributes."""
        found = {}
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                about = {one.key: one.value.string_value for one in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        found[span.name] = {
                            "service": about["service.name"],
                            "trace": span.trace_id.hex(),
                            "id": span.span_id.hex(),
                            "parent": span.parent_span_id.hex(),
                            "start": span.start_time_unix_nano,
                            "end": span.end_time_unix_nano,
                            "about": {one.key: one.value.string_value for one in span.attributes},
                        }
        return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever)
    thread.start()
    yield collector
    collector.server.shutdown()
    thread.join()
    collector.server.server_close()


def test_a_clients_trace_goes_through_gateway_and_worker(servers: Servers, collector: Collector) -> None:
    url = f"http://127.0.0.1:{collector.server.server_port}"
    server = servers.start(otlp_endpoint=url, environment={"OTEL_BSP_SCHEDULE_DELAY": "50"})
    reply = server.client.post(
        "/runsync",
        json={"input": {"prompt": "a marker nobody may see", "width": 256, "height": 256, "num_inference_steps": 2}},
        headers={"traceparent": f"00-{TRACE_ID}-{CALLER}-01"},
    )
    assert reply.json()["status"] == "COMPLETED"
    request = "POST /v2/{endpoint_id}/runsync"
    names = {request, "queue", "take", "draw", "report", *WORKERS_PARTS}
    wait_until(lambda: collector.spans().keys() >= names, f"all of {names} are there")
    spans = collector.spans()
    assert spans.keys() == names
    assert {span["trace"] for span in spans.values()} == {TRACE_ID}
    assert spans[request]["parent"] == CALLER
    for name in ("queue", "take", "draw", "report"):
        assert spans[name]["parent"] == spans[request]["id"]
        assert spans[name]["about"]["flux_endpoint.job.id"] == reply.json()["id"]
    for name in WORKERS_PARTS:
        assert spans[name]["parent"] == spans["draw"]["id"]
    of_workers = {name for name, span in spans.items() if span["service"] == "flux-endpoint-worker"}
    assert of_workers == {"draw", "report", *WORKERS_PARTS}
    assert {spans[name]["service"] for name in names - of_workers} == {"flux-endpoint-gateway"}
    assert spans["draw"]["about"]["flux_endpoint.endpoint.id"] == DEV
    # Milliseconds of the database, cut off, beside nanoseconds of the machine.
    order = [spans[name]["start"] for name in ("queue", "take", "draw", "denoise", "encode file", "report")]
    assert order == sorted(order)
    assert all(span["start"] <= span["end"] for span in spans.values())
    key = server.client.headers["authorization"].removeprefix("Bearer ")
    assert not any(secret.encode() in b"".join(collector.bodies) for secret in ("marker", key, server.worker_token))
