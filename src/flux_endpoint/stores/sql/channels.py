"""What sleepers of the store wait for."""

from flux_endpoint.stores.sql.signals import Channel


def end_of(job_id: str) -> Channel:
    """The job has become terminal."""
    return Channel("end of job", job_id)


def chunk_of(job_id: str) -> Channel:
    """The job has sent something."""
    return Channel("chunk of job", job_id)


def move_of(job_id: str) -> Channel:
    """The job has been claimed or waits again."""
    return Channel("move of job", job_id)


def work_on(endpoint_id: str) -> Channel:
    """A job may be waiting on the endpoint."""
    return Channel("work on endpoint", endpoint_id)


def stop_for(worker_id: str) -> Channel:
    """The worker must stop a job."""
    return Channel("stop for worker", worker_id)


def webhook_due() -> Channel:
    """A webhook may have to be sent."""
    return Channel("webhook", "due")
