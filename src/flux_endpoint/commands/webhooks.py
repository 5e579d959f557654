"""`flux-endpoint webhooks`: the delivery log, sending again, and the secrets that sign."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flux_endpoint.commands.admin import Admin, ask
from flux_endpoint.commands.listing import AsJson, print_json, time_of
from flux_endpoint.commands.options import day, with_settings
from flux_endpoint.core.errors import SettingsError
from flux_endpoint.core.text import printable
from flux_endpoint.core.webhook import DeliveryRecord, PausedReceiver
from flux_endpoint.settings import Settings

app = typer.Typer(no_args_is_help=True, help="See what became of webhooks, send them again, show what signs them.")


@app.command("list")
@with_settings(Settings, "data_dir", "database_url")
def list_deliveries(
    *,
    settings: Settings,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that were given up or refused.")] = False,
    job: Annotated[str | None, typer.Option(metavar="ID", help="Only those of one job.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List webhooks and what became of them, newest first; receivers that are paused come before.

    Users, passwords and queries of URLs are not shown.
    """

    async def log_of(admin: Admin) -> tuple[list[PausedReceiver], list[DeliveryRecord]]:
        deliveries = await admin.stores.webhooks.deliveries(limit=limit, job_id=job, failed=failed)
        return await admin.stores.webhooks.paused_receivers(), deliveries

    paused, deliveries = ask(settings, log_of)
    if as_json:
        print_json({"paused": [*map(_paused_object, paused)], "webhooks": [*map(_delivery_object, deliveries)]})
        return
    if paused:
        _show_paused(paused)
    # A few lines each: in one, a narrow screen has room for none of them.
    table = Table(show_lines=True)
    # The id is whole there too: it is what replay wants.
    table.add_column("id, job", width=max((len(record.id) for record in deliveries), default=None), overflow="fold")
    table.add_column("made, ended, state", no_wrap=True)
    table.add_column("url, answer", overflow="fold")
    for record in deliveries:
        attempts = f"{record.attempts} attempt{'' if record.attempts == 1 else 's'}"
        table.add_row(
            f"{record.id}\n{record.job_id}",
            f"{day(record.created_ms)}\n{record.status.value}\n{record.state.value}, {attempts}",
            f"{record.shown_url}\n{_answer_in(record)}",
        )
    Console().print(table, markup=False)


@app.command("replay")
@with_settings(Settings, "data_dir", "database_url")
def replay(
    delivery: Annotated[str | None, typer.Argument(metavar="[ID]", help="As in webhooks list.")] = None,
    *,
    settings: Settings,
    failed: Annotated[bool, typer.Option("--failed", help="All that were given up or refused.")] = False,
) -> None:
    """Have the server send webhooks once more, with the same `webhook-id` and a new signature.

    Examples:
    - `flux-endpoint webhooks replay msg_0f3a...`

    - `flux-endpoint webhooks replay --failed`
    """
    if (delivery is None) is not failed:
        raise SettingsError("name one webhook by its id, or give --failed: flux-endpoint webhooks list shows the ids")
    if delivery is not None:
        ask(settings, lambda admin: admin.stores.webhooks.replay(delivery))
        print(f"webhook {delivery} will be sent again")
    else:
        print(f"{ask(settings, lambda admin: admin.stores.webhooks.replay_failed())} webhooks will be sent again")


@app.command("secret")
@with_settings(Settings, "data_dir", "database_url")
def show_secret(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="As in keys list.")],
    *,
    settings: Settings,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Draw another one; the old one signs beside it for 24 hours.")
    ] = False,
) -> None:
    """Print the secret that signs the webhooks of an API key, for the receiver to check them with.

    Example:
    - `flux-endpoint webhooks secret 4f2a9c01be77`
    """
    if rotate:
        secret = ask(settings, lambda admin: admin.stores.webhooks.rotate_webhook_secret(key_id))
    else:
        secret = ask(settings, lambda admin: admin.stores.webhooks.webhook_secret(key_id))
    print(secret.secret)
    if secret.previous_until_ms is not None:
        typer.echo(f"the secret before signs too, until {day(secret.previous_until_ms)}", err=True)


def _show_paused(paused: list[PausedReceiver]) -> None:
    table = Table(
        title="Paused: these keep failing, and get one webhook at the end of each pause", title_justify="left"
    )
    for name in ("receiver", "key", "failures", "since", "next try", "waiting", "last answer"):
        table.add_column(name, overflow="fold")
    for receiver in paused:
        table.add_row(
            receiver.origin,
            receiver.key_name or receiver.key_id,
            str(receiver.failures),
            day(receiver.since_ms),
            day(receiver.until_ms),
            str(receiver.waiting),
            printable(receiver.error),
        )
    Console().print(table, markup=False)


def _paused_object(receiver: PausedReceiver) -> dict[str, Any]:
    return {
        "receiver": receiver.origin,
        "key_id": receiver.key_id,
        "key_name": receiver.key_name,
        "failures": receiver.failures,
        "since": time_of(receiver.since_ms),
        "next_try": time_of(receiver.until_ms),
        "waiting": receiver.waiting,
        "error": receiver.error,
    }


def _delivery_object(record: DeliveryRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "time": time_of(record.created_ms),
        "job": record.job_id,
        "ended": record.status.value,
        "url": record.shown_url,
        "state": record.state.value,
        "attempts": record.attempts,
        "code": record.code,
        "error": record.error,
        "can_replay": record.can_replay,
    }


def _answer_in(record: DeliveryRecord) -> str:
    if record.error is not None:
        return printable(record.error)
    return "" if record.code is None else f"HTTP {record.code}"
