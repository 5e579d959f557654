"""What sleepers of the store wait for, by its kind; each is called with a name."""

from functools import partial
from typing import Final

from flux_endpoint.stores.sql.signals import Channel

# The job has become terminal.
end_of: Final = partial(Channel, "end of job")
# The job has sent something.
chunk_of: Final = partial(Channel, "chunk of job")
# The job has been claimed or waits again.
move_of: Final = partial(Channel, "move of job")
# A job may be waiting on the endpoint.
jobs_on: Final = partial(Channel, "jobs on endpoint")
# The worker must stop a job.
stop_for: Final = partial(Channel, "stop for worker")
# A webhook may have to be sent.
webhook_due: Final = partial(Channel, "webhook", "due")
