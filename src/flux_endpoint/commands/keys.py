"""`flux-endpoint keys`: make, list, limit and revoke the API keys of clients."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from flux_endpoint.commands.admin import Admin, ask, require_endpoints
from flux_endpoint.commands.listing import AsJson, print_json, time_of
from flux_endpoint.commands.options import day, with_settings
from flux_endpoint.core.account import ApiKey, KeyLimits
from flux_endpoint.core.errors import NotFound, SettingsError
from flux_endpoint.core.pricing import show_usd
from flux_endpoint.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Make, list, limit and revoke the API keys of clients.")

# Lifts a limit.
_NONE: Final = "none"
_USD_HELP: Final = "What it may spend in a calendar month (UTC), such as 25 or 0.5; more is refused with 402."
_REQUESTS_HELP: Final = (
    "Jobs it may ask for in any 60 seconds; more are refused with 429. Looking at jobs is not counted."
)

KeyId = Annotated[str, typer.Argument(metavar="ID", help="As in keys list.", show_default=False)]


@app.command("create")
@with_settings(Settings, "data_dir", "database_url", "endpoints_file")
def create_key(
    name: Annotated[str, typer.Argument(help="For people: who or what it is for.")],
    *,
    settings: Settings,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="May look at jobs and bills, but change nothing.")
    ] = False,
    endpoint: Annotated[list[str] | None, typer.Option(metavar="ID", help="Opens only this; may be repeated.")] = None,
    usd_per_month: Annotated[str | None, typer.Option(metavar="USD", help=_USD_HELP)] = None,
    requests_per_minute: Annotated[int | None, typer.Option(metavar="N", help=_REQUESTS_HELP)] = None,
) -> None:
    """Make an API key. Its secret is shown once; the server keeps only a hash of it.

    Examples:
    - `flux-endpoint keys create "web shop"`

    - `flux-endpoint keys create intern --usd-per-month 5 --endpoint black-forest-labs-flux-1-schnell`

    - `flux-endpoint keys create dashboard --read-only`
    """
    limits = KeyLimits(
        is_read_only=read_only,
        endpoint_ids=frozenset(endpoint) if endpoint else None,
        usd_per_month=None if usd_per_month is None else _usd(usd_per_month),
        requests_per_minute=requests_per_minute,
    )
    require_endpoints(settings, endpoint or [])
    key, secret = ask(settings, lambda admin: admin.accounts.create(name, limits=limits))
    print(f"key {key.id} ({key.name}); its secret is shown now and never again:\n{secret}")


@app.command("list")
@with_settings(Settings, "data_dir", "database_url")
def list_keys(*, settings: Settings, as_json: AsJson = False) -> None:
    """List all API keys with their limits and what they have spent this month, without their secrets."""
    keys, spent_usd = ask(settings, _keys_and_spending)
    if as_json:
        print_json([_key_object(key, spent_usd.get(key.id, Decimal(0))) for key in keys])
        return
    table = Table()
    for title in ("id", "made", "USD this month", "name", "limits"):
        # Those that other commands want, or that no one reads in two lines, are whole in the narrowest window.
        table.add_column(title, overflow="fold", no_wrap=title in ("id", "made"))
    for key in keys:
        budget = "" if key.limits.usd_per_month is None else f" of {show_usd(key.limits.usd_per_month)}"
        spent = f"{show_usd(spent_usd.get(key.id, Decimal(0)))}{budget}"
        made = day(key.created_ms).partition(" ")[0]
        table.add_row(key.id, made, spent, key.name, "\n".join(_limits(key)))
    Console().print(table, markup=False)


@app.command("update")
@with_settings(Settings, "data_dir", "database_url", "endpoints_file")
def update_key(
    key_id: KeyId,
    *,
    settings: Settings,
    read_only: Annotated[bool | None, typer.Option("--read-only/--full-access", help="What it may do.")] = None,
    endpoint: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Opens only this; may be repeated. 'none' opens all again.")
    ] = None,
    usd_per_month: Annotated[str | None, typer.Option(metavar="USD", help=f"{_USD_HELP} 'none' lifts it.")] = None,
    requests_per_minute: Annotated[
        str | None, typer.Option(metavar="N", help=f"{_REQUESTS_HELP} 'none' lifts it.")
    ] = None,
) -> None:
    """Change or lift limits of an API key. What is not named stays; running servers follow within 2 seconds.

    Examples:
    - `flux-endpoint keys update 4f2a9c01be77 --usd-per-month 20 --requests-per-minute none`

    - `flux-endpoint keys update 4f2a9c01be77 --full-access --endpoint none`
    """
    changes: dict[str, Any] = {}
    if read_only is not None:
        changes["is_read_only"] = read_only
    if endpoint:
        if endpoint == [_NONE]:
            changes["endpoint_ids"] = None
        else:
            require_endpoints(settings, endpoint)
            changes["endpoint_ids"] = frozenset(endpoint)
    if usd_per_month is not None:
        changes["usd_per_month"] = None if usd_per_month == _NONE else _usd(usd_per_month)
    if requests_per_minute is not None:
        changes["requests_per_minute"] = None if requests_per_minute == _NONE else _whole(requests_per_minute)
    if not changes:
        raise SettingsError("nothing to change: name at least one limit, see flux-endpoint keys update --help")
    key = ask(settings, lambda admin: admin.accounts.limit(key_id, lambda limits: replace(limits, **changes)))
    print(f"key {key.id} ({key.name}) is changed")


@app.command("revoke")
@with_settings(Settings, "data_dir", "database_url")
def revoke_key(key_id: KeyId, *, settings: Settings) -> None:
    """Make an API key useless for good; running servers follow within 2 seconds.

    Example:
    - `flux-endpoint keys revoke 4f2a9c01be77`
    """
    if not ask(settings, lambda admin: admin.accounts.revoke(key_id)):
        raise NotFound(f"there is no API key with the id '{key_id}'; see flux-endpoint keys list")
    print(f"key {key_id} is revoked")


async def _keys_and_spending(admin: Admin) -> tuple[Sequence[ApiKey], Mapping[str, Decimal]]:
    return await admin.accounts.list(), await admin.accounts.spent_this_month()


def _limits(key: ApiKey) -> Iterator[str]:
    """What a key may not do, a line each; nothing for a key that may do everything."""
    if key.revoked_ms is not None:
        yield f"revoked {day(key.revoked_ms)}"
    if key.limits.is_read_only:
        yield "read only"
    if key.limits.requests_per_minute is not None:
        yield f"{key.limits.requests_per_minute} jobs a minute"
    if key.limits.endpoint_ids is not None:
        yield f"only {', '.join(sorted(key.limits.endpoint_ids))}"


def _key_object(key: ApiKey, spent_usd: Decimal) -> dict[str, Any]:
    limits = key.limits
    return {
        "id": key.id,
        "name": key.name,
        "read_only": limits.is_read_only,
        "endpoints": limits.endpoint_ids,
        "usd_per_month": limits.usd_per_month,
        "usd_this_month": spent_usd,
        "requests_per_minute": limits.requests_per_minute,
        "made": time_of(key.created_ms),
        "revoked": time_of(key.revoked_ms),
    }


def _usd(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise SettingsError(f"--usd-per-month is '{text}'; allowed: an amount such as 25 or 0.5") from None


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise SettingsError(f"--requests-per-minute is '{text}'; allowed: a whole number, or none") from None
