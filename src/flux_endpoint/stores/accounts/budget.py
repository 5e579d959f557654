"""What money asks of a transaction that queues or completes a job."""

from decimal import Decimal

from flux_endpoint.core.errors import OverBudget
from flux_endpoint.core.job import Job
from flux_endpoint.core.periods import MS_PER_HOUR, Period, from_ms, to_ms
from flux_endpoint.core.picture_work import size_and_level
from flux_endpoint.core.pricing import show_usd, units_to_usd, usd_to_units
from flux_endpoint.stores.accounts import statements as sql
from flux_endpoint.stores.sql.database import Connection


def require_budget(connection: Connection, key_id: str, cost_usd: Decimal, now_ms: int, what: str = "job") -> None:
    """Refuse what a key cannot pay for. Call it after it was written as IN_QUEUE, in that transaction.

    Two transactions never both spend the last of a budget: SQLite has one writer, PostgreSQL locks the key's row.

    Raises:
        OverBudget: what the key has spent this month and promised to unfinished jobs, this one included, is more than
            its limit. The transaction must be rolled back.
    """
    key = {"key": key_id}
    limited = connection.execute(sql.LOCK_BUDGET, key).first
    if limited is None:
        return
    month = Period.MONTH.start_of(from_ms(now_ms))
    sums = connection.execute(sql.COUNT_BUDGET, key | {"month_ms": to_ms(month)}).first
    spent_units, promised_units = int(sums.spent), int(sums.promised)
    if spent_units + promised_units <= limited.units_per_month:
        return
    others_units = promised_units - usd_to_units(cost_usd)
    raise OverBudget(
        f"over budget: API key '{limited.name}' may spend {show_usd(units_to_usd(limited.units_per_month))} USD in "
        f"{month:%B %Y}; {show_usd(units_to_usd(spent_units))} USD are spent, {show_usd(units_to_usd(others_units))} "
        f"USD are promised to unfinished jobs and this {what} costs {show_usd(cost_usd)} USD; the budget starts anew "
        f"on {Period.MONTH.next_after(month):%Y-%m-%d} at 00:00 UTC"
    )


def charge(connection: Connection, job: Job, now_ms: int) -> None:
    """Write the charge of a job that has just become COMPLETED, and add it to the sums that bills are read from.

    Call it last: PostgreSQL keeps a row of sums locked until the end of the transaction.
    """
    size, level = size_and_level(job.input)
    entry = {
        "job_id": job.id,
        "endpoint_id": job.endpoint_id,
        "key_id": job.key_id,
        "amount_units": usd_to_units(job.cost_usd),
        "created_ms": now_ms,
        "execution_ms": job.execution_time_ms,
        "work": size,
        "acceleration": level,
    }
    hour = {**entry, "hour_ms": now_ms - now_ms % MS_PER_HOUR + connection.place}
    if connection.dialect.name == "postgresql":
        connection.execute(sql.CHARGE_AND_ADD, hour)
    else:
        connection.execute(sql.CHARGE, entry)
        connection.execute(sql.ADD_TO_HOUR, hour)
