"""What follows, in the same transaction, when a job becomes terminal or goes back to the queue."""

from flux_endpoint.core.job import Job
from flux_endpoint.stores.jobs.chunk_statements import FORGET
from flux_endpoint.stores.jobs.records import to_job
from flux_endpoint.stores.sql import channels
from flux_endpoint.stores.sql.database import Row, Transaction
from flux_endpoint.stores.webhooks.store import add_delivery


def ended(transaction: Transaction, row: Row) -> Job:
    """Note the end of a job. Every transition to a terminal state passes its row through here.

    Args:
        transaction: the one that made the transition.
        row: the job afterwards, all columns of `schema.jobs`.
    """
    job = to_job(row)
    transaction.news[channels.end_of(row.id)] = job
    if row.lease_expires_ms is not None:
        # It ended under its worker's hands.
        transaction.news[channels.stop_for(row.worker_id)] = None
    if row.webhook is not None:
        add_delivery(transaction, row)
    return job


def waits_again(transaction: Transaction, row: Row) -> None:
    """Note that a job is back in the queue. What its last attempt has sent goes: another one sends it again.

    Args:
        transaction: the one that put it back.
        row: the job afterwards.
    """
    transaction.connection.execute(FORGET, {"job_ids": [row.id]})
    transaction.news[channels.jobs_on(row.endpoint_id)] = None
    transaction.news[channels.move_of(row.id)] = None
