#!/usr/bin/env bash
# transformers 5.23.0, tokenizers 0.23.3: one tokenizer called from two threads with two lengths.
#
# Expected: `tokenizer(text, max_length=N, truncation=True, padding="max_length")` gives N ids, whoever else calls.
# Seen (CPython 3.11): the lengths are state of the Rust object. `__call__` sets them and encodes afterwards, and another
# thread may set them in between: now and then a prompt comes back in the other thread's length, without any error.
#
# Each of our models has tokenizers of its own, and each is used by one thread.
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.23.0 tokenizers==0.23.3
"$folder/venv/bin/python" - <<'PY'
import sys
import threading

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

words = Tokenizer(models.WordLevel({"<unk>": 0, "<pad>": 1, "a": 2}, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token="<pad>")
sys.setswitchinterval(1e-5)
wrong = []


def encode(length):
    for _ in range(20_000):
        ids = tokenizer("a " * 600, max_length=length, truncation=True, padding="max_length").input_ids
        if len(ids) != length:
            wrong.append((length, len(ids)))
            return


threads = [threading.Thread(target=encode, args=[length]) for length in (512, 256)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("asked for and got:", wrong)
if not wrong:
    raise SystemExit("changed: lengths stay with their call (or luck: run again)")
print("as described")
PY
