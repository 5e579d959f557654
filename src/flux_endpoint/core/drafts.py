"""Drafts: pictures that stop before their last step, and what is kept of them to go on from."""

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from flux_endpoint.core.errors import Conflict, InvalidParameter, InvalidRequest
from flux_endpoint.core.job import Job, JobStatus

# Where the output of a draft's job names them. Never shown to clients.
KEPT_LATENTS: Final = "kept_latents"
# They are in the layout of safetensors: the length of the header, and the header, which is JSON.
_LENGTH: Final = struct.Struct("<Q")
_METADATA: Final = "__metadata__"
_MAX_HEADER_BYTES: Final = 65_536
_ANEW: Final = "send its input again without stop_after, which draws the same picture from the start"


@dataclass(frozen=True, slots=True)
class Draft:
    """Where a picture goes on that was begun as a draft.

    Attributes:
        key: under which the latents are kept, and workers fetch them.
        sha256: of that file, in hexadecimal digits.
        steps: how many are done; at least 1, and less than the picture has.
    """

    key: str
    sha256: str
    steps: int

    def to_input(self) -> dict[str, Any]:
        """Itself as a JSON value, which `from_input` reads back."""
        return asdict(self)

    @classmethod
    def from_input(cls, fields: Mapping[str, Any]) -> "Draft":
        """Read back what `to_input` wrote.

        Raises:
            TypeError: a field is missing or unknown.
        """
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a draft's job keeps of one of its pictures.

    Attributes:
        image_key: of the picture.
        key: of the file with its latents.
        sha256: of that file.
        fingerprint: of the kind of worker that drew it; empty when it did not say.
    """

    image_key: str
    key: str
    sha256: str
    fingerprint: str


def kept_in(job: Job, picture: int | None) -> Kept:
    """What a job keeps of the picture that is to be finished.

    Args:
        job: of any state.
        picture: which of its pictures, 1 for the first; None where it has but one.

    Raises:
        Conflict: it is no draft, or has not ended well, or nothing is kept of it. The text says what to do.
        InvalidParameter: `picture` is none of its pictures, or is missing where there are several.
    """
    fields = job.fields
    if not fields.get("stop_after"):
        raise Conflict(f"Job {job.id} is no draft: only what was sent with stop_after can be finished")
    if not job.status.is_terminal:
        raise Conflict(f"Job {job.id} is {job.status}: wait until the draft is COMPLETED")
    if job.status is not JobStatus.COMPLETED:
        raise Conflict(f"Job {job.id} is {job.status}: there is no draft to finish; {_ANEW}")
    count = fields.get("num_images", 1)
    if picture is None and count > 1:
        raise InvalidParameter("picture", f"is required: the draft has {count}; say which one, from 1 on")
    number = 1 if picture is None else picture
    if not 1 <= number <= count:
        raise InvalidParameter("picture", f"must be between 1 and {count}, the number of pictures of the draft")
    output = job.output if isinstance(job.output, Mapping) else {}
    if KEPT_LATENTS not in output:
        raise gone(job.id, "its worker handed in none")
    keys = output["image_keys"] if "image_keys" in output else [output["image_key"]]
    return Kept(keys[number - 1], **output[KEPT_LATENTS][number - 1])


def gone(job_id: str, why: str) -> Conflict:
    """The error for a draft whose latents cannot be had."""
    return Conflict(f"There are no latents of job {job_id} to go on from: {why}; {_ANEW}")


def other_kind(job_id: str) -> Conflict:
    """The error for a draft that no worker could finish as the one would that began it."""
    why = "no worker of the kind that drew the draft (other hardware, libraries or settings) is there now"
    return Conflict(f"Job {job_id} cannot be finished: {why}; {_ANEW}")


def write_header(said: Mapping[str, str], numbers: bytes = b"") -> bytes:
    """A file with latents that says something of itself: for the same words and numbers the same bytes.

    Args:
        said: by name.
        numbers: such a file that says nothing; empty for none, as an engine without a model keeps it.
    """
    (length,) = _LENGTH.unpack_from(numbers) if numbers else (0,)
    start = _LENGTH.size + length
    tensors = json.loads(numbers[_LENGTH.size : start]) if numbers else {}
    header = json.dumps({_METADATA: dict(said), **tensors}, separators=(",", ":")).encode()
    # Padded, so that the numbers lie as they should.
    header += b" " * (-len(header) % _LENGTH.size)
    return _LENGTH.pack(len(header)) + header + numbers[start:]


def read_header(data: bytes) -> Mapping[str, str]:
    """What a file with latents says of itself; its numbers are not looked at.

    Raises:
        InvalidRequest: it is no such file.
    """
    try:
        (length,) = _LENGTH.unpack_from(data)
        if length > min(_MAX_HEADER_BYTES, len(data) - _LENGTH.size):
            raise ValueError("the header is too long")
        said = json.loads(data[_LENGTH.size : _LENGTH.size + length])[_METADATA]
        return {str(name): str(value) for name, value in said.items()}
    except (struct.error, ValueError, KeyError, TypeError, AttributeError):
        raise InvalidRequest("the latents that came with the draft are in no form that is known here") from None
