"""How this dialect tells errors and pictures."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from flux_endpoint import __version__

DIALECT: Final = "a1111"
# The one way in which FLUX is sampled here, whatever a client names.
SAMPLER: Final = "Euler"


def error_body(
    status_code: int, text: str, *, made_id: str | None, problems: Sequence[str], field: str | None
) -> tuple[object, str]:
    """An error as `{"detail": text}`. Implements `WordsOfErrors`."""
    return {"detail": text}, "application/json"


def parameters_text(asked: Mapping[str, Any], model: str) -> str:
    """What a picture was made with, as text that the field's programs read.

    Args:
        asked: by the names of the table of inputs.
        model: what it is called.
    """
    negative = asked.get("negative_prompt") or ""
    figures = {
        "Steps": asked["num_inference_steps"],
        "Sampler": SAMPLER,
        "CFG scale": f"{asked['true_cfg_scale']:g}" if negative else "1",
        "Distilled CFG Scale": f"{asked['guidance']:g}",
        "Seed": asked["seed"],
        "Size": f"{asked['width']}x{asked['height']}",
        "Model": model,
        "Version": f"flux-endpoint {__version__}",
    }
    lines = [asked["prompt"], *([f"Negative prompt: {negative}"] if negative else [])]
    return "\n".join([*lines, ", ".join(f"{name}: {value}" for name, value in figures.items())])
