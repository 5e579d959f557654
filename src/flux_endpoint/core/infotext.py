"""What a picture was made with, as the text that A1111's web UI writes and most readers of the field know."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from flux_endpoint.core.lora_places import is_url

# The one way in which FLUX is sampled here, whatever a client names.
SAMPLER: Final = "Euler"
_HASH_CHARS: Final = 12
_SEPARATORS: Final = re.compile(r"[,:\n]")


def infotext(asked: Mapping[str, Any]) -> str:
    """The prompts, then one line of figures.

    Args:
        asked: by the names that inputs have in files, with `model` and `software`. Without `prompt` the first line is
            empty, as readers expect it.
    """
    negative = asked.get("negative_prompt") or ""
    # Distilled guidance is called as in Forge, the first web UI with FLUX: "CFG scale" is that of negative prompts.
    figures = {
        "Steps": asked["steps"],
        "Sampler": SAMPLER,
        "CFG scale": f"{asked['true_cfg_scale']:g}" if negative else "1",
        "Distilled CFG Scale": f"{asked['guidance']:g}",
        "Seed": asked["seed"],
        "Size": f"{asked['width']}x{asked['height']}",
        **({"Denoising strength": f"{asked['strength']:g}"} if "strength" in asked else {}),
        "Model": _quoted(str(asked["model"])),
        "Version": asked["software"],
    }
    # Of a place elsewhere the last part: a colon would end the name.
    loras = [{**one, "path": _called(one["path"])} for one in asked.get("loras", ())]
    if loras:
        hashes = ", ".join(f"{one['path']}: {one['sha256'][:_HASH_CHARS]}" for one in loras)
        figures["Lora hashes"] = _quoted(hashes)
    # As that program's users write them.
    tags = [f"<lora:{one['path']}:{one['scale']:g}>" for one in loras]
    lines = [" ".join([asked.get("prompt", ""), *tags]), *([f"Negative prompt: {negative}"] if negative else [])]
    return "\n".join([*lines, ", ".join(f"{name}: {value}" for name, value in figures.items())])


def _called(path: str) -> str:
    return path.rpartition("/")[2] if is_url(path) else path


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if _SEPARATORS.search(text) else text
