"""What says that a device has failed, and what that it has too little memory."""

import pytest
import torch

from flux_endpoint.core.catalog import ModelFamily
from flux_endpoint.core.errors import DeviceFailed
from flux_endpoint.engine.calibration import CALIBRATION, time_step
from flux_endpoint.engine.device import is_device_failure, is_out_of_memory, watching

DEVICE = torch.device("cuda", 1)


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might ..."),
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_a_device_that_fails_is_told_in_one_line(error):
    assert is_device_failure(error)
    assert not is_out_of_memory(error)
    with pytest.raises(DeviceFailed, match=r"^cuda:1 has failed: (CUDA|cuDNN) error: ") as raised, watching(DEVICE):
        raise error
    assert "\n" not in str(raised.value)
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (torch.AcceleratorError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (MemoryError(), True),
        (RuntimeError("expected scalar type Half but found Float"), False),
        (ValueError("CUDA error: in a prompt"), False),
    ],
)
def test_what_is_no_failure_of_a_device_passes_as_it_is(error, is_memory):
    assert is_out_of_memory(error) is is_memory
    with pytest.raises(type(error)) as raised, watching(DEVICE):
        raise error
    assert raised.value is error


def test_a_real_model_draws_the_calibration(engines):
    times_s = []

    def monotonic_s():
        times_s.append(float(len(times_s)))
        return times_s[-1]

    assert time_step(engines[ModelFamily.DEV].generate(CALIBRATION), lambda: None, monotonic_s) == 1.0
    # The text, and each step: the picture is never decoded.
    assert len(times_s) == 1 + CALIBRATION.num_inference_steps


def test_steps_on_a_cpu_are_not_compared(engines):
    assert engines[ModelFamily.DEV].time_step() is None
