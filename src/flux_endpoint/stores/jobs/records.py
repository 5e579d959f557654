"""Rows of the database as the records of the product, and back."""

from dataclasses import asdict
from typing import Any

from flux_endpoint.core.bucket import Bucket
from flux_endpoint.core.job import Job, JobStatus, Policy
from flux_endpoint.core.pricing import units_to_usd, usd_to_units
from flux_endpoint.stores.sql.database import Row


def job_values(job: Job) -> dict[str, Any]:
    """A new job as a row of `schema.jobs`."""
    return {
        "id": job.id,
        "endpoint_id": job.endpoint_id,
        "status": job.status.value,
        "input": job.input,
        "key_id": job.key_id,
        "cost_units": usd_to_units(job.cost_usd),
        "created_ms": job.created_ms,
        "queued_ms": job.queued_ms,
        "started_ms": job.started_ms,
        "finished_ms": job.finished_ms,
        "worker_id": job.worker_id,
        "drawn_by": job.drawn_by,
        "claim_token": job.claim_token,
        "retries": job.retries,
        "output": job.output,
        "error": job.error,
        "execution_timeout_ms": job.policy.execution_timeout_ms,
        "ttl_ms": job.policy.ttl_ms,
        "low_priority": int(job.policy.low_priority),
        "webhook": job.webhook,
        "bucket": None if job.bucket is None else asdict(job.bucket),
        "retention_ms": job.retention_ms,
        "expires_ms": job.expires_ms,
        "progress": None if job.progress is None else dict(job.progress),
        "batch_id": job.batch_id,
        "origin": job.origin,
        "dialect": job.dialect,
        "warnings": list(job.warnings) or None,
        "traceparent": job.traceparent,
    }


def to_job(row: Row) -> Job:
    """A row of `schema.jobs`, or what was kept of one, as a job."""
    return Job(
        id=row.id,
        endpoint_id=row.endpoint_id,
        status=JobStatus(row.status),
        input=row.input,
        key_id=row.key_id,
        cost_usd=units_to_usd(row.cost_units),
        created_ms=row.created_ms,
        queued_ms=row.queued_ms,
        started_ms=row.started_ms,
        finished_ms=row.finished_ms,
        worker_id=row.worker_id,
        drawn_by=row.drawn_by,
        claim_token=row.claim_token,
        retries=row.retries,
        output=row.output,
        error=row.error,
        policy=Policy(row.execution_timeout_ms, row.ttl_ms, bool(row.low_priority)),
        webhook=row.webhook,
        bucket=None if row.bucket is None else Bucket(**row.bucket),
        retention_ms=row.retention_ms,
        expires_ms=row.expires_ms,
        progress=row.progress,
        batch_id=row.batch_id,
        origin=row.origin,
        dialect=row.dialect,
        warnings=tuple(row.warnings or ()),
        traceparent=row.traceparent,
    )
