#!/usr/bin/env bash
# torch 2.13.0: `with torch.compiler.set_stance(...)` in two threads.
#
# Expected: the stance holds within the block and for its thread, as torch.inference_mode() does, or at least ends with
# the last block.
# Seen (CPython 3.11): it is one value of the process. A second thread runs under it, and each block restores what it
# found: where the first one to enter is the first one to leave, the stance stays for good when both have left. With
# "eager_on_recompile" nothing is compiled from then on, in any thread, and nothing says so.
#
# A worker enters it in its one engine thread only, where models are loaded as well (decision 0033).
# Exits non-zero when this changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PY'
import threading
from collections.abc import Callable

import torch

compiled = []


def backend(module: torch.fx.GraphModule, _inputs: list[torch.Tensor]) -> Callable[..., object]:
    compiled.append(module)
    return module.forward


def is_compiled() -> bool:
    """Whether a function that is new now is compiled at its first call."""
    before = len(compiled)
    torch.compile(lambda numbers: numbers + 1, backend=backend)(torch.ones(3))
    return len(compiled) > before


entered, second_entered, left = threading.Event(), threading.Event(), threading.Event()
seen = {"before": is_compiled()}


def first() -> None:
    with torch.compiler.set_stance("eager_on_recompile"):
        entered.set()
        second_entered.wait()
    left.set()


def second() -> None:
    entered.wait()
    seen["in a thread that has not entered, while another has"] = is_compiled()
    with torch.compiler.set_stance("eager_on_recompile"):
        second_entered.set()
        left.wait()


threads = [threading.Thread(target=each) for each in (first, second)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
seen["after both have left"] = is_compiled()
for when, what in seen.items():
    print(f"{when}: {'compiled' if what else 'not compiled'}")
if [*seen.values()] != [True, False, False]:
    raise SystemExit("changed: a stance ends with its block, or is of its thread")
print("as described")
PY
