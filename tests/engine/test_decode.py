"""Pixels are made in slices: the same bits, in no more memory."""

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.engine.channels_last import ChannelsLastDecoder
from flux_endpoint.engine.decode import Decoder, exact_decoder
from flux_endpoint.engine.engine import FluxEngine
from flux_endpoint.engine.factory import check_source

# 512 x 576 pixels of the embedded model.
LARGE, SMALL = (1, 32, 16, 18), (1, 32, 4, 4)


@pytest.fixture(scope="module")
def embedded_vae() -> AutoencoderKL:
    folder = Path(check_source("demo", ModelFamily.DEV, device="cpu").location)
    return AutoencoderKL.from_pretrained(folder / "vae").eval()


def decoded(decoder: Decoder, latents: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Pixels, and how many slices they took."""
    slices, count = decoder(latents), 1
    while True:
        try:
            next(slices)
        except StopIteration as end:
            return end.value, count
        count += 1


def noise(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def as_the_pipeline_does(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    pixels: torch.Tensor = vae.decode(latents / vae.config.scaling_factor + vae.config.shift_factor).sample
    return pixels


def test_slices_of_the_embedded_autoencoder_make_the_same_bits(embedded_vae: AutoencoderKL) -> None:
    pixels, slices = decoded(exact_decoder(embedded_vae), noise(LARGE))
    assert torch.equal(pixels, as_the_pipeline_does(embedded_vae, noise(LARGE)))
    assert slices > 10
    near, as_many = decoded(ChannelsLastDecoder(embedded_vae, torch.float32), noise(LARGE))
    assert (near - pixels).abs().max() < 1e-4
    assert as_many == slices
    # What takes no longer than a step has no need of them.
    assert decoded(exact_decoder(embedded_vae), noise(SMALL))[1] == 1


def test_slices_of_an_autoencoder_like_fluxs_own_make_the_same_bits(engines: dict[ModelFamily, FluxEngine]) -> None:
    model = engines[ModelFamily.DEV]._loaded()[0]
    assert model.vae.config.mid_block_add_attention
    latents = noise((1, model.latent_channels, 8, 12))
    assert torch.equal(decoded(exact_decoder(model.vae), latents)[0], as_the_pipeline_does(model.vae, latents))


def test_older_versions_of_torch_whose_norms_refuse_an_epsilon_of_zero_decode_as_well(
    embedded_vae: AutoencoderKL, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_norm = functional.batch_norm

    def refusing(*arguments: Any) -> torch.Tensor:
        if arguments[-1] <= 0:
            raise ValueError("batch_norm eps must be positive")
        return batch_norm(*arguments)

    near = ChannelsLastDecoder(embedded_vae, torch.bfloat16)
    monkeypatch.setattr(functional, "batch_norm", refusing)
    decoded(near, noise(SMALL))


class Peak(TorchDispatchMode):
    """The most bytes that tensors made in the block held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._made: weakref.WeakValueDictionary[int, torch.Tensor] = weakref.WeakValueDictionary()

    def __torch_dispatch__(self, function: Any, _: Any, arguments: Any = (), options: Any = None) -> Any:
        result = function(*arguments, **(options or {}))
        self._made.update({id(tensor): tensor for tensor in _tensors(result)})
        storages = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in self._made.values()
        }
        self.bytes = max(self.bytes, sum(storages.values()))
        return result


def _tensors(result: Any) -> Iterator[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        yield result
    elif isinstance(result, tuple | list):
        for part in result:
            yield from _tensors(part)


def peak_of(work: Callable[[], object]) -> int:
    with Peak() as peak:
        work()
    return peak.bytes


def test_slices_need_no_more_memory(embedded_vae: AutoencoderKL) -> None:
    latents = noise(SMALL)
    whole = peak_of(lambda: as_the_pipeline_does(embedded_vae, latents))
    # Two maps of 16 channels and more, in float32, of 128 x 128 pixels.
    assert whole > 2 * 4 * 16 * 128 * 128
    assert peak_of(lambda: decoded(exact_decoder(embedded_vae), latents)) <= whole
    near = ChannelsLastDecoder(embedded_vae, torch.float32)
    assert peak_of(lambda: decoded(near, latents)) <= whole
