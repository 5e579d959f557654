"""`flux-endpoint usage`: who was charged what."""

import csv
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from flux_endpoint.commands.admin import Admin, ask
from flux_endpoint.commands.listing import AsJson, print_json
from flux_endpoint.commands.options import with_settings
from flux_endpoint.core.errors import SettingsError
from flux_endpoint.core.periods import Period, as_text
from flux_endpoint.core.pricing import show_usd
from flux_endpoint.service.billing import UsageRecord
from flux_endpoint.settings import Settings

_MINUTE: Final = "%Y-%m-%d %H:%M"
_COLUMNS: Final = ("start", "end", "key_id", "key_name", "endpoint_id", "jobs", "usd")


@with_settings(Settings, "data_dir", "database_url")
def usage(
    *,
    settings: Settings,
    since: Annotated[str | None, typer.Option(help="Day or time, UTC, such as 2026-11-01; else 30 days ago.")] = None,
    until: Annotated[str | None, typer.Option(help="As --since, not included; now if not given.")] = None,
    bucket: Annotated[Period, typer.Option(help="What to add up by.")] = Period.DAY,
    key: Annotated[str | None, typer.Option(metavar="ID", help="Of this API key only.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values instead of a table.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how many jobs (pictures, on the FLUX endpoints) each API key was charged for, and how much.

    Whole buckets are shown, in UTC; those without a charge are left out.

    Examples:
    - `flux-endpoint usage --bucket month --since 2026-01-01`

    - `flux-endpoint usage --key 4f2a9c01be77 --csv > usage.csv`
    """
    start, end = _time("--since", since), _time("--until", until)

    async def records_of(admin: Admin) -> Sequence[UsageRecord]:
        return await admin.billing.usage(admin.billing.range_of(bucket, start, end), key)

    records = ask(settings, records_of)
    if as_csv and as_json:
        raise SettingsError("--csv and --json are two answers; name one")
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows((*row[:-1], f"{row[-1]:f}") for row in map(_row, records))
        return
    if as_json:
        print_json([dict(zip(_COLUMNS, _row(record), strict=True)) for record in records])
        return
    table = Table("from (UTC)", "key", "endpoint", show_footer=True)
    table.columns[0].footer = "total"
    total_usd = sum((record.amount_usd for record in records), Decimal(0))
    table.add_column("jobs", justify="right", footer=f"{sum(record.jobs for record in records):,}")
    table.add_column("USD", justify="right", footer=show_usd(total_usd))
    for record in records:
        table.add_row(
            record.start.strftime(_MINUTE if bucket is Period.HOUR else "%Y-%m-%d"),
            record.key_name or record.key_id,
            record.endpoint_id,
            f"{record.jobs:,}",
            show_usd(record.amount_usd),
        )
    Console().print(table, markup=False)


def _time(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise SettingsError(f"{option} is '{text}'; allowed: a day or time such as 2026-11-01T12:00") from None


def _row(record: UsageRecord) -> tuple[Any, ...]:
    names = (record.key_id, record.key_name, record.endpoint_id)
    return (as_text(record.start), as_text(record.end), *names, record.jobs, record.amount_usd)
