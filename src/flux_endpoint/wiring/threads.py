"""How the model's CPU threads behave."""

import os


def let_threads_sleep() -> None:
    """Make idle threads of the model sleep instead of spin. Call it before PyTorch is loaded, which reads it once.

    Spinning threads fight with whatever else runs for the cores: on two cores, beside one busy process, a picture
    took 2 to 5 times as long; alone it was no faster. A value that the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
