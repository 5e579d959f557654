"""How the model's CPU threads behave."""

import os


def let_threads_sleep() -> None:
    """Make idle threads of the model sleep instead of spin. Call it before PyTorch is loaded, which reads it once.

    Spinning threads fight with whatever else runs for the cores: on two of them, beside a training run, 8 steps at
    1024 x 1024 took 5 to 30 s with spinning and 3 to 5 s with sleeping threads. A value that the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def threads_per_worker(workers: int) -> int:
    """CPU threads for each of so many workers: more than the cores in all make every one of them slower."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, workers))
