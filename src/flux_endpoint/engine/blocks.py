"""FLUX's two kinds of blocks, for one picture, in fewer and larger operations than diffusers' modules make of them.

Shift and scale are weight and bias of the norm before them; the weights of the norms of queries and keys are part of
the rotary tables. Everything is (tokens, width): one picture has no batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from flux_endpoint.engine.linear import Layer

# Of all its layer and RMS norms.
_EPS = 1e-6
# The embedded model has 640 at 1536x1536: 2 MiB of scores in bfloat16.
_MOST_TOKENS = 1024
# Shift, scale and gate of a norm; a stream of a double block has two norms.
MODULATIONS = 3
Pair = tuple[Tensor, Tensor]
# Query, key and value, each (1, heads, tokens, head size), to what is attended to, of the same shape.
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def sdpa(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention as torch chooses to compute it."""
    return functional.scaled_dot_product_attention(query, key, value)


def by_products(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention as two products and a softmax, with all scores in memory; beyond `_MOST_TOKENS` as torch chooses."""
    if query.shape[2] > _MOST_TOKENS:
        return sdpa(query, key, value)
    scores = torch.bmm(query[0] * query.shape[3] ** -0.5, key[0].transpose(1, 2))
    return torch.bmm(scores.softmax(-1), value[0])[None]


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """How queries, keys and values are cut into heads, turned by their positions, and compared.

    Attributes:
        count: of heads.
        size: numbers of a head of one token.
        are_pairs_apart: two numbers of a head that turn together lie side by side in a checkpoint; True where the rows
            of weights were moved so that their halves follow each other, which is faster where nothing is compiled.
        table_dtype: in which they are turned.
        attend: how they are compared.
    """

    count: int
    size: int
    are_pairs_apart: bool
    table_dtype: torch.dtype
    attend: Attend

    @property
    def width(self) -> int:
        """Numbers of a token."""
        return self.count * self.size

    def order(self) -> Tensor:
        """Where the numbers of a head come from, (size,)."""
        if not self.are_pairs_apart:
            return torch.arange(self.size)
        return torch.cat([torch.arange(0, self.size, 2), torch.arange(1, self.size, 2)])

    def tables(self, norm_q: Tensor, norm_k: Tensor, rotation: Pair) -> Pair:
        """What queries and keys, and the same with the numbers of each pair exchanged, are multiplied with.

        Args:
            norm_q: weight of the norm of queries, which comes before the rotation, in the order of `order`.
            norm_k: likewise of keys.
            rotation: cosines and sines, each (tokens, half a head), float32.

        Returns:
            Two of (tokens, 2, 1, size): for queries and for keys, the same for all heads.
        """
        cosines, sines = rotation
        straight, exchanged = [], []
        for norm in (norm_q, norm_k):
            real, imaginary = norm.chunk(2) if self.are_pairs_apart else (norm[::2], norm[1::2])
            straight.append(self._merged(cosines * real, cosines * imaginary))
            exchanged.append(self._merged(-sines * imaginary, sines * real))
        first, second = (torch.stack(each, dim=1)[:, :, None] for each in (straight, exchanged))
        return first.to(self.table_dtype), second.to(self.table_dtype)

    def attended(self, qkv: Tensor, tables: Pair) -> Tensor:
        """(tokens, 3 * width) to (tokens, width)."""
        tokens = qkv.shape[0]
        both = qkv[:, : 2 * self.width].reshape(tokens, 2, self.count, self.size)
        if self.are_pairs_apart:
            query, key = self._turned(both, tables).unbind(1)
        else:
            # One by one: a compiler then writes each where the attention reads it, with nothing between.
            straight, exchanged = (table.unbind(1) for table in tables)
            query, key = map(self._turned, both.unbind(1), zip(straight, exchanged, strict=True))
        value = qkv[:, 2 * self.width :].reshape(tokens, self.count, self.size)
        query, key, value = (part.transpose(0, 1)[None] for part in (query, key, value))
        return self.attend(query, key, value)[0].transpose(0, 1).reshape(tokens, self.width)

    def _turned(self, numbers: Tensor, tables: Pair) -> Tensor:
        straight, exchanged = tables
        turned = functional.rms_norm(numbers.to(straight.dtype), (self.size,), None, _EPS)
        other = self._exchanged(turned)
        return turned.mul_(straight).addcmul_(other, exchanged).to(numbers.dtype)

    def _merged(self, real: Tensor, imaginary: Tensor) -> Tensor:
        if self.are_pairs_apart:
            return torch.cat([real, imaginary], dim=1)
        return torch.stack([real, imaginary], dim=2).flatten(1)

    def _exchanged(self, both: Tensor) -> Tensor:
        if self.are_pairs_apart:
            return both.roll(self.size // 2, -1)
        return both.view(*both.shape[:-1], -1, 2).flip(-1).flatten(-2)


class Stream(nn.Module):
    """One of the two streams, text or image, of a double block.

    Args:
        qkv: to queries, keys and values.
        out: of what was attended to.
        up: to the wide layer.
        down: back from it.
        norm_q: see `Heads.tables`.
        norm_k: likewise.
    """

    norm_q: Tensor
    norm_k: Tensor

    def __init__(self, qkv: Layer, out: Layer, up: Layer, down: Layer, norm_q: Tensor, norm_k: Tensor) -> None:
        super().__init__()
        self.qkv = qkv
        self.out = out
        self.up = up
        self.down = down
        self.register_buffer("norm_q", norm_q, persistent=False)
        self.register_buffer("norm_k", norm_k, persistent=False)

    def start(self, hidden: Tensor, modulation: Tensor) -> Tensor:
        """Queries, keys and values, (tokens, 3 * width)."""
        result: Tensor = self.qkv(modulated_norm(hidden, modulation[1], modulation[0]))
        return result

    def finish(self, hidden: Tensor, attended: Tensor, modulation: Tensor) -> Tensor:
        """What comes after the attention."""
        hidden = torch.addcmul(hidden, self.out(attended), modulation[2])
        wide = self.up.gelu(modulated_norm(hidden, modulation[4], modulation[3]))
        return torch.addcmul(hidden, self.down(wide), modulation[5])


class DoubleBlock(nn.Module):
    """A block in which text and image have their own weights and see each other in the attention.

    Args:
        image: its stream.
        text: its stream.
        heads: of both.
        keeps_tables: whether `forward` is given the result of `tables`, or makes it of the rotation each time: for
            57 blocks and 1024x1024 all of them take .5 GB, and compiled the making costs nothing.
    """

    def __init__(self, image: Stream, text: Stream, heads: Heads, *, keeps_tables: bool) -> None:
        super().__init__()
        self.image = image
        self.text = text
        self._heads = heads
        self._keeps_tables = keeps_tables

    def tables(self, rotation: Pair, text_tokens: int) -> Pair:
        """The rotary tables of all tokens, see `Heads.tables`."""
        cosines, sines = rotation
        text = self._heads.tables(self.text.norm_q, self.text.norm_k, (cosines[:text_tokens], sines[:text_tokens]))
        image = self._heads.tables(self.image.norm_q, self.image.norm_k, (cosines[text_tokens:], sines[text_tokens:]))
        return torch.cat([text[0], image[0]]), torch.cat([text[1], image[1]])

    def forward(self, image: Tensor, text: Tensor, modulation: Tensor, tables: Pair) -> Pair:
        """One pass.

        Args:
            image: (image tokens, width).
            text: (text tokens, width).
            modulation: (12, width): shift, scale and gate of both norms, of the image and then of the text.
            tables: the rotary tables or the rotation, see `keeps_tables`.

        Returns:
            Image and text.
        """
        text_tokens = text.shape[0]
        if not self._keeps_tables:
            tables = self.tables(tables, text_tokens)
        of_image, of_text = modulation[: 2 * MODULATIONS], modulation[2 * MODULATIONS :]
        qkv = torch.cat([self.text.start(text, of_text), self.image.start(image, of_image)])
        attended = self._heads.attended(qkv, tables)
        image = self.image.finish(image, attended[text_tokens:], of_image)
        return image, self.text.finish(text, attended[:text_tokens], of_text)


class SingleBlock(nn.Module):
    """A block in which text and image are one sequence. Its output layer is cut in two: no concatenation.

    Args:
        qkv: to queries, keys and values, and to the wide layer as well if `up` is None.
        up: to the wide layer, where a layer adds its activation while it writes.
        out: of what was attended to.
        down: back from the wide layer.
        norm_q: see `Heads.tables`.
        norm_k: likewise.
        heads: of queries, keys and values.
        keeps_tables: see `DoubleBlock`.
    """

    norm_q: Tensor
    norm_k: Tensor

    def __init__(
        self,
        qkv: Layer,
        up: Layer | None,
        out: Layer,
        down: Layer,
        norm_q: Tensor,
        norm_k: Tensor,
        heads: Heads,
        *,
        keeps_tables: bool,
    ) -> None:
        super().__init__()
        self.qkv = qkv
        self.up = up
        self.out = out
        self.down = down
        self.register_buffer("norm_q", norm_q, persistent=False)
        self.register_buffer("norm_k", norm_k, persistent=False)
        self._heads = heads
        self._keeps_tables = keeps_tables

    def tables(self, rotation: Pair) -> Pair:
        """The rotary tables of all tokens, see `Heads.tables`."""
        return self._heads.tables(self.norm_q, self.norm_k, rotation)

    def forward(self, hidden: Tensor, modulation: Tensor, tables: Pair) -> Tensor:
        """One pass.

        Args:
            hidden: (text tokens + image tokens, width).
            modulation: (3, width): shift, scale and gate.
            tables: the rotary tables or the rotation, see `DoubleBlock`.
        """
        if not self._keeps_tables:
            tables = self.tables(tables)
        qkv, wide = self._first(modulated_norm(hidden, modulation[1], modulation[0]))
        attended = self._heads.attended(qkv, tables)
        return torch.addcmul(hidden, self.down.plus(wide, self.out(attended)), modulation[2])

    def _first(self, normed: Tensor) -> Pair:
        if self.up is not None:
            return self.qkv(normed), self.up.gelu(normed)
        both = self.qkv(normed)
        qkv = both[:, : 3 * self._heads.width]
        return qkv, functional.gelu(both[:, 3 * self._heads.width :], approximate="tanh")


def modulated_norm(hidden: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """The norm before a layer: (tokens, width), with a scale and a shift of (width,)."""
    return functional.layer_norm(hidden, hidden.shape[-1:], scale, shift, _EPS)
