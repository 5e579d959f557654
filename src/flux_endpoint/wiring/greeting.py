"""What `serve` prints once it takes requests: all that is needed for the first picture."""

import logging
import shlex
import socket
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import quote, urlsplit

from flux_endpoint import __version__
from flux_endpoint.core.account import ApiKey
from flux_endpoint.core.catalog import is_fake
from flux_endpoint.service.accounts import FirstKey
from flux_endpoint.settings import Settings
from flux_endpoint.settings.engine import EMBEDDED
from flux_endpoint.settings.http import url_host

logger = logging.getLogger(__name__)

_PROMPT = "A serene mountain landscape at sunset, golden light filtering through clouds, photorealistic"


def greeting(
    settings: Settings,
    public_url: str,
    endpoint_ids: list[str],
    key_file: Path,
    key: ApiKey,
    new_key: str | None,
    link_key: str | None = None,
    other_url: str | None = None,
) -> str:
    """What `serve` prints, several lines: where it is, which key opens it, and a first command.

    Args:
        settings: of the server.
        public_url: how clients reach it.
        endpoint_ids: what it serves, the most important first.
        key_file: where the API key is, unless a setting fixes it.
        key: the API key.
        new_key: the API key, when it was made just now; otherwise it is not shown.
        link_key: the API key, when the link to the playground shall sign the browser in.
        other_url: how other machines reach it, when that is known and differs.
    """
    urls = [f"{public_url}/v2/{endpoint_id}" for endpoint_id in endpoint_ids]
    rows = [
        # In the fragment: browsers keep that to themselves, so the key reaches no server and no log of one.
        ("Playground", f"{public_url}/#key={quote(link_key)}" if link_key else f"{public_url}/"),
        *([("from others", f"{other_url}/")] if other_url else []),
        *(("API" if url is urls[0] else "", url) for url in urls),
        ("API docs", f"{public_url}/docs"),
        ("Guides", f"{public_url}/guides/index"),
        *(
            ("API key" if line == 0 else "", text)
            for line, text in enumerate(_key_lines(settings, key_file, key, new_key))
        ),
        *(("Model" if line == 0 else "", text) for line, text in enumerate(_model_lines(settings))),
    ]
    table = "\n".join(f"  {name:<12}{text}" for name, text in rows)
    curl = _curl(urls[0], _key_in_shell(settings, key_file))
    return (
        f"flux-endpoint {__version__} takes requests; {_state_of_workers(settings)}\n\n{table}\n\nTry it:\n\n{curl}\n"
    )


def _state_of_workers(settings: Settings) -> str:
    if not settings.keeps_workers:
        return "workers join from elsewhere"
    is_one_there = settings.scaling(1).min_workers > 0
    return "its worker is loading the model" if is_one_there else "a worker starts with the first job"


def reachable_url(host: str, local_url: str) -> str | None:
    """How other machines may reach a server that listens on all addresses; None when this one has no other address."""
    family, elsewhere = (socket.AF_INET6, "2001:db8::1") if host == "::" else (socket.AF_INET, "192.0.2.1")
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # Sends nothing: it asks the system by which of its addresses it would.
            probe.connect((elsewhere, 9))
            address = probe.getsockname()[0]
    except OSError:
        return None
    port = urlsplit(local_url).port
    return None if ip_address(address).is_loopback else f"http://{url_host(address)}:{port}"


def _key_lines(settings: Settings, key_file: Path, key: ApiKey, new_key: str | None) -> list[str]:
    if new_key:
        return [new_key, f"just made; kept in {key_file}"]
    if settings.api_key is not None:
        where, way_out = "as set in FLUX_ENDPOINT_API_KEY", "set another"
    else:
        where, way_out = f"in {key_file}", "delete the file for a new one"
    if key.revoked_ms is None:
        return [where]
    return [f"{where}: revoked, and good for nothing", f"{way_out}, or use one that flux-endpoint keys create made"]


def log_first_key(first: FirstKey) -> None:
    """Say which keys a new first key has made useless, and which like it still are good."""
    for old in first.replaced:
        logger.warning("the API key '%s' (%s) was replaced by %s and is revoked", old.name, old.id, first.key.id)
    for old in first.left:
        logger.warning(
            "the API key '%s' (%s), which a server made once, is still good; if nobody needs it: "
            "flux-endpoint keys revoke %s",
            old.name,
            old.id,
            old.id,
        )


def _key_in_shell(settings: Settings, key_file: Path) -> str:
    return "$FLUX_ENDPOINT_API_KEY" if settings.api_key is not None else f"$(cat {shlex.quote(str(key_file))})"


def _model_lines(settings: Settings) -> list[str]:
    if is_fake(settings.model):
        return [f"{settings.model}: no model at all, pictures are one flat colour (for tests)"]
    if settings.model == EMBEDDED:
        return [
            "demo: the small embedded model. It draws simple landscapes and objects and is no match for FLUX.1.",
            'Real weights: make serve ARGS="--model black-forest-labs/FLUX.1-dev"',
        ]
    return [settings.model]


def _curl(url: str, key: str) -> str:
    return (
        f'  curl -X POST "{url}/runsync" \\\n'
        f'    -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\\n'
        f'    -d \'{{"input": {{"prompt": "{_PROMPT}", "seed": 42}}}}\''
    )
