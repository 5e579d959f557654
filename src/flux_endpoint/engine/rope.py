"""The rotary position tables, made once per picture size instead of once per forward pass."""

from collections import OrderedDict

from torch import Tensor, device, nn

# One pair of tables is 4.5 MiB at 1024x1024; text length and size are the only things that vary.
_REMEMBERED_SIZES = 8


class RopeCache(nn.Module):
    """Stands in for the transformer's position embedding and remembers its last results.

    The ids stay on the CPU even when the transformer is not there: reading a key from them must not wait for a GPU.

    Args:
        pos_embed: the transformer's own module; (tokens, 3) ids to two tables (tokens, head size).
        target: where the transformer is.
    """

    def __init__(self, pos_embed: nn.Module, target: device) -> None:
        super().__init__()
        self._pos_embed = pos_embed
        self._target = target
        self._tables: OrderedDict[tuple[int, float, float], tuple[Tensor, Tensor]] = OrderedDict()

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The cosine and sine tables of these positions.

        Args:
            ids: (text tokens + image tokens, 3), float32, on the CPU; a full grid row by row after the text.
        """
        # A full grid is known by its number of tokens and its last position.
        key = (ids.shape[0], float(ids[-1, 1]), float(ids[-1, 2]))
        if key not in self._tables:
            cosines, sines = self._pos_embed(ids)
            self._tables[key] = (cosines.to(self._target), sines.to(self._target))
            if len(self._tables) > _REMEMBERED_SIZES:
                self._tables.popitem(last=False)
        self._tables.move_to_end(key)
        return self._tables[key]
