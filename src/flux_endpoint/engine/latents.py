"""Latents: the first noise, and the two layouts between autoencoder and transformer."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class RenderSize:
    """A picture's size as the model sees it.

    Attributes:
        width_px: width rendered; at least the width asked for.
        height_px: height rendered; at least the height asked for.
        latent_width: columns of the latent grid; even.
        latent_height: rows of the latent grid; even.
    """

    width_px: int
    height_px: int
    latent_width: int
    latent_height: int

    @property
    def token_rows(self) -> int:
        """Rows of 2x2 patches."""
        return self.latent_height // 2

    @property
    def token_columns(self) -> int:
        """Columns of 2x2 patches."""
        return self.latent_width // 2


def render_size(width_px: int, height_px: int, vae_scale_factor: int) -> RenderSize:
    """The smallest size a checkpoint can draw that covers the one asked for.

    Args:
        width_px: asked for; any positive number.
        height_px: asked for; any positive number.
        vae_scale_factor: pixels per latent along one side; a token covers twice that (16 px for FLUX.1).
    """
    latent_width = 2 * -(-width_px // (2 * vae_scale_factor))
    latent_height = 2 * -(-height_px // (2 * vae_scale_factor))
    return RenderSize(latent_width * vae_scale_factor, latent_height * vae_scale_factor, latent_width, latent_height)


def draw_noise(seed: int, channels: int, size: RenderSize) -> Tensor:
    """The noise a picture starts from, on the CPU: the same for a seed whatever the device and its neighbours.

    Args:
        seed: 0 to 2**64 - 1.
        channels: latent channels; 16 for FLUX.1.
        size: the grid to fill.

    Returns:
        (1, channels, size.latent_height, size.latent_width), float32, standard normal.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(
        (1, channels, size.latent_height, size.latent_width), generator=generator, dtype=torch.float32, device="cpu"
    )


def pack_latents(latents: Tensor) -> Tensor:
    """Turn each 2x2 patch of the latent grid into one token.

    Args:
        latents: (batch, channels, h, w); h and w even; any floating dtype.

    Returns:
        (batch, h/2 * w/2, channels * 4), same dtype and device, patches row by row from the top left; within a token
        the channel varies slowest, then the row, then the column of the patch.

    Raises:
        ValueError: h or w is odd.
    """
    batch, channels, height, width = latents.shape
    if height % 2 or width % 2:
        raise ValueError(f"a latent grid of {height} x {width} cannot be cut into 2x2 patches")
    patches = latents.view(batch, channels, height // 2, 2, width // 2, 2)
    patches = patches.permute(0, 2, 4, 1, 3, 5)  # (batch, h/2, w/2, channels, 2, 2)
    return patches.reshape(batch, (height // 2) * (width // 2), channels * 4)


def unpack_latents(tokens: Tensor, size: RenderSize) -> Tensor:
    """The inverse of `pack_latents`.

    Args:
        tokens: (batch, size.token_rows * size.token_columns, channels * 4).
        size: the grid the tokens were cut from.

    Returns:
        (batch, channels, size.latent_height, size.latent_width), same dtype and device.
    """
    batch, _, depth = tokens.shape
    patches = tokens.view(batch, size.token_rows, size.token_columns, depth // 4, 2, 2)
    patches = patches.permute(0, 3, 1, 4, 2, 5)  # (batch, channels, h/2, 2, w/2, 2)
    return patches.reshape(batch, depth // 4, size.latent_height, size.latent_width)


def image_ids(size: RenderSize) -> Tensor:
    """Where each image token sits, for the rotary position embedding.

    Returns:
        (tokens, 3), float32, on the CPU: 0, row, column; tokens in the order of `pack_latents`.
    """
    ids = torch.zeros(size.token_rows, size.token_columns, 3)
    ids[..., 1] += torch.arange(size.token_rows)[:, None]
    ids[..., 2] += torch.arange(size.token_columns)[None, :]
    return ids.reshape(-1, 3)
