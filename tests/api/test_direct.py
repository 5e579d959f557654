"""The short way to the routes of a job: it finds exactly what the framework finds, and answers the same."""

import pytest
from fastapi import APIRouter, Response

from flux_endpoint.api.app import DIRECT_ROUTES
from flux_endpoint.api.direct import DirectRoutes
from tests.api.conftest import DEV

ROUTES = [(method, route) for module in DIRECT_ROUTES for route in module.router.routes for method in route.methods]


async def ask(app, method, path):
    """Ask without a server; returns the status."""
    messages = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        messages.append(message)

    await app({"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}, receive, send)
    return messages[0]["status"]


@pytest.fixture
def echo():
    """One route that answers its own arguments, before an app that answers 418."""
    router = APIRouter(prefix="/v2/{endpoint_id}")
    seen = []

    @router.post("/shout/{job_id}")
    async def shout(request, endpoint_id, job_id) -> Response:
        seen.append((endpoint_id, job_id))
        if job_id == "bad":
            raise KeyError(job_id)
        if job_id == "worse":
            raise OSError(job_id)
        return Response(status_code=200)

    async def answer(request, error):
        return Response(status_code=404)

    return DirectRoutes(Response(status_code=418), [router], {LookupError: answer}), seen


@pytest.mark.anyio
async def test_a_route_gets_the_parts_of_its_path(echo):
    app, seen = echo
    assert await ask(app, "POST", "/v2/dev/shout/job-1") == 200
    assert seen == [("dev", "job-1")]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/dev/shout/job-1"),
        ("POST", "/v2/dev/shout"),
        ("POST", "/v2/dev/shout/"),
        ("POST", "/v2//shout/job-1"),
        ("POST", "/v2/dev/shout/job-1/more"),
        ("POST", "/v1/dev/shout/job-1"),
        ("POST", "/"),
    ],
)
async def test_everything_else_goes_to_the_framework(echo, method, path):
    app, seen = echo
    assert await ask(app, method, path) == 418
    assert seen == []


@pytest.mark.anyio
async def test_errors_are_answered_by_their_nearest_base_and_unknown_ones_raised(echo):
    app, _ = echo
    assert await ask(app, "POST", "/v2/dev/shout/bad") == 404
    with pytest.raises(OSError, match="worse"):
        await ask(app, "POST", "/v2/dev/shout/worse")


def test_a_path_of_another_form_is_refused():
    router = APIRouter()
    router.add_api_route("/v2/billing", lambda: None)
    with pytest.raises(ValueError, match="/v2/billing"):
        DirectRoutes(Response(), [router], {})


@pytest.mark.anyio
@pytest.mark.parametrize(("method", "route"), ROUTES, ids=lambda value: getattr(value, "path", value))
async def test_every_route_answers_the_same_through_the_framework(gateway, monkeypatch, method, route):
    path = route.path.replace("{endpoint_id}", DEV.split("/")[2]).replace("{endpoint_ids}", DEV.split("/")[2])
    path = path.replace("{job_id}", "no-such-job").replace("{worker_id}", "w")

    async def answers():
        replies = [await gateway.client.request(method, path)]
        replies.append(await gateway.client.request(method, path, headers={"Authorization": "wrong"}))
        return [(reply.status_code, reply.content.partition(b'"id"')[0]) for reply in replies]

    direct = await answers()
    monkeypatch.setattr(DirectRoutes, "_find", lambda self, scope: None)
    assert await answers() == direct
