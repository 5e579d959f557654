"""How many tokens a prompt is, for those who load no model: counted as `engine/text.py` counts them.

Knows the library of tokenizers alone, which is there in milliseconds: transformers takes seconds.
"""

import functools
import json
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Metaspace, Sequence, WhitespaceSplit

from flux_endpoint.core.prompt_tokens import PromptTokens
from flux_endpoint.engine.components import TOKENIZERS

_MODELS: Final = Path(__file__).parents[1] / "models"
_DEMO: Final = "demo"
_END_OF_WORD: Final = "</w>"
_MARKS: Final = ("<|startoftext|>", "<|endoftext|>")


def count_tokens(model: str, prompt: str, max_t5_tokens: int) -> PromptTokens:
    """The length of a prompt.

    Args:
        model: the folder in this package whose tokenizers count, `demo` or `flux1`. They are read at the first call.
        prompt: any text; may be empty.
        max_t5_tokens: what the model's transformer reads at most.
    """
    clip, t5 = _tokenizers(model)
    clip_limit, t5_limit = (_longest(_MODELS / model / name) for name in TOKENIZERS)
    return PromptTokens(
        t5=len(t5.encode(prompt).ids),
        t5_limit=min(t5_limit, max_t5_tokens),
        clip=len(clip.encode(prompt, add_special_tokens=False).ids) + len(_MARKS),
        clip_limit=clip_limit,
    )


@functools.cache
def _tokenizers(model: str) -> tuple[Tokenizer, Tokenizer]:
    clip, t5 = (_MODELS / model / name for name in TOKENIZERS)
    return _clip(clip), _t5(t5)


def _clip(folder: Path) -> Tokenizer:
    if (folder / "tokenizer.json").is_file():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    # The original files do not say what is done before words are cut: it is the same for all of CLIP.
    like = _clip(_MODELS / _DEMO / TOKENIZERS[0])
    words = BPE.from_file(
        *(str(folder / name) for name in ("vocab.json", "merges.txt")),
        end_of_word_suffix=_END_OF_WORD,
        unk_token=_MARKS[1],
    )
    tokenizer = Tokenizer(words)
    tokenizer.normalizer, tokenizer.pre_tokenizer = like.normalizer, like.pre_tokenizer
    tokenizer.add_special_tokens(list(_MARKS))
    return tokenizer


def _t5(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    # transformers puts this in place of what the file says, so that the model gets no token for a space alone.
    tokenizer.pre_tokenizer = Sequence([WhitespaceSplit(), Metaspace("▁", "always", split=True)])
    return tokenizer


@functools.cache
def _longest(folder: Path) -> int:
    longest: int = json.loads((folder / "tokenizer_config.json").read_bytes())["model_max_length"]
    return longest
