"""`python -m training --config training/demo.toml`: every stage in order; each resumes where it stopped."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path


def _stages() -> dict[str, Callable[[object], object]]:
    from training.ae.train import train_autoencoder
    from training.checker.checker import train_checker
    from training.encode.pictures import encode_pictures
    from training.evaluate.report import evaluate
    from training.export.folder import export_model
    from training.flow.train import train_flow
    from training.guidance.train import train_guidance
    from training.student.train import train_student
    from training.text.train import train_text

    return {
        "ae": train_autoencoder,
        "text": train_text,
        "encode": encode_pictures,
        "flow": train_flow,
        "guidance": train_guidance,
        "student": train_student,
        "export": export_model,
        "checker": train_checker,
        "evaluate": evaluate,
    }


def main() -> None:
    """Parse the command line and run the stages."""
    names = ("ae", "text", "encode", "flow", "guidance", "student", "export", "checker", "evaluate")
    parser = argparse.ArgumentParser(
        prog="python -m training", description="Train the embedded demo model from nothing."
    )
    parser.add_argument("--config", type=Path, default=Path("training/demo.toml"))
    parser.add_argument(
        "--work-dir", type=Path, help="folder for renders, latents and checkpoints; overrides the configuration"
    )
    parser.add_argument("--output-dir", type=Path, help="folder for the finished model; overrides the configuration")
    parser.add_argument("--stage", action="append", choices=names, help="run only this stage (may be repeated)")
    arguments = parser.parse_args()
    # Before torch starts: a second thread per process would fight with the other process for the same core.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import cv2
    import torch

    from training.config import load_config

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    config = load_config(arguments.config, arguments.work_dir, arguments.output_dir)
    stages = _stages()
    for name in arguments.stage or names:
        print(f"== {name}", flush=True)
        stages[name](config)


if __name__ == "__main__":
    main()
