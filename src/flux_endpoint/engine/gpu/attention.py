"""Which of the attentions that a machine has is the fastest one for FLUX on its device."""

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from flux_endpoint.engine.blocks import Attend, sdpa
from flux_endpoint.engine.probe import distance, seconds_of

# From the fastest known to the slowest. One further down must be faster by so much: else two that take the same time
# would be chosen by chance, and with them the last bits of pictures.
_IN_TORCH: Final = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
_CLEARLY: Final = 0.9
# FlashAttention 3, which whoever wants it builds: there is no package of it. No public name tells its version.
_FLASH_3_MODULE: Final = "flash_attn_interface"
_FLASH_3: Final = "flash3"
# Ten times what rounding the result to bfloat16 brings about.
_FARTHEST: Final = 2e-2


@dataclass(frozen=True, slots=True)
class Attention:
    """One way of computing attention.

    Attributes:
        name: short, for logs and fingerprints.
        attend: see `blocks.Attend`.
        seconds: that one took; None where none was measured.
        tried: what became of all that were tried, for people.
    """

    name: str
    attend: Attend
    seconds: float | None = None
    tried: str = ""


def known_attentions() -> Mapping[str, Attend]:
    """All that could run on CUDA, the fastest known first; whether one does run is not known yet."""
    known: dict[str, Attend] = {}
    newest = flash_3()
    if newest is not None:
        known[_FLASH_3] = newest
    return known | {name: attention_of_torch(backend) for name, backend in _IN_TORCH.items()}


def choose_attention(
    candidates: Mapping[str, Attend],
    heads: int,
    head_size: int,
    tokens: int,
    device: torch.device,
    dtype: torch.dtype = torch.bfloat16,
    clearly: float = _CLEARLY,
) -> Attention:
    """The first that none further down is clearly faster than; torch's own choice where none works.

    A process asks once: times differ, and what is loaded again must draw the same bytes.

    Args:
        candidates: by name, in the order in which they are preferred.
        heads: of the transformer.
        head_size: numbers of one.
        tokens: text and image.
        device: whose attention is looked for.
        dtype: of queries, keys and values.
        clearly: the share of the time of the one that is preferred which another must stay under.
    """
    return _fastest(tuple(candidates.items()), heads, head_size, tokens, device, dtype, clearly)


@functools.cache
@torch.inference_mode()
def _fastest(
    candidates: tuple[tuple[str, Attend], ...],
    heads: int,
    head_size: int,
    tokens: int,
    device: torch.device,
    dtype: torch.dtype,
    clearly: float,
) -> Attention:
    random = torch.Generator().manual_seed(0)
    # They lie as in a pass: token by token.
    shape = (1, tokens, heads, head_size)
    query, key, value = (torch.randn(shape, generator=random).to(device, dtype).transpose(1, 2) for _ in range(3))
    exact = functional.scaled_dot_product_attention(query.float(), key.float(), value.float())
    chosen, tried = Attention("torch", sdpa), []
    for name, attend in candidates:
        try:
            off = distance(attend(query, key, value), exact)
            seconds = seconds_of(functools.partial(attend, query, key, value), device)
        except Exception as error:
            # A library that is not made for this card says so in any way it likes.
            tried.append(f"{name} does not run ({str(error).strip().partition(chr(10))[0]})")
            continue
        tried.append(f"{name} {seconds * 1000:.2f} ms, {off:.0e} off")
        if off <= _FARTHEST and (chosen.seconds is None or seconds < clearly * chosen.seconds):
            chosen = Attention(name, attend, seconds)
    return replace(chosen, tried="; ".join(tried))


# Remembered, because a compiler knows a function by its identity.
@functools.cache
def attention_of_torch(backend: SDPBackend) -> Attend:
    """Attention by one of torch's own backends; it raises where that cannot."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        with sdpa_kernel(backend):
            return functional.scaled_dot_product_attention(query, key, value)

    return attend


@functools.cache
def flash_3() -> Attend | None:
    """FlashAttention 3, or None where it is not installed."""
    try:
        module: Any = importlib.import_module(_FLASH_3_MODULE)
    except ImportError:
        return None

    # An operator of our own: a compiler must not look into it.
    @torch.library.custom_op("flux_endpoint::flash_attention_3", mutates_args=())
    def operator(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        # (1, tokens, heads, head size), as it wants them.
        result = module.flash_attn_func(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        # Older ones give the softmax's sums as well.
        attended: Tensor = result[0] if isinstance(result, tuple) else result
        return attended.transpose(1, 2).contiguous()

    @operator.register_fake
    def _(query: Tensor, _key: Tensor, _value: Tensor) -> Tensor:
        return query.new_empty(query.shape)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result: Tensor = operator(query, key, value)
        return result

    return attend
