"""Muon for weight matrices and convolutions, AdamW for everything else."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from training.parallel import gather_sum, process_count, process_rank
from training.precision import compute_dtype


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Push all singular values of a matrix towards 1 by a Newton-Schulz iteration.

    Args:
        matrix: (rows, columns), any floating dtype.
        steps: iterations; 5 bring the values into about 0.7..1.2, which is all that Muon needs.

    Returns:
        (rows, columns), bfloat16 or float32.
    """
    # Quintic coefficients of the Muon optimiser: steep at 0, so that small directions catch up in few steps.
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.to(compute_dtype(matrix.device))
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised: every direction of a matrix learns at the same speed."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """Apply one update to every parameter that has a gradient.

        With several processes each orthogonalises its share of the matrices and the results are exchanged.
        """
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            updates = torch.zeros(sum(p.numel() for p in params), dtype=torch.bfloat16, device=params[0].device)
            parts = updates.split([p.numel() for p in params])
            for index, (p, part) in enumerate(zip(params, parts, strict=True)):
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - group["momentum"])
                if index % process_count() == process_rank():
                    # Nesterov: look one step ahead along the momentum.
                    ahead = p.grad.lerp(momentum, group["momentum"]).flatten(1)
                    # Tall matrices may change their output as much per step as square ones.
                    scale = max(1.0, ahead.shape[0] / ahead.shape[1]) ** 0.5
                    part.copy_((orthogonalise(ahead) * scale).flatten())
            gather_sum(updates)
            for p, part in zip(params, parts, strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(part.to(p.dtype).view_as(p), alpha=-group["lr"])


def build_optimisers(
    model: nn.Module, muon_lr: float, adam_lr: float, is_matrix: Callable[[str, nn.Parameter], bool]
) -> list[torch.optim.Optimizer]:
    """Split a model's parameters between Muon and AdamW.

    Args:
        model: only parameters that require gradients are taken.
        muon_lr: peak learning rate of Muon: the spectral norm of one update.
        adam_lr: peak learning rate of AdamW.
        is_matrix: tells from name and parameter whether Muon takes it.

    Returns:
        One or two optimisers; each group remembers its peak rate as `peak`.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if is_matrix(name, p)]
    others = [p for name, p in named if not is_matrix(name, p)]
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.97), weight_decay=0.0)
    ]
    if matrices:
        optimisers.append(Muon(matrices, lr=muon_lr))
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return optimisers


def set_rate(optimisers: list[torch.optim.Optimizer], factor: float) -> None:
    """Scale every learning rate to `factor` (0..1) of its peak."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * factor


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, steps: int) -> None:
    """Move a running average of the weights towards the model; faster while it is young.

    Args:
        average: changed in place.
        model: what it follows.
        decay: share of the average that stays at a step.
        steps: done so far.
    """
    decay = min(decay, (1 + steps) / (10 + steps))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
