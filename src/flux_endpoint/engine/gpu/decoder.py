"""The autoencoder's decoder as a GPU likes it: the channels of a pixel side by side, and compiled."""

import copy
import warnings
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from flux_endpoint.engine.decode import Slices
from flux_endpoint.engine.gpu.compiled import as_compiled, compiled, leave_open

_HEIGHT_AND_WIDTH = (2, 3)


class CompiledDecoder:
    """Decodes latents to pixels as the autoencoder does.

    Args:
        vae: whose decoder is copied, 100 MB of FLUX.1's.
        backend: of torch's compiler.
        first: latents to compile it with; height and width must differ.
    """

    def __init__(self, vae: AutoencoderKL, backend: str, first: Tensor) -> None:
        self._config = vae.config
        # The exact decoder's weights stay as they lie: another layout brings other sums.
        self._decoder: Any = copy.deepcopy(vae.decoder)
        self._decoder.to(memory_format=torch.channels_last)
        self._before: Any = vae.post_quant_conv
        self._run = compiled(self._decode, backend)
        with torch.inference_mode(), warnings.catch_warnings():
            # diffusers asks for torch's version through a cache, which is no matter of the picture.
            warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
            hidden = self._scaled(first)
            leave_open(_HEIGHT_AND_WIDTH, hidden)
            self._run(hidden)

    @torch.inference_mode()
    def __call__(self, latents: Tensor) -> Slices:
        """Decode in one slice, which is shorter than a step."""
        yield from ()
        with as_compiled():
            return self._run(self._scaled(latents))

    def _scaled(self, latents: Tensor) -> Tensor:
        hidden: Tensor = latents / self._config.scaling_factor + self._config.shift_factor
        return hidden.contiguous(memory_format=torch.channels_last)

    def _decode(self, hidden: Tensor) -> Tensor:
        pixels: Tensor = self._decoder(hidden if self._before is None else self._before(hidden))
        return pixels
