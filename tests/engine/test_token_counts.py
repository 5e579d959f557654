"""Prompts are as long for those who load no model as for the text encoders themselves."""

import functools
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers.models.clip.tokenization_clip import CLIPTokenizer
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from flux_endpoint.engine.sources import DEMO, FLUX1, packaged_folder
from flux_endpoint.engine.token_counts import count_tokens


@functools.cache
def _of_the_engine(model: str) -> tuple[Any, Any]:
    """As `engine/weights.py` reads them."""
    clip, t5 = packaged_folder(model) / "tokenizer", packaged_folder(model) / "tokenizer_2"
    return (
        CLIPTokenizer.from_pretrained(clip, local_files_only=True),
        T5Tokenizer.from_pretrained(t5, local_files_only=True),
    )


@pytest.mark.parametrize("model", [DEMO, FLUX1])
@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=60))
@example("")
@example("a calm sea at night, 4k, it's the photographer's  best\n\nwork")
@example("un café près de l'océan, cafe\u0301, Ⅷ, ﬁne, \uff57\uff49de, 写真, 🦊‍🔥 and 👩‍🚀")
@example("</s> <pad> <extra_id_0> <|startoftext|> <|endoftext|> ▁ <unk>")
@example("supercalifragilisticexpialidocious " * 60)
def test_counted_as_the_engine_counts(model: str, text: str) -> None:
    clip, t5 = _of_the_engine(model)
    counted = count_tokens(model, text, 512)
    assert counted.t5 == len(t5(text, verbose=False).input_ids)
    assert counted.clip == len(clip(text, verbose=False).input_ids)


def test_the_lower_of_two_limits_counts() -> None:
    assert (count_tokens(DEMO, "a lake", 512).t5_limit, count_tokens(FLUX1, "a lake", 512).t5_limit) == (64, 512)
    schnell = count_tokens(FLUX1, "a lake", 256)
    assert (schnell.t5, schnell.t5_limit, schnell.clip, schnell.clip_limit) == (4, 256, 4, 77)
