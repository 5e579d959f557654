"""What sleepers of the store wait for."""

from flux_endpoint.stores.signals import Topic


def end_of(job_id: str) -> Topic:
    """The job has become terminal."""
    return Topic("end of job", job_id)


def chunk_of(job_id: str) -> Topic:
    """The job has sent something."""
    return Topic("chunk of job", job_id)


def move_of(job_id: str) -> Topic:
    """The job has been claimed or waits again."""
    return Topic("move of job", job_id)


def work_on(endpoint_id: str) -> Topic:
    """A job may be waiting on the endpoint."""
    return Topic("work on endpoint", endpoint_id)


def stop_for(worker_id: str) -> Topic:
    """The worker must stop a job."""
    return Topic("stop for worker", worker_id)


def webhook_due() -> Topic:
    """A webhook may have to be sent."""
    return Topic("webhook", "due")
