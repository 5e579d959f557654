"""Muon: what it adds to matrices, one by one or many of a shape at once."""

import pytest
import torch
from torch import nn

from training.optim import Muon, orthogonalise


def matrices(count: int, rows: int, columns: int) -> torch.Tensor:
    return torch.randn(count, rows, columns, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("rows", "columns"), [(24, 24), (48, 16), (16, 48)])
def test_every_direction_of_a_matrix_moves_alike(rows: int, columns: int) -> None:
    before, after = (
        torch.linalg.svdvals(m.float()) for m in (matrices(5, rows, columns), orthogonalise(matrices(5, rows, columns)))
    )
    assert after.max() < 1.4 and after.median() > 0.65
    # A random square matrix has directions of hardly any strength; they catch up most.
    assert (after.amin(dim=1) / after.amax(dim=1) > 1.5 * before.amin(dim=1) / before.amax(dim=1)).all()


def test_matrices_of_a_shape_do_not_touch_one_another() -> None:
    stack = matrices(3, 24, 12)
    alone = torch.cat([orthogonalise(matrix[None]) for matrix in stack])
    assert torch.allclose(orthogonalise(stack).float(), alone.float(), atol=2e-2)


def test_a_step_goes_against_the_gradient_and_further_in_tall_matrices() -> None:
    params = [nn.Parameter(torch.zeros(shape)) for shape in ((16, 16), (64, 16), (16, 16), (8, 4, 2, 2))]
    gradients = [torch.randn(p.shape, generator=torch.Generator().manual_seed(n)) for n, p in enumerate(params)]
    for parameter, gradient in zip(params, gradients, strict=True):
        parameter.grad = gradient
    unused = nn.Parameter(torch.ones(4, 4))
    Muon([*params, unused], lr=0.1).step()
    for parameter, gradient in zip(params, gradients, strict=True):
        assert (parameter.detach() * gradient).sum() < 0
    # The mean strength of a step: the rate times the root of rows over columns, where that is more than one.
    means = [float(torch.linalg.svdvals(p.detach().flatten(1)).mean()) for p in params]
    assert means[0] == pytest.approx(0.1, rel=0.2) and means[2] == pytest.approx(0.1, rel=0.2)
    assert means[1] == pytest.approx(0.2, rel=0.2) and means[3] == pytest.approx(0.1, rel=0.2)
    assert torch.equal(unused, torch.ones(4, 4))


def test_processes_share_the_matrices_and_make_together_what_one_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = [matrices(1, *shape)[0] * (1 + n) for n, shape in enumerate([(16, 16), (64, 16), (16, 16), (64, 16)])]
    alone = torch.cat([part.flatten() for part in Muon._exchanged(ahead)])
    shares = []
    monkeypatch.setattr("training.optim.gather_sum", lambda flat: shares.append(flat.clone()))
    monkeypatch.setattr("training.optim.process_count", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr("training.optim.process_rank", lambda rank=rank: rank)
        Muon._exchanged(ahead)
    assert torch.equal(sum(shares), alone)
    assert (torch.stack(shares).ne(0).sum(dim=0) <= 1).all()
