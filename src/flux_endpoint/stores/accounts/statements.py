"""Every statement about keys and money, by name. One text serves SQLite and PostgreSQL; see `statements.py`."""

from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Integer, Select, bindparam, func, insert, select, text, update

from flux_endpoint.stores.sql.schema import api_keys, charges_by_hour, jobs, ledger

_now_ms = bindparam("now_ms", type_=BigInteger)
_key: ColumnElement[Any] = api_keys.c.id == bindparam("key")

_key_columns = (
    api_keys.c.id,
    api_keys.c.name,
    api_keys.c.created_ms,
    api_keys.c.revoked_ms,
    api_keys.c.is_read_only,
    api_keys.c.endpoint_ids,
    api_keys.c.units_per_month,
    api_keys.c.requests_per_minute,
    api_keys.c.made_for,
    api_keys.c.chosen_model,
)
ADD_KEY: Final = insert(api_keys).inline()
FIND_KEY: Final = select(*_key_columns).where(api_keys.c.secret_hash == bindparam("hash"))
LIST_KEYS: Final = select(*_key_columns).order_by(api_keys.c.created_ms, api_keys.c.seq)
REVOKE_KEY: Final = update(api_keys).where(_key).values(revoked_ms=func.coalesce(api_keys.c.revoked_ms, _now_ms))
ADOPT_KEY: Final = update(api_keys).where(_key).values(made_for=bindparam("place"))
REVOKE_MADE_FOR: Final = (
    update(api_keys)
    .where(
        api_keys.c.made_for.in_(bindparam("places", expanding=True)),
        api_keys.c.revoked_ms.is_(None),
        api_keys.c.id != bindparam("key"),
    )
    .values(revoked_ms=_now_ms)
    .returning(*_key_columns)
)
CHOOSE_MODEL: Final = update(api_keys).where(_key).values(chosen_model=bindparam("model"))
LIMIT_KEY: Final = (
    update(api_keys)
    .where(_key)
    .values(
        is_read_only=bindparam("read_only", type_=Integer),
        endpoint_ids=bindparam("opened", type_=api_keys.c.endpoint_ids.type),
        units_per_month=bindparam("units", type_=BigInteger),
        requests_per_minute=bindparam("requests", type_=Integer),
    )
)

# Until the end of the transaction nobody else can queue a job of this key. A key without a budget is not locked.
LOCK_BUDGET: Final = (
    select(api_keys.c.name, api_keys.c.units_per_month)
    .where(_key, api_keys.c.units_per_month.is_not(None))
    .with_for_update()
)
# One statement, so that a job which ends meanwhile is counted on one side or the other, never on none.
COUNT_BUDGET: Final = select(
    select(func.coalesce(func.sum(charges_by_hour.c.amount_units), 0))
    .where(charges_by_hour.c.key_id == bindparam("key"), charges_by_hour.c.hour_ms >= bindparam("month_ms"))
    .scalar_subquery()
    .label("spent"),
    select(func.coalesce(func.sum(jobs.c.cost_units), 0))
    .where(jobs.c.key_id == bindparam("key"), jobs.c.finished_ms.is_(None))
    .scalar_subquery()
    .label("promised"),
)

# In the same transaction as COMPLETE.
CHARGE: Final = insert(ledger).inline()
# In the same transaction as CHARGE. Text, because SQLAlchemy spells it differently for each database; they agree.
ADD_TO_HOUR: Final = text(
    "INSERT INTO charges_by_hour (key_id, hour_ms, endpoint_id, charges, amount_units) "
    "VALUES (:key_id, :hour_ms, :endpoint_id, 1, :amount_units) "
    "ON CONFLICT (hour_ms, key_id, endpoint_id) DO UPDATE SET charges = charges_by_hour.charges + 1, "
    "amount_units = charges_by_hour.amount_units + excluded.amount_units"
)
# Both in one trip, for PostgreSQL.
CHARGE_AND_ADD: Final = text(
    "WITH entry AS (INSERT INTO ledger (job_id, endpoint_id, key_id, amount_units, created_ms, execution_ms, work, "
    "acceleration) VALUES (:job_id, :endpoint_id, :key_id, :amount_units, :created_ms, :execution_ms, :work, "
    f":acceleration)) {ADD_TO_HOUR.text}"
).bindparams(bindparam("acceleration", type_=ledger.c.acceleration.type))

_entry_columns = (
    ledger.c.job_id,
    ledger.c.endpoint_id,
    ledger.c.key_id,
    ledger.c.amount_units,
    ledger.c.created_ms,
)
LIST_ENTRIES: Final = select(*_entry_columns).order_by(ledger.c.seq)
LIST_ENTRIES_OF_KEY: Final = LIST_ENTRIES.where(ledger.c.key_id == bindparam("key"))

_unit_ms = bindparam("unit_ms", type_=BigInteger)
_sums = (func.sum(charges_by_hour.c.charges).label("charges"), func.sum(charges_by_hour.c.amount_units).label("units"))
_in_range = (
    charges_by_hour.c.hour_ms >= bindparam("since_ms", type_=BigInteger),
    charges_by_hour.c.hour_ms < bindparam("until_ms", type_=BigInteger),
)
_of_key = charges_by_hour.c.key_id == bindparam("key")


def _sum_charges(*where: ColumnElement[bool]) -> Select[Any]:
    # By hour first: that is the order of the table, and needs no sorting. What is left of millions are thousands.
    hour_ms = charges_by_hour.c.hour_ms
    hours = select(hour_ms, *_sums).where(*where).group_by(hour_ms).subquery("hours")
    start_ms = (hours.c.hour_ms - hours.c.hour_ms % _unit_ms).label("start_ms")
    sums = (func.sum(hours.c.charges).label("charges"), func.sum(hours.c.units).label("units"))
    return select(start_ms, *sums).group_by(start_ms).order_by(start_ms)


SUM_CHARGES: Final = _sum_charges(*_in_range)
SUM_CHARGES_OF_KEY: Final = _sum_charges(*_in_range, _of_key)
_start_ms = (charges_by_hour.c.hour_ms - charges_by_hour.c.hour_ms % _unit_ms).label("start_ms")
_parts = (_start_ms, charges_by_hour.c.key_id, charges_by_hour.c.endpoint_id)
SUM_USAGE: Final = select(*_parts, *_sums).where(*_in_range).group_by(*_parts).order_by(*_parts)
SUM_USAGE_OF_KEY: Final = SUM_USAGE.where(_of_key)
