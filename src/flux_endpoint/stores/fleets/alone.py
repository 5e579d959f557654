"""Who decides where there is one server only."""


class Alone:
    """Decides always: there is no other server; implements `Leadership`."""

    async def is_mine(self) -> bool:
        """See `Leadership.is_mine`."""
        return True

    async def close(self) -> None:
        """See `Leadership.close`."""
