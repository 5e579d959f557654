"""Whatever goes wrong inside other libraries becomes one line that names the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from flux_endpoint.core.errors import CheckpointError

# torch's errors of a device, which no file is to blame for; by name, because files are read without torch, too.
_OF_DEVICES: Final = frozenset({"OutOfMemoryError", "AcceleratorError"})


@contextmanager
def reading(place: Path | str) -> Iterator[None]:
    """While a library reads a file or folder, or makes something of what it read.

    Raises:
        CheckpointError: it raised, whatever it was but what a device says of itself; the text names the place.
    """
    try:
        yield
    except CheckpointError:
        raise
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        if type(error).__name__ in _OF_DEVICES:
            raise
        # BaseException: so do the panics of libraries that are written in Rust call themselves.
        raise CheckpointError(f"{place} cannot be used: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
