"""Build the two tokenizers from the caption words: one token per known word, letters for everything else."""

import collections
import io
import json
import math
import string
from pathlib import Path

import numpy as np
import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2 as spm_model
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer, T5TokenizerFast

from training.world import words
from training.world.captions import write_caption
from training.world.scenes import sample_scene

T5_LENGTH = 64  # Longest caption is about 40 tokens; the pipeline pads to this without a mask, and padding costs time.
CLIP_LENGTH = 77
SAMPLES = 12000


def caption_corpus(seed: int) -> list[str]:
    """Captions that between them use every word of `words.py`."""
    rng = np.random.default_rng([seed, 77])
    captions = [write_caption(sample_scene(int(s)), rng).text for s in rng.integers(1 << 30, size=SAMPLES)]
    return captions + list(words.DEFECTS + words.STRANGERS + words.FILLERS + words.ADJECTIVES)


def _case_fold_map(corpus: list[str]) -> bytes:
    """Sentencepiece's compiled NFKC + lower-case rules.

    The T5 class rebuilds its backend from the vocabulary on loading and drops every other kind of normaliser.
    """
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_writer=model, vocab_size=120, hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc_cf", minloglevel=2,
    )  # fmt: skip
    proto = spm_model.ModelProto()
    proto.ParseFromString(model.getvalue())
    return proto.normalizer_spec.precompiled_charsmap


def build_t5_tokenizer(corpus: list[str]) -> T5TokenizerFast:
    """Unigram tokenizer whose pieces are whole words; unknown words fall apart into letters, never into <unk>."""
    pre = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    counts: collections.Counter[str] = collections.Counter()
    for caption in corpus:
        counts.update(piece for piece, _ in pre.pre_tokenize_str(caption.lower()))
    total = sum(counts.values())
    pieces = {"▁": -9.0}
    for word, count in sorted(counts.items()):
        if word.isalpha():
            # A word after a hyphen has no space before it.
            pieces["▁" + word] = pieces[word] = math.log(count / total)
    for letter in string.ascii_lowercase + string.digits + string.punctuation:
        pieces.setdefault(letter, -11.0 if letter.isalnum() else -4.0)
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), *pieces.items()]
    return T5TokenizerFast(
        vocab=vocabulary, extra_ids=0, _spm_precompiled_charsmap=_case_fold_map(corpus), model_max_length=T5_LENGTH
    )


def build_clip_tokenizer(corpus: list[str]) -> CLIPTokenizer:
    """Byte-pair tokenizer with enough merges that every caption word is one token."""
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        end_of_word_suffix="</w>",
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    draft = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    draft.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    draft.train_from_iterator([caption.lower() for caption in corpus], trainer)
    learned = [tuple(pair) for pair in json.loads(draft.to_str())["model"]["merges"]]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # Every byte also at a word's end: an unknown token would end the text early.
    tokens = alphabet + [letter + "</w>" for letter in alphabet]
    for left, right in learned:
        tokens.append(left + right)
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=learned, model_max_length=CLIP_LENGTH)


def build_tokenizers(folder: Path, seed: int) -> None:
    """Write both tokenizers as `folder/tokenizer` (CLIP) and `folder/tokenizer_2` (T5)."""
    corpus = caption_corpus(seed)
    build_clip_tokenizer(corpus).save_pretrained(folder / "tokenizer")
    build_t5_tokenizer(corpus).save_pretrained(folder / "tokenizer_2")
