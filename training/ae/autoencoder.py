"""The autoencoder: a stock `AutoencoderKL` with 32 px per latent, and how it starts and what it minimises."""

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

LATENT_CHANNELS = 32
LEVELS = (8, 16, 32, 64, 128, 128)  # Channels per level; six levels halve the picture five times.
ANCHOR = 4.0
NOISE_LOGVAR = -6.0
FLATNESS = 1 / 3  # 1 leaves the latents' spectrum as it is, 0 makes it flat.


def build_autoencoder() -> AutoencoderKL:
    """A new autoencoder, started as a plain low-pass filter so that training begins near a blurred copy."""
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(LEVELS),
        up_block_types=("UpDecoderBlock2D",) * len(LEVELS),
        block_out_channels=LEVELS,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        # One group: with several, a group of few channels cannot express a picture's mean colour.
        norm_num_groups=1,
        sample_size=256,
        scaling_factor=1.0,
        shift_factor=0.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )
    with torch.no_grad():
        for name, module in vae.named_modules():
            if isinstance(module, nn.Conv2d):
                _start_conv(name, module)
    return vae


def _start_conv(name: str, conv: nn.Conv2d) -> None:
    rows, columns = conv.weight.shape[:2]
    conv.bias.zero_()
    if name.endswith("conv2"):  # Residual branches start silent.
        conv.weight.zero_()
        return
    nn.init.orthogonal_(conv.weight)
    if name.endswith("conv1"):
        return
    conv.weight.mul_(0.25)
    eye = torch.zeros(rows, columns)
    eye[range(min(rows, columns)), range(min(rows, columns))] = 1.0
    if name.endswith("conv_shortcut"):
        conv.weight.copy_(eye[..., None, None] + 0.3 * conv.weight)
    elif "downsamplers" in name:
        conv.weight[:, :, :2, :2] += 0.25 * eye[..., None, None]
    elif "upsamplers" in name:
        tap = torch.tensor([0.25, 0.5, 0.25])
        conv.weight += eye[..., None, None] * torch.outer(tap, tap)
    elif name == "encoder.conv_in":
        conv.weight[1:4, :, 1, 1] += torch.eye(3)
    elif name == "encoder.conv_out":
        conv.weight[LATENT_CHANNELS:].zero_()
        conv.bias[LATENT_CHANNELS:] = NOISE_LOGVAR
    _start_anchor(name, conv)


def _start_anchor(name: str, conv: nn.Conv2d) -> None:
    """Let channel 0 carry a constant through every level.

    It dominates the group statistics, so that dark and bright pictures are normalised alike and tints survive.
    """
    if name.endswith("conv_in"):
        conv.weight[0].zero_()
        conv.bias[0] = ANCHOR
    elif not name.endswith("conv_out"):
        conv.weight[0].zero_()
        centre = conv.weight.shape[-1] // 2
        if "downsamplers" in name:
            conv.weight[0, 0, :2, :2] = 0.25
        else:
            conv.weight[0, 0, centre, centre] = 1.0


def encode(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """Latents without sampling: (batch, 3, h, w) in -1..1 to (batch, 32, h/32, w/32)."""
    return vae.encoder(pixels)[:, :LATENT_CHANNELS]


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """Distance of two picture batches: (batch, 3, h, w) in -1..1 each, to a scalar.

    Beside plain differences it weighs edges, and tints of areas of 4 and 16 px: a red bird that comes back brown is the
    error that is seen first, and plain differences hardly count it.
    """
    error = output - target
    loss = error.abs().mean() + 8.0 * error.square().mean()
    edges = (error[..., 1:] - error[..., :-1]).abs().mean() + (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    loss = loss + 0.6 * edges
    for side in (4, 16):
        soft = F.avg_pool2d(error, side)
        chroma = (soft[:, 0] - soft[:, 1]).abs().mean() + (soft[:, 2] - soft[:, 1]).abs().mean()
        loss = loss + 0.5 * soft.abs().mean() + 0.5 * chroma
    return loss


def latent_penalty(latents: Tensor) -> Tensor:
    """Keep every latent channel near mean 0 and variance 1: (batch, 32, h, w) to a scalar.

    The logarithm keeps the variance from collapsing, which a plain square penalty would reward.
    """
    mean = latents.mean(dim=(0, 2, 3))
    variance = latents.var(dim=(0, 2, 3)) + 1e-4
    return (mean.square() + variance - variance.log() - 1).mean()


def flatten_spectrum(covariance: Tensor) -> Tensor:
    """Mixing of the latent channels after which details stand out of the noise almost as early as the light does.

    Of the autoencoder's 32 principal directions four hold most of the variance: brightness and tints of large areas. At
    one noise level for all, outlines would come out of the noise only in the last few steps. So every variance is taken
    to the power `FLATNESS`, and the mean variance becomes 1. Directions stay where they are.

    Args:
        covariance: (32, 32) of the latent channels over training pictures.

    Returns:
        (32, 32) symmetric matrix to multiply latents with.
    """
    variances, directions = torch.linalg.eigh(covariance.double())
    variances = variances.clamp(min=1e-6)
    flat = variances**FLATNESS
    factors = (flat / flat.mean() / variances).sqrt()
    return ((directions * factors) @ directions.T).float()


@torch.no_grad()
def fold_mixing(vae: AutoencoderKL, mixing: Tensor) -> None:
    """Rewrite the weights so that latents come out mixed; pictures do not change.

    The means stay: the penalty keeps them small, and moving them would change the decoder at its zero-padded border.

    Args:
        vae: changed in place.
        mixing: (32, 32) matrix that latents are multiplied with, such as `flatten_spectrum` gives.
    """
    out, into = vae.encoder.conv_out, vae.decoder.conv_in
    out.weight[:LATENT_CHANNELS] = torch.einsum("om,mihw->oihw", mixing, out.weight[:LATENT_CHANNELS])
    out.bias[:LATENT_CHANNELS] = mixing @ out.bias[:LATENT_CHANNELS]
    into.weight.copy_(torch.einsum("omhw,mi->oihw", into.weight, torch.linalg.inv(mixing.double()).float()))
