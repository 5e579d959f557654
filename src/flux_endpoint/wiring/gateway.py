"""The gateway as a process: `flux-endpoint serve`."""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import uvloop
from pydantic import SecretStr

from flux_endpoint import __version__
from flux_endpoint.api.app import create_app
from flux_endpoint.core import ids
from flux_endpoint.core.catalog import CATALOG
from flux_endpoint.core.clock import SystemClock
from flux_endpoint.core.endpoint import FLUX_ENDPOINTS, EndpointSpec, FluxEndpoint
from flux_endpoint.core.errors import ImagesRefused, InvalidParameter, SettingsError
from flux_endpoint.core.front import Front
from flux_endpoint.core.outbound import OutboundRules
from flux_endpoint.core.tracing import Tracer
from flux_endpoint.files.lora_shelf import FolderShelf, shelf_of
from flux_endpoint.fleet.local import node_name
from flux_endpoint.fleet.protocol import Fleet
from flux_endpoint.fleet.scaler import Scaler
from flux_endpoint.outbound.late import LateSender
from flux_endpoint.service.accounts import Accounts, FirstKey
from flux_endpoint.service.images import ImageService
from flux_endpoint.service.workforce import Workforce
from flux_endpoint.settings import Settings
from flux_endpoint.settings.engine import EMBEDDED
from flux_endpoint.settings.http import is_wildcard
from flux_endpoint.stores.connect import Stores, open_stores
from flux_endpoint.wiring.connections import Connections
from flux_endpoint.wiring.data_dir import hold_data_dir, keep_secret
from flux_endpoint.wiring.fleet import make_fleet
from flux_endpoint.wiring.greeting import greeting, log_first_key, reachable_url
from flux_endpoint.wiring.http_server import Listener, listen_all, serving
from flux_endpoint.wiring.logs import set_up_logging
from flux_endpoint.wiring.loras import kept_loras, looking_at
from flux_endpoint.wiring.services import GatewayServices, build_services
from flux_endpoint.wiring.tracing import make_tracer

logger = logging.getLogger(__name__)

# Of the 5 s in which everything must be gone, for answers of the database; the workers have as long at the same time.
_DATABASE_S: Final = 2.5
_Background = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class _Secrets:
    api_key: str
    is_api_key_new: bool
    api_key_file: Path
    worker_token: str


def serve(settings: Settings) -> int:
    """Run a gateway and its workers until SIGINT or SIGTERM; everything is gone 5 s later, no job lost.

    Returns:
        The exit code: 0, or that of a worker that can never run with these settings.

    Raises:
        SettingsError: a setting cannot be used on this machine: the port is taken, the folder not writable.
        StoreUnavailable: the database or the image store does not answer.
    """
    set_up_logging(settings.log_level, settings.log_format, "gateway")
    with (
        hold_data_dir(settings.data_dir),
        listen_all(settings) as listeners,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        exit_code = runner.run(_serve(settings, listeners))
    logger.info("stopped")
    return exit_code


async def _serve(settings: Settings, listeners: Sequence[Listener]) -> int:
    port = listeners[0].socket.getsockname()[1]
    front = settings.front(port)
    secrets = _secrets(settings)
    # One for all endpoints of a kind: each file is hashed once.
    kinds = {source == EMBEDDED for source in settings.sources.values()}
    kept, sources = kept_loras(settings), settings.lora_rules
    shelves = {
        is_embedded: shelf_of(settings.lora_dir, is_embedded=is_embedded, kept=kept, sources=sources)
        for is_embedded in kinds
    }
    catalog = _catalog(settings, shelves)
    node = node_name(settings.data_dir)
    tracer = make_tracer(settings.otlp_endpoint, "flux-endpoint-gateway", node)
    async with _closing(tracer), _open_stores(settings) as stores:
        services = build_services(
            settings,
            stores,
            catalog,
            front,
            LateSender(settings.outbound_rules, f"flux-endpoint/{__version__}"),
            node,
            secrets.worker_token,
            on_leaving=lambda worker_id: fleet.restart(worker_id),
            on_stuck=lambda worker_id, why: fleet.replace(worker_id, why),
        )
        workforce = services.routes.workforce
        fleet: Fleet
        fleet, rules = make_fleet(settings, secrets.worker_token, port, node, workforce.own)
        background = services.background
        background += [looking_at(shelf) for shelf in shelves.values()]
        if rules.is_elastic or fleet.is_shared:
            leadership = stores.database.leadership()
            scaler = Scaler(fleet, stores.fleets, leadership, rules, list(settings.sources), node, stores.clock)
            background.append(scaler.run)
        # What must be true before anybody asks: pictures can be kept, the key works, and what a killed predecessor held
        # waits again.
        await require_place(services.routes.images, settings.outbound_rules)
        first = await _ensure_first_key(services.routes.accounts, settings, secrets, node)
        await workforce.own.recover(f"{node}-")
        server = serving(create_app(replace(services.routes, tracer=tracer), front), listeners, settings.keep_alive_s)
        words = _greeting(settings, front, list(catalog), secrets, first)
        return await _run(fleet, services, server, background, words, stores)


async def require_place(images: ImageService, outbound: OutboundRules) -> None:
    """Return when pictures can be kept, and links to them may be given to clients.

    Raises:
        SettingsError: the image store refuses, or clients could not be sent to it.
        StoreUnavailable: it does not answer, which may pass.
    """
    try:
        await images.check()
    except ImagesRefused as error:
        raise SettingsError(f"IMAGE_STORE_URL names a place where no picture can be kept: {error}") from None
    if images.signs:
        # Clients of the AI SDK refuse such places, and others cannot reach them.
        url = await images.sign_any()
        try:
            outbound.check_literal("IMAGE_LINKS", url)
        except InvalidParameter as error:
            raise SettingsError(f"IMAGE_LINKS=presigned sends clients to {urlsplit(url).netloc}: {error}") from None


async def _run(
    fleet: Fleet,
    services: GatewayServices,
    serving_requests: AbstractAsyncContextManager[tuple["set[asyncio.Task[None]]", Connections]],
    background: Sequence[_Background],
    words: str,
    stores: Stores,
) -> int:
    """Run everything until it is told to end, or cannot go on.

    Workers start first, because a model takes seconds to load; they ask until requests are taken. At the end they
    leave first too, while the gateway still takes their reports; then whoever waits gets an answer.
    """
    leave = services.routes.leaving
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, leave.set)
    async with _running_fleet(fleet), serving_requests as (servers, connections), _running_beside(background) as beside:
        # All that is loaded by now stays to the end; searching it for garbage would hold requests up.
        gc.freeze()
        try:
            print(words, flush=True)
            return await _until_the_end(leave, _watch_workers(fleet, services.routes.workforce), {*servers, *beside})
        finally:
            leave.set()
            await _log_stop(fleet, connections, services)
            stores.hurry(_DATABASE_S)
            await fleet.stop()
            await _end(beside)
            stores.drain()


async def _log_stop(fleet: Fleet, connections: Connections, services: GatewayServices) -> None:
    # Those that Ray has placed stay, unless the cluster is this server's own.
    workers = 0 if fleet.is_shared else sum(one.pid is not None for one in await fleet.list())
    logger.info(
        "stopping: waits for workers (%d), requests of clients (%d), uploads (%d) and webhooks (%d), 5 s at most",
        *(workers, connections.clients, services.uploads.under_way, services.deliverer.under_way),
    )


async def _ensure_first_key(accounts: Accounts, settings: Settings, secrets: _Secrets, node: str) -> FirstKey:
    first = await accounts.ensure_first(secrets.api_key, node, is_setting=settings.api_key is not None)
    log_first_key(first)
    return first


def _greeting(settings: Settings, front: Front, endpoint_ids: list[str], secrets: _Secrets, first: FirstKey) -> str:
    new_key = secrets.api_key if secrets.is_api_key_new else None
    # On a terminal somebody reads along who may read the key's file too. What goes elsewhere may be kept in a log.
    is_for_a_person = settings.api_key is None and sys.stdout.isatty()
    link_key = secrets.api_key if is_for_a_person else new_key
    base_url = front.public_url or front.local_url
    # On a wildcard address others reach this server too, by an address that nobody has told them.
    other_url = None
    if front.public_url is None and is_wildcard(settings.host):
        other_url = reachable_url(settings.host, front.local_url)
        logger.warning(
            "listening on all addresses without PUBLIC_URL: links in answers start with what each client asked, and "
            "say http unless a proxy of TRUSTED_PROXIES says otherwise"
        )
    return greeting(settings, base_url, endpoint_ids, secrets.api_key_file, first.key, new_key, link_key, other_url)


async def _tell_ready(workforce: Workforce) -> None:
    await workforce.wait_served()
    print("flux-endpoint is ready: a worker has loaded its model and takes jobs", flush=True)


async def _watch_workers(fleet: Fleet, workforce: Workforce) -> int:
    """Say when the first worker is ready. Returns the exit code for a server whose workers can never run.

    That is when no worker of this machine can, and none has asked for a job since the start. A server that has worked
    stays: what was made can still be fetched, and workers may join from elsewhere.
    """
    telling = asyncio.create_task(_tell_ready(workforce))
    try:
        exit_code = await fleet.wait_refused()
        if workforce.has_served:
            logger.error("no worker of this machine can run any more; jobs wait for workers from elsewhere")
            await asyncio.Event().wait()
        # The worker has said why, in one line on the same standard error.
        return exit_code
    finally:
        telling.cancel()


async def _until_the_end(
    leave: asyncio.Event, hopeless: Coroutine[Any, Any, int], running: "set[asyncio.Task[None]]"
) -> int:
    asked = asyncio.create_task(leave.wait())
    refused = asyncio.create_task(hopeless)
    try:
        done, _ = await asyncio.wait({asked, refused, *running}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
        refused.cancel()
    if refused in done:
        return refused.result()
    for task in done & running:
        task.result()
    return 0


@contextlib.asynccontextmanager
async def _closing(tracer: Tracer | None) -> AsyncIterator[None]:
    try:
        yield
    finally:
        if tracer is not None:
            tracer.close()


@contextlib.asynccontextmanager
async def _open_stores(settings: Settings) -> AsyncIterator[Stores]:
    stores = await open_stores(settings.resolved_database_url, SystemClock(), settings.database_connections)
    try:
        yield stores
    finally:
        await stores.close()


@contextlib.asynccontextmanager
async def _running_fleet(fleet: Fleet) -> AsyncIterator[None]:
    await fleet.start()
    try:
        yield
    finally:
        await fleet.stop()


@contextlib.asynccontextmanager
async def _running_beside(background: Sequence[_Background]) -> AsyncIterator["set[asyncio.Task[None]]"]:
    tasks = {asyncio.create_task(run()) for run in background}
    try:
        yield tasks
    finally:
        await _end(tasks)


async def _end(tasks: "set[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _catalog(settings: Settings, shelves: Mapping[bool, FolderShelf]) -> dict[str, EndpointSpec]:
    catalog: dict[str, EndpointSpec] = {
        endpoint_id: FluxEndpoint(
            replace(CATALOG[endpoint_id], acceleration=settings.acceleration),
            is_embedded=source == EMBEDDED,
            shelf=shelves[source == EMBEDDED],
            has_redux=settings.has_redux(CATALOG[endpoint_id]),
            controlnet=settings.controlnet_of(CATALOG[endpoint_id]),
        )
        for endpoint_id, source in settings.sources.items()
    }
    if settings.endpoints_file is not None:
        # Here and not above: the schema library takes a tenth of a second to import, and few need it.
        from flux_endpoint.wiring.endpoints_file import read_endpoints_file

        custom = read_endpoints_file(settings.endpoints_file, FLUX_ENDPOINTS.keys())
        catalog |= {endpoint.endpoint_id: endpoint for endpoint in custom}
    return catalog


def _secrets(settings: Settings) -> _Secrets:
    folder = settings.data_dir.resolve()
    key_file = folder / "api-key"
    api_key, is_new = _fixed_or_kept(settings.api_key, key_file, ids.new_api_key)
    worker_token, _ = _fixed_or_kept(settings.worker_token, folder / "worker-token", ids.new_worker_token)
    return _Secrets(api_key, is_new, key_file, worker_token)


def _fixed_or_kept(fixed: SecretStr | None, file: Path, draw: Callable[[], str]) -> tuple[str, bool]:
    return (fixed.get_secret_value(), False) if fixed is not None else keep_secret(file, draw)
