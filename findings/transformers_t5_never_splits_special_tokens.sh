#!/usr/bin/env bash
# transformers 5.23.0, tokenizers 0.23.3: T5Tokenizer (FLUX.1's second one) and prompts that hold "</s>" or "<pad>", as
# a piece of HTML does: "a price tag that says <s>20</s> 10".
#
# Expected: with split_special_tokens=True they are plain characters, as the documentation of the option says and as
# CLIPTokenizer, FLUX.1's first one, has it. T5's own SentencePiece never reads a control piece from text.
# Seen (CPython 3.11): the option changes nothing but a space. Special tokens are no longer cut out of the text, and then
# the unigram model finds them once more, because they stand in its vocabulary like any other piece. So the end of the
# prompt stands in its middle, whatever the caller says, and no error tells. sentencepiece 0.2.3, with a vocabulary that
# has the same control pieces, splits the same text into characters.
#
# Our prompts are read as FluxPipeline reads them, for the same pictures: such a word counts as the token there, too.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 tokenizers==0.23.3 sentencepiece==0.2.3
"$folder/venv/bin/python" - <<'PY'
import io
import string

import sentencepiece
from transformers import CLIPTokenizer, T5Tokenizer

TEXT = "says </s> x"
CHARACTERS = string.ascii_letters + "</>|"
SPECIAL = ["<pad>", "</s>", "<unk>"]

pieces = [(piece, 0.0) for piece in SPECIAL] + [(piece, -3.0) for piece in ["\u2581", *CHARACTERS]]
t5 = T5Tokenizer(vocab=pieces, extra_ids=0)
words = ["<|startoftext|>", "<|endoftext|>", *CHARACTERS, *(f"{one}</w>" for one in CHARACTERS)]
clip = CLIPTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=[])
model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([*CHARACTERS, TEXT] * 20), model_writer=model, vocab_size=len(pieces), model_type="unigram",
    pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2,
)  # fmt: skip
own = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def inside(tokenizer: object, text: str, *, split: bool) -> list[str]:
    """Special tokens between the first and the last token."""
    ids = tokenizer(text, split_special_tokens=split).input_ids
    return [one for one in tokenizer.convert_ids_to_tokens(ids)[1:-1] if one in tokenizer.all_special_tokens]


seen = {
    "T5": [inside(t5, TEXT, split=split) for split in (False, True)],
    "CLIP": [inside(clip, TEXT.replace("</s>", "<|endoftext|>"), split=split) for split in (False, True)],
}
by_sentencepiece = own.encode(TEXT)
print(f"special tokens within a prompt, without and with split_special_tokens: {seen}")
print(f"ids of sentencepiece, where </s> is {own.eos_id()}: {by_sentencepiece}")
if seen != {"T5": [["</s>"], ["</s>"]], "CLIP": [["<|endoftext|>"], []]} or own.eos_id() in by_sentencepiece:
    raise SystemExit("changed: T5's special tokens are split when that is asked for")
print("as described")
PY
