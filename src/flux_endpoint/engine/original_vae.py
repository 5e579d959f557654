"""The names Black Forest Labs' own files give to the autoencoder's tensors, beside those of diffusers."""

import re
from collections.abc import Iterable
from typing import Final

_VAE_NAMES: Final = (
    (re.compile(r"\.down\.(\d+)\.block\."), r".down_blocks.\1.resnets."),
    (re.compile(r"\.down\.(\d+)\.downsample\."), r".down_blocks.\1.downsamplers.0."),
    (re.compile(r"\.up\.(\d+)\.block\."), r".up_blocks.\1.resnets."),
    (re.compile(r"\.up\.(\d+)\.upsample\."), r".up_blocks.\1.upsamplers.0."),
    (re.compile(r"\.mid\.block_1\."), ".mid_block.resnets.0."),
    (re.compile(r"\.mid\.block_2\."), ".mid_block.resnets.1."),
    (re.compile(r"\.mid\.attn_1\.norm\."), ".mid_block.attentions.0.group_norm."),
    (re.compile(r"\.mid\.attn_1\.([qkv])\."), r".mid_block.attentions.0.to_\1."),
    (re.compile(r"\.mid\.attn_1\.proj_out\."), ".mid_block.attentions.0.to_out.0."),
    (re.compile(r"\.nin_shortcut\."), ".conv_shortcut."),
    (re.compile(r"coder\.norm_out\."), "coder.conv_norm_out."),
)
_UP_BLOCK: Final = re.compile(r"(?<=\.up_blocks\.)\d+")


def diffusers_names(originals: Iterable[str]) -> dict[str, str]:
    """Diffusers' names for the autoencoder's tensors, by the original ones; names of diffusers stay as they are."""
    names = {}
    for original in originals:
        names[original] = original
        for pattern, replacement in _VAE_NAMES:
            names[original] = pattern.sub(replacement, names[original])
    changed = [name for original, name in names.items() if name != original]
    ups = max((int(found[0]) for name in changed if (found := _UP_BLOCK.search(name))), default=0)
    # The original counts from the finest level up, diffusers in the order in which they are passed.
    return {
        original: _UP_BLOCK.sub(lambda found: str(ups - int(found[0])), name) if name != original else name
        for original, name in names.items()
    }
