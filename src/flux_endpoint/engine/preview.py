"""A small picture of what a running generation will become, made from its latents at no noticeable cost."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from flux_endpoint.engine.decode import crop_to

_LONGEST_PX: Final = 256
# A few kB; the pixels are a guess anyway.
_JPEG_QUALITY: Final = 60
# A preview of at most this share of the picture's width: finer than a linear map can tell.
_SHRINK: Final = 4
# What the map is fitted to: 512 latents for 17 (FLUX.1) or 33 (embedded model) unknowns. More told nothing new.
_PICTURES: Final = 2
_PICTURE_LATENTS: Final = 16
_SHAPES: Final = 6
# Share of the latents' mean square: keeps channels that the pictures hardly use from being blown up.
_RIDGE: Final = 1e-2


@dataclass(frozen=True, slots=True, eq=False)
class PreviewMap:
    """The linear map from one latent to a block of pixels that comes nearest to an autoencoder.

    Attributes:
        weights: (latent_channels + 1, block, block, 3), float32, levels of 0 to 255; the last row is what zero latents
            give.
        pixels_per_latent: of the whole picture, along one side.
    """

    weights: Tensor
    pixels_per_latent: int

    @torch.inference_mode()
    def draw(self, latents: Tensor, width_px: int, height_px: int) -> NDArray[np.uint8]:
        """Make a small picture.

        Args:
            latents: (1, latent_channels, h, w), any floating dtype.
            width_px: of the picture asked for; what is rendered beyond it is cut off as in the picture itself.
            height_px: of the picture asked for.

        Returns:
            (height, width, 3), 8-bit RGB; no side longer than 256 pixels.
        """
        _, channels, rows, columns = latents.shape
        weights = self.weights
        while max(rows, columns) * weights.shape[1] > _LONGEST_PX and weights.shape[1] > 1:
            weights = functional.avg_pool2d(weights.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
        block = weights.shape[1]
        tokens = latents[0].reshape(channels, rows * columns).T.float()
        levels = torch.addmm(weights[-1].reshape(1, -1), tokens, weights[:-1].reshape(channels, -1))
        # Rounded before they are put in order: a quarter of the bytes to move.
        levels = levels.clamp_(0, 255).to(torch.uint8).view(rows, columns, block, block, 3)
        levels = levels.permute(0, 2, 1, 3, 4).reshape(rows * block, columns * block, 3)
        width, height = (max(1, side * block // self.pixels_per_latent) for side in (width_px, height_px))
        return crop_to(levels.cpu().numpy(), width, height)


class Previewer:
    """Draws previews for one autoencoder. Used by one thread at a time; never touches what a picture is made from.

    Args:
        vae: the map is fitted to it at the first preview, which takes about as long as decoding a picture of half a
            megapixel (FLUX.1: of 1/30 of one).
    """

    def __init__(self, vae: AutoencoderKL) -> None:
        self._vae = vae
        self._map: PreviewMap | None = None

    def encode(self, latents: Tensor, width_px: int, height_px: int) -> bytes:
        """A preview as a JPEG file; see `PreviewMap.draw`."""
        if self._map is None:
            self._map = fit_preview_map(self._vae)
        buffer = io.BytesIO()
        Image.fromarray(self._map.draw(latents, width_px, height_px)).save(buffer, "JPEG", quality=_JPEG_QUALITY)
        return buffer.getvalue()


@torch.inference_mode()
def fit_preview_map(vae: AutoencoderKL) -> PreviewMap:
    """Fit the map by least squares to how an autoencoder decodes a few synthetic pictures: same weights, same map."""
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    block = max(1, scale // _SHRINK)
    inputs, targets = [], []
    for picture in _synthetic_pictures(_PICTURE_LATENTS * scale):
        pixels = picture[None].to(vae.device, vae.dtype)
        latents = vae.encode(pixels, return_dict=False)[0].mode()
        decoded = functional.avg_pool2d(vae.decode(latents, return_dict=False)[0].float(), scale // block)
        # What the transformer sees and the engine steps: normalised latents.
        latents = (latents.float() - vae.config.shift_factor) * vae.config.scaling_factor
        inputs.append(latents[0].flatten(1).T)  # (latents, channels)
        patches = functional.unfold(decoded, block, stride=block)[0].T  # (latents, 3 * block * block)
        targets.append(patches.view(-1, 3, block, block).permute(0, 2, 3, 1).flatten(1) * 127.5 + 127.5)
    latents_one = torch.cat(inputs).double().cpu()
    latents_one = torch.cat([latents_one, torch.ones(len(latents_one), 1, dtype=torch.float64)], dim=1)
    gram = latents_one.T @ latents_one
    gram += _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    weights = torch.linalg.solve(gram, latents_one.T @ torch.cat(targets).double().cpu())
    return PreviewMap(weights.float().view(-1, block, block, 3).to(vae.device), scale)


def _synthetic_pictures(side_px: int) -> Iterator[Tensor]:
    """Blended colours with plain shapes in front: (3, side_px, side_px), float32, -1 to 1; always the same."""
    generator = torch.Generator("cpu").manual_seed(0)
    line = torch.linspace(0, 1, side_px)
    rows, columns = line[:, None], line[None, :]
    for number in range(_PICTURES):
        corners = torch.rand(1, 3, 3 + 2 * number, 3 + 2 * number, generator=generator)
        picture = functional.interpolate(corners, size=(side_px, side_px), mode="bilinear", align_corners=True)[0]
        for shape in range(_SHAPES):
            colour = torch.rand(3, 1, 1, generator=generator)
            x, y, size = torch.rand(3, generator=generator).tolist()
            is_disc = (columns - x) ** 2 + (rows - y) ** 2 < (0.1 + 0.2 * size) ** 2
            is_bar = ((columns - x).abs() < 0.3 * size) & ((rows - y).abs() < 0.1)
            picture = torch.where(is_disc if shape % 2 else is_bar, colour, picture)
        yield picture * 2 - 1
