"""Traces where nobody collects them, where they cannot be made, and what a picture's parts are."""

import sys
from itertools import pairwise

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from flux_endpoint.api.app import ROUTES
from flux_endpoint.api.tracing import traced
from flux_endpoint.core.catalog import FLUX_DEV
from flux_endpoint.core.errors import GenerationStopped
from flux_endpoint.core.generation import GenerationRequest
from flux_endpoint.core.image_formats import PNG
from flux_endpoint.engine.fake import FakeEngine
from flux_endpoint.engine.protocol import finish
from flux_endpoint.wiring.tracing import OtelTracer, make_tracer
from flux_endpoint.worker.client import TakenJob
from flux_endpoint.worker.tracing import DECODE, DENOISE, ENCODE_FILE, ENCODE_TEXT, JobTrace, TimedEngine

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def not_asked(monkeypatch):
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = OtelTracer(provider)
    yield tracer
    tracer.close()


class SlicedEngine(FakeEngine):
    """Encodes text in a slice of its own and decodes in two, as the real one does."""

    def generate(self, request, *sources):
        yield None
        encode = yield from super().generate(request, *sources)
        yield None
        return encode


@pytest.fixture
def engine():
    engine = SlicedEngine(FLUX_DEV)
    engine.load()
    return engine


@pytest.fixture
def request_():
    return GenerationRequest("a lake", "", 256, 256, 3, 3.5, 1.0, 1, PNG)


def test_nobody_traces_unless_asked():
    assert make_tracer(None, "gateway", "one") is None


@pytest.mark.parametrize("asked", ["OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"])
def test_who_asks_for_traces_without_the_extra_is_refused_by_name(asked, monkeypatch, run, empty_place):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    for name in [name for name in sys.modules if name.startswith("opentelemetry.")]:
        monkeypatch.setitem(sys.modules, name, None)
    if asked == "OTLP_ENDPOINT":
        asked = "FLUX_ENDPOINT_OTLP_ENDPOINT"
    monkeypatch.setenv(asked, "http://127.0.0.1:4318")
    for arguments in (("serve", "--port", "0", "--workers", "0"), ("worker", "--token", "t", "--model", "fake")):
        code, _, error = run(*arguments)
        assert code == 2
        assert f"{asked.removeprefix('FLUX_ENDPOINT_')} asks for traces" in error
        assert "pip install 'flux-endpoint[otel]'" in error


def test_the_parts_of_a_picture_are_timed_one_after_the_other_and_its_bytes_stay(engine, request_):
    timed = TimedEngine(engine)
    assert finish(timed.generate(request_)).data == finish(engine.generate(request_)).data
    assert [*timed.parts] == [ENCODE_TEXT, DENOISE, DECODE, ENCODE_FILE]
    parts = [*timed.parts.values()]
    assert all(before.end_ns <= after.start_ns for before, after in pairwise(parts))
    assert all(0 <= part.own_ns <= part.end_ns - part.start_ns for part in parts)


def test_a_picture_that_is_given_up_closes_what_draws_it(request_):
    closed = []

    class Closing(FakeEngine):
        def generate(self, request, *sources):
            try:
                return (yield from super().generate(request, *sources))
            finally:
                closed.append(True)

    timed = TimedEngine(Closing(FLUX_DEV))
    timed.load()
    drawing = timed.generate(request_)
    next(drawing)
    drawing.close()
    assert closed == [True]


def test_what_becomes_of_a_job_is_told_and_why_it_failed_without_words_of_it(tracer, exporter, engine, request_):
    job = TakenJob("job-1", FLUX_DEV.endpoint_id, {"prompt": "a marker"}, 1, 30, traceparent=PARENT)
    trace = JobTrace(tracer, "w-1", job)
    with trace.drawing(engine) as drawn_by:
        finish(drawn_by.generate(request_))
    with pytest.raises(GenerationStopped), trace.drawing(engine):
        raise GenerationStopped("a marker")
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == [ENCODE_TEXT, DENOISE, DECODE, ENCODE_FILE, "draw", "draw"]
    done, stopped = spans[4:]
    assert {span.parent.span_id for span in spans[:4]} == {done.context.span_id}
    assert f"{done.parent.span_id:016x}" == PARENT.split("-")[2]
    assert done.status.is_ok or done.status.is_unset
    assert stopped.attributes["error.type"] == "GenerationStopped"
    assert not stopped.events
    assert "marker" not in stopped.to_json()


@pytest.mark.parametrize("parent", [None, "", "nonsense", "00-0-0-00"])
def test_what_names_no_span_begins_a_trace(tracer, exporter, parent):
    span = tracer.begin("request", parent, {})
    span.end()
    (told,) = exporter.get_finished_spans()
    assert told.parent is None
    names, flags = span.traceparent.rsplit("-", 1)
    assert names == f"00-{told.context.trace_id:032x}-{told.context.span_id:016x}"
    # Sampled; another bit says that the id is random.
    assert int(flags, 16) & 1


def test_whoever_asks_for_pictures_is_traced_and_workers_and_probes_are_not(tracer):
    pairs = zip(ROUTES, traced(ROUTES, tracer), strict=True)
    left = {before.name for before, after in pairs if before is after}
    assert left >= {
        "workers_job_take",
        "workers_job_done",
        "workers_job_stream",
        "ready_ready",
        "ready_live",
        "pages_docs",
    }
    assert not left & {"runpod_run", "runpod_runsync", "openai_images_generations", "fal_proxy", "replicate_create"}
    assert not [name for name in left if name.startswith(("bfl_", "a1111_", "batches_"))]


def test_whom_the_client_did_not_sample_is_not_told(tracer, exporter):
    span = tracer.begin("request", PARENT.removesuffix("01") + "00", {})
    tracer.record("queue", span.traceparent, 1, 2)
    span.end()
    assert exporter.get_finished_spans() == ()
