"""Score an exported model on held-out captions and its negative prompts.

python -m training.evaluate --model src/flux_endpoint/models/demo --label "this version" --out new.json
python -m training.evaluate --table baseline.json new.json      # the table of README.md
"""

import argparse
import json
from functools import partial
from pathlib import Path

import torch

from training.checker.checker import Checker
from training.config import EvaluationConfig
from training.evaluate.report import TRUE_CFG_SCALE, report_on
from training.evaluate.sampling import load_pipeline, sample, sample_taught
from training.evaluate.scoring import markdown_table
from training.flow.transformer import DEFAULT_GUIDANCE

SIZES = ((256, 256), (512, 512), (1024, 1024), (1536, 640))


def main() -> None:
    """Parse the command line: score one model, or print the table of several reports."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="exported model to score")
    parser.add_argument("--label", default="model", help="name of its rows in the table")
    parser.add_argument("--student", action="store_true", help="score its four-step student instead")
    parser.add_argument("--taught", action="store_true", help="score the two passes that the guidance stage teaches")
    parser.add_argument("--captions", type=int, default=400)
    parser.add_argument("--sizes", nargs="+", default=[f"{w}x{h}" for w, h in SIZES], help="such as 512x512")
    parser.add_argument("--negatives", type=int, default=100, help="landscapes per negative prompt test; 0 for none")
    parser.add_argument("--guidance", type=float, default=DEFAULT_GUIDANCE)
    parser.add_argument("--negative", help="negative prompt of every picture; may be empty")
    parser.add_argument("--true-cfg", type=float, default=TRUE_CFG_SCALE, help="how strongly --negative pushes")
    parser.add_argument("--out", type=Path, default=Path("scores.json"))
    parser.add_argument("--table", nargs="+", type=Path, help="print one table of these reports instead")
    arguments = parser.parse_args()
    if arguments.table:
        rows = {label: s for path in arguments.table for label, s in json.loads(path.read_text())["scores"].items()}
        print(markdown_table(rows))
        return
    torch.set_num_threads(1)
    sizes = tuple((int(w), int(h)) for w, h in (text.split("x") for text in arguments.sizes))
    asked = EvaluationConfig(arguments.captions, arguments.negatives, sizes)
    pipeline = load_pipeline(arguments.model, arguments.student)
    how = {"guidance": arguments.guidance, "negative": arguments.negative, "true_cfg": arguments.true_cfg}
    draw = partial(sample_taught, pipeline) if arguments.taught else partial(sample, pipeline, **how)
    report = report_on(pipeline, Checker.load(), arguments.label, asked, draw)
    arguments.out.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
