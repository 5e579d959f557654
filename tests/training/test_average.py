"""The mean of two models' weights."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from training.export.average import WEIGHTS, average_models


def write_model(folder, **tensors):
    for name in (WEIGHTS, "transformer_schnell/diffusion_pytorch_model.safetensors"):
        (folder / name).parent.mkdir(parents=True)
        save_file({key: tensor.to(torch.bfloat16) for key, tensor in tensors.items()}, folder / name)
    (folder / "model_index.json").write_text(f'"{folder.name}"')
    return folder


def test_the_mean_lies_between_both_and_has_no_student(tmp_path):
    first = write_model(tmp_path / "first", a=torch.tensor([0.0, 1.0]), b=torch.ones(2, 2))
    second = write_model(tmp_path / "second", a=torch.tensor([1.0, 1.0]), b=torch.zeros(2, 2))
    average_models(first, second, 0.75, tmp_path / "mean")
    mean = load_file(tmp_path / "mean" / WEIGHTS)
    assert mean["a"].tolist() == [0.75, 1.0]
    assert mean["b"].tolist() == [[0.25, 0.25], [0.25, 0.25]]
    assert mean["a"].dtype == torch.bfloat16
    # All the rest is the second model's, but for a student that learnt from other weights.
    assert (tmp_path / "mean" / "model_index.json").read_text() == '"second"'
    assert not (tmp_path / "mean" / "transformer_schnell").exists()


@pytest.mark.parametrize("other", [{"a": torch.ones(3)}, {"b": torch.ones(2)}])
def test_models_of_different_shapes_have_no_mean(tmp_path, other):
    first = write_model(tmp_path / "first", a=torch.ones(2))
    second = write_model(tmp_path / "second", **other)
    with pytest.raises(ValueError, match="different shapes"):
        average_models(first, second, 0.5, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_of_both_models_is_refused(tmp_path, share):
    first, second = (write_model(tmp_path / name, a=torch.ones(2)) for name in ("first", "second"))
    with pytest.raises(ValueError, match="share must be from 0 to 1"):
        average_models(first, second, share, tmp_path / "mean")


def test_a_model_that_is_there_is_not_overwritten(tmp_path):
    first, second = (write_model(tmp_path / name, a=torch.ones(2)) for name in ("first", "second"))
    with pytest.raises(FileExistsError):
        average_models(first, second, 0.5, first)
