"""The name of this dialect, and ids in its forms: they end in a cluster; clients treat the whole as opaque."""

import uuid
from typing import Final

DIALECT: Final = "runpod"
_CLUSTER_SUFFIX: Final = "u1"


def new_job_id(*, sync: bool) -> str:
    """A job id: `sync-<uuid4>-u1` for `/runsync`, `<uuid4>-u1` for `/run`."""
    return f"{'sync-' if sync else ''}{uuid.uuid4()}-{_CLUSTER_SUFFIX}"


def new_batch_id() -> str:
    """The id of a batch: `batch_<uuid4>`."""
    return f"batch_{uuid.uuid4()}"


def new_batch_request_id() -> str:
    """The id of a request of a batch, and later of its job: `req_<uuid4>`."""
    return f"req_{uuid.uuid4()}"
