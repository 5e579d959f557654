"""The table of operations, and every row of it asked without a key, with a wrong one and with ones that open less."""

from typing import Any

import pytest
from starlette.responses import Response

from flux_endpoint.api.admission import Everybody, KeyHolders, Workers
from flux_endpoint.api.app import ROUTES
from flux_endpoint.api.dialects.runpod.apps import HeaderAccess
from flux_endpoint.api.operations import Call, Route, Table
from flux_endpoint.core.account import KeyLimits, Operation
from tests.api.conftest import API_KEY, DEV, WORKER_TOKEN, Gateway

pytestmark = pytest.mark.anyio

_PARTS = {
    "endpoint_id": DEV.removeprefix("/v2/"),
    "endpoint_ids": DEV.removeprefix("/v2/"),
    "worker_id": "worker-1",
}
ASKED = [(method, route) for route in ROUTES for method in route.methods.split()]


def path_of(route: Route) -> str:
    return "/".join(
        _PARTS.get(part[1:-1], "no-such") if part.startswith("{") else part for part in route.path.split("/")
    )


def rows(*kinds: type) -> Any:
    wanted = [row for row in ASKED if isinstance(row[1].access, kinds)]
    return pytest.mark.parametrize(
        ("method", "route"), wanted, ids=[f"{method} {route.path}" for method, route in wanted]
    )


async def ask(gateway: Gateway, method: str, route: Route, key: str) -> int:
    reply = await gateway.client.request(method, path_of(route), headers={"Authorization": key})
    if reply.status_code >= 400:
        words = reply.json()
        assert words.get("error") or words.get("detail"), words
    return reply.status_code


async def key_with(gateway: Gateway, **limits: Any) -> str:
    _, secret = await gateway.services.accounts.create("some", limits=KeyLimits(**limits))
    return secret


@rows(KeyHolders, HeaderAccess, Workers)
@pytest.mark.parametrize("key", ["", "Bearer", "wrong", "Bearer wrong"])
async def test_nobody_gets_in_without_a_key_or_with_a_wrong_one(
    gateway: Gateway, method: str, route: Route, key: str
) -> None:
    assert await ask(gateway, method, route, key) == 401


@rows(KeyHolders, HeaderAccess)
async def test_worker_tokens_do_not_open_what_is_for_clients(gateway: Gateway, method: str, route: Route) -> None:
    assert await ask(gateway, method, route, WORKER_TOKEN) == 401


@rows(Workers)
async def test_api_keys_do_not_open_what_is_for_workers(gateway: Gateway, method: str, route: Route) -> None:
    assert await ask(gateway, method, route, API_KEY) == 401


@rows(Workers)
async def test_a_token_for_another_endpoint_is_refused(gateway: Gateway, method: str, route: Route) -> None:
    _, secret = await gateway.services.worker_tokens.create("other", ["echo"])
    assert await ask(gateway, method, route, secret) == 403


@rows(KeyHolders)
async def test_a_key_for_another_endpoint_is_refused(gateway: Gateway, method: str, route: Route) -> None:
    assert isinstance(route.access, KeyHolders)
    status = await ask(gateway, method, route, await key_with(gateway, endpoint_ids=frozenset({"echo"})))
    assert (status == 403) is route.access.has_endpoint


@rows(KeyHolders)
async def test_a_key_that_is_read_only_changes_nothing(gateway: Gateway, method: str, route: Route) -> None:
    assert isinstance(route.access, KeyHolders)
    status = await ask(gateway, method, route, await key_with(gateway, is_read_only=True))
    reads = {
        Operation.STATUS,
        Operation.HEALTH,
        Operation.REQUESTS,
        Operation.ESTIMATE,
        Operation.BILLING,
        Operation.USAGE,
    }
    assert (status == 403) is (route.access.operation not in reads)


async def test_an_endpoint_in_the_query_must_be_opened_too(gateway: Gateway) -> None:
    key = await key_with(gateway, endpoint_ids=frozenset({"echo"}))
    for endpoint, status in (("echo", 200), (_PARTS["endpoint_id"], 403), ("flux-9", 404)):
        reply = await gateway.get(f"/v2/usage?endpoint={endpoint}", headers={"Authorization": key})
        assert reply.status_code == status


async def test_an_endpoint_in_a_header_must_be_opened_too(gateway: Gateway) -> None:
    key = await key_with(gateway, endpoint_ids=frozenset({_PARTS["endpoint_id"]}))
    for endpoint, status in ((_PARTS["endpoint_id"], 200), ("echo", 403), ("flux-9", 404), (None, 404)):
        headers = {"Authorization": key} | ({"X-Flash-Endpoint": endpoint} if endpoint else {})
        reply = await gateway.client.post("/v2/flash/run", json={"input": {"prompt": "a lake"}}, headers=headers)
        assert reply.status_code == status


@rows(Everybody)
async def test_what_is_for_everybody_asks_for_no_key(gateway: Gateway, method: str, route: Route) -> None:
    reply = await gateway.client.request(method, path_of(route), headers={"Authorization": "wrong"})
    assert reply.status_code == (404 if "{" in route.path else 400 if route.body else 200)


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES}))
async def test_another_method_is_told_which_ones_there_are(gateway: Gateway, path: str) -> None:
    together = [route for route in ROUTES if route.path == path]
    methods = sorted(method for route in together for method in route.methods.split())
    reply = await gateway.client.request("PATCH", path_of(together[0]))
    assert (reply.status_code, reply.headers["Allow"]) == (405, ", ".join(methods))


def test_every_row_has_a_name_of_its_own_and_clients_are_told_what_it_does() -> None:
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    for route in ROUTES:
        assert route.handler.__doc__
        if route.is_described:
            assert route.summary
            assert route.tag
            assert {"200", "201", "202"} & set(map(str, route.answers))


async def echo(call: Call) -> Response:
    """Answer nothing."""
    return Response()


def row(methods: str, path: str) -> Route:
    return Route(name=f"{methods} {path}", methods=methods, path=path, access=Everybody(), handler=echo)


TABLE = Table(
    [
        row("GET", "/v2/{endpoint_id}/{anything}"),
        row("POST", "/v2/{endpoint_id}/run"),
        row("GET", "/v2/billing/endpoints"),
        row("GET HEAD", "/{name}"),
        row("PUT", "/{name}"),
    ]
)


@pytest.mark.parametrize(
    ("path", "names", "parts"),
    [
        ("/v2/dev/run", {"POST /v2/{endpoint_id}/run"}, ["dev"]),
        ("/v2/dev/walk", {"GET /v2/{endpoint_id}/{anything}"}, ["dev", "walk"]),
        ("/v2/billing/endpoints", {"GET /v2/billing/endpoints"}, []),
        ("/v2/billing/run", {"POST /v2/{endpoint_id}/run"}, ["billing"]),
        ("/a", {"GET HEAD /{name}", "PUT /{name}"}, ["a"]),
        ("/v2/dev/run/more", set(), []),
        ("/v3/dev/run", set(), []),
        ("", set(), []),
    ],
)
def test_the_row_with_the_longest_fixed_beginning_is_found(path: str, names: set[str], parts: list[str]) -> None:
    methods, found = TABLE.find(path)
    assert ({route.name for route in methods.values()}, found) == (names, parts)


def test_two_rows_for_the_same_are_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"GET /\{other\} is in the table twice"):
        Table([row("GET", "/{name}"), row("PUT GET", "/{other}")])
