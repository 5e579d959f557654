"""Every error this project raises on purpose.

    FluxEndpointError
    ├── InvalidRequest         the caller sent something wrong (HTTP 400)
    │   ├── InvalidParameter   one field of `input` is wrong
    │   └── InvalidQuery       a query about money is wrong (422)
    ├── UnsupportedEncoding    the body is packed in a way that is not understood (415)
    ├── Unauthenticated        no key, or a wrong one (401)
    ├── OverBudget             the key has spent what it may in this month (402)
    ├── Forbidden              the key does not open this (403)
    ├── TooManyRequests        a rate limit, or a full queue (429)
    ├── NotFound               (404)
    │   ├── UnknownEndpoint
    │   ├── UnknownJob
    │   ├── UnknownBatch
    │   └── ImageGone
    ├── Conflict               the job is in a state that does not allow this (409)
    ├── ResultErased           a repeated request, whose result is gone (410)
    ├── LeaseLost              a worker reports on a job that is no longer its own (409)
    ├── StoreUnavailable       the database did not answer (503)
    │   └── ImagesRefused      the image store has answered no
    ├── OutboundRefused        a place that a client named must not be called
    ├── OutboundFailed         a place that a client named did not answer
    ├── BucketFailed           a client's own bucket did not take its picture
    ├── NotDelivered           the gateway did not take a worker's report, however often it was sent
    ├── SettingsError          refused at start: a setting is wrong
    ├── CheckpointError        refused at start: the model's files are wrong
    ├── SigningFailed          a picture could not be signed, so that nobody gets it
    ├── OutOfMemory            a picture needs more memory than the device has, in every mode that draws the same bytes
    ├── DeviceFailed           a device is of no use any more to the process that has used it
    ├── NonFinite              a model's numbers became NaN or infinite: there is no picture
    └── GenerationStopped      a running generation was told to stop

`api/errors.py` holds the one table from these to HTTP codes.
"""


class FluxEndpointError(Exception):
    """Base of all errors raised on purpose; its text is a sentence a person can act on."""


class InvalidRequest(FluxEndpointError):
    """The caller sent something that cannot be served."""


class InvalidParameter(InvalidRequest):
    """One field of `input` is missing, of the wrong type or out of range.

    Args:
        field: name of the field on the wire.
        problem: what is wrong, naming the limit, to be read after the field's name.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"Invalid parameter: {field} {problem}")
        self.field = field
        self.problem = problem


class InvalidQuery(InvalidRequest):
    """A query has parameters that are wrong.

    Args:
        problems: one sentence each.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class UnsupportedEncoding(FluxEndpointError):
    """The body of a request is packed in a way that this server does not understand."""


class Unauthenticated(FluxEndpointError):
    """The request carries no key, or one that is unknown or revoked."""


class OverBudget(FluxEndpointError):
    """The job would cost more than what is left of its key's monthly budget; it was not queued."""


class Forbidden(FluxEndpointError):
    """The key or worker token is a good one, but not for this."""


class TooManyRequests(FluxEndpointError):
    """A limit on how much may be asked in a time is reached; nothing was done.

    Args:
        text: which limit, and when to come again.
        retry_after_s: whole seconds after which it is worth trying again; at least 1.
    """

    def __init__(self, text: str, retry_after_s: int) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class NotFound(FluxEndpointError):
    """What was asked for does not exist (any more)."""


class UnknownEndpoint(NotFound):
    """No endpoint of that id is served here."""


class UnknownJob(NotFound):
    """No job of that id on that endpoint that the asking key sees, or its record has expired."""

    @classmethod
    def on(cls, endpoint_id: str, job_id: str) -> "UnknownJob":
        """The error, in words that do not tell whether another key has one of that id."""
        return cls(f"There is no job {job_id} on the endpoint {endpoint_id}")


class UnknownBatch(NotFound):
    """No batch of that id on that endpoint that the asking key sees."""

    @classmethod
    def on(cls, endpoint_id: str, batch_id: str) -> "UnknownBatch":
        """The error, in words that do not tell whether another key has one of that id."""
        return cls(f"There is no batch {batch_id} on the endpoint {endpoint_id}")


class ImageGone(NotFound):
    """The picture was never here, or its retention has ended."""


class Conflict(FluxEndpointError):
    """The job is in a state that does not allow what was asked."""


class ResultErased(FluxEndpointError):
    """A repeated request, whose job was made and cannot be read any more; nothing new was made.

    Args:
        idempotency_key: the Idempotency-Key.
        job_id: of the job it made.
        status: how that stood last; None when even that is forgotten.
    """

    def __init__(self, idempotency_key: str, job_id: str, status: str | None) -> None:
        how = "" if status is None else f", which is {status}"
        super().__init__(
            f"the Idempotency-Key '{idempotency_key}' made the job {job_id}{how}; its time is over, "
            "and its result has been erased. Nothing was made or charged now; use a new key to make it again"
        )
        self.job_id = job_id
        self.status = status


class LeaseLost(FluxEndpointError):
    """The job was cancelled, finished or handed to another worker; the reporter must drop it."""


class StoreUnavailable(FluxEndpointError):
    """The database did not answer; no job changed status.

    Attributes:
        made_id: the job or batch that may have been written all the same, when the connection broke at the commit.
    """

    made_id: str | None = None


class ImagesRefused(StoreUnavailable):
    """The image store says that it has no such bucket, or that we may not use it: trying again does not help.

    Its text names nothing of the operator's, and may be shown to clients.
    """


class OutboundRefused(FluxEndpointError):
    """A client named a place that this server must not call; nothing was sent."""


class OutboundFailed(FluxEndpointError):
    """A client named a place that gave no answer; whether it heard the request is unknown."""


class BucketFailed(FluxEndpointError):
    """The bucket that a client named for its picture did not take it; the text says why."""


class NotDelivered(FluxEndpointError):
    """The gateway did not take a worker's report, however often it was sent; the text says what came last."""


class SettingsError(FluxEndpointError):
    """A setting has a name or value that is not allowed."""


class CheckpointError(FluxEndpointError):
    """The files of a model are missing, damaged, of another model, or too large for this machine."""


class SigningFailed(FluxEndpointError):
    """A picture was drawn and its file could not be signed, so that there is no file; the text says why."""


class NonFinite(FluxEndpointError):
    """A model produced NaN or infinite numbers, which every picture shows as black; no picture exists.

    Args:
        component: of the model, whose output it was.
    """

    def __init__(self, component: str) -> None:
        super().__init__(
            f"the model's {component} produced NaN or infinite numbers: "
            "its weights are damaged, or the device is faulty"
        )


class OutOfMemory(FluxEndpointError):
    """A picture needs more memory than the device has, however thriftily the model is kept."""


class DeviceFailed(FluxEndpointError):
    """A device is of no use any more to this process, as after an error of CUDA; another process may fare better."""


class GenerationStopped(FluxEndpointError):
    """A generation ended early because it was asked to stop; no picture exists."""
