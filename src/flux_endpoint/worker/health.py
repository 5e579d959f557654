"""Whether this worker can still draw, told by how its pictures end."""

from typing import Final

from flux_endpoint.core.errors import DeviceFailed, OutOfMemory

# One picture may be too large for the card. Two in a row say that something else holds its memory, or that this process
# does and does not know of it.
_MAX_OUT_OF_MEMORY: Final = 2


class Health:
    """Counts what a device may do once, but not again and again."""

    def __init__(self) -> None:
        self._out_of_memory = 0

    def note_picture(self) -> None:
        """A picture was drawn."""
        self._out_of_memory = 0

    def check(self, error: Exception) -> None:
        """A picture was not drawn.

        Raises:
            DeviceFailed: none will be, by this process.
        """
        if isinstance(error, DeviceFailed):
            raise error
        if isinstance(error, OutOfMemory):
            self._out_of_memory += 1
            if self._out_of_memory >= _MAX_OUT_OF_MEMORY:
                raise DeviceFailed(f"out of memory {self._out_of_memory} times in a row: {error}") from error
