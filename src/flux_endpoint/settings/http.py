"""Settings of how clients reach the server, and what they may do."""

import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator

from flux_endpoint.core.account import Operation
from flux_endpoint.core.front import Front
from flux_endpoint.core.limits import DEFAULT_RULES, RateRule, parse_rules
from flux_endpoint.core.lora_places import LoraSources, parse_lora_sources
from flux_endpoint.core.outbound import OutboundRules, parse_outbound_allow
from flux_endpoint.settings.fields import PrefixedSettings, Secret, parts_of, setting

_MAX_PORT: Final = 65_535


def _is_outbound_allow(value: str) -> str:
    parse_outbound_allow(value)
    return value


def _are_lora_sources(value: str) -> str:
    parse_lora_sources(value)
    return value


def _are_networks(value: str) -> str:
    for network in parts_of(value):
        ip_network(network, strict=False)
    return value


def _are_origins(value: str) -> str:
    if value != "*" and not all(re.fullmatch(r"https?://[A-Za-z0-9.\[\]:_-]+", origin) for origin in parts_of(value)):
        raise ValueError("no origin")
    return value


def _are_rate_limits(value: str) -> str:
    parse_rules(value)
    return value


class HttpSettings(PrefixedSettings):
    """Addresses, links, dialects and limits of clients."""

    host: str = setting("127.0.0.1", "Address to listen on; 0.0.0.0 for all.", "a host name or address", min_length=1)
    port: int = setting(
        8000, "Port to listen on; 0 takes any free one.", f"a whole number from 0 to {_MAX_PORT}", ge=0, le=_MAX_PORT
    )
    tls_cert: Path | None = setting(
        None,
        "Certificate, with those between it and its authority; serves TLS_PORT beside PORT. Read at the start only.",
        "a file in PEM format",
    )
    tls_key: Path | None = setting(
        None,
        "Its private key, without a password. Default: in the file of TLS_CERT.",
        "a file in PEM format",
    )
    tls_port: int = setting(
        8443,
        "Port to listen on with TLS, where TLS_CERT is set.",
        f"a whole number from 1 to {_MAX_PORT}",
        ge=1,
        le=_MAX_PORT,
    )
    public_url: str | None = setting(
        None,
        "How all clients reach this server; links in answers start with it. Default: with what each client asked.",
        "a URL that starts with http:// or https://",
        pattern=r"^https?://[^/]",
    )
    trusted_proxies: Annotated[str, AfterValidator(_are_networks)] = setting(
        "127.0.0.0/8,::1",
        "Proxies whose X-Forwarded-Proto, X-Forwarded-Host and X-Forwarded-Prefix are believed when links are made.",
        "addresses and networks such as 10.0.0.0/8, joined by commas",
    )
    cors_origins: Annotated[str, AfterValidator(_are_origins)] = setting(
        "",
        "Origins whose pages may call this server from a browser, joined by commas; * for all. Default: none but its "
        "own.",
        "origins such as https://app.example.org joined by commas, or *",
    )
    dialects: str = setting(
        "all",
        "Wire formats that are spoken beside Runpod's, which the playground and the workers speak: all, none, or some "
        "(docs/guides/openai.md).",
        "all, none, or some of openai, huggingface, bfl, replicate, fal, a1111, mcp joined by commas",
        min_length=1,
    )
    api_key: Secret | None = setting(
        None,
        "Fixes the first API key. Default: one is drawn and kept in DATA_DIR/api-key, readable by the owner only.",
        "printable characters without spaces, at least 8",
        is_secret=True,
        min_length=8,
    )
    rate_limits: Annotated[str, AfterValidator(_are_rate_limits)] = setting(
        "on",
        "How often one API key may ask: 'on' for Runpod's limits, 'off', or changes to some of them, as requests in "
        "10 s and at once: run=5000/800,purge-queue=off.",
        "on, off, or OPERATION=PER_10_S, OPERATION=PER_10_S/AT_ONCE and OPERATION=off joined by commas; operations "
        f"are {', '.join(DEFAULT_RULES)}",
    )
    keep_alive_s: int = setting(
        75,
        "Seconds for which a connection stays open between two requests. Longer than a load balancer before the "
        "server keeps it (usually 60), or it sends requests into connections that are being closed.",
        "a whole number from 1 to 3600",
        ge=1,
        le=3_600,
    )

    metrics: Literal["key", "open"] = setting(
        "key",
        "Who may read /metrics: 'key' for whoever has an API key for all endpoints, a read-only one too; 'open' for "
        "everybody, where a network policy keeps others away.",
        "key, open",
    )

    @property
    def rate_rules(self) -> Mapping[Operation, RateRule]:
        """`rate_limits` by operation; one that is missing has no limit."""
        return parse_rules(self.rate_limits)

    outbound_allow: Annotated[str, AfterValidator(_is_outbound_allow)] = setting(
        "",
        "Places beside the public internet that webhooks and buckets of clients may be at: hosts, host:port and "
        "networks, joined by commas. Default: none; private, loopback and link-local addresses are refused.",
        "hosts, host:port and networks such as 10.0.0.0/8, joined by commas",
    )

    lora_sources: Annotated[str, AfterValidator(_are_lora_sources)] = setting(
        "",
        "What LoRAs may be fetched from when requests name them by hub id or URL (docs/guides/loras.md): repositories "
        "of the hub, such as owner/* or owner/name, and hosts of https URLs. Default: nothing.",
        "owner/name, hosts and host:port joined by commas, with * and ?",
    )

    @property
    def lora_rules(self) -> LoraSources:
        """`lora_sources`, read."""
        return parse_lora_sources(self.lora_sources)

    @property
    def outbound_rules(self) -> OutboundRules:
        """`outbound_allow`, read."""
        return parse_outbound_allow(self.outbound_allow)

    def front(self, port: int) -> Front:
        """How clients see a server that listens at `port`."""
        return Front(
            local_url=f"http://{url_host(self.host)}:{port}",
            public_url=None if self.public_url is None else self.public_url.rstrip("/"),
            trusted_proxies=[ip_network(network, strict=False) for network in parts_of(self.trusted_proxies)],
            cors_origins=parts_of(self.cors_origins),
            dialects={"all": None, "none": ()}.get(self.dialects, parts_of(self.dialects)),
        )


def is_wildcard(host: str) -> bool:
    """Whether a listening address means all addresses of this machine."""
    return host in ("0.0.0.0", "::", "")


def url_host(host: str) -> str:
    """A listening address as it stands in a URL that this machine can open."""
    if is_wildcard(host):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
