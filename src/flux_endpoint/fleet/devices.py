"""Which GPUs this machine has, found without loading PyTorch into the gateway."""

import logging
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Final

logger = logging.getLogger(__name__)

DEVICES_VARIABLE: Final = "CUDA_VISIBLE_DEVICES"
# By their unique names: CUDA counts the fastest first, the tool goes by the slot.
_QUESTION: Final = ("--query-gpu=uuid", "--format=csv,noheader")
# Without a driver that stays loaded it wakes every card first.
_ANSWER_S: Final = 30


def list_devices(environment: Mapping[str, str], ask: Callable[[], Sequence[str]] | None = None) -> Sequence[str]:
    """The GPUs that workers of this machine may use, by names that `CUDA_VISIBLE_DEVICES` takes; none on a CPU.

    Args:
        environment: where that variable may stand already: then it alone counts. Empty or -1 hides all GPUs.
        ask: tells which GPUs there are; NVIDIA's own tool when None.
    """
    if (given := environment.get(DEVICES_VARIABLE)) is not None:
        names = [name.strip() for name in given.split(",")]
        # As CUDA reads it: what stands behind a bad name does not count.
        end = next((place for place, name in enumerate(names) if name in ("", "-1")), len(names))
        return names[:end]
    return (ask or _ask_driver)()


def _ask_driver() -> Sequence[str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        told = subprocess.run([tool, *_QUESTION], capture_output=True, text=True, timeout=_ANSWER_S, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("%s does not tell which GPUs there are, workers choose by themselves: %s", tool, error)
        return ()
    return [line.strip() for line in told.splitlines() if line.strip()]
