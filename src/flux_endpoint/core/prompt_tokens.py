"""How many tokens a prompt is, as the text encoders of a model read it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """The length of one prompt. The marks that begin and end it are counted, since they take room too.

    Attributes:
        t5: what T5 would read of it without a limit.
        t5_limit: what T5 reads at most: the rest of a longer prompt is cut, with a warning.
        clip: what CLIP would read of it without a limit.
        clip_limit: what CLIP reads at most; it lends the picture its general look only, and its cut is silent.
    """

    t5: int
    t5_limit: int
    clip: int
    clip_limit: int


# Of a prompt, which may be empty.
CountTokens = Callable[[str], PromptTokens]
